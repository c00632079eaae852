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
from constitution.prompts.keys import CONVERSATIONS, TEXTS, USERS, AnyKeys, is_empty, plain_key
from constitution.prompts.row import Row
from constitution.prompts.transcripts import is_templated, is_transcript, parse_transcript
from constitution.prompts.trees import as_prompts
from constitution.prompts.turn_lists import turn_list

QUESTIONS = (
    *("prompt", "question", "instruction", "problem", "query", "input", "inputs", *CONVERSATIONS, "turns"),
    *("userprompt", "usermessage", "userinput", "goal", "behavior", "questionstem", "stem"),
)
"""Keys of what is asked; the first that a row has is its question."""
OTHERWISE = ("text", "conversation", "items", "dialog", "transcript", "fulltext", "post", "chosen")
"""Keys that are looked at where a row has none of those: they may hold the answer too."""
_CHOICES = {"choices", "options"}
"""What is never asked alone: where a row has no other part, its question is under a key that is not known."""
_PARTS = {*QUESTIONS, *TEXTS} - {"examples", "demonstrations"}
"""What is asked of the model; what it is shown as well would only thin that out."""


def user_texts(path: Path) -> Iterator[tuple[str, str, str]]:
    """For each row of a file that prompts are read from: its source, all that the user says, and the question alone.

    Raises PromptError for a file that cannot be read and a row without any such text.
    """
    for row in as_prompts(read_file(path, AnyKeys())):
        if row.fault:
            raise row.fault
        try:
            yield row.source, *_texts_of(row)
        except RecursionError:
            row.refuse("is nested too deeply")


def _texts_of(row: Row) -> tuple[str, str]:
    """All that the user says, and the question alone."""
    keys = {plain_key(key): key for key in row.data if not is_empty(row.data[key])}
    if not (found := _asked(row.data)):
        looked_for = f"looked for: {', '.join((*QUESTIONS, *OTHERWISE))}"
        row.refuse(f"there is no text of a prompt (it has: {row.names})", looked_for)
    texts: list[str] = []
    for text in found.values():
        if not any(text in other for other in texts):  # the same once more, as where messages repeat the prompt
            texts = [other for other in texts if other not in text] + [text]
    _check_alone(row, keys, texts)
    question = next((found[name] for name in QUESTIONS if name in found), next(iter(found.values())))
    return "\n\n".join(texts), question


def _asked(data: Mapping[str, Any]) -> dict[str, str]:
    """What the user says under each key, in plain spelling; of the keys inside objects where no other has it, as in a
    request's `body`."""
    keys = {plain_key(key): key for key in data if not is_empty(data[key])}
    found = {name: text for name, key in keys.items() if name in _PARTS and (text := _said(data[key])).strip()}
    found = found if found.keys() - _CHOICES else {}
    for name in OTHERWISE if not found else ():
        if name in keys and (text := _said(data[keys[name]])).strip():
            return {name: text}
    inner = (data[key] for name, key in keys.items() if isinstance(data[key], dict) and name not in _CHOICES)
    return found or next((texts for value in inner if (texts := _asked(value))), {})


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
    value = turn_list(value)
    if isinstance(value, list):
        return "\n\n".join(text for item in value if (text := _said(item)).strip())
    if isinstance(value, dict):
        speaker = value.get("role", value.get("from"))
        if speaker is not None and (not isinstance(speaker, str) or plain_key(speaker) not in USERS):
            return ""
        return _said(next((value[key] for key in ("content", "value", "text", "parts") if key in value), None))
    return ""
