"""The rewards of a run's answers: how complete, how spread, what goes with them, and who else agrees.

Everything is of `total`, the value with the length penalty, by which answers are ranked and pairs are chosen; only
`reward_length` has both. The best of n is exact over all subsets of a group (measures.groups.chances). By the source
that chooses, it rises by definition; that it rises less as others see it, or falls, is overoptimization (Gao et al.
2022, arXiv 2210.10760, section 3).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from constitution.audit import groups
from constitution.audit.charts import curves
from constitution.audit.evidence import Evidence
from constitution.audit.kinds import SECTIONS, Exhibit
from constitution.measures import agreement
from constitution.measures.auc import auc
from constitution.records import Figure
from constitution.warehouse.views import quoted

GAPS = (0.0, 0.05, 0.1, 0.2, 0.4)
"""Where bins of the difference of two rewards begin."""

_PENALIZED = "with penalty"

_LENGTHS = """
SELECT source::VARCHAR || '{suffix}' AS subject, grp, cluster, tokens / 100 AS x, {reward} AS y
FROM audit.rewarded WHERE grouped {only}
"""

_PAIRS = """
CREATE TABLE audit.rewarded_pairs AS
SELECT
    a.source, p.cluster, round(abs(b.total - a.total), 12) AS gap, (side(p.p_b) * turn)::TINYINT AS vote,
    (CASE WHEN abs(b.total - a.total) < 1e-12 THEN 0 ELSE sign(b.total - a.total) END * turn)::TINYINT AS better
FROM (SELECT pair_id, cluster, p_b, CASE WHEN swapped THEN -1 ELSE 1 END AS turn FROM audit.training_pairs
      WHERE votes > 0 AND p_b IS NOT NULL) AS p
JOIN (SELECT id AS pair_id, a_id, b_id FROM preferences WHERE run_id = $run) AS f USING (pair_id)
JOIN audit.members AS one ON one.response_id = f.a_id
JOIN audit.members AS other ON other.response_id = f.b_id
JOIN audit.rewarded AS a ON a.member = one.member
JOIN audit.rewarded AS b ON b.member = other.member AND b.source = a.source;
"""

_RIGHT = """
WITH worth AS (
    SELECT member, worth FROM audit.seen WHERE seen_by = 'gold' AND {truth} = 'gold'
    UNION ALL SELECT member, value FROM audit.rewarded WHERE source::VARCHAR = 'match' AND {truth} = 'match' AND grouped
),
middle AS (SELECT (min(worth) + max(worth)) / 2 AS middle FROM worth)
SELECT {source} || '/' || {truth} AS subject, r.cluster, r.unclipped AS reward, w.worth > middle AS good
FROM audit.rewarded AS r JOIN worth AS w USING (member) CROSS JOIN middle
WHERE r.source::VARCHAR = {source} AND r.grouped AND w.worth <> middle
"""

_CELLS = """
SELECT
    source::VARCHAR AS subject, cluster,
    count(*) FILTER (vote < 0 AND better < 0)::DOUBLE AS aa, count(*) FILTER (vote < 0 AND better > 0)::DOUBLE AS ab,
    count(*) FILTER (vote > 0 AND better < 0)::DOUBLE AS ba, count(*) FILTER (vote > 0 AND better > 0)::DOUBLE AS bb
