"""A row as it was read from a source, where it is, and how much a packed file may unpack to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from constitution.errors import PromptError

LOOK = "; `constitution prompts inspect FILE` finds the settings"
"""Ends the hint of an error about keys."""

MOST_ROW = 16 * 2**20
"""Bytes of a line, or of a row's values."""
FREE = 256 * 2**20
"""Bytes that every file may unpack to."""
_MOST_NAMED = 100
"""Keys of a row that a message names."""
RATIO = 500
"""Times its own size that a file may unpack to: text packs to a third or a tenth, forms filled in to a fiftieth."""


class Unused(PromptError):
    """A row that has keys which a recipe neither uses nor ignores."""

    def __init__(self, message: str, *, hint: str, keys: Sequence[str]) -> None:
        """keys: those that may be left out."""
        super().__init__(message, hint=hint)
        self.keys = tuple(keys)


class UnknownRole(PromptError):
    """A turn of a role that a recipe does not map."""

    def __init__(self, message: str, *, hint: str, role: str) -> None:
        super().__init__(message, hint=hint)
        self.role = role


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it was read, and where."""

    source: str
    """For the prompt's `source`: file#row."""
    place: str
    """For people: `prompts.jsonl, line 17`."""
    data: dict[str, Any]
    fault: PromptError | None = None
    """Why it cannot be read, which says nothing of other rows; None: it can."""

    def refuse(self, what: str, hint: str | None = None) -> NoReturn:
        raise PromptError(f"{self.place}: {what}", hint=hint) from None

    def unused(self, keys: Sequence[str], what: str, hint: str) -> NoReturn:
        raise Unused(f"{self.place}: {what}", hint=hint, keys=keys)

    @property
    def names(self) -> str:
        """Its keys, for messages."""
        more = len(self.data) - _MOST_NAMED
        return (", ".join(sorted(self.data)[:_MOST_NAMED]) or "none") + (f" and {more:,} more" if more > 0 else "")

    def value(self, key: str, hint: str = "name the key in prompts.field or prompts.answers") -> Any:
        """What `key` holds. Raises PromptError where the row has it not, or it is null. hint: where it has it not."""
        if self.data.get(key) is None:
            if key in self.data:
                self.refuse(f"{key} is null", "leave such rows out; format sql can: WHERE … IS NOT NULL")
            if "instruction" in self.data and key == "prompt":
                hint = 'Alpaca\'s rows: prompts.field = "instruction", prompts.join = ["input"]'
            if "turns" in self.data and key == "prompt":
                hint = 'turns that are asked one after the other, as MT-bench has them: prompts.turns = "turns"'
            self.refuse(f"there is no {key!r} (it has: {self.names})", hint + LOOK)
        return self.data[key]


def check_text(row: Row, where: str, text: str) -> None:
    """Refuses a text that no file of ours can hold. where: in the row."""
    if "\x00" in text:
        row.refuse(f"{where} holds a NUL character", "take it out")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        row.refuse(f"{where}, character {error.start}: half of a surrogate pair", "the file was cut or badly encoded")


def are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def numbered(source: str, place: str, rows: Iterable[dict[str, Any]]) -> Iterator[Row]:
    for number, row in enumerate(rows, 1):
        yield Row(f"{source}#{number}", f"{place}, row {number}", row)


def made(source: str, place: str, read: Callable[[str], dict[str, Any]]) -> Row:
    """A row by what reads it, of its place; with its fault where that raises PromptError."""
    try:
        return Row(source, place, read(place))
    except PromptError as error:
        return Row(source, place, {}, error)


class Unpacked:
    """Counts what a file unpacks to."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._most = max(FREE, RATIO * size)
        self._size = size
        self._count = 0

    def add(self, count: int) -> None:
        """count: bytes. Raises PromptError once they are too many."""
        self._count += count
        if self._count > self._most:
            raise PromptError(
                f"{self._path}: its {self._size:,} bytes unpack to more than {self._most / 2**20:,.0f} MiB",
                hint="if that is meant, write the rows as plain JSONL",
            )
