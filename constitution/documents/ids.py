"""Ids of clauses: their own numbers where the document has them, so that they stay through its editions.

A number that says its whole place (`Art. 5`, `3.2`) is the id; one that does not (`(b)`) follows what it is in
(`3.2.b`). Where a series of numbers begins again (annexes; sections in articles), the heading above them comes first;
what is below the title alone keeps the number.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from constitution.documents.numbers import Number
from constitution.documents.records import Block, ClauseKind

MOST_SLUG = 48
"""Characters of a heading's part of an id."""


@dataclass(eq=False)
class Unit:
    """A heading or clause while the document is split."""

    kind: ClauseKind
    parent: Unit | None
    number: Number | None
    start: int
    end: int
    block: Block
    heading: tuple[str, ...] = ()
    lead: str = ""
    lead_unit: Unit | None = None
    """The clause that introduces the list that it is an item of."""
    tail: str = ""
    """Its last paragraph, where it has several."""
    children: int = 0
    id: str = ""
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def words(self) -> str:
        return self.tail or (self.number.rest if self.number else self.block.text)

    @property
    def text_only(self) -> bool:
        return self.kind in ("item", "paragraph", "lead")

    @property
    def is_clause(self) -> bool:
        return self.kind != "heading" or not self.children


@dataclass
class _Given:
    """What is known of the whole document."""

    again: set[tuple[bool, str]]
    """Series that begin again."""
    title: Unit | None
    absolute: set[str]
    """Numbers that say their whole place."""
    orphans: Counter[str] = field(default_factory=Counter)


def slug(text: str) -> str:
    """`text` in small letters, digits and hyphens; of whatever script."""
    words = re.sub(r"[^\w]+", "-", text.lower().replace("_", "-")).strip("-")
    if len(words) > MOST_SLUG:
        words = words[: MOST_SLUG + 1].rpartition("-")[0] or words[:MOST_SLUG]
    return words or "untitled"


def assign(units: Sequence[Unit]) -> None:
    """Gives each unit its id. Units come in the order of the document."""
    title = units[0] if units and units[0].kind == "heading" and not units[0].number else None
    absolute = {unit.number.label for unit in units if unit.number and unit.number.absolute}
    given = _Given(_series_that_begin_again(units, title), title, absolute)
    taken: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    for unit in units:
        wanted = _wanted(unit, given)
        unit.id = _unused(wanted, unit, taken[unit.is_clause])


def _series_that_begin_again(units: Sequence[Unit], title: Unit | None) -> set[tuple[bool, str]]:
    """Styles of numbers, of headings and of others apart, in which one number is there in two places."""
    places: defaultdict[tuple[tuple[bool, str], str], list[Unit | None]] = defaultdict(list)
    for unit in units:
        if unit.number and _whole(unit) and not _below(unit):
            places[_series(unit), unit.number.label].append(_before(unit, title))
    return {series for (series, _), befores in places.items() if len({id(each) for each in befores}) > 1}


def _below(unit: Unit) -> Unit | None:
    """The heading or clause whose number the unit's begins with: 3 of 3.2."""
    above = unit.parent
    while above and not (unit.number and above.number and unit.number.label.startswith(f"{above.number.label}.")):
        above = above.parent
    return above


def _before(unit: Unit, title: Unit | None) -> Unit | None:
    """What comes before the unit's number where its series begins again."""
    above = unit.lead_unit or unit.parent
    return above if above is not title else None


def _series(unit: Unit) -> tuple[bool, str]:
    return unit.kind == "heading", unit.number.style if unit.number else ""


def _whole(unit: Unit) -> bool:
    """Whether the unit's number is an id without what is above it."""
    return unit.number is not None and (unit.number.absolute or _numbered_above(unit) is None)


def _numbered_above(unit: Unit) -> Unit | None:
    above = unit.parent
    while above and not above.number:
        above = above.parent
    return above


def _wanted(unit: Unit, given: _Given) -> str:
    number, parent = unit.number, unit.parent
    if number and _whole(unit):
        if above := _below(unit):
            assert above.number is not None
            return above.id + number.label[len(above.number.label) :]
        first = _before(unit, given.title)
        return f"{first.id}.{number.label}" if first and _series(unit) in given.again else number.label
    if number:
        above = _numbered_above(unit)
        assert above is not None
        if (label := f"{above.id}.{number.label}") in given.absolute and unit.lead_unit:
            return f"{unit.lead_unit.id}.{number.label}"  # item 1 of a list in section 2 is not section 2.1
        return label
    if unit.kind == "heading":
        above = _numbered_above(unit)
        return f"{above.id}.{slug(unit.block.text)}" if above else slug(unit.block.text)
    if unit.block.kind == "item" and (unit.lead_unit or parent):
        owner = unit.lead_unit or parent
        assert owner is not None
        if owner.kind != "heading":
            owner.counts["item"] += 1
            return f"{owner.id}.{owner.counts['item']}"
    counts = parent.counts if parent else given.orphans
    counts["p"] += 1
    return _of_place(parent, counts["p"])


def _of_place(parent: Unit | None, place: int) -> str:
    if parent is None:
        return f"p{place}"
    if parent.kind != "heading":
        return f"{parent.id}.p{place + 1}"
    if parent.number:
        return parent.id if place == 1 else f"{parent.id}.p{place}"
    return f"{parent.id}.{place}"


def _unused(wanted: str, unit: Unit, names: Counter[str]) -> str:
    longer = [wanted]
    if unit.number and unit.lead_unit:
        longer.append(f"{unit.lead_unit.id}.{unit.number.label}")
    if unit.kind == "heading" and unit.parent:
        longer.append(f"{unit.parent.id}.{wanted}")
    for each in longer:
        if each not in names:
            names[each] = 1
            return each
    while True:
        names[wanted] += 1
        if (last := f"{wanted}-{names[wanted]}") not in names:
            names[last] = 1
            return last