FROM audit.rewarded_pairs WHERE vote <> 0 AND better <> 0 GROUP BY ALL ORDER BY cluster
"""

_AGREED = "(vote = better)::INTEGER AS value, cluster FROM audit.rewarded_pairs WHERE vote <> 0 AND better <> 0"

NO_REWARDS = "the run has no rewards of answers: [reward] in the recipe"
_OPTIMISTIC = "its own rewards: optimistic, the more so the larger n"
_ALONE = (
    'nothing else sees these answers: a second source in reward.by, gold of answers, or judge.pairs = ["all"] would '
    "show whether the gain is real"
)


def figures(evidence: Evidence) -> Iterator[Figure]:
    if not groups.create(evidence) or not groups.sources(evidence):
        [section] = [each for each in SECTIONS if each.name == "rewards"]
        yield from (evidence.missing(kind.name, NO_REWARDS) for kind in section.kinds)
        return
    yield from evidence.measured("rewards")
    yield from spread(evidence)
    yield from taus(evidence)
    yield from aucs(evidence)
    yield from lengths(evidence)
    yield from curves_of(evidence)
    yield from votes(evidence)


def spread(evidence: Evidence) -> Iterator[Figure]:
    """How many groups there are, of which answers, and how far their rewards are apart."""
    sql = """
        SELECT source::VARCHAR AS subject, count(DISTINCT grp) AS value, count(*) AS n FROM audit.rewarded
        WHERE grouped GROUP BY source ORDER BY 1
    """
    for row in evidence.rows(sql):
        yield evidence.count("reward_groups", row["value"], row["n"], subject=row["subject"])


def taus(evidence: Evidence) -> Iterator[Figure]:
    """The rewards' order of a group's answers against what else sees them."""
    found = groups.sources(evidence)
    pairs = [(one, other) for place, one in enumerate(found) for other in (*found[place + 1 :], groups.VOTES)]
    compared = False
    for one, other in [*pairs, *((source, groups.GOLD) for source in found)]:
        gold = other == groups.GOLD
        name, subject = ("reward_tau_gold", one) if gold else ("reward_tau", f"{one}/{other}")
        for figure in evidence.means(name, groups.taus(one, other, subject), None):
            compared = compared or not gold
            yield replace(figure, note=_without(evidence, one, other, figure.n))
    if not compared:
        yield evidence.missing("reward_tau")
    if not evidence.rows("SELECT 1 FROM audit.seen WHERE seen_by = 'gold' LIMIT 1"):
        yield evidence.missing("reward_tau_gold", _partly(evidence))


def _without(evidence: Evidence, one: str, other: str, n: int) -> str:
    """Which groups are not in a mean of n."""
    several = f"SELECT grp FROM audit.compared('{one}', '{other}') GROUP BY grp HAVING count(*) > 1"
    [row] = evidence.rows(f"SELECT count(*) AS n FROM ({several})")
    flat = row["n"] - n
    notes = [f"{flat:,} more groups have no order by one of the two" if flat else ""]
    notes += [_partly(evidence) if other == groups.GOLD else ""]
    return "; ".join(filter(None, notes))


def _partly(evidence: Evidence) -> str:
    """A note on groups that each rater has annotated in part; empty: there is none."""
    [row] = evidence.rows(
        """
        SELECT count(DISTINCT grp) AS n
        FROM (SELECT response_id FROM annotations WHERE run_id = {run} AND principle_id IS NULL)
        JOIN audit.members USING (response_id)
        WHERE grouped AND grp NOT IN (SELECT grp FROM audit.seen WHERE seen_by = 'gold')
        """
    )
    return f"{row['n']:,} groups have annotations, but no rater of all their annotated answers" if row["n"] else ""


def aucs(evidence: Evidence) -> Iterator[Figure]:
    """What each source's rewards tell of right and wrong."""
    found = False
    for source in groups.sources(evidence):
        for truth in (groups.GOLD, "match"):
            sql = _RIGHT.format(source=quoted(source), truth=quoted(truth))
            for about, rows in evidence.groups(sql, "subject") if source != truth else ():
                each = auc(rows["reward"], rows["good"], rows["cluster"], replicates=evidence.replicates)
                found = True
                note = "" if each.value is not None else "all these answers are right, or all are wrong"
                yield evidence.figure("reward_auc", each, note, **about)
    if not found:
        yield evidence.missing("reward_auc")


def lengths(evidence: Evidence) -> Iterator[Figure]:
    """What length does to the rewards, and to them with the length penalty where the recipe has one."""
    penalized = "AND source IN (SELECT source FROM audit.rewarded WHERE penalty <> 0)"
    for sql in (
        _LENGTHS.format(reward="value", suffix="", only=""),
        _LENGTHS.format(reward="total", suffix=f"/{_PENALIZED}", only=penalized),
    ):
        for about, found in groups.slopes(evidence, sql, "subject"):
            for name, each in zip(("reward_length_slope", "reward_length"), found, strict=True):
                note = "" if each.value is not None else "the answers of each group have one length, or one reward"
                yield evidence.figure(name, each, note, **about)


