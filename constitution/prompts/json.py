"""JSON: one list of objects, or an object that has the list as `examples`, as BIG-bench's tasks do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from constitution.errors import PromptError
from constitution.prompts.keys import AnyKeys, is_empty
from constitution.prompts.row import Row
from constitution.reading import parse_json, text_of

MOST = 64 * 2**20
"""Bytes of a file, which is read as a whole."""
_SEVERAL = 'one object to a line is format "jsonl"; format sql reads other forms: query = "FROM read_json(…)"'


def read(path: Path, name: str, keys: AnyKeys) -> Iterator[Row]:
    text = text_of(path, str(path), PromptError, MOST)
    try:
        data = parse_json(text, str(path), PromptError)
    except PromptError as error:
        raise PromptError(str(error), hint=_SEVERAL) from None
    if isinstance(data, dict):
        if not is_empty(data.get("task_prefix")):
            raise PromptError(f"{path}: has a task_prefix, which a model would have been shown", hint=_SEVERAL)
        data = data.get("examples")
    if not isinstance(data, list):
        raise PromptError(f"{path}: is no list of objects, and has none as `examples`", hint=_SEVERAL)
    for number, item in enumerate(data, 1):
        place = f"{path}, entry {number}"
        if not isinstance(item, dict):
            raise PromptError(f"{place}: expected an object with keys, not {type(item).__name__}")
        yield Row(f"{name}#{number}", place, item)
