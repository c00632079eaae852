"""The principles, one by one: what they change, what their votes say, and what they add to each other.

Of all judges together. Wins are counted over pairs of an answer and its revision; what asks only how a principle's
votes go with something else (entropy, majority, phi, length, markdown), over all pairs but those with a perturbed
answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from constitution.audit.charts import heat
from constitution.audit.evidence import Array, Evidence, correlation
from constitution.measures import estimate
from constitution.principles.selection import select
from constitution.records import Figure, Principle

REVISED = "kind IN ('first-last', 'parent')"
LEAST = 20
"""Pairs on which a principle must have voted to be called dead, and two principles to be compared."""


def figures(evidence: Evidence) -> Iterator[Figure]:
    yield from evidence.measured("principles")
    yield from drawn(evidence)
    yield from phi(evidence)
    yield from correlations(evidence)
    yield from dead(evidence)


def drawn(evidence: Evidence) -> Iterator[Figure]:
    """0 for principles that can be drawn and never were."""
    counts = _drawn(evidence)
    total = sum(counts.values())
    if not total:
        yield evidence.missing("drawn", "the run has no revisions: revise.rounds = 1 or more")
        return
    for principle in sorted(counts.keys() | {able.id for able in _revising(evidence)}):
        yield evidence.count("drawn", counts.get(principle, 0), total, principle_id=principle)


def phi(evidence: Evidence) -> Iterator[Figure]:
    """Each two are there both ways round."""
    names, clusters, sides = _sides(evidence)
    if len(names) < 2:
        yield evidence.missing("phi")
    for one, two in combinations(range(len(names)), 2):
        both = (sides[one] != 0) & (sides[two] != 0)
        x, y = (sides[place][both].astype(np.float64) for place in (one, two))
        found = correlation(x, y, clusters[both], evidence.replicates, least=LEAST)
        note = "" if found.value is not None else _why_no_phi(found.n)
        for first, second in ((one, two), (two, one)):
            yield evidence.figure("phi", found, note, principle_id=names[first], subject=names[second])


def _why_no_phi(n: int) -> str:
    return f"the two share fewer than {LEAST} pairs" if n < LEAST else "one of the two always votes for the same side"


def _sides(evidence: Evidence) -> tuple[list[str], Array, Array]:
    """Principles; the clusters of the rows, each one judge and pair; and (principles, rows) of sides, 0 for a tie or no
    vote."""
    table = evidence.ask(
        """
        SELECT principle_id, cluster, side(p_b)::TINYINT AS side, judge, place FROM audit.training_votes
        """
    )
    principles = table.column("principle_id").combine_chunks().dictionary_encode()
    ids = principles.dictionary.to_pylist()
    place, judge = table.column("place").to_numpy(), table.column("judge").combine_chunks().dictionary_encode()
    if len(place):  # a row for each judge and pair, be there a vote or not
        place = place + (int(place.max()) + 1) * judge.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    sides = np.zeros((len(ids), int(place.max()) + 1 if len(place) else 0), dtype=np.int8)
    codes = principles.indices.to_numpy(zero_copy_only=False)
    sides[codes, place] = table.column("side").to_numpy()
    clusters = np.zeros(sides.shape[1], dtype=np.int64)
    clusters[place] = table.column("cluster").to_numpy()
    order = sorted(np.unique(codes), key=lambda code: ids[code])
    return [ids[index] for index in order], clusters, sides[order]


def correlations(evidence: Evidence) -> Iterator[Figure]:
    sql = """
        SELECT c.principle_id, c.p_b, p.length, p.headers + p.lists + p.bold AS markdown, c.cluster
        FROM audit.training_votes AS c JOIN audit.pairs AS p USING (place)
        WHERE p.length IS NOT NULL
    """
    empty = True
    for about, rows in evidence.groups(sql, "principle_id"):
        empty = False
        for feature in ("length", "markdown"):
            found = correlation(rows["p_b"], rows[feature], rows["cluster"], evidence.replicates)
            note = "" if found.value is not None else f"the votes, or the differences in {feature}, are all the same"
            yield evidence.figure(f"{feature}_correlation", found, note, **about)
    if empty:
        yield evidence.missing("length_correlation")


def dead(evidence: Evidence) -> Iterator[Figure]:
    """1 for a principle whose votes always or never prefer the revision, or never prefer anything; and for one that
    could be drawn to revise and never was. 0 for one that lives; no value where too few pairs tell."""
    rows = evidence.connection.execute(
        f"""
        SELECT principle_id, count(DISTINCT place), count(DISTINCT place) FILTER ({REVISED}),
            avg(prefers_b(p_b)) FILTER ({REVISED}), max(abs(side(p_b)))
        FROM audit.training_votes GROUP BY principle_id
        """
    ).fetchall()
    votes = {str(row[0]): (int(row[1]), int(row[2]), row[3], int(row[4])) for row in rows}
    draws = _drawn(evidence)
    total, able = sum(draws.values()), {principle.id for principle in _revising(evidence)}
    for principle in sorted(votes.keys() | able):
        pairs, revised, rate, sides = votes.get(principle, (0, 0, None, 0))
        why = _why_dead(pairs, revised, rate, sides)
        if not why and principle in able and total >= LEAST and not draws.get(principle):
            why = f"never drawn for {total} revisions"
        if why or pairs >= LEAST or draws.get(principle, 0) >= LEAST:
            n = pairs or (total if why else draws.get(principle, 0))
            found = estimate.Estimate(float(bool(why)), None, None, n)
            yield evidence.figure("dead", found, why, principle_id=principle)
        else:
            yield evidence.missing("dead", f"fewer than {LEAST} pairs or revisions", pairs, principle_id=principle)


def _why_dead(pairs: int, revised: int, rate: float | None, sides: int) -> str:
    if revised >= LEAST and rate in (0.0, 1.0):
        return f"{'always' if rate else 'never'} prefers the revision, on {revised} pairs"
    return f"prefers neither answer, on all of {pairs} pairs" if pairs >= LEAST and not sides else ""


def _drawn(evidence: Evidence) -> dict[str, int]:
    rows = evidence.connection.execute(
        "SELECT principle_id, count(*) FROM responses WHERE run_id = ? AND kind = 'revision' GROUP BY 1",
        [evidence.run.run_id],
    ).fetchall()
    return {str(principle): int(count) for principle, count in rows}


def _revising(evidence: Evidence) -> tuple[Principle, ...]:
    """The principles that the recipe draws revisions from."""
    section = evidence.run.recipe.get("revise") or {}
    able = [principle for principle in evidence.constitution.principles if principle.revises]
    if not able or not section.get("rounds"):
        return ()
    return select(able, section.get("principles") or (), "revise.principles")


CHARTS = {"phi": heat}
