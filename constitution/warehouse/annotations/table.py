"""A plain table, a row an annotation: the annotation sheet, or any with columns of these names."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from constitution.errors import InputError
from constitution.warehouse.annotations.said import ALIASES, BLANK, COLUMNS, Said, as_text, skipped

SHOWN = ("first", "second")
"""The view's columns with the texts: a file that has them and not the ids does not say which answer was shown first."""
HELP = "`constitution annotations import --help` shows how to get such a file"
NEEDED = (
    "needed are pair_id with preferred or value, or response_id with value, or an export of Argilla, Label Studio or "
    f"Prodigy; {HELP}"
)


def is_one(data: Mapping[str, Any]) -> bool:
    return True


def said(data: Mapping[str, Any], question: str | None) -> Iterator[Said]:
    """question: the column that is read as `preferred`."""
    row = {}
    for own, value in data.items():
        if (name := column_of(own, question)) and (text := as_text(value)):
            row[name] = text
    yield Said(row) if {"preferred", "value"} & row.keys() else skipped(BLANK)


def column_of(name: str, question: str | None = None) -> str | None:
    """The column of COLUMNS that a file calls `name`."""
    if question is not None and name == question:
        return "preferred"
    plain = name.strip().lower()
    found = ALIASES.get(plain, plain)
    return found if found in COLUMNS else None


def check_columns(path: Path, names: Collection[str], question: str | None) -> set[str]:
    """The columns of a file that are read. Raises InputError where they do not make annotations."""
    by_column: dict[str, list[str]] = {}
    for name in names:
        # Readers that call the second column of a name `preferred_1` do not say so.
        if column := column_of(name, question) or column_of(re.sub(r"_\d+\s*$", "", name)):
            by_column.setdefault(column, []).append(name)
    wanted = {column for column, named in by_column.items() if any(column_of(name, question) for name in named)}
    is_about = {"pair_id", "response_id"} & wanted or {"first_id", "second_id"} <= wanted
    if not is_about or not {"preferred", "value"} & wanted:
        raise InputError(f"{path}: has the columns {', '.join(names)}", hint=NEEDED)
    for column in wanted:
        if len(alike := by_column[column]) > 1:
            message = f"{path}: has the columns {' and '.join(alike)}, or two of one name"
            raise InputError(message, hint="keep one, or rename the other")
    if len({"first_id", "second_id"} & wanted) == 1:
        raise InputError(f"{path}: has one of the columns first_id and second_id", hint="give both, or neither")
    return wanted
