"""The turns that a value holds: a text, a list of messages, or messages that are written as JSON text."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

from constitution.errors import PromptError
from constitution.prompts.keys import OTHERS, SYSTEMS, USERS, Keys, is_empty, is_seen, plain_key
from constitution.prompts.row import Row, UnknownRole, are_texts
from constitution.prompts.transcripts import is_templated, is_transcript
from constitution.prompts.turn_lists import turn_list
from constitution.reading import parse_json
from constitution.recipe import PromptsSection
from constitution.records import Message, Messages, Role

_ROLES: dict[str, dict[str, Role]] = {
    "role": {"system": "system", "user": "user", "assistant": "assistant"},
    "from": {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"},
}
_CONTENT = {"role": "content", "from": "value"}
"""Key of a turn's speaker → key of its text: ours and most trainers', and ShareGPT's."""
_TEXTS = ("content", "value", "text", "parts")
"""Keys of a turn's text elsewhere: OpenAssistant's, and Gemini's."""
_PARTS = (None, "text", "input_text", "output_text")
"""Types of parts that are text; Gemini and Bedrock give none, OpenAI's Responses say who said it."""

_CALLS = {"tool_calls", "function_call", "tool_call_id"}
"""Keys of a turn that calls a tool or is its reply (OpenAI's chat API; TRL's data sets have them too)."""
_TOOLS = {"tool", "tools", "function", "functioncall", "functionresponse", "observation", "ipython"}
"""Who says such a turn: OpenAI's API, ShareGPT's conversations with tools, Llama 3."""
_NO_TOOLS = (
    'turns of tools are sent to no model here; prompts.on_bad_row = "skip" leaves such rows out, and counts them'
)

_LONGEST_ROLE = 40
"""Characters of a role that may be one."""

_BRACKET = re.compile(r"\s*[\[{]")
_PYTHON = re.compile(r"\s*(?:\[\s*)?\{\s*'(?:role|content|from|value|messages|conversations)'\s*:")
"""Messages as Python prints them, which pandas and datasets put into CSV."""
_PRINTED = (
    'write them by json.dumps, or the rows as JSONL or Parquet; prompts.json_text = "text" takes the text as it is'
)
_AS_TEXT = 'prompts.json_text = "messages" reads them, "text" takes the text as it is'

_SCRIPT = (
    "if the user says them one after the other, prompts.turns = {} asks each after the model's answer to the one before"
)
_LIST = 'format sql can make turns of its parts; prompts.json_text = "text" takes the text as it is'
_TEMPLATED = 'give its turns as messages; prompts.json_text = "text" takes the text as it is, as one turn'
_LONGEST_PRINTED = 2**20
"""Characters of a list that Python is asked to read."""


