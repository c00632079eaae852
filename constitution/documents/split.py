"""Blocks into clauses: which number belongs to what, which words introduce which list, where each clause lies.

Every block becomes a heading or (part of) a clause, so that nothing of the text is lost. Numbers nest as they are
written: `3.2` is below `3`, `(i)` after `(a)` is below it, and a list is below the paragraph before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from constitution.documents.ids import Unit, assign
from constitution.documents.numbers import Number, leading
from constitution.documents.records import CONTINUES, Block, Clause, ClauseKind

MOST_LEAD = 1000
"""Characters of a sentence that introduces a list; what is longer is a clause and introduces nothing."""

_SENTENCE = re.compile(r"(?<=[.!?])[\"”’)]?\s+(?=[\"“(]?[^\W\d_a-z])|(?<=[。！？])")
_INTRODUCES = re.compile(r"[:：—–…]$|[^.!?。！？;；\"”)）\]]$")
_FOLLOWING = re.compile(r"following|as follows|folgende|wie folgt|suivant|下列|以下|如下", re.IGNORECASE)
_TOGETHER = {("item", "item"), ("row", "row"), ("head", "row")}
_KINDS: dict[str, ClauseKind] = {"row": "row", "head": "lead", "code": "code", "quote": "quote"}
_KEYWORD_ONLY = re.compile(r"article|section|sec|rule|§|part|book|title|chapter|annex|division|[条條章节節编編部]")


def split(blocks: Iterable[Block]) -> tuple[str, tuple[Clause, ...]]:
    """The document's text, and its clauses in the order of the document."""
    splitter = _Splitter()
    for block, number in _numbered(_joined(list(blocks))):
        splitter.add(block, number)
    return splitter.finish()


def _joined(blocks: list[Block]) -> list[Block]:
    """The same, where a number in a paragraph by itself is a heading (`Article 5`), or belongs to the next one."""
    found: list[Block] = []
    for block in blocks:
        before = found[-1] if found else None
        if before and _alone(before) and block.kind == "paragraph" and not leading(block.text):
            found[-1] = replace(before, text=f"{before.text} {block.text}")
        elif block.kind == "paragraph" and (number := leading(block.text)) and not number.rest and number.absolute:
            keyword = _KEYWORD_ONLY.fullmatch(number.style)
            found.append(replace(block, kind="heading", level=7) if keyword and not block.level else block)
        else:
            found.append(block)
    return found


def _alone(block: Block) -> bool:
    return block.kind == "paragraph" and len(block.text) < 20 and (n := leading(block.text)) is not None and not n.rest


def _numbered(blocks: Sequence[Block]) -> list[tuple[Block, Number | None]]:
    """Each block with its number, and without one where a weak number has no neighbour of its series."""
    numbers = [_number(block) for block in blocks]
    pairs = list(zip(blocks, numbers, strict=True))
    series = {(block.kind == "heading", number.style, number.place) for block, number in pairs if number}

    def kept(block: Block, number: Number) -> bool:
        near = ((block.kind == "heading", number.style, number.place + step) for step in (-1, 1))
        return not number.weak or bool(block.marker) or any(each in series for each in near)

    return [(block, number if number and kept(block, number) else None) for block, number in pairs]


def _number(block: Block) -> Number | None:
    if block.kind == "heading":
        return leading(block.text, heading=True)
    if block.kind == "item" and block.marker:
        return leading(f"{block.marker} {block.text}") or leading(block.text)
    return leading(block.text) if block.kind in ("paragraph", "item") else None


@dataclass
class _Open:
    """An item that further ones may follow."""

    unit: Unit
    level: int
    """How many lists it is in; 0: its number alone says that it is an item."""
    lead: str
    lead_unit: Unit | None


