"""JSONL, also .gz: one object to a line."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from constitution.errors import PromptError
from constitution.prompts.row import Row
from constitution.reading import parse_json

MOST_LINE = 16 * 2**20
"""Bytes of a line."""
MOST_BLANK = 1_000_000
"""Lines without anything in them, of a whole file."""
ONE_A_LINE = "a JSONL file has one object to a line"


def jsonl(path: Path) -> Iterator[Row]:
    number = blank = 0
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as handle:
            # Never more than a line's limit at once: a few megabytes of .gz may unpack to terabytes.
            for number, line in enumerate(iter(lambda: handle.readline(MOST_LINE + 1), b""), 1):
                if len(line) > MOST_LINE:
                    raise PromptError(
                        f"{path}, line {number}: is longer than {MOST_LINE // 2**20} MiB", hint=ONE_A_LINE
                    )
                if line.strip():
                    yield _json_row(path, number, line)
                elif (blank := blank + 1) > MOST_BLANK:
                    raise PromptError(f"{path}, line {number}: {blank:,} lines before it are blank", hint=ONE_A_LINE)
    except (OSError, EOFError, zlib.error) as error:
        raise PromptError(f"{path}, after line {number}: cannot be read: {error}") from None


def _json_row(path: Path, number: int, line: bytes) -> Row:
    place = f"{path}, line {number}"
    try:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise PromptError(f"{place}: byte {error.start} is not UTF-8") from None
    data = parse_json(text, place, PromptError)
    if not isinstance(data, dict):
        raise PromptError(f"{place}: expected an object with keys, not {type(data).__name__}")
    return Row(f"{path.name}#{number}", place, data)
