"""What users say in the rows of any set of prompts, whatever its keys are called: for comparing, never for asking.

for source, whole, question in user_texts(Path("eval.jsonl")):
    ...
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from constitution.prompts.files import read_file
from constitution.prompts.keys import CONVERSATIONS, TEXTS, AnyKeys, is_empty, plain_key
from constitution.prompts.row import Row
from constitution.prompts.transcripts import is_templated, is_transcript, parse_transcript

QUESTIONS = (
    *("prompt", "question", "instruction", "problem", "query", "input", "inputs", *CONVERSATIONS, "turns"),
    *("userprompt", "usermessage", "userinput"),
)
"""Keys of what is asked; the first that a row has is its question."""
OTHERWISE = ("text", "conversation", "chosen")
"""Keys that are looked at where a row has none of those: they may hold the answer too."""
_PARTS = {*QUESTIONS, *TEXTS} - {"examples", "demonstrations"}
"""What is asked of the model; what it is shown as well would only thin that out."""


class _Keys(AnyKeys):
    """Those that are looked at, in place of those that a recipe names."""

    def uses(self, key: str) -> bool:
        return plain_key(key) in _PARTS or plain_key(key) in OTHERWISE


def user_texts(path: Path) -> Iterator[tuple[str, str, str]]:
    """For each row of a file that prompts are read from: its source, all that the user says, and the question alone.

    Raises PromptError for a file that cannot be read and a row without any such text.
    """
    for row in read_file(path, _Keys()):
        keys = {plain_key(key): key for key in row.data if not is_empty(row.data[key])}
        found = {name: text for name, key in keys.items() if name in _PARTS and (text := _said(row.data[key])).strip()}
        if not found:
            name = next((name for name in OTHERWISE if name in keys), "")
            found = {name: text} if name and (text := _said(row.data[keys[name]])).strip() else {}
        if not found:
            known = ", ".join(sorted(row.data)) or "none"
            looked_for = f"looked for: {', '.join((*QUESTIONS, *OTHERWISE))}"
            row.refuse(f"there is no text of a prompt (it has: {known})", looked_for)
        texts: list[str] = []
        for text in found.values():
            if not any(text in other for other in texts):  # the same once more, as where messages repeat the prompt
                texts = [other for other in texts if other not in text] + [text]
        _check_alone(row, keys, texts)
        question = next((found[name] for name in QUESTIONS if name in found), next(iter(found.values())))
        yield row.source, "\n\n".join(texts), question


def _check_alone(row: Row, keys: Mapping[str, str], texts: Iterable[str]) -> None:
    """Refuses what cannot be told from the answers in it, among which the user's words would be too few to be found."""
    hint = "give its turns as messages, or what the user says alone"
    for name in (*CONVERSATIONS, "conversation"):
        turns = row.data[keys[name]] if name in keys else None
        if isinstance(turns, list) and any(isinstance(turn, str) for turn in turns):
            row.refuse(f"{keys[name]} is a list of texts, and does not say who speaks", hint)
    if any(map(is_templated, texts)):
        row.refuse("a text is a conversation that a chat template has written out", hint)


def _said(value: Any) -> str:
    """The user's words in a text, a transcript, messages, a list of choices."""
    if isinstance(value, str):
        if is_transcript(value):
            try:
                return "\n\n".join(turn.content for turn in parse_transcript(value) if turn.role == "user")
            except ValueError:
                return value
        if value.lstrip().startswith("["):
            try:
                return _said(json.loads(value)) or value
            except (ValueError, RecursionError):
                return value
        return value
    if isinstance(value, list):
        return "\n\n".join(text for item in value if (text := _said(item)).strip())
    if isinstance(value, dict):
        speaker = value.get("role", value.get("from"))
        if speaker is not None and speaker not in ("user", "human"):
            return ""
        return _said(value.get("content", value.get("value", value.get("text"))))
    return ""
