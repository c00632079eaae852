"""Another edition of a document that principles were drafted from: what is asked again, and which principles follow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count

from constitution.documents import Change, Clause, Document, followers
from constitution.propose.extract import FAILED
from constitution.propose.file import Note, Proposal, Proposals, Undrafted
from constitution.records import Principle
from constitution.shown import brief


@dataclass(frozen=True, slots=True)
class Edition:
    """What is known before a model is asked."""

    ask: tuple[int, ...]
    """Places of the clauses that are new, reworded, or that nothing came of before."""
    kept: tuple[Proposal, ...]
    """Proposals of clauses that say the same, with the clauses' new names."""
    undrafted: tuple[Undrafted, ...]
    gone: tuple[str, ...]
    """Clauses of the old edition that are no longer there as they were."""


def edition_of(changes: Sequence[Change], old: Document, new: Document, before: Proposals) -> Edition:
    """before: the proposals of the old edition."""
    places = {clause.id: place for place, clause in enumerate(new.clauses)}
    same = [(change.old, change.new) for change in changes if change.kind in ("same", "moved")]
    names = {f"{old.name}#{one.id}": f"{new.name}#{other.id}" for one, other in same if one and other}
    reasons = defaultdict(list)
    for each in before.undrafted:
        reasons[each.clause].append(each.reason)
    kept = tuple(_renamed(each, names) for each in before.proposals if set(each.principle.clauses) & set(names))
    with_drafts = {clause for each in kept for clause in each.principle.clauses}
    again, undrafted = [], []
    for was, now in names.items():
        failed = any(why.startswith(FAILED) for why in reasons[was])
        if not failed and (reasons[was] or now in with_drafts):
            undrafted += [Undrafted(now, why) for why in reasons[was]]
        else:
            again.append(places[now.partition("#")[2]])
    fresh = [places[change.new.id] for change in changes if change.new and change.kind in ("reworded", "added")]
    gone = [
        f"{old.name}#{change.old.id}" for change in changes if change.old and change.kind in ("reworded", "removed")
    ]
    return Edition(tuple(sorted([*again, *fresh])), kept, tuple(undrafted), tuple(gone))


def _renamed(proposal: Proposal, names: Mapping[str, str]) -> Proposal:
    clauses = tuple(names.get(each, each) for each in proposal.principle.clauses)
    if clauses == proposal.principle.clauses:
        return proposal
    moved = replace(proposal, principle=replace(proposal.principle, clauses=clauses))
    return moved if proposal.touched else moved.sealed()


def follow(
    changes: Sequence[Change], old: Document, new: Document, drafted: Sequence[Proposal], there: Sequence[Principle]
) -> tuple[list[Proposal], list[Note]]:
    """The new drafts, those of a reworded clause in place of the principles that quoted it; proposals to take out what
    nothing is left of; and a note on each clause that changed. there: the constitution's principles."""
    by_clause: dict[str, list[Proposal]] = defaultdict(list)
    for each in drafted:
        by_clause[each.principle.clauses[0]].append(each)
    of: dict[str, list[Principle]] = defaultdict(list)
    for row in followers(changes, there, old, new):
        of[row.clause].append(row.principle)
    made: list[Proposal] = []
    notes: list[Note] = []
    for change in changes:
        before = f"{old.name}#{change.old.id}" if change.old else ""
        after = f"{new.name}#{change.new.id}" if change.new else ""
        ours, fresh = of.get(before, []), by_clause.pop(after, [])
        placed = list(_follow(change, ours, fresh, after))
        made += placed
        if change.kind != "same":
            ids = dict.fromkeys([*(each.id for each in ours), *(each.id for each in placed)])
            notes.append(Note("change", tuple(ids), _said(change, before, after)))
    made += [each for rest in by_clause.values() for each in rest]
    return made, notes


def apart(made: Sequence[Proposal], there: Sequence[Principle], stale: Collection[str]) -> list[Proposal]:
    """With ids of their own: a new clause may have the number, and so the id, of one that was something else before.
    stale: ids of proposals that a person edited, whose clauses are gone."""
    says = {principle.id: principle for principle in there}
    taken = {each.id for each in made if each.action != "add"} | set(stale)
    asked = {each.id for each in made}
    named = []
    for each in made:
        own = each
        if each.action == "add" and not each.draft:
            others = (id for number in count(2) if (id := f"{each.id}--{number}") not in asked)
            ids = chain([each.id], others)
            id = next(id for id in ids if id not in taken and says.get(id, each.principle) == each.principle)
            own = each if id == each.id else replace(each, principle=replace(each.principle, id=id)).sealed()
            taken.add(id)
        named.append(own)
    return named


def _follow(change: Change, ours: Sequence[Principle], fresh: Sequence[Proposal], after: str) -> Iterator[Proposal]:
    if change.kind == "same":
        yield from fresh
    elif change.kind == "moved":
        for principle in ours:
            clauses = tuple(after if change.old and each.endswith(f"#{change.old.id}") else each
                            for each in principle.clauses)  # fmt: skip
            note = "the clause has the same words in another place"
            yield Proposal(replace(principle, clauses=clauses), action="replace", note=note).sealed()
        ids = {principle.id for principle in ours}
        yield from (each for each in fresh if each.id not in ids and not each.draft)
    else:
        for number, principle in enumerate(ours):
            if number < len(fresh):
                new = fresh[number]
                note = f"the clause was reworded; it was: {brief(principle.quote, 300)}"
                words = replace(new.principle, id=principle.id, weight=principle.weight)
                yield replace(new, principle=words, action="replace", note=note).sealed()
            elif change.kind == "removed" or not fresh:
                gone = (
                    "is no longer in the document" if change.kind == "removed" else "was reworded, without a draft yet"
                )
                yield Proposal(
                    principle, action="remove", note=f"its clause {gone}: reword it, or take it out"
                ).sealed()
            else:
                note = "its clause was reworded and has fewer demands: reword it, or take it out"
                yield Proposal(principle, action="remove", note=note).sealed()
        yield from fresh[len(ours) :]


def _said(change: Change, before: str, after: str) -> str:
    def words(clause: Clause | None) -> str:
        return brief(clause.text, 200) if clause else ""

    if change.kind == "added":
        return f"{after} is new: {words(change.new)}"
    if change.kind == "removed":
        return f"{before} is no longer there: {words(change.old)}"
    if change.kind == "moved":
        return f"{before} is {after} now, with the same words"
    return f"{before} was reworded: {words(change.old)} -> {words(change.new)}" + (
        f" (now {after})" if after != before else ""
    )
