"""JSONL, also .gz: one object to a line."""

from __future__ import annotations

import codecs
import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from constitution.errors import PromptError
from constitution.prompts.keys import AnyKeys
from constitution.prompts.row import MOST_ROW, Row, Unpacked
from constitution.reading import foreign, opened, parse_json

MOST_BLANK = 1_000_000
"""Lines without anything in them, of a whole file."""
ONE_A_LINE = "a JSONL file has one object to a line"


def read(path: Path, name: str, keys: AnyKeys) -> Iterator[Row]:
    blank = 0
    for number, line in lines(path, ONE_A_LINE):
        if line.strip():
            yield _json_row(path, name, number, line)
        elif (blank := blank + 1) > MOST_BLANK:
            raise PromptError(f"{path}, line {number}: {blank:,} lines before it are blank", hint=ONE_A_LINE)


def lines(path: Path, hint: str) -> Iterator[tuple[int, bytes]]:
    """The lines of a file, also .gz, numbered from 1, without a byte-order mark. Never more than a line's limit is
    held, for a few megabytes of .gz may unpack to terabytes."""
    number = 0
    with opened(path, str(path), PromptError) as file:
        packed = path.suffix.lower() == ".gz"
        unpacked = Unpacked(path, os.fstat(file.fileno()).st_size)
        handle = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if packed else file
        try:
            for number, line in enumerate(iter(lambda: handle.readline(MOST_ROW + 1), b""), 1):
                if len(line) > MOST_ROW:
                    raise PromptError(f"{path}, line {number}: is longer than {MOST_ROW // 2**20} MiB", hint=hint)
                if packed:
                    unpacked.add(len(line))
                yield number, _without_mark(path, line) if number == 1 else line
        except (OSError, EOFError, zlib.error) as error:
            raise PromptError(f"{path}, after line {number}: cannot be read: {error}") from None


def _without_mark(path: Path, line: bytes) -> bytes:
    if kind := foreign(line):
        raise PromptError(f"{path}, line 1: is not UTF-8 but {kind}", hint="save it as UTF-8, or name it by what it is")
    return line.removeprefix(codecs.BOM_UTF8)


def _json_row(path: Path, name: str, number: int, line: bytes) -> Row:
    place = f"{path}, line {number}"
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise PromptError(f"{place}: byte {error.start} is not UTF-8", hint="save the file as UTF-8") from None
    data = parse_json(text, place, PromptError)
    if not isinstance(data, dict):
        raise PromptError(f"{place}: expected an object with keys, not {type(data).__name__}")
    return Row(f"{name}#{number}", place, data)
