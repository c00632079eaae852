"""A row as it was read from a source, and where it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from constitution.errors import PromptError

MOST_ROW = 16 * 2**20
"""Bytes of a line, or of a row's values."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it was read, and where."""

    source: str
    """For the prompt's `source`: file#row."""
    place: str
    """For people: `prompts.jsonl, line 17`."""
    data: dict[str, Any]

    def refuse(self, what: str, hint: str | None = None) -> NoReturn:
        raise PromptError(f"{self.place}: {what}", hint=hint) from None


def numbered(source: str, place: str, rows: Iterable[dict[str, Any]]) -> Iterator[Row]:
    for number, row in enumerate(rows, 1):
        yield Row(f"{source}#{number}", f"{place}, row {number}", row)
