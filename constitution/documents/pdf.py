"""PDF into blocks."""

from __future__ import annotations

from constitution.documents.records import Block, Dropped
from constitution.errors import DocumentError


def read(data: bytes, label: str) -> tuple[list[Block], list[Dropped]]:
    raise DocumentError(f"{label}: PDF is not read yet")
