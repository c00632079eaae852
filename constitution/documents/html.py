"""HTML into blocks."""

from __future__ import annotations

from constitution.documents.records import Block, Dropped
from constitution.errors import DocumentError


def read(text: str, label: str) -> tuple[list[Block], list[Dropped]]:
    raise DocumentError(f"{label}: HTML is not read yet")
