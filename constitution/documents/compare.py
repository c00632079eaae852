"""Two editions of a document: what became of each clause, and which principles follow from what changed.

    changes = compare(read_document("charter-2024.md"), read_document("charter-2025.md"))
    followers(changes, constitution.principles, old, new)

A clause's words are its lead and its text: under `Employees must:` an item is another one than under `Employees must
not:`. What has the same words is matched first; the rest one to one, so that the sum of the similarities is greatest.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, Protocol, TypeVar

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from constitution.documents.lines import normal
from constitution.documents.records import Change, ChangeKind, Clause, Document

LEAST_SIMILAR = 0.4
"""Similarity below which two clauses are not one that was reworded."""
SAME_NUMBER = 0.15
"""What having the same id adds to a similarity, in the choice of pairs and against LEAST_SIMILAR."""
MOST_CANDIDATES = 20
"""Clauses of the other edition that are looked at closely, for each clause: those that share its rarest words."""

_TOKENS = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|[^\W\u3040-\u9fff]+")
_NOTHING = 1e-6


class HasClauses(Protocol):
    """What `followers` needs of a principle or a proposal."""

    @property
    def quote(self) -> str: ...

    @property
    def clauses(self) -> tuple[str, ...]: ...


P = TypeVar("P", bound=HasClauses)


@dataclass(frozen=True, slots=True)
class Follower(Generic[P]):
    """A principle and a clause of the old edition that it names."""

    principle: P
    clause: str
    """As the principle has it: `charter#3.2`."""
    change: Change | None
    """What became of the clause; None: the old edition has no such clause."""
    quoted: bool | None
    """Whether the principle's quote is in the new edition still, word for word; None: it has none."""

    @property
    def follows(self) -> bool:
        """Whether a person has to look at it: the clause or the quote is no longer what it was."""
        return self.change is None or self.change.kind not in ("same", "moved") or self.quoted is False


def words(clause: Clause) -> str:
    """The clause's words with those that it completes."""
    return f"{clause.lead}\n{clause.text}" if clause.lead else clause.text


def similarity(one: str, other: str) -> float:
    """The share of words and of pairs of words that two texts have in common (Dice), in [0, 1]. Case and punctuation do
    not count; a Chinese or Japanese character is a word."""
    return _dice(_grams(one), _grams(other))


def compare(old: Document, new: Document) -> tuple[Change, ...]:
    """What became of each clause, in the order of the new edition; a removed one follows what it followed. Each clause
    of both is in exactly one change; a clause that was divided is one reworded and one added."""
    pairs = _same(old.clauses, new.clauses)
    left = [at for at in range(len(old.clauses)) if at not in pairs]
    matched = set(pairs.values())
    right = [at for at in range(len(new.clauses)) if at not in matched]
    similar = _similar([old.clauses[at] for at in left], [new.clauses[at] for at in right])
    alike = dict.fromkeys(pairs, 1.0)
    for (one, other), share in similar.items():
        pairs[left[one]], alike[left[one]] = right[other], share
    return _in_order(old.clauses, new.clauses, pairs, alike)


def _in_order(
    old: Sequence[Clause], new: Sequence[Clause], pairs: dict[int, int], alike: dict[int, float]
) -> tuple[Change, ...]:
    back = {there: here for here, there in pairs.items()}
    places: list[tuple[tuple[int, int], Change]] = []
    for at, clause in enumerate(new):
        if at in back:
            before = old[back[at]]
            places.append(((at, -1), Change(_kind(before, clause), before, clause, alike[back[at]])))
        else:
            places.append(((at, -1), Change("added", None, clause, 0.0)))
    place = -1
    for at, clause in enumerate(old):
        place = pairs.get(at, place)
        if at not in pairs:
            places.append(((place, at), Change("removed", clause, None, 0.0)))
    return tuple(change for _, change in sorted(places, key=lambda each: each[0]))


def _kind(old: Clause, new: Clause) -> ChangeKind:
    if words(old) != words(new):
        return "reworded"
    return "same" if (old.id, old.heading[-1:]) == (new.id, new.heading[-1:]) else "moved"


