"""What a row is as a prompt: its turns, its given answers, its tags."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from constitution.errors import PromptError
from constitution.prompts.benchmarks import BENCHMARKS
from constitution.prompts.golds import Golds
from constitution.prompts.kept import Kept, as_json
from constitution.prompts.keys import (
    CONVERSATIONS,
    FOLLOWS,
    OTHERS,
    SPEAKERS,
    SYSTEMS,
    TEXTS,
    USERS,
    Keys,
    is_empty,
    plain_key,
)
from constitution.prompts.messages import Turns
from constitution.prompts.paths import is_path, values
from constitution.prompts.row import Row, check_text
from constitution.prompts.rubrics import given_rubric
from constitution.prompts.scripts import Scripts
from constitution.prompts.transcripts import is_transcript, parse_transcript, split_answers
from constitution.prompts.turn_lists import turn_list
from constitution.recipe import PromptsSection
from constitution.records import Criterion, Message, Messages, Prompt

_FOLLOWS = (
    "take the answer out of the prompt, or name it in prompts.answers, also where it is the last turn of messages; "
    'prompts.last_answer = "cut" cuts it off, and keeps it beside the prompt'
)


class Fields:
    """Reads rows as prompts, as a recipe says."""

    def __init__(self, section: PromptsSection) -> None:
        self._shape = BENCHMARKS[section.benchmark] if section.benchmark else None
        if self._shape:  # whose questions are texts, whatever they look like
            section = section.model_copy(update={"field": self._shape.question, "json_text": "text"})
        self.keys = Keys(section, self._shape.keys if self._shape else ())
        self._section = section
        self._turns = Turns(section, self.keys)
        self._golds = Golds(section)
        self._scripts = Scripts(section, self._turns)
        self._has_system = section.system is None
        self._has_rubric = section.rubric is None
        self._has_reference = section.reference is None
        self._to_join = {*section.join, *((section.history,) if section.history else ())}
        self._kept = Kept(section, self._shape)
        tried = (section.field, *CONVERSATIONS)
        self._tried = [key for key in tried if key not in section.answers and key not in section.ignore]

    def prompt(self, row: Row) -> Prompt:
        """Raises PromptError for a row that cannot be used, or of which something would be lost."""
        if row.fault:
            raise row.fault
        whole, row = row.data, self._parted(row)
        section = self._section
        answers, golds, script = tuple[str, ...](), tuple[int, ...](), tuple[str, ...]()
        if section.turns is not None:
            key = section.turns
            messages, script = self._scripts.of(row, key)
        elif self._shape:
            key, messages = section.field, self._turns.of(row, section.field, row.value(section.field))
            answers, golds = self._shape.answers_of(row)
        else:
            read = self._from_transcripts if section.format == "transcripts" else self._from_fields
            key, messages, answers = read(row)
            golds = self._golds.of(row, len(answers))
        messages, cut = self._without_last(messages)
        if not messages:
            row.refuse("there is no turn of the user's")
        self._check_beside(row, key, messages)
        messages = self._after_history(row, key, self._joined(row, key, messages))
        if section.system is not None:
            messages = self._with_system(row, section.system, messages)
        if messages[-1].role != "user":
            row.refuse("the last turn is not the user's", _FOLLOWS)
        for number, text in enumerate((*(message.content for message in messages), *script), 1):
            check_text(row, f"turn {number}", text)
            if not text.strip():
                row.refuse(f"turn {number} has no text")
        for number, answer in enumerate(answers, 1):
            check_text(row, f"answer {number}", answer)
        check_text(row, "the answer that is cut off", cut or "")
        several = self._shape is not None and len(answers) > 2
        gold = None if several or not golds else golds[0]
        tags = (*section.tags, *self._kept.tags(row))
        return Prompt(
            *(messages, row.source, tags, answers, gold),
            golds=golds if several else (),
            metadata=self._kept.metadata(row, whole),
            source_id=self._kept.name(row),
            cut_answer=cut,
            reference=self._reference(row, messages),
            rubric=self._rubric(row),
            script=script,
        )

    def _reference(self, row: Row, messages: Messages) -> str | None:
        """A text, a number as JSON writes it, or messages. None: the row has none."""
        if (key := self._section.reference) is None:
            return None
        self._has_reference = self._has_reference or key in row.data
        value = row.data.get(key)
        if is_empty(value):
            return None
        if isinstance(value, bool) or not isinstance(value, str | int | float | list | dict):
            row.refuse(f"{key} is neither a text nor a number", "a reference is one answer; format sql can choose it")
        if isinstance(value, int | float):
            return as_json(row, key, value)
        text = self._answer(row, key, self._given(row, key, value), messages)
        check_text(row, key, text)
        return text if text.strip() else None

    def _rubric(self, row: Row) -> tuple[Criterion, ...]:
        if (key := self._section.rubric) is None:
            return ()
        self._has_rubric = self._has_rubric or key in row.data
        return given_rubric(row, key, self._section.pitfalls)

    def _parted(self, row: Row) -> Row:
        """The row with the keys inside its values. Refuses one of which a key of the same name would be lost."""
        inside = self.keys.parted(row.data)
        for key, value in row.data.items() if inside is not row.data else ():
            if is_path(key) and inside.get(key, value) != value:
                row.refuse(f"has {key} as a key and inside a value, and they are not the same", "rename one of them")
        return replace(row, data=inside)

    def _without_last(self, messages: Messages) -> tuple[Messages, str | None]:
        """The turns up to the last that is not the assistant's, and what the assistant says after it; None: nothing,
        as where a transcript ends with the assistant's name."""
        end = len(messages)
        while end and messages[end - 1].role == "assistant":
            end -= 1
        said = "\n\n".join(turn.content for turn in messages[end:])
        if said.strip() and (self._shape or self._section.last_answer == "refuse"):
            return messages, None
        return messages[:end], said if said.strip() else None

    def _joined(self, row: Row, key: str, messages: Messages) -> Messages:
        """The prompt with the texts of further keys behind it."""
        held = [(name, row.data[name]) for name in self._section.join if not is_empty(row.data.get(name))]
        self._to_join -= row.data.keys()
        if held and (len(messages) > 1 or not isinstance(row.data.get(key), str)):
            row.refuse(f"{key} is a conversation, and {held[0][0]} cannot be joined to it")
        for name, value in held:
            if not isinstance(value, str):
                row.refuse(f"{name} is not a text")
        return (Message("user", "\n".join([messages[0].content, *(value for _, value in held)])),) if held else messages

    def _after_history(self, row: Row, key: str, messages: Messages) -> Messages:
        """The prompt with the turns before it."""
        name = self._section.history or ""
        if is_empty(value := row.data.get(name)):
            return messages
        turns = self._turns.of(row, name, value)
        if isinstance(value, str) and len(turns) == 1:
            row.refuse(f"{name} is a text, and does not say who speaks", "give it as messages, or as pairs of texts")
        if turns[-1].role != "assistant":
            row.refuse(f"{name} does not end with an answer")
        if len(messages) > 1:
            row.refuse(f"{key} is a conversation, and {name} has further turns")
        return (*turns, *messages)

    def check_end(self, name: str) -> None:
        """Raises PromptError where no row had the key of the system's turn. name: the source's."""
        if not self._has_system:
            raise PromptError(f"{name}: no row has the key {self._section.system!r}", hint="correct prompts.system")
        if not self._has_reference:
            what = f"no row has the key {self._section.reference!r}"
            raise PromptError(f"{name}: {what}", hint="correct prompts.reference")
        if not self._has_rubric:
            raise PromptError(f"{name}: no row has the key {self._section.rubric!r}", hint="correct prompts.rubric")
        if self._to_join:
            raise PromptError(f"{name}: no row has the key {min(self._to_join)!r}", hint="correct it in the recipe")
        self._golds.check_end(name)
        self._kept.check_end(name)

    def _check_beside(self, row: Row, used: str, messages: Messages) -> None:
        """Nothing that a model would have been shown lies unused beside the prompt."""
        beside = [key for key in self.keys.beside(row.data) if key != used]
        _check_turn(row, beside)
        lost = [key for key in beside if not _is_users(row, key) and not self._repeats(row, key, messages)]
        if not lost:
            return
        it = "it" if len(lost) == 1 else "them"
        ways = [way for key in lost if (way := self._way(key, row.data[key], messages))]
        ways.append(f"prompts.ignore = {json.dumps(lost, ensure_ascii=False)} leaves {it} out")
        if self._section.format != "sql":
            ways.append(f"format sql can join {it} to the prompt")
        row.unused(lost, f"also has {', '.join(lost)}, which a model would have been shown", "; ".join(ways))

    def _way(self, key: str, value: Any, messages: Messages) -> str | None:
        """How what is under a key may be used; None: by no setting."""
        section, plain = self._section, plain_key(key.rpartition(".")[2])
        if plain in SYSTEMS and section.system is None:
            return f'prompts.system = "{key}" puts it before the turns as the system\'s'
        if "history" in plain and section.history is None and isinstance(value, list) and len(messages) == 1:
            return f'prompts.history = "{key}" puts its turns before the prompt'
        if plain in TEXTS and isinstance(value, str) and len(messages) == 1 and section.format != "transcripts":
            return f"prompts.join = {json.dumps([*section.join, key], ensure_ascii=False)} puts it after the prompt"
        return None

    def _repeats(self, row: Row, key: str, messages: Messages) -> bool:
        """Whether `key` is the same conversation once more, and its answer perhaps, or a turn of it."""
        value = row.data[key]
        if isinstance(value, str) and any(turn.content == value for turn in messages if turn.role != "assistant"):
            return True
        if key not in (*CONVERSATIONS, "conversation", "prompt", self._section.field) or not isinstance(
            value, str | list
        ):
            return False
        if isinstance(value, str) and is_transcript(value):
            turns = parse_transcript(value)
        else:
            turns = self._turns.of(row, key, value)
        return turns[: len(messages)] == messages and all(turn.role == "assistant" for turn in turns[len(messages) :])

    def _with_system(self, row: Row, key: str, messages: Messages) -> Messages:
        self._has_system = self._has_system or key in row.data
        text = row.data.get(key)
        if is_empty(text):
            return messages
        turn = Message("system", self._turns.text(row, key, text))
        if messages[0].role != "system":
            return (turn, *messages)
        if messages[0] != turn:
            row.refuse(f"{key} and the first turn are two system turns", "leave one of them out")
        return messages

    def _from_transcripts(self, row: Row) -> tuple[str, Messages, tuple[str, ...]]:
        """As fields; the answers are whole transcripts, or what follows that of the prompt."""
        key = self._section.field
        said = list(values(row, self._section.answers))
        if said and (
            row.data.get(key) is None or any(isinstance(text, str) and is_transcript(text) for _, text in said)
        ):
            messages, answers = _shared(row, [_transcript(row, name, text) for name, text in said])
            if not is_empty(row.data.get(key)) and not self._repeats(row, key, messages):
                row.refuse(
                    f"also has {key}, which is not what the answers' transcripts begin with",
                    f'prompts.field = "{said[0][0]}" and prompts.ignore = ["{key}"] leave it out',
                )
            return key, messages, answers
        turns = _transcript(row, key, row.value(key))
        if said and self._without_last(turns)[1]:
            row.refuse(f"{key} ends with an answer, and {said[0][0]} is one too")
        return key, turns, tuple(_plain_text(row, name, text) for name, text in said)

    def _from_fields(self, row: Row) -> tuple[str, Messages, tuple[str, ...]]:
        """The key that holds the prompt, its turns, and the answers."""
        named = [(name, self._given(row, name, value)) for name, value in values(row, self._section.answers)]
        key = next((key for key in self._tried if row.data.get(key) is not None), None)
        if key is None and named and all(isinstance(value, list) for _, value in named):
            turns = [self._turns.of(row, name, value) for name, value in named]
            for (name, _), conversation in zip(named, turns, strict=True):
                if conversation[-1].role != "assistant":
                    row.refuse(f"{name} does not end with the assistant's turn", "leave such rows out of the answers")
                _check_single(row, name, conversation)
            return self._section.field, *_shared(row, turns)
        if key is None and any(isinstance(value, str) and is_transcript(value) for _, value in named):
            row.refuse("the answers are transcripts", 'set prompts.format = "transcripts"')
        key = key or self._section.field
        messages = self._turns.of(row, key, row.value(key))
        asked, _ = self._without_last(messages)
        return key, messages, tuple(self._answer(row, name, value, asked) for name, value in named)

    def _given(self, row: Row, key: str, value: Any) -> Any:
        """A given answer: a text, or messages, also where they are written as a text."""
        if value is None:
            row.refuse(f"{key} is null", "leave such rows out; format sql can: WHERE … IS NOT NULL")
        value = turn_list(value)
        return self._turns.plain(row, key, value) if isinstance(value, str) else value

    def _answer(self, row: Row, key: str, value: Any, prompt: Messages) -> str:
        """A text; or messages: the answer alone, or the prompt and the answer."""
        if isinstance(value, str):
            if value.lstrip().startswith("Human:") and len(parse_transcript(value)) > 1:
                row.refuse(f"{key} is a transcript", 'set prompts.format = "transcripts"')
            return value
        messages = self._turns.of(row, key, [value] if isinstance(value, dict) else value)
        system = self._section.system and row.data.get(self._section.system)
        if system and messages[0] == Message("system", system) not in prompt[:1]:
            messages = messages[1:]
        if messages[: len(prompt)] == prompt:
            messages = messages[len(prompt) :]
        if not messages or any(message.role != "assistant" for message in messages):
            row.refuse(f"{key} does not continue the prompt")
        _check_single(row, key, messages)
        return messages[0].content


