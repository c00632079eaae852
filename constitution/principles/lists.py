"""Files of one principle a line or a row: text, Markdown lists, CSV, TSV, JSON and JSON Lines.

A line gives its words and where they were; a row gives its cells too. What is left out of a file is said (`notes`).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from constitution.errors import PrincipleError
from constitution.reading import parse_json, text_of

TEXTS = (".txt", ".md", ".markdown")
TABLES = (".csv", ".tsv")

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_ITEM = re.compile(r"^(\s*)(?:[-*+•–]|\(?\d{1,3}[.)])\s+(.*)$")
_HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$")
_RULE = re.compile(r"^\s*(?:[-*_=]\s*){3,}$")


@dataclass(slots=True)
class Entry:
    """One principle of a file."""

    place: str
    """`rules.md: line 4, Privacy`: file, line or row, and the heading that it is under."""
    text: str = ""
    """A line's words, or those of a row's column of principles; empty: the row's cells say all."""
    cells: Mapping[str, str] = field(default_factory=dict)


def entries_of(path: Path, notes: list[str]) -> Iterator[Entry]:
    """The lines of a text, or the items of a list.

    Raises PrincipleError for Markdown without a list: which of its paragraphs are principles cannot be told."""
    lines = _lines(path)
    items = [(number, line) for number, line in enumerate(lines, 1) if _ITEM.match(line) and not _RULE.match(line)]
    if not items and path.suffix != ".txt":
        raise PrincipleError(f"{path}: has no list, and which lines are principles cannot be told", hint=_ONE_A_LINE)
    depths = [len(line.expandtabs(4)) - len(line.expandtabs(4).lstrip()) for _, line in items]
    inner = [item for item, depth in zip(items, depths, strict=True) if depth > min(depths) + 1]
    entries, other = (_listed if items else _plain)(path, lines)
    if inner:
        notes.append(
            f"{path.name}: items inside others, each a principle alone, without the other's words: {_shown(inner)}"
        )
    if other:
        notes.append(f"{path.name}: not read, for they are no item of a list and no heading: {_shown(other)}")
    yield from entries


def _shown(lines: Lines) -> str:
    first = ", ".join(f"line {number} ({line.strip()[:40]!r})" for number, line in lines[:3])
    return first + (f" and {len(lines) - 3} more" if len(lines) > 3 else "")


_ONE_A_LINE = "write one principle a line into a .txt file, or make each the item of a list"

Lines = list[tuple[int, str]]


def _plain(path: Path, lines: Sequence[str]) -> tuple[list[Entry], Lines]:
    """Every line that is not blank; a heading is what the lines below it are about."""
    entries, heading = [], ""
    for number, line in enumerate(lines, 1):
        if found := _HEADING.match(line):
            heading = found[1]
        elif line.strip():
            entries.append(Entry(_place(path, number, heading), line.strip()))
    return entries, []


def _listed(path: Path, lines: Sequence[str]) -> tuple[list[Entry], Lines]:
    """The items, each with the indented lines that follow it; and what is neither item nor heading."""
    entries: list[Entry] = []
    other: Lines = []
    heading, inside = "", False
    for number, line in enumerate(lines, 1):
        if not line.strip() or _RULE.match(line):
            inside = False
        elif found := _HEADING.match(line):
            heading, inside = found[1], False
        elif item := _ITEM.match(line):
            entries.append(Entry(_place(path, number, heading), item[2].strip()))
            inside = True
        elif inside:  # Markdown continues with an item's paragraph until a blank line
            entries[-1].text += f" {line.strip()}"
        else:
            other.append((number, line))
    return entries, other


def _place(path: Path, number: int, heading: str) -> str:
    return f"{path.name}: line {number}" + (f", {heading}" if heading else "")


def rows_of(path: Path) -> list[tuple[str, dict[str, str]]]:
    """The rows of a CSV or TSV file (RFC 4180, with a header), each with its place."""
    text = text_of(path, str(path), PrincipleError)
    parted = {mark: _parted(text, mark) for mark in ("\t" if path.suffix == ".tsv" else _DELIMITERS)}
    whole = {mark: rows for mark, rows in parted.items() if rows and len({len(row) for row in rows}) == 1}
    wide = [mark for mark, rows in whole.items() if len(rows[0]) > 1]
    if len(wide) > 1:
        raise PrincipleError(
            f"{path}: can be parted by {' and by '.join(_DELIMITERS[mark] for mark in wide)}",
            hint="quote the cells that hold such marks",
        )
    mark = wide[0] if wide else next(iter(parted))
    rows = parted[mark]
    if not rows:
        raise PrincipleError(f"{path}: has no rows that can be read as CSV", hint="quote cells that hold quotes")
    header, *others = rows
    for number, row in enumerate(others, 1):
        if len(row) != len(header):
            raise PrincipleError(
                f"{path}: row {number} has {len(row)} cells, and the header has {len(header)}, parted by "
                f"{_DELIMITERS[mark]}",
                hint="quote the cells that hold the delimiter",
            )
    if doubled := [name for name in header if header.count(name) > 1]:
        raise PrincipleError(f"{path}: has two columns {doubled[0]!r}", hint="give each another name")
    return [(f"row {number}", dict(zip(header, row, strict=True))) for number, row in enumerate(others, 1)]


def _parted(text: str, mark: str) -> list[list[str]]:
    """The rows that are not blank; none where they cannot be read so."""
    try:
        return [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True) if row]
    except csv.Error:
        return []


def objects_of(path: Path, data: Sequence[Any]) -> list[tuple[str, dict[str, str]]]:
    """The objects of a JSON list as rows of texts. Raises PrincipleError for values that are no texts or numbers."""
    rows = []
    for number, each in enumerate(data):
        if not isinstance(each, dict):
            raise PrincipleError(f"{path}: entry {number}: expected an object, as the others are")
        cells = {}
        for key, given in each.items():
            texts = isinstance(given, list) and all(isinstance(item, str) for item in given)
            value = ", ".join(given) if texts and key == "tags" else given
            if not isinstance(value, str | int | float | None):
                raise PrincipleError(f"{path}: entry {number}: {key} is no text", hint="flatten it, then import")
            cells[key] = "" if value is None else str(value)
        rows.append((f"entry {number}", cells))
    return rows


def json_lines_of(path: Path) -> list[Any]:
    lines = _lines(path)
    return [
        parse_json(line, f"{path}: line {number}", PrincipleError)
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]


def _lines(path: Path) -> list[str]:
    """By line ends alone: other breaks, such as U+2028, are part of a text."""
    return re.split(r"\r\n|\r|\n", text_of(path, str(path), PrincipleError))
