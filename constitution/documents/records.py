"""What a document is read into, and what changed between two editions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Format = Literal["markdown", "text", "html", "pdf"]
BlockKind = Literal["heading", "paragraph", "item", "row", "head", "code", "quote"]
ClauseKind = Literal["paragraph", "lead", "item", "row", "code", "quote", "heading"]
CONTINUES = -1
"""Level of a paragraph that belongs to the item before it, where its reader cannot say how deep that is."""
ChangeKind = Literal["same", "moved", "reworded", "added", "removed"]


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a document as its reader gives it: what all formats have in common."""

    kind: BlockKind
    text: str
    line: int = 0
    """Line of the file, from 1; 0: not known."""
    page: int = 0
    """Page, from 1; 0: the format has none."""
    level: int = 0
    """A heading's: 1 is the outermost. Else how many lists it is in."""
    marker: str = ""
    """An item's, as it is shown: `1.`, `(a)`, `-`. Empty: a further paragraph of the item before it."""
    indent: int = -1
    """Columns before it; -1: not known."""
    lead: str = ""
    """A table row's: the table's head."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """What is in the file and not in the document's text."""

    reason: str
    """`page header`, `front matter`, `script`, `comment`, `link address` …"""
    text: str
    page: int = 0
    line: int = 0


@dataclass(frozen=True, slots=True)
class Clause:
    id: str
    """Unique in the document: its number where it has one (`3.2`, `7.2` for § 7 (2), `4.b`), else its heading and a
    running number (`reporting.2`)."""
    number: str
    """As it is written (`Art. 5`, `(b)`); empty: none."""
    heading: tuple[str, ...]
    """The headings above it, the outermost first."""
    text: str
    """Its words without the number; `document.text[start:end]`."""
    start: int
    """Place in the document's text, in characters."""
    end: int
    page: int = 0
    """Page of a PDF, from 1; else 0."""
    line: int = 0
    """Line of the file, from 1; 0 in a PDF."""
    lead: str = ""
    """The words that it completes: what introduces its list (`Employees must not:`), or its table's head."""
    kind: ClauseKind = "paragraph"
    """lead: it only introduces the items or rows that follow. heading: a heading with nothing below it."""


@dataclass(frozen=True, slots=True)
class Document:
    name: str
    """The file's name without its ending, in small letters, digits and hyphens; before the # of `charter#3.2`."""
    format: Format
    digest: str
    """SHA-256 of the file's bytes, 64 hex digits."""
    text: str
    """In which a quote is verbatim: without markup, white space in a paragraph as one space, Unicode in NFC."""
    clauses: tuple[Clause, ...]
    dropped: tuple[Dropped, ...] = ()

    def clause(self, clause_id: str) -> Clause | None:
        return next((clause for clause in self.clauses if clause.id == clause_id), None)


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a clause. Each clause of both editions is in exactly one."""

    kind: ChangeKind
    """moved: the same words, under another number or heading. reworded: similar words, as `similarity` says."""
    old: Clause | None
    new: Clause | None
    similarity: float
    """How alike the two texts are, in [0, 1]: 1 are the same words, 0 where there is one text alone."""
