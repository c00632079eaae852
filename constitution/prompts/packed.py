"""Text files as lines, unpacked where their first bytes say that gzip or zstd packed them, whatever they are called."""

from __future__ import annotations

import codecs
import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast

import pyarrow as pa

from constitution.errors import PromptError
from constitution.prompts.row import MOST_ROW, Unpacked
from constitution.reading import foreign, opened

PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
"""How a packed file begins, and by what it was packed."""
PARQUET = b"PAR1"
_HEAD = 4
MOST_BLANK = 1_000_000
"""Lines without anything in them, of a whole file."""


def packed_by(path: Path) -> str | None:
    """`gzip`, `zstd`, or None for a file that is as it is."""
    with opened(path, str(path), PromptError) as file:
        return _packed_by(file)


def is_parquet(path: Path) -> bool:
    """Whether the file's first bytes are Parquet's."""
    with opened(path, str(path), PromptError) as file:
        return file.peek(_HEAD)[:_HEAD] == PARQUET


def lines(path: Path, hint: str, whole: bool = True) -> Iterator[tuple[int, bytes]]:
    """The lines of a file, numbered from 1, without a byte-order mark. Never more than a line's limit is held, for a
    few megabytes of a packed file may unpack to terabytes. whole: False gives longer lines in pieces.

    Raises PromptError, with `hint` where a line is longer than MOST_ROW bytes.
    """
    number = 0
    with opened(path, str(path), PromptError) as file:
        packed = _packed_by(file)
        count = Unpacked(path, os.fstat(file.fileno()).st_size)
        try:
            with _unpacked(file, packed) as handle:
                for number, line in enumerate(iter(lambda: handle.readline(MOST_ROW + 1), b""), 1):
                    if whole and len(line) > MOST_ROW:
                        raise PromptError(f"{path}, line {number}: is longer than {MOST_ROW // 2**20} MiB", hint=hint)
                    if packed:
                        count.add(len(line))
                    yield number, _without_mark(path, line) if number == 1 else line
        except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
            raise PromptError(f"{path}, after line {number}: cannot be read: {error}") from None


def filled(path: Path, hint: str, whole: bool = True) -> Iterator[tuple[int, bytes]]:
    """The lines that hold more than blanks. Raises PromptError where MOST_BLANK others are before one of them: a packed
    file may unpack to nothing else."""
    blank = 0
    for number, line in lines(path, hint, whole):
        if line.strip():
            yield number, line
        elif (blank := blank + 1) > MOST_BLANK:
            raise PromptError(f"{path}, line {number}: {blank:,} lines before it are blank", hint=hint)


def _packed_by(file: io.BufferedReader) -> str | None:
    head = file.peek(_HEAD)
    return next((name for magic, name in PACKED.items() if head.startswith(magic)), None)


@contextmanager
def _unpacked(file: io.BufferedReader, packed: str | None) -> Iterator[BinaryIO]:
    if packed == "gzip":
        yield cast(BinaryIO, gzip.GzipFile(fileobj=file))
    elif packed == "zstd":
        with pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd") as stream:
            yield io.BufferedReader(cast(IO[bytes], stream))  # type: ignore[type-var]
    else:
        yield file


def _without_mark(path: Path, line: bytes) -> bytes:
    if kind := foreign(line):
        raise PromptError(f"{path}, line 1: is not UTF-8 but {kind}", hint="save it as UTF-8, or name it by what it is")
    return line.removeprefix(codecs.BOM_UTF8)
