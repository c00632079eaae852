"""Which of a row's keys a model would have been shown: none of them is dropped without a word.

    keys = Keys(section)
    keys.beside(row.data)       # those that the recipe neither uses nor ignores

What a key holds cannot be told from a name alone; the names below are those that the data sets and training formats in
use give to instructions, tools, pictures, contexts and conversations. Ids, sources, scores, answers and whatever else
lies beside a prompt is not what a model saw.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from constitution.prompts.paths import above, is_path, parted
from constitution.prompts.trees import KEYS as TREE_KEYS
from constitution.recipe import PromptsSection

CONVERSATIONS = ("messages", "conversations")
"""Keys that are tried where a row has no `field`."""

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[\W_]+")


def plain_key(key: str) -> str:
    """Without what tells spellings apart: `System-Prompt`, `systemPrompt` and `system_prompt` are one."""
    return _CAMEL.sub("", key.strip()).casefold()


def _plain(*keys: str) -> frozenset[str]:
    return frozenset(map(plain_key, keys))


TEXTS = _plain(
    *("instruction", "instructions", "input", "inputs", "context", "contexts", "ctx", "ctxs", "document", "documents"),
    *("passage", "passages", "article", "background", "premise", "hypothesis", "knowledge", "evidence", "facts"),
    *("retrieved_documents", "retrieved_contexts", "search_results", "choices", "options", "definition", "story"),
    *("demonstrations", "examples", "question", "query", "problem", "user_prompt", "user_message", "user_input"),
)
"""Parts of what the user says."""

SYSTEMS = _plain(
    *("system", "system_prompt", "system_message", "system_instruction", "system_instructions", "sys_prompt"),
    *("custom_system_prompt", "custom_instruction", "custom_instructions"),
    *("developer", "developer_message", "developer_prompt", "preamble", "persona"),
)
"""What is said before the conversation."""

FOLLOWS = _plain("parent_id", "parent_message_id", "reply_to", "in_reply_to")
"""Key of a row that is one turn: which row was said before it."""
SPEAKERS = _plain("role", "speaker", "from", "author_role")
"""Key of a row that is one turn: who says it."""
USERS, OTHERS = (
    _plain("user", "human", "prompter"),
    _plain("assistant", "gpt", "chatgpt", "bing", "bard", "claude", "bot", "ai", "model", "system"),
)

_SEEN = (
    TEXTS
    | SYSTEMS
    | FOLLOWS
    | SPEAKERS
    | _plain(
        *("tools", "tool", "functions", "function", "available_tools", "available_functions", "tool_choice"),
        *("tool_definitions", "function_definitions", "function_call", "tool_calls", "parallel_tool_calls"),
        *("chat_template_kwargs", "response_format", "prefill", "response_prefix", "assistant_prefix"),
        *("image", "images", "image_url", "image_urls", "image_path", "img", "picture", "pictures", "audio", "audios"),
        *("audio_path", "video", "videos", "video_path", "file", "files", "attachment", "attachments"),
        *("history", "chat_history", "conversation_history", "previous_turns", "dialog", "dialogue", "conversation"),
        *("task_prefix", "turns", "few_shot", "few_shot_examples", "in_context_examples", "prompt", *CONVERSATIONS),
    )
)
_WRITTEN = re.compile(r"(?:json|texts?|str|string|list|raw|contents?|b64|base64|bytes)\Z")
"""How a key may end that says in which form it holds something."""

_PLACE = re.compile(r"\[\d*\]")
"""What says in a key that it is an item of a list, or all of them."""


def is_seen(key: str) -> bool:
    """Whether a model would have been shown what a row has under a key of this name, or of its last part."""
    name = _PLACE.sub("", key)
    plain = plain_key(name.rpartition(".")[2] or name)
    return plain in _SEEN or _WRITTEN.sub("", plain) in _SEEN


def is_empty(value: Any) -> bool:
    """Whether a value says nothing: null, no text, an empty list or object, or those of nothing else."""
    if not isinstance(value, dict | list):
        return not value.strip() if isinstance(value, str) else value is None
    inside = [iter((value,))]  # no recursion: JSON may be nested as deep as Python's own calls
    while inside:
        for each in inside[-1]:
            if isinstance(each, dict | list):
                inside.append(iter(each.values() if isinstance(each, dict) else each))
                break
            if not is_empty(each):
                return False
        else:
            inside.pop()
    return True


class AnyKeys:
    """Which columns of a source are read: those that may hold text, whatever they are called."""

    named: frozenset[str] = frozenset()
    """Those that the recipe reads."""
    ignored: frozenset[str] = frozenset()
    """Keys that are not looked at, of rows and of turns."""
    lenient = True
    """Values that are no text are passed over."""
    rows: str | None = None
    """Key that holds the rows of a JSON file that is one object."""

    def uses(self, key: str) -> bool:
        """Whether the column's values are taken, and not only looked at."""
        return True

    def wanted(self, names: Iterable[str]) -> list[str]:
        """The source's columns that have to be read."""
        return [name for name in names if self.uses(name)]


class Keys(AnyKeys):
    """The keys of a source's rows, as a recipe reads them."""

    lenient = False

    def __init__(self, section: PromptsSection, more: Iterable[str] = ()) -> None:
        """more: further keys that are read."""
        prompt = section.field if section.turns is None else section.turns
        named = {prompt, *section.answers, *section.join, section.tags_field, section.system, *more}
        named |= {*section.gold_highest, *section.gold_lowest, section.history}
        named |= {*section.metadata, section.id_field, section.reference, section.rubric}
        if section.gold_values:
            named.add(section.gold)
        if section.trees:  # whose turns' keys are those of `replies` too
            named |= {*TREE_KEYS, *(key.removeprefix("replies[].") for key in named if key)}
        self.named = frozenset(key for key in named if key is not None)
        self.rows = section.rows
        self._dotted = sorted(key for key in self.named | set(section.ignore) if is_path(key))
        self.ignored = frozenset(section.ignore)
        self._known: dict[tuple[str, ...], tuple[str, ...]] = {}

    def unused(self, keys: Iterable[str]) -> tuple[str, ...]:
        """The row's keys that a model would have been shown and the recipe does not name."""
        asked = tuple(keys)
        if (found := self._known.get(asked)) is None:
            found = tuple(key for key in asked if key not in self.named and key not in self.ignored and is_seen(key))
            if len(self._known) < 1000:  # most files have few sets of keys
                self._known[asked] = found
        return found

    def beside(self, data: dict[str, Any]) -> list[str]:
        """Those of them that hold something; a text may be the JSON of nothing."""
        held = [key for key in self.unused(data) if not is_empty(data[key])]
        return [key for key in held if not isinstance(data[key], str) or data[key].strip() not in ("[]", "{}")]

    def uses(self, key: str) -> bool:
        return key in self.named or key in CONVERSATIONS or any(key in above(dotted) for dotted in self._dotted)

    def parted(self, data: dict[str, Any]) -> dict[str, Any]:
        """The row with the keys inside a value in its place, where the recipe names one of them: `body.messages`."""
        return parted(data, self._dotted)

    def wanted(self, names: Iterable[str]) -> list[str]:
        asked = tuple(names)
        unused = self.unused(asked)
        return [name for name in asked if self.uses(name) or name in unused]
