"""JSONL: one object to a line."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from constitution.errors import PromptError
from constitution.prompts.keys import AnyKeys
from constitution.prompts.packed import filled
from constitution.prompts.row import Row, made
from constitution.reading import parse_json

ONE_A_LINE = "a JSONL file has one object to a line"


def read(path: Path, name: str, keys: AnyKeys) -> Iterator[Row]:
    for number, line in filled(path, ONE_A_LINE):
        yield made(f"{name}#{number}", f"{path}, line {number}", partial(_object, line))


def _object(line: bytes, place: str) -> dict[str, Any]:
    try:
        text = line.decode().rstrip("\r\n")  # of a line that was cut, the text is open, and no line break is in it
    except UnicodeDecodeError as error:
        raise PromptError(f"{place}: byte {error.start} is not UTF-8", hint="save the file as UTF-8") from None
    data = parse_json(text, place, PromptError)
    if not isinstance(data, dict):
        raise PromptError(f"{place}: expected an object with keys, not {type(data).__name__}")
    return data