class Turns:
    """Reads values as turns, as a recipe says."""

    def __init__(self, section: PromptsSection, keys: Keys) -> None:
        self._json_text = section.json_text
        self._ignored = keys.ignored
        self._roles = {name: known | section.roles for name, known in _ROLES.items()}

    def of(self, row: Row, key: str, value: Any) -> Messages:
        """A text is one user turn; a list holds {role, content} or {from, value}."""
        if isinstance(value, str):
            if self._json_text != "text" and is_transcript(value):
                row.refuse(f"{key} is a transcript", 'set prompts.format = "transcripts"')
            value = self.plain(row, key, value)
        if isinstance(value, str):
            return (Message("user", value),)
        value = turn_list(value)
        if not isinstance(value, list) or not value:
            is_tree = isinstance(value, dict) and "replies" in value
            row.refuse(f"{key} is neither a text nor a list of messages", "prompts.trees = true" if is_tree else None)
        if are_texts(value):
            row.refuse(f"{key}, turn 1: expected {{role, content}}, and is a text", _SCRIPT.format(json.dumps(key)))
        return tuple(self._turn(row, f"{key}, turn {number}", item) for number, item in enumerate(value, 1))

    def text(self, row: Row, key: str, value: Any) -> str:
        """A text, or parts of it, as Anthropic's `system` may have them, and Gemini's `systemInstruction`."""
        if isinstance(value, dict) and value.keys() <= {"role", "parts"}:
            value = value.get("parts")
        if isinstance(value, list) and value:
            value = "".join(self._part(row, key, part) for part in value)
        if not isinstance(value, str):
            row.refuse(f"{key} is not a text")
        return value

    def plain(self, row: Row, key: str, text: str) -> Any:
        """`text`, or the messages that it is the JSON of."""
        if self._json_text == "text":
            return text
        if not is_transcript(text) and is_templated(text):
            row.refuse(f"{key} is a conversation that a chat template has written out", _TEMPLATED)
        if _BRACKET.match(text) is None:
            return text
        if _PYTHON.match(text):
            row.refuse(f"{key} is a text that holds messages as Python prints them, which is no JSON", _PRINTED)
        if self._json_text == "messages":
            value = parse_json(text, f"{row.place}: {key}", PromptError)
            if (turns := _messages_in(value)) is None:
                row.refuse(f"{key} is JSON and holds no messages", 'correct it, or set prompts.json_text = "text"')
            return turns
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = None
        if _messages_in(value) is not None:
            row.refuse(f"{key} is a text that holds messages, in JSON", _AS_TEXT)
        if are_texts(value) or are_texts(_printed(text)):
            row.refuse(f"{key} is a text that holds a list of texts, in JSON or as Python prints them", _LIST)
        return text

    def _turn(self, row: Row, place: str, item: Any) -> Message:
        if not isinstance(item, dict):
            row.refuse(f"{place}: expected {{role, content}} with a text in each")
        name = "from" if item.get("role") is None and "from" in item else "role"
        said = next((key for key in (_CONTENT[name], *_TEXTS) if key in item), _CONTENT[name])
        roles, role = self._roles[name], item.get(name)
        if isinstance(role, str) and role not in roles and plain_key(role) in _TOOLS:
            row.refuse(f"{place}: {name} is {role!r}", _NO_TOOLS)
        beside = [key for key in item if key not in (name, said, *self._ignored) and not is_empty(item[key])]
        if beside:
            calls = f"; {_NO_TOOLS}" if _CALLS & set(beside) else ""
            row.unused(_told(beside), f"{place}: also has {', '.join(beside)}", _left_out(beside) + calls)
        content = item.get(said)
        if isinstance(content, list) and content:
            content = "".join(self._part(row, place, part) for part in content)
        if not isinstance(content, str):
            row.refuse(f"{place}: expected {{{name}, {said}}} with a text in each")
        if not isinstance(role, str) or role not in roles:
            said = f"{row.place}: {place}: {name} is {role!r:.200}"
            raise UnknownRole(said, hint=_role_hint(role, roles), role=str(role))
        return Message(roles[role], content)

    def _part(self, row: Row, place: str, part: Any) -> str:
        """Parts of text follow each other with nothing between, as chat templates put them."""
        if not isinstance(part, dict) or part.get("type") not in _PARTS or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else part
            row.refuse(f"{place}: expected parts {{type, text}} and not {kind!r:.200}", "only parts of text are taken")
        beside = [key for key in part if key not in ("type", "text", *self._ignored) and not is_empty(part[key])]
        if beside:
            row.unused(_told(beside), f"{place}: a part also has {', '.join(beside)}", _left_out(beside))
        return str(part["text"])


def _printed(text: str) -> Any:
    """The list that `text` is as Python prints it; None: it is none."""
    body = text.strip()
    if not body.startswith("[") or body[1:].lstrip()[:1] not in ("'", '"') or not body.endswith("]"):
        return None
    try:
        return ast.literal_eval(body) if len(body) <= _LONGEST_PRINTED else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _told(keys: list[str]) -> list[str]:
    """Those of a turn's keys that only say something of it."""
    return [key for key in keys if not is_seen(key)]


def _role_hint(role: Any, roles: Mapping[str, Role]) -> str:
    """How a turn of a role that is not known may be read."""
    taken = f"taken are {', '.join(roles)}"
    if not isinstance(role, str) or len(role) > _LONGEST_ROLE:
        return taken
    likely = likely_role(role)
    mapped = f'prompts.roles = {{ {json.dumps(role, ensure_ascii=False)} = "{likely or "user"}" }}'
    return f"{taken}; {mapped} takes it for the {likely or 'user'}'s{'' if likely else ', if it is'}"


def likely_role(role: str) -> Role | None:
    """Whose a turn of this role is, as its name has it in public data sets. OpenAI's API takes `developer` for
    `system`, and `system` for `developer`, by what the model was trained with. None: the name does not say."""
    plain = plain_key(role)
    if plain in USERS:
        return "user"
    if plain in SYSTEMS:
        return "system"
    return "assistant" if plain in OTHERS else None


def _left_out(keys: list[str]) -> str:
    return f"prompts.ignore = {json.dumps(keys, ensure_ascii=False)} leaves them out, where no model need see them"


def _messages_in(value: Any) -> Any:
    """The list of messages that `value` is or holds; None: it is none."""
    value = turn_list(value)
    if isinstance(value, dict):
        if any(name in value and said in value for name, said in _CONTENT.items()):
            return [value]
        value = value.get("messages", value.get("conversations"))
    if not isinstance(value, list) or not value:
        return None
    are = all(isinstance(turn, dict) and any(name in turn for name in _CONTENT) for turn in value)
    return value if are else None