def _same(old: Sequence[Clause], new: Sequence[Clause]) -> dict[int, int]:
    """Clauses with the same words: by their ids, then by their headings, then in their order."""
    pairs: dict[int, int] = {}
    used: set[int] = set()
    for key in (lambda c: (words(c), c.id), lambda c: (words(c), c.heading), words):
        places: defaultdict[object, deque[int]] = defaultdict(deque)
        for at, clause in enumerate(new):
            if at not in used:
                places[key(clause)].append(at)
        for at, clause in enumerate(old):
            if at not in pairs and places[key(clause)]:
                pairs[at] = places[key(clause)].popleft()
                used.add(pairs[at])
    return pairs


def _similar(old: Sequence[Clause], new: Sequence[Clause]) -> dict[tuple[int, int], float]:
    """The one-to-one pairs whose similarities have the greatest sum."""
    mine, theirs = [_grams(words(clause)) for clause in old], [_grams(words(clause)) for clause in new]
    gains: dict[tuple[int, int], tuple[float, float]] = {}
    for one, other in _candidates(old, new, mine, theirs):
        share = _dice(mine[one], theirs[other])
        gain = share + (SAME_NUMBER if old[one].id == new[other].id else 0.0)
        if share > 0 and gain >= LEAST_SIMILAR:
            gains[one, other] = (gain, share)
    if not gains:
        return {}
    # A full matching for one that need not be: each clause may also be matched with what is there for it alone.
    n, m = len(old), len(new)
    rows, columns, costs = [], [], []
    for (one, other), (gain, _) in gains.items():
        rows += [one, n + other]
        columns += [other, m + one]
        costs += [2.0 - gain, _NOTHING]
    rows += [*range(n), *range(n, n + m)]
    columns += [*range(m, m + n), *range(m)]
    costs += [1.0] * (n + m)
    graph = csr_matrix((np.array(costs), (rows, columns)), shape=(n + m, n + m))
    chosen = zip(*min_weight_full_bipartite_matching(graph), strict=True)
    return {(int(one), int(other)): gains[one, other][1] for one, other in chosen if (one, other) in gains}


def _candidates(
    old: Sequence[Clause], new: Sequence[Clause], mine: Sequence[Counter[str]], theirs: Sequence[Counter[str]]
) -> Iterable[tuple[int, int]]:
    """Pairs that may be similar: with the same id, or those of each clause that share most of its rare words."""
    postings: defaultdict[str, list[int]] = defaultdict(list)
    for at, grams in enumerate(theirs):
        for gram in grams:
            postings[gram].append(at)
    ids = {clause.id: at for at, clause in enumerate(new)}
    for one, grams in enumerate(mine):
        scores: Counter[int] = Counter()
        for gram in sorted(grams, key=lambda gram: len(postings.get(gram, ()))):
            found = postings.get(gram, ())
            if len(found) > 50 and scores:
                break  # words that are everywhere tell nothing
            for other in found[:1000]:
                scores[other] += 1
        best = {other for other, _ in scores.most_common(MOST_CANDIDATES)}
        if old[one].id in ids:
            best.add(ids[old[one].id])
        yield from ((one, other) for other in sorted(best))


def _grams(text: str) -> Counter[str]:
    """Its words and its pairs of adjacent words."""
    found = _TOKENS.findall(text.casefold())
    return Counter(found) + Counter(f"{one} {other}" for one, other in pairwise(found))


def _dice(one: Counter[str], other: Counter[str]) -> float:
    total = one.total() + other.total()
    return 2 * (one & other).total() / total if total else 0.0


def followers(
    changes: Sequence[Change], principles: Iterable[P], old: Document, new: Document
) -> tuple[Follower[P], ...]:
    """A row for each principle and each clause of the old edition that it names, in the order of the principles.
    Clauses of other documents are passed over."""
    became = {change.old.id: change for change in changes if change.old}
    found = []
    for principle in principles:
        quoted = normal(principle.quote) in new.text if principle.quote else None
        for clause in principle.clauses:
            document, _, place = clause.partition("#")
            if document == old.name:
                found.append(Follower(principle, clause, became.get(place), quoted))
    return tuple(found)