def _check_single(row: Row, key: str, messages: Messages) -> None:
    """Refuses an answer of several turns: how they were parted is not known."""
    if [message.role for message in messages[-2:]] == ["assistant", "assistant"]:
        row.refuse(f"{key} ends with two turns of the assistant", "make one turn of them, or leave the row out")


def _check_turn(row: Row, beside: Sequence[str]) -> None:
    """Refuses a row that is one turn of a conversation whose other turns are other rows."""
    hint = "prompts.trees = true reads the rows as trees of turns; prompts.ignore = {} takes each by itself"
    for key in beside:
        if plain_key(key) in FOLLOWS:
            row.refuse(f"{key} says that another row was said before this one", hint.format(json.dumps([key])))
        value = row.data[key]
        if plain_key(key) in SPEAKERS and isinstance(value, str) and plain_key(value) in OTHERS:
            row.refuse(f"{key} is {value!r}, so this row is not what a user says", hint.format(json.dumps([key])))


def _is_users(row: Row, key: str) -> bool:
    """Whether `key` says who speaks, and it is the user; of `from` and its like, also any name."""
    plain, value = plain_key(key), row.data[key]
    return plain in SPEAKERS and (plain != "role" or (isinstance(value, str) and plain_key(value) in USERS))


def _transcript(row: Row, key: str, text: Any) -> Messages:
    if not isinstance(text, str):
        row.refuse(f"{key} is not a text", "a transcript is one string; for lists of messages use format jsonl")
    try:
        return parse_transcript(text)
    except ValueError as error:
        row.refuse(f"{key}: {error}")


def _plain_text(row: Row, name: str, text: Any) -> str:
    if not isinstance(text, str):
        row.refuse(f"{name} is not a text")
    return text


def _shared(row: Row, conversations: Sequence[Messages]) -> tuple[Messages, tuple[str, ...]]:
    try:
        return split_answers(conversations)
    except ValueError as error:
        row.refuse(str(error), "leave the row out, or read it without prompts.answers")
