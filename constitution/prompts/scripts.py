"""Scripted turns: what a user says one turn after another, each after the model's own answer to the one before.

MT-bench's `turns: ["…", "…"]` (FastChat, fastchat/llm_judge/data/mt_bench/question.jsonl), Arena-Hard's
`turns: [{content}]`, MT-Bench-101's `history: [{user, bot}]`, and messages whose answers are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NoReturn

from constitution.errors import PromptError
from constitution.prompts.keys import is_empty
from constitution.prompts.messages import Turns
from constitution.prompts.row import Row
from constitution.prompts.turn_lists import turn_list
from constitution.reading import parse_json
from constitution.recipe import PromptsSection
from constitution.records import Message, Messages

ALONE = ("user", "content")
"""Keys of an item that holds one turn of the user's and does not say who speaks."""
_ANSWERS = 'prompts.turns takes what the user says; prompts.ignore = ["assistant"] leaves the answers of the file out'


class Scripts:
    """Reads values as scripts, as a recipe says."""

    def __init__(self, section: PromptsSection, turns: Turns) -> None:
        self._section = section
        self._turns = turns

    def of(self, row: Row, key: str) -> tuple[Messages, tuple[str, ...]]:
        """The first turn, after a system turn where there is one, and what the user says after it."""
        value = row.value(key, "correct prompts.turns")
        if isinstance(value, str):
            value = self._parsed(row, key, value)
        value = turn_list(value)
        if not isinstance(value, list) or not value:
            row.refuse(f"{key} is no list of turns", 'one turn alone is a prompt: prompts.field = "…"')
        said = [message for number, item in enumerate(value, 1) for message in self._item(row, key, number, item)]
        before = tuple(said[:1]) if said and said[0].role == "system" else ()
        users = said[len(before) :]
        if not users or any(message.role != "user" for message in users):
            row.refuse(f"{key} holds other than the user's turns, after a system turn at most")
        return (*before, users[0]), tuple(message.content for message in users[1:])

    def _item(self, row: Row, key: str, number: int, item: Any) -> Iterator[Message]:
        place = f"{key}, turn {number}"
        if isinstance(item, str):
            yield Message("user", item)
        elif isinstance(item, dict) and ("role" in item or "from" in item):
            message = self._turns.of(row, place, [item])[0]
            if message.role != "assistant":
                yield message
            elif "assistant" not in self._section.ignore:
                row.refuse(f"{place} is the assistant's", _ANSWERS)
        else:
            yield self._alone(row, place, item)

    def _alone(self, row: Row, place: str, item: Any) -> Message:
        held = next((name for name in ALONE if isinstance(item, dict) and isinstance(item.get(name), str)), None)
        if held is None:
            self._unlike(row, place)
        beside = [name for name in item if name not in (held, *self._section.ignore) and not is_empty(item[name])]
        if beside:
            row.refuse(f"{place}: also has {', '.join(beside)}", f"prompts.ignore = {json.dumps(beside)} leaves it out")
        return Message("user", item[held])

    def _unlike(self, row: Row, place: str) -> NoReturn:
        row.refuse(f"{place}: expected a text, {{role, content}}, {{user}} or {{content}}")

    def _parsed(self, row: Row, key: str, text: str) -> Any:
        """A cell of a table holds a list as JSON."""
        if self._section.json_text != "messages":
            row.refuse(f"{key} is a text and no list of turns", 'prompts.json_text = "messages" reads it as JSON')
        return parse_json(text, f"{row.place}: {key}", PromptError)
