"""How much a packed file may unpack to: a few hundred bytes can hold gigabytes that are all the same."""

from __future__ import annotations

from pathlib import Path

from constitution.errors import PromptError

FREE = 256 * 2**20
"""Bytes that every file may unpack to."""
RATIO = 500
"""Times its own size that a file may unpack to: text packs to a third or a tenth, forms filled in to a fiftieth."""


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
