"""The run's labels held against the gold of each group of raters, the worst first: a mean over all people hides whom
the labels do not speak for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from constitution.audit.evidence import Array, Evidence
from constitution.audit.kinds import Exhibit
from constitution.measures import Estimate, estimate
from constitution.records import Figure
from constitution.warehouse.rater_groups import column_of

LEAST = 20
"""Pairs with gold, and prompts, under which a group is not ranked: the interval of 10 of 20 is 30 to 70 %."""

FIGURES = ("group_alignment", "group_ceiling", "group_distance")

_GOLD = """
SELECT g.rater_group AS subject, p.place, p.cluster, side(p.p_b) AS side, side(g.p_b) AS gold, p.p_b, g.p_b AS share
FROM group_gold AS g JOIN audit.training_pairs AS p USING (pair_id)
WHERE g.run_id = {run} AND g.principle_id = '' AND p.p_b IS NOT NULL ORDER BY p.place
"""

# Each rater's word against the mean of the group's others on the pair; where either has no side, one half.
_CEILING = """
WITH word AS (
    SELECT unnest(r.rater_groups) AS subject, r.pair_id, r.p_b FROM rated AS r
    WHERE r.run_id = {run} AND r.principle_id = '' AND r.rater_groups IS NOT NULL
),
others AS (
    SELECT *, count(*) OVER g AS n, (sum(p_b) OVER g - p_b) / nullif(count(*) OVER g - 1, 0) AS rest FROM word
    WINDOW g AS (PARTITION BY subject, pair_id)
)
SELECT o.subject, p.cluster, (1 + side(o.p_b) * side(o.rest)) / 2 AS value
FROM others AS o JOIN audit.training_pairs AS p USING (pair_id) WHERE n > 1 ORDER BY p.place, o.p_b
"""


@dataclass(frozen=True)
class _Group:
    """The pairs on which the group has gold with a side."""

    name: str
    right: Array
    """(n) 1 where the label prefers what the group does, one half where it prefers neither."""
    clusters: Array

    @property
    def ranked(self) -> bool:
        return len(self.right) >= LEAST and estimate.distinct(self.clusters) >= LEAST


def figures(evidence: Evidence) -> Iterator[Figure]:
    groups: list[_Group] = []
    for about, rows in evidence.groups(_GOLD, "subject"):
        gap = np.abs(rows["p_b"] - rows["share"])
        yield evidence.figure("group_distance", evidence.mean(gap, rows["cluster"], proportion=True), **about)
        said = rows["gold"] != 0
        right = (1 + rows["side"][said] * rows["gold"][said]) / 2
        groups.append(_Group(about["subject"], right, rows["cluster"][said]))
    if not groups:
        yield from map(evidence.missing, (*FIGURES, "group_gap"))
        return
    for group in groups:
        yield _alignment(evidence, group)
    for about, rows in evidence.groups(_CEILING, "subject"):
        found = evidence.mean(rows["value"], rows["cluster"], proportion=True)
        yield evidence.figure("group_ceiling", found, **about)
    yield from _gaps(evidence, groups)


def _alignment(evidence: Evidence, group: _Group) -> Figure:
    n, prompts = len(group.right), estimate.distinct(group.clusters)
    if not group.ranked:
        note = f"too small to rank: {n} pairs on {prompts} prompts, and {LEAST} of each are needed"
        return evidence.missing("group_alignment", note, n, subject=group.name)
    found = evidence.mean(group.right, group.clusters, proportion=True)
    return evidence.figure("group_alignment", found, subject=group.name)


def _gaps(evidence: Evidence, groups: list[_Group]) -> Iterator[Figure]:
    """The best group less the worst, for each column that groups are of."""
    by_column: dict[str, list[_Group]] = {}
    for group in groups:
        if group.ranked:
            by_column.setdefault(column_of(group.name), []).append(group)
    columns = {name: those for name, those in by_column.items() if len(those) > 1}
    if not columns:
        yield evidence.missing("group_gap", f"fewer than two groups of one column have {LEAST} pairs and prompts")
    for name, those in columns.items():
        means = {group.name: float(group.right.mean()) for group in those}
        worst, best = min(means, key=lambda each: (means[each], each)), max(means, key=lambda each: (means[each], each))
        pairs = {group.name: group for group in those}
        found = _difference(pairs[best], pairs[worst], len(those), evidence.replicates)
        note = f"{best} less {worst}, of {len(those)} groups"
        yield evidence.figure("group_gap", found, note, subject=name)


def _difference(best: _Group, worst: _Group, groups: int, replicates: int) -> Estimate:
    """The difference of their means. They are the two extremes of several groups, so its interval is one of as many
    comparisons as there are pairs of groups (Bonferroni); prompts are drawn for both at once."""
    clusters = np.concatenate([best.clusters, worst.clusters])
    n = [len(best.right), len(worst.right)]
    columns = np.zeros((sum(n), 4))
    columns[: n[0], 0], columns[: n[0], 1] = best.right, 1
    columns[n[0] :, 2], columns[n[0] :, 3] = worst.right, 1
    pairs = len(list(combinations(range(groups), 2)))
    drawn = estimate.sums(columns, clusters, replicates=max(replicates, 100 * pairs))
    with np.errstate(invalid="ignore"):
        gaps = drawn[:, 0] / drawn[:, 1] - drawn[:, 2] / drawn[:, 3]
    edge = (1 - estimate.CONFIDENCE) / 2 / pairs
    low, high = np.quantile(gaps[np.isfinite(gaps)], [edge, 1 - edge])
    return Estimate(float(best.right.mean() - worst.right.mean()), float(low), float(high), sum(n))


_WORST_FIRST = """SELECT a.subject AS "group", a.value, a.low, a.high, a.n,
  c.value AS "raters' own agreement", d.value AS "distance of p", a.note
FROM (FROM figures WHERE run_id = {run} AND figure = 'group_alignment' AND subject <> '') a
LEFT JOIN (FROM figures WHERE run_id = {run} AND figure = 'group_ceiling') c USING (subject)
LEFT JOIN (FROM figures WHERE run_id = {run} AND figure = 'group_distance') d USING (subject)
ORDER BY a.value IS NULL, a.value, a.subject"""

EXHIBITS = (
    Exhibit(
        "groups-worst-first",
        "Agreement with each group of raters, the worst first",
        _WORST_FIRST,
        "Share of the group's pairs on which the label prefers what the group does; groups that are too small come "
        "last, without a value. Raters' own agreement: how often one of the group prefers what its others do, which no "
        "label can pass by much. Distance of p: how far the label's probability is from the group's share.",
        null=0.5,
    ),
)