@dataclass
class _Splitter:
    pieces: list[str] = field(default_factory=list)
    length: int = 0
    units: list[Unit] = field(default_factory=list)
    headings: list[Unit] = field(default_factory=list)
    items: list[_Open] = field(default_factory=list)
    last: Unit | None = None
    """The clause before, if nothing but items came since."""
    before: Block | None = None

    def add(self, block: Block, number: Number | None) -> None:
        if block.kind == "heading":
            self._heading(block, number)
        elif block.kind == "paragraph" and block.level and not number and self._continues(block):
            pass
        elif number or block.kind == "item":
            self._item(block, number)
        else:
            self._paragraph(block)
        self.before = block

    def finish(self) -> tuple[str, tuple[Clause, ...]]:
        assign(self.units)
        text = "".join(self.pieces)
        return text, tuple(_clause(unit, text) for unit in self.units if unit.is_clause)

    # --- the text

    def _write(self, block: Block) -> tuple[int, int]:
        """Where the block's own words lie in the text."""
        alike = self.before is not None and (self.before.kind, block.kind) in _TOGETHER
        together = alike or (block.level != 0 and block.kind == "paragraph")
        separator = "" if not self.pieces else "\n" if together else "\n\n"
        marker = f"{block.marker} " if block.marker else ""
        self.pieces += [separator, marker, block.text]
        start = self.length + len(separator) + len(marker)
        self.length = start + len(block.text)
        return start, self.length

    def _unit(self, block: Block, number: Number | None, parent: Unit | None, kind: ClauseKind) -> Unit:
        start, end = self._write(block)
        if number and kind != "heading":
            start = end - len(number.rest)
        unit = Unit(kind, parent, number, start, end, block, heading=tuple(each.block.text for each in self.headings))
        self.units.append(unit)
        if parent:
            parent.children += 1
        return unit

    # --- blocks

    def _heading(self, block: Block, number: Number | None) -> None:
        while self.headings and self.headings[-1].block.level >= block.level:
            self.headings.pop()
        self.items.clear()
        unit = self._unit(block, number, self.headings[-1] if self.headings else None, "heading")
        self.headings.append(unit)
        self.last = None

    def _paragraph(self, block: Block) -> None:
        kept = [each for each in self.items if 0 < each.level <= block.level]
        if not kept and self.items and block.level <= 0 and not self.items[0].level and not self.items[0].lead:
            kept = self.items[:1]  # "0. …" and its further paragraphs
        self.items = kept
        kind = _KINDS.get(block.kind, "paragraph")
        self.last = self._unit(block, None, self._parent(), kind)
        self.last.lead = block.lead

    def _parent(self) -> Unit | None:
        return self.items[-1].unit if self.items else self.headings[-1] if self.headings else None

    def _continues(self, block: Block) -> bool:
        """Whether the paragraph is a further one of the item before it, to which it is then added."""
        last = self.items[-1] if self.items else None
        if not last or last.unit is not self.units[-1] or not last.unit.text_only:
            return False
        if block.level not in (CONTINUES, last.level):
            return False
        _, last.unit.end = self._write(block)
        last.unit.tail = block.text
        return True

    def _item(self, block: Block, number: Number | None) -> None:
        number = self._close(block, number)
        parent = self._parent()
        lead, lead_unit = self._lead(block, parent)
        unit = self._unit(
            block, number, parent, "item" if block.kind == "item" or lead or parent in self._open() else "paragraph"
        )
        unit.lead, unit.lead_unit = lead, lead_unit
        self.items.append(_Open(unit, block.level, lead, lead_unit))
        if not lead and block.kind != "item":
            self.last = unit

    def _open(self) -> list[Unit]:
        return [each.unit for each in self.items]

    def _close(self, block: Block, number: Number | None) -> Number | None:
        """Closes the items that the new one is not below. The number, which may turn out to be a letter."""
        self.sibling = None
        if block.level:
            self._cut(next((at for at, each in enumerate(self.items) if each.level >= block.level), None))
        elif number and number.absolute:
            below = [at for at, each in enumerate(self.items) if _below(number.label, each.unit)]
            self._cut(below[-1] + 1 if below else 0, sibling=False)
        elif number:
            return self._close_by_style(number, block.indent)
        else:
            self._close_by_bullet(block)
        return number

    def _cut(self, at: int | None, sibling: bool = True) -> None:
        if at is not None and at < len(self.items):
            self.sibling = self.items[at] if sibling else None
            del self.items[at:]

    def _close_by_bullet(self, block: Block) -> None:
        while self.items and self.items[-1].unit.block.indent > block.indent + 1:
            self.items.pop()
        for at in range(len(self.items) - 1, -1, -1):
            other = self.items[at].unit.block
            if other.marker == block.marker and other.kind == "item" and other.indent >= block.indent - 1:
                self._cut(at)
                break

    def _close_by_style(self, number: Number, indent: int) -> Number:
        while indent >= 0 and self.items and self.items[-1].unit.block.indent > indent + 1:
            self.items.pop()
        for at in range(len(self.items) - 1, -1, -1):
            other = self.items[at].unit.number
            if other and number.also and (other.style, other.place + 1) == number.also:
                number = replace(number, style=number.also[0], place=number.also[1])
            if other and not self.items[at].level and other.style == number.style:
                if number.place <= 1 and 0 <= self.items[at].unit.block.indent < indent - 1:
                    return number  # a list in an item of the same style
                self._cut(at, sibling=number.place > other.place)
                return number
        for above in range(len(self.headings) - 1, -1, -1):
            other = self.headings[above].number
            if other and other.style == number.style and other.place < number.place:
                del self.headings[above:]  # "2. Grant. Subject to …" after the heading "1. Definitions."
                self.items.clear()
                break
        return number

    sibling: _Open | None = None
    """The item before in the same list."""

    def _lead(self, block: Block, parent: Unit | None) -> tuple[str, Unit | None]:
        """The words that introduce the list, and the clause they are in."""
        if self.sibling:
            return self.sibling.lead, self.sibling.lead_unit
        if self.items and self.items[-1].unit is self.units[-1]:  # a list in an item
            above = self.items[-1]
            lead = f"{above.lead} {_last_sentence(above.unit.words)}".strip()
            if not _introduces(above.unit.words) and not block.level:
                return "", above.unit
            above.unit.kind = "lead" if _introduces(above.unit.words) and _one(above.unit.words) else above.unit.kind
            return (lead if len(lead) <= MOST_LEAD else ""), above.unit
        last = self.last
        if last and last is self.units[-1] and last.kind in ("paragraph", "lead", "quote"):
            if not _introduces(last.words):
                return "", last
            last.kind = "lead" if _one(last.words) else last.kind
            return _last_sentence(last.words), last
        return "", last if block.level else None


def _below(label: str, unit: Unit) -> bool:
    return unit.number is not None and label.startswith(f"{unit.number.label}.")


def _last_sentence(words: str) -> str:
    """The last sentence, without what follows no full stop; empty where it is longer than a lead may be."""
    found = [each for each in _SENTENCE.split(words) if each.strip()]
    return found[-1].strip() if found and len(found[-1]) <= MOST_LEAD else ""


def _one(words: str) -> bool:
    return len([each for each in _SENTENCE.split(words) if each.strip()]) == 1


def _introduces(words: str) -> bool:
    last = _last_sentence(words)
    return bool(last) and bool(_INTRODUCES.search(last) or _FOLLOWING.search(last))


def _clause(unit: Unit, text: str) -> Clause:
    block = unit.block
    written = unit.number.written if unit.number else ""
    words, start = text[unit.start : unit.end], unit.start
    return Clause(unit.id, written, unit.heading, words, start, unit.end, block.page, block.line, unit.lead, unit.kind)
