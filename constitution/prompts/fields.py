"""What a row is as a prompt: its turns, its given answers, its tags."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from constitution.errors import PromptError
from constitution.prompts.benchmarks import BENCHMARKS
from constitution.prompts.keys import (
    CONVERSATIONS,
    FOLLOWS,
    OTHERS,
    SPEAKERS,
    SYSTEMS,
    USERS,
    Keys,
    is_empty,
    plain_key,
)
from constitution.prompts.messages import Turns
from constitution.prompts.row import Row
from constitution.prompts.transcripts import is_transcript, parse_transcript, split_answers
from constitution.recipe import PromptsSection
from constitution.records import Message, Messages, Prompt

_FOLLOWS = (
    "take the answer out of the prompt, or name it in prompts.answers, also where it is the last turn of messages"
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
        self._has_system = section.system is None
        self._to_join = set(section.join)
        tried = (section.field, *CONVERSATIONS)
        self._tried = [key for key in tried if key not in section.answers and key not in section.ignore]

    def prompt(self, row: Row) -> Prompt:
        """Raises PromptError for a row that cannot be used, or of which something would be lost."""
        row = replace(row, data=self.keys.parted(row.data))
        section, golds = self._section, self._golds(row)
        names: Sequence[str] = section.answers
        if self._shape:
            key, messages = section.field, self._turns.of(row, section.field, row.value(section.field))
            answers, golds = self._shape.answers_of(row)
            names = [f"answer {number}" for number in range(1, len(answers) + 1)]
        elif section.format == "transcripts":
            key = "" if section.answers else section.field
            messages, answers = self._from_transcripts(row)
        else:
            key, messages, answers = self._from_fields(row)
        self._check_beside(row, key, messages)
        messages = self._joined(row, key, messages)
        if section.system is not None:
            messages = self._with_system(row, section.system, messages)
        if messages[-1].role != "user":
            row.refuse("the last turn is not the user's", _FOLLOWS)
        for number, message in enumerate(messages, 1):
            _check_text(row, f"turn {number}", message.content)
            if not message.content.strip():
                row.refuse(f"turn {number} has no text")
        for name, answer in zip(names, answers, strict=True):
            _check_text(row, name, answer)
        several = self._shape is not None and len(answers) > 2
        gold = None if several or not golds else golds[0]
        tags = (*section.tags, *self._own_tags(row))
        return Prompt(messages, row.source, tags, answers, gold, golds=golds if several else ())

    def _golds(self, row: Row) -> tuple[int, ...]:
        """Which of the answers people prefer: by the recipe, or by what the row's key says."""
        better = self._section.gold
        if better is None:
            return ()
        if self._section.gold_values:
            value = row.value(better, "correct prompts.gold")
            text = value if isinstance(value, str) else json.dumps(value)
            if text not in self._section.gold_values:
                row.refuse(
                    f"{better} is {text!r:.100}, which prompts.gold_values does not have",
                    f'{json.dumps(text)} = one of prompts.answers, or "" where the row has no gold, is missing there',
                )
            better = self._section.gold_values[text]
        return (self._section.answers.index(better),) if better else ()

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

    def check_end(self, name: str) -> None:
        """Raises PromptError where no row had the key of the system's turn. name: the source's."""
        if not self._has_system:
            raise PromptError(f"{name}: no row has the key {self._section.system!r}", hint="correct prompts.system")
        if self._to_join:
            raise PromptError(f"{name}: no row has the key {min(self._to_join)!r}", hint="correct prompts.join")

    def _check_beside(self, row: Row, used: str, messages: Messages) -> None:
        """Nothing that a model would have been shown lies unused beside the prompt."""
        beside = [key for key in self.keys.beside(row.data) if key != used]
        _check_turn(row, beside)
        lost = [key for key in beside if not _is_users(row, key) and not self._repeats(row, key, messages)]
        if not lost:
            return
        it = "it" if len(lost) == 1 else "them"
        ways = [f"prompts.ignore = {json.dumps(lost, ensure_ascii=False)} leaves {it} out"]
        if len(lost) == 1 and self._section.system is None and plain_key(lost[0]) in SYSTEMS:
            ways.insert(0, f'prompts.system = "{lost[0]}" puts it before the turns as the system\'s')
        if self._section.format != "sql":
            ways.append(f"format sql can join {it} to the prompt")
        row.refuse(f"also has {', '.join(lost)}, which a model would have been shown", "; ".join(ways))

    def _repeats(self, row: Row, key: str, messages: Messages) -> bool:
        """Whether `key` is the same conversation once more, and its answer perhaps, or a turn of it."""
        value = row.data[key]
        if isinstance(value, str) and any(turn.content == value for turn in messages if turn.role != "assistant"):
            return True
        if key not in (*CONVERSATIONS, "conversation", "prompt") or not isinstance(value, str | list):
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
        if not isinstance(text, str):
            row.refuse(f"{key} is not a text")
        turn = Message("system", text)
        if messages[0].role != "system":
            return (turn, *messages)
        if messages[0] != turn:
            row.refuse(f"{key} and the first turn are two system turns", "leave one of them out")
        return messages

    def _own_tags(self, row: Row) -> list[str]:
        """The benchmark's first, the subset before all."""
        tags = self._shape.tags_of(row) if self._shape else []
        if (key := self._section.tags_field) is not None:
            own = row.value(key)
            if not isinstance(own, list) or not all(isinstance(tag, str) for tag in own):
                row.refuse(f"{key} is not a list of texts")
            tags += own
        for tag in tags:
            _check_text(row, key or "a tag", tag)
        return tags

    def _from_transcripts(self, row: Row) -> tuple[Messages, tuple[str, ...]]:
        section = self._section
        conversations = []
        for key in section.answers or (section.field,):
            text = row.value(key)
            if not isinstance(text, str):
                row.refuse(f"{key} is not a text", "a transcript is one string; for lists of messages use format jsonl")
            try:
                conversations.append(parse_transcript(text))
            except ValueError as error:
                row.refuse(f"{key}: {error}")
        if section.answers:
            return _shared(row, conversations)
        return _until_last_human(row, section.field, conversations[0]), ()

    def _from_fields(self, row: Row) -> tuple[str, Messages, tuple[str, ...]]:
        """The key that holds the prompt, its turns, and the answers."""
        named = self._section.answers
        values = [self._given(row, name) for name in named]
        key = next((key for key in self._tried if row.data.get(key) is not None), None)
        if key is None and values and all(isinstance(value, list) for value in values):
            turns = [self._turns.of(row, name, value) for name, value in zip(named, values, strict=True)]
            for name, conversation in zip(named, turns, strict=True):
                if conversation[-1].role != "assistant":
                    row.refuse(f"{name} does not end with the assistant's turn", "leave such rows out of the answers")
                _check_single(row, name, conversation)
            return self._section.field, *_shared(row, turns)
        if key is None and any(isinstance(value, str) and is_transcript(value) for value in values):
            row.refuse("the answers are transcripts", 'set prompts.format = "transcripts"')
        key = key or self._section.field
        messages = self._turns.of(row, key, row.value(key))
        answers = [self._answer(row, name, value, messages) for name, value in zip(named, values, strict=True)]
        return key, messages, tuple(answers)

    def _given(self, row: Row, key: str) -> Any:
        """A given answer: a text, or messages, also where they are written as a text."""
        value = row.value(key)
        return self._turns.plain(row, key, value) if isinstance(value, str) else value

    def _answer(self, row: Row, key: str, value: Any, prompt: Messages) -> str:
        """A text; or messages: the answer alone, or the prompt and the answer."""
        if isinstance(value, str):
            if value.lstrip().startswith("Human:") and len(parse_transcript(value)) > 1:
                row.refuse(f"{key} is a transcript", 'set prompts.format = "transcripts"')
            return value
        messages = self._turns.of(row, key, [value] if isinstance(value, dict) else value)
        system = self._section.system and row.data.get(self._section.system)
        if system and messages[0] == Message("system", system) != prompt[0]:
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
    hint = "prompts.ignore = {} takes it by itself; format sql can join rows to conversations, or choose some of them"
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


def _until_last_human(row: Row, key: str, turns: Messages) -> Messages:
    while turns and turns[-1].role != "user":
        turns = turns[:-1]
    if not turns:
        row.refuse(f"{key}: there is no human turn")
    return turns


def _shared(row: Row, conversations: Sequence[Messages]) -> tuple[Messages, tuple[str, ...]]:
    try:
        return split_answers(conversations)
    except ValueError as error:
        row.refuse(str(error), "leave the row out, or read it without prompts.answers")


def _check_text(row: Row, where: str, text: str) -> None:
    if "\x00" in text:
        row.refuse(f"{where} holds a NUL character", "take it out")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        row.refuse(f"{where}, character {error.start}: half of a surrogate pair", "the file was cut or badly encoded")
