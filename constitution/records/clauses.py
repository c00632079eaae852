"""A clause of a document, as a run keeps it to say what of the document it covers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoredClause:
    id: str
    """Digest of run, document, edition and clause."""
    run_id: str
    document: str
    """What principles call the document: before the # of `charter#3.2`."""
    edition: str
    """SHA-256 of the document's file, 64 hex digits."""
    format: str
    """markdown, text, html or pdf."""
    clause: str
    """As principles name it: `<document>#<clause id>`."""
    position: int
    """Place in the document, from 0."""
    number: str
    """As it is written (`Art. 5`); empty: none."""
    heading: tuple[str, ...]
    """The headings above it, the outermost first."""
    lead: str
    """The words that it completes; empty: none."""
    kind: str
    """paragraph, lead, item, row, code, quote or heading (`documents.Clause`)."""
    text: str
    begins: int
    """Place of its first character in the document's text, from 0."""
    ends: int
    """Place after its last."""
    page: int | None
    """Page of a PDF, from 1; None: of another format."""
    line: int | None
    """Line of the file, from 1; None: of a PDF."""
    quoted_by: tuple[str, ...] = ()
    """The run's principles that name it and whose quote is in it, word for word."""
    misquoted_by: tuple[str, ...] = ()
    """Those that name it and whose quote is in none of the clauses that they name: its words are others."""