def curves_of(evidence: Evidence) -> Iterator[Figure]:
    found = False
    for one in groups.sources(evidence):
        seen_by = groups.others(evidence, one)
        alone = True
        for other in (*seen_by, one):
            curve = groups.curve(evidence, one, other)
            if curve is None:
                continue
            found, alone = True, alone and other == one
            evidence.connection.register("chances", curve.chances)
            evidence.create(f"CREATE OR REPLACE TABLE audit.best AS {curve.sql}")
            evidence.connection.unregister("chances")
            short = f"{curve.short:,} groups with fewer than {curve.most} answers are not in it" if curve.short else ""
            own = [_OPTIMISTIC, _ALONE * alone] if other == one else []
            note = "; ".join(filter(None, [*own, short]))
            subject = f"{one}/{other}"
            points = f"SELECT '{subject}/' || n AS subject, cluster, value FROM audit.best"
            gains = f"""
                SELECT '{subject}' AS subject, any_value(cluster) AS cluster,
                    max(value) FILTER (n = {curve.most}) - max(value) FILTER (n = 1) AS value
                FROM audit.best GROUP BY grp
            """
            for name, sql in (("best_of", points), ("best_of_gain", gains)):
                for figure in evidence.means(name, sql):
                    yield replace(figure, note="; ".join(filter(None, [f"n = {curve.most}" * (sql is gains), note])))
    if not found:
        yield from map(evidence.missing, ("best_of", "best_of_gain"))


def votes(evidence: Evidence) -> Iterator[Figure]:
    """The labels that were made of votes, of pairs both of whose answers have a reward. Both are turned by the pair's
    coin, so that neither gains by the later answer's being the better one."""
    evidence.create(_PAIRS)
    yield from evidence.means("reward_votes", f"SELECT source::VARCHAR AS subject, {_AGREED}")
    bins = " ".join(f"WHEN gap < {high} THEN '{low:.2f} to {high:.2f}'" for low, high in itertools.pairwise(GAPS))
    gap = f"source || '/' || CASE {bins} ELSE '{GAPS[-1]:.2f} and more' END"
    yield from evidence.means("reward_votes_by_gap", f"SELECT {gap} AS subject, {_AGREED}")
    found = False
    for about, rows in evidence.groups(_CELLS, "subject"):
        found = True
        cells = np.column_stack([rows[name] for name in ("aa", "ab", "ba", "bb")])
        kappa = agreement.kappa_of_cells(cells, rows["cluster"], replicates=evidence.replicates)
        note = "" if kappa.value is not None else "both prefer the same side of all pairs"
        yield evidence.figure("reward_votes_kappa", kappa, note, **about)
    if not found:
        yield evidence.missing("reward_votes_kappa")
    ties = """
        SELECT source || '/' || tie AS subject, (CASE tie WHEN 'label' THEN vote ELSE better END = 0)::INTEGER AS value,
            cluster
        FROM audit.rewarded_pairs CROSS JOIN (SELECT unnest(['label', 'reward']) AS tie)
    """
    yield from evidence.means("reward_votes_ties", ties)


_CURVES = """SELECT split_part(subject, '/', 1) AS "chosen by", split_part(subject, '/', 2) AS "seen by",
  split_part(subject, '/', 3)::INTEGER AS "best of", value, low, high, n, note
FROM figures WHERE run_id = {run} AND figure = 'best_of' AND value IS NOT NULL
ORDER BY 1, "seen by" = "chosen by", 2, 3"""

EXHIBITS = (
    Exhibit(
        "best-of",
        "The best of n samples",
        _CURVES,
        "What the best of n by one source of rewards is worth, to itself and to others: rewards, gold in its own unit, "
        "votes as the share of the prompt's other samples that it wins against. By itself it never falls. Where it "
        "rises by itself and falls by others, choosing has found the source's mistakes.",
        unit="number",
        chart=curves,
    ),
)
