"""CSV and TSV (RFC 4180): a header, then a row of as many cells, each a text; quoted cells may hold line breaks."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from constitution.errors import PromptError
from constitution.prompts.keys import AnyKeys
from constitution.prompts.packed import lines
from constitution.prompts.row import MOST_ROW, Row

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
SAMPLE = 20
"""Rows that say what parts the cells."""

_QUOTES = "a cell with a quote, a line break or the delimiter in it is quoted, and a quote in it doubled"


def read(path: Path, name: str, keys: AnyKeys) -> Iterator[Row]:
    csv.field_size_limit(MOST_ROW)
    delimiter = "\t" if ".tsv" in path.suffixes[-2:] else _delimiter(path)
    rows = _rows(path, delimiter)
    _, header = next(rows, (1, []))
    _check_header(path, header, keys)
    for number, (line, cells) in enumerate(rows, 1):
        place = f"{path}, row {number} (line {line})"
        fault = None
        if len(cells) != len(header):
            has = f"has {len(cells)} cells, and the header has {len(header)}, parted by {DELIMITERS[delimiter]}"
            fault = PromptError(f"{place}: {has}", hint=_QUOTES)
        data = {} if fault else dict(zip(header, cells, strict=True))
        yield Row(f"{name}#{number}", place, data, fault)


def _rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Each row, blank ones apart, with the number of its first line."""
    first = 1
    parts: list[int] = []  # cells of each of a row's lines, were they rows

    def texts() -> Iterator[str]:
        for text in _texts(path):
            parts.append(text.count(delimiter) + 1)
            yield text

    reader = csv.reader(texts(), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if delimiter == "\t" and len(parts) > 1 < len(cells) and {*parts} == {len(cells)}:
                raise PromptError(
                    f"{path}, lines {first} to {reader.line_num}: by its quotes this is one row, and without them each "
                    "line is one",
                    hint="leave such quotes out, or double them in quoted cells; or write JSONL",
                )
            if cells:
                yield first, cells
            first = reader.line_num + 1
            parts.clear()
    except csv.Error as error:
        raise PromptError(f"{path}, line {first}: cannot be read as CSV: {error}", hint=_QUOTES) from None


def _texts(path: Path) -> Iterator[str]:
    for number, line in lines(path, _QUOTES):
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            raise PromptError(
                f"{path}, line {number}: byte {error.start} is not UTF-8", hint="save the file as UTF-8"
            ) from None


def _delimiter(path: Path) -> str:
    """The one that parts the first rows into cells, as many in each; a comma where none does."""
    able = [mark for mark in DELIMITERS if _parts_alike(path, mark)]
    if len(able) > 1:
        named = " and by ".join(DELIMITERS[mark] for mark in able)
        raise PromptError(
            f"{path}: its first rows can be parted by {named}",
            hint="quote the cells that hold such marks, or read it by format sql: "
            f"query = \"FROM read_csv('{path.name}', delim = '{able[0]}', header = true, all_varchar = true)\"",
        )
    return able[0] if able else ","


def _parts_alike(path: Path, delimiter: str) -> bool:
    try:
        counts = {len(cells) for _, cells in islice(_rows(path, delimiter), SAMPLE)}
    except PromptError:
        return False
    return len(counts) == 1 and counts.pop() > 1


def _check_header(path: Path, header: Sequence[str], keys: AnyKeys) -> None:
    for key in keys.wanted(header):
        if (count := header.count(key)) > 1 and (key.strip() or not keys.lenient):  # a spreadsheet's empty columns
            raise PromptError(f"{path}: has {count} columns {key!r}", hint="give each another name")
