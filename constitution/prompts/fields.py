"""What a row is as a prompt: its turns, its given answers, its tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from constitution.prompts.row import Row
from constitution.prompts.transcripts import TURN, parse_transcript, split_answers
from constitution.recipe import PromptsSection
from constitution.records import Message, Messages, Prompt, Role


def prompt_of(row: Row, section: PromptsSection) -> Prompt:
    if section.format == "transcripts":
        messages, answers = _from_transcripts(row, section)
    else:
        messages, answers = _from_fields(row, section)
    if messages[-1].role != "user":
        row.refuse(
            "the last turn is not the user's", "take the answer out of the prompt, or name it in prompts.answers"
        )
    for number, message in enumerate(messages, 1):
        _check_text(row, f"turn {number}", message.content)
        if not message.content.strip():
            row.refuse(f"turn {number} has no text")
    for key, answer in zip(section.answers, answers, strict=True):
        _check_text(row, key, answer)
    gold = section.answers.index(section.gold) if section.gold else None
    return Prompt(messages, row.source, (*section.tags, *_own_tags(row, section)), answers, gold)


def _own_tags(row: Row, section: PromptsSection) -> list[str]:
    if section.tags_field is None:
        return []
    tags = _value(row, section.tags_field)
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        row.refuse(f"{section.tags_field} is not a list of texts")
    for tag in tags:
        _check_text(row, section.tags_field, tag)
    return tags


def _from_transcripts(row: Row, section: PromptsSection) -> tuple[Messages, tuple[str, ...]]:
    conversations = []
    for key in section.answers or (section.field,):
        text = _value(row, key)
        if not isinstance(text, str):
            row.refuse(f"{key} is not a text", "a transcript is one string; for lists of messages use format jsonl")
        try:
            conversations.append(parse_transcript(text))
        except ValueError as error:
            row.refuse(f"{key}: {error}")
    if section.answers:
        return _shared(row, conversations)
    return _until_last_human(row, section.field, conversations[0]), ()


def _until_last_human(row: Row, key: str, turns: Messages) -> Messages:
    while turns and turns[-1].role != "user":
        turns = turns[:-1]
    if not turns:
        row.refuse(f"{key}: there is no human turn")
    return turns


def _from_fields(row: Row, section: PromptsSection) -> tuple[Messages, tuple[str, ...]]:
    values = [_value(row, key) for key in section.answers]
    key = section.field if row.data.get(section.field) is not None else "messages"
    missing = row.data.get(key) is None
    if missing and values and all(isinstance(value, list) for value in values):
        named = zip(section.answers, values, strict=True)
        return _shared(row, [_messages(row, key, value) for key, value in named])
    messages = _messages(row, key, _value(row, section.field if missing else key))
    return messages, tuple(
        _answer(row, name, value, messages) for name, value in zip(section.answers, values, strict=True)
    )


def _shared(row: Row, conversations: Sequence[Messages]) -> tuple[Messages, tuple[str, ...]]:
    try:
        return split_answers(conversations)
    except ValueError as error:
        row.refuse(str(error), "leave the row out, or read it without prompts.answers")


def _messages(row: Row, key: str, value: Any) -> Messages:
    """A string is one user turn; a list holds {role, content}."""
    if isinstance(value, str):
        if TURN.match("\n\n" + value.lstrip()):
            row.refuse(f"{key} is a transcript", 'set prompts.format = "transcripts"')
        return (Message("user", value),)
    if not isinstance(value, list) or not value:
        row.refuse(f"{key} is neither a text nor a list of messages")
    messages = []
    for number, item in enumerate(value, 1):
        if not isinstance(item, dict) or not isinstance(item.get("content"), str):
            row.refuse(f"{key}, turn {number}: expected {{role, content}} with a text in each")
        if item.get("role") not in ("system", "user", "assistant"):
            row.refuse(f"{key}, turn {number}: role is {item.get('role')!r}", "roles are system, user and assistant")
        messages.append(Message(cast(Role, item["role"]), item["content"]))
    return tuple(messages)


def _answer(row: Row, key: str, value: Any, prompt: Messages) -> str:
    """A text; or messages: the answer alone, or the prompt and the answer."""
    if isinstance(value, str):
        return value.strip()
    messages = _messages(row, key, value)
    if messages[: len(prompt)] == prompt:
        messages = messages[len(prompt) :]
    if not messages or any(message.role != "assistant" for message in messages):
        row.refuse(f"{key} does not go on from the prompt")
    return "\n\n".join(message.content for message in messages).strip()


def _value(row: Row, key: str) -> Any:
    if row.data.get(key) is None:
        known = ", ".join(sorted(row.data)) or "none"
        row.refuse(f"there is no {key!r} (it has: {known})", "name the key in prompts.field or prompts.answers")
    return row.data[key]


def _check_text(row: Row, where: str, text: str) -> None:
    if "\x00" in text:
        row.refuse(f"{where} holds a NUL character", "take it out")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        row.refuse(f"{where}, character {error.start}: half of a surrogate pair", "the file was cut or badly encoded")
