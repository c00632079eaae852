"""The answers of a prompt as a group: their rewards, and what else sees them.

A group is what the view `groups` has: the samples of a prompt by one source of rewards; of a prompt without samples all
its answers but perturbations. Tables, which hold numbers and no texts:

    audit.members    the run's answers but perturbations and references: member, grp and cluster (of its prompt), said
                     (a hash of the text), tokens; grouped: it is in a group
    audit.rewarded   source, member: value, and total, which is the value with the length penalty; unclipped: the
                     value, or what it was before it was clipped to 0 to 1
    audit.seen       seen_by, member: what each source, gold and the votes make of an answer that is in a group
    audit.compared       a macro: the answers that one source has rewarded and another has seen

Gold of answers is the mean of those raters who have annotated every answer of the group that any has annotated; of
given answers, 1 for the one that people prefer. Of votes it is the mean label of a sample's pairs with all the prompt's
other samples (judge.pairs = ["all"]).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from constitution.audit.evidence import Evidence
from constitution.measures import Estimate
from constitution.measures.groups import chances, sizes, within
from constitution.warehouse.views import quoted

GOLD, VOTES = "gold", "votes"
"""What sees answers without being a source of rewards."""

_MEMBERS = """
CREATE TABLE audit.members AS
WITH counted AS (  -- first, so that no text is held where groups are made
    SELECT
        id, prompt_id, kind, round, sampler, hash(text) AS said, text = '' AS empty, count_tokens(text) AS tokens
    FROM responses WHERE run_id = $run AND kind NOT IN ('perturbation', 'reference')
)
SELECT
    (row_number() OVER () - 1)::INTEGER AS member, r.id AS response_id, q.grp, q.cluster, r.kind, r.round, r.sampler,
    r.said, r.empty, r.tokens, r.kind = 'sample' OR NOT bool_or(r.kind = 'sample') OVER (PARTITION BY q.grp) AS grouped
FROM counted AS r
JOIN (SELECT prompt_id, cluster, rowid::INTEGER AS grp FROM audit.prompts) AS q USING (prompt_id);
"""

_REWARDED = """
CREATE TYPE audit.source AS ENUM (
    SELECT DISTINCT source AS name FROM rewards WHERE run_id = {run}
    UNION SELECT unnest(['gold', 'votes']) ORDER BY name
);

CREATE TABLE audit.rewarded AS
SELECT
    w.source::audit.source AS source, m.member, m.grp, m.cluster, m.kind, m.grouped, m.tokens, w.value,
    total_reward(w.value, w.length_penalty) AS total,
    CASE WHEN w.source = 'last-token' THEN w.raw ELSE w.value END AS unclipped, coalesce(w.length_penalty, 0) AS penalty
FROM (
    -- Those by votes are made of the votes that rewards are held against.
    SELECT source, response_id, value, raw, length_penalty FROM rewards
    WHERE run_id = $run AND value IS NOT NULL AND source <> 'votes'
) AS w
JOIN audit.members AS m USING (response_id);

CREATE TABLE audit.seen AS
WITH word AS (
    SELECT rater, response_id, arg_max(value, created_at) AS value FROM annotations
    WHERE run_id = $run AND response_id IS NOT NULL AND principle_id IS NULL GROUP BY rater, response_id
),
told AS (
    SELECT m.grp, m.member, w.rater, w.value FROM word AS w JOIN audit.members AS m USING (response_id) WHERE m.grouped
    UNION ALL
    SELECT m.grp, m.member, 'prompts', list_contains(p.better, m.round)::INTEGER
    FROM (
        SELECT id AS prompt_id, CASE WHEN len(golds) > 0 THEN golds ELSE [gold] END AS better FROM prompts
        WHERE run_id = $run AND (gold IS NOT NULL OR len(golds) > 0)
    ) AS p
    JOIN (SELECT prompt_id, rowid::INTEGER AS grp FROM audit.prompts) AS q USING (prompt_id)
    JOIN audit.members AS m ON m.grp = q.grp AND m.kind = 'given' AND m.grouped
),
whole AS (
    SELECT * FROM told
    JOIN (SELECT grp, count(DISTINCT member) AS members FROM told GROUP BY grp) USING (grp)
    QUALIFY count(*) OVER (PARTITION BY grp, rater) = members
),
met AS (
    SELECT a.grp, a.said AS one, b.said AS other, p.p_b FROM (
        -- Where all pairs are asked for, some of them go by the name of another kind.
        SELECT a_id, b_id, p_b FROM preferences
        WHERE run_id = $run AND {all_pairs} AND votes > 0 AND p_b IS NOT NULL
    ) AS p
    JOIN audit.members AS a ON a.response_id = p.a_id AND a.kind = 'sample'
    JOIN audit.members AS b ON b.response_id = p.b_id AND b.kind = 'sample' AND b.said <> a.said
),
judged AS (
    SELECT grp, said, avg(p) AS value, count(DISTINCT other) AS others
    FROM (SELECT grp, one AS said, other, 1 - p_b AS p FROM met UNION ALL SELECT grp, other, one, p_b FROM met)
    GROUP BY grp, said
)
SELECT source AS seen_by, member, grp, total AS worth FROM audit.rewarded WHERE grouped
UNION ALL
SELECT 'gold', member, any_value(grp), avg(value) FROM whole GROUP BY member
UNION ALL
SELECT 'votes', m.member, m.grp, j.value
FROM audit.members AS m
JOIN judged AS j ON j.grp = m.grp AND j.said = m.said
JOIN (
    SELECT grp, count(DISTINCT said) AS texts FROM audit.members WHERE kind = 'sample' AND NOT empty GROUP BY grp
) AS t ON t.grp = m.grp AND j.others = t.texts - 1
WHERE m.kind = 'sample'
UNION ALL
SELECT 'votes', m.member, m.grp, w.value
FROM rewards AS w JOIN audit.members AS m USING (response_id)
WHERE w.run_id = $run AND w.source = 'votes' AND w.value IS NOT NULL AND NOT {all_pairs};

CREATE MACRO audit.compared(one, other) AS TABLE
SELECT r.member, r.grp, r.cluster, r.kind, r.total AS reward, round(s.worth, 12) AS worth
FROM audit.rewarded AS r JOIN audit.seen AS s ON s.member = r.member AND s.seen_by = other
WHERE r.source = one AND r.grouped;
"""

_SIZES = """
WITH sized AS (
    SELECT grp, count(*) AS size FROM audit.compared({one}, {other}) WHERE kind = 'sample' GROUP BY grp
)
SELECT size, count(*) AS groups, (SELECT quantile_disc(size, 0.5) FROM sized) AS most
FROM sized GROUP BY size ORDER BY size
"""

_BEST = """
WITH ranked AS (
    SELECT
        grp, cluster, worth, rank() OVER (PARTITION BY grp ORDER BY reward) - 1 AS below,
        count(*) OVER (PARTITION BY grp, reward) AS equal, count(*) OVER (PARTITION BY grp) AS size
    FROM audit.compared({one}, {other}) WHERE kind = 'sample'
)
SELECT r.grp, h.n, any_value(r.cluster) AS cluster, sum(r.worth * (h.p - l.p) / r.equal) AS value
FROM ranked AS r
JOIN chances AS h ON h.size = r.size AND h.k = r.below + r.equal
JOIN chances AS l ON l.size = r.size AND l.k = r.below AND l.n = h.n
GROUP BY r.grp, h.n
"""

_TAU = """
WITH answers AS MATERIALIZED (SELECT grp, cluster, member, reward, worth FROM audit.compared({one}, {other})),
paired AS (
    SELECT x.grp, x.cluster, sign(x.reward - y.reward) AS way, sign(x.worth - y.worth) AS other_way
    FROM answers AS x JOIN answers AS y ON y.grp = x.grp AND y.member > x.member
)
SELECT
    {subject} AS subject, any_value(cluster) AS cluster,
    round(sum(way * other_way) / sqrt(sum(abs(way)) * sum(abs(other_way))), 12) AS value
FROM paired GROUP BY grp HAVING sum(abs(way)) > 0 AND sum(abs(other_way)) > 0
"""

_WITHIN = """
SELECT {keys}, cluster, sum(xy) AS xy, sum(xx) AS xx, sum(yy) AS yy, sum(n) AS n
FROM (
    SELECT
        {keys}, any_value(cluster) AS cluster, regr_sxy(y, x) AS xy, regr_sxx(y, x) AS xx, regr_syy(y, x) AS yy,
        count(*) AS n
    FROM ({rows}) GROUP BY {keys}, grp
)
GROUP BY {keys}, cluster ORDER BY cluster
"""


class Curve(NamedTuple):
    """The best of n by one source of rewards, as it or another sees it."""

    sql: str
    """A row for each group and n, with `value`; reads the table `chances`."""
    most: int
    """The largest n: at least half of the groups have as many answers."""
    groups: int
    short: int
    """Groups that have fewer, and are not in it."""
    chances: pa.Table


def create(evidence: Evidence) -> bool:
    """Makes the tables, once. False: the run has neither samples nor rewards, and there are none."""
    made = "SELECT 1 FROM duckdb_tables() WHERE schema_name = 'audit' AND table_name = 'members'"
    if evidence.rows(made):
        return True
    has = "SELECT (SELECT count(*) FROM rewards WHERE run_id = {run}) AS rewards, (SELECT count(*) FROM responses \
        WHERE run_id = {run} AND kind = 'sample') AS samples"
    [counts] = evidence.rows(has)
    if not counts["rewards"] and not counts["samples"]:
        return False
    evidence.create(_MEMBERS)
    pairs = (evidence.run.recipe.get("judge") or {}).get("pairs") or ()
    whole = str("all" in pairs).lower()
    evidence.create(_REWARDED.replace("{run}", quoted(evidence.run.run_id)).replace("{all_pairs}", whole))
    return True


def sources(evidence: Evidence) -> list[str]:
    """Those that have rewarded an answer, in the recipe's order, which decides by which the pairs are chosen."""
    found = [row["source"] for row in evidence.rows("SELECT DISTINCT source::VARCHAR AS source FROM audit.rewarded")]
    named = list((evidence.run.recipe.get("reward") or {}).get("by") or ())
    return sorted(found, key=lambda source: (named.index(source) if source in named else len(named), source))


def others(evidence: Evidence, source: str) -> list[str]:
    """What else sees answers of groups: the other sources, gold, votes."""
    asked = "SELECT DISTINCT seen_by::VARCHAR AS seen_by FROM audit.seen ORDER BY 1"
    return [row["seen_by"] for row in evidence.rows(asked) if row["seen_by"] != source]


def taus(one: str, other: str, subject: str) -> str:
    """A query for Kendall's tau-b of each group (Kendall 1945, "The treatment of ties in ranking problems"); groups in
    which one of the two sees no difference have none."""
    return _TAU.format(one=quoted(one), other=quoted(other), subject=quoted(subject))


def slopes(evidence: Evidence, rows: str, *keys: str) -> Iterator[tuple[dict[str, str], tuple[Estimate, Estimate]]]:
    """How y goes with x inside groups, slope and correlation (measures.groups.within), for each combination of `keys`.
    rows: a query for these, grp, cluster, x and y."""
    for about, found in evidence.groups(_WITHIN.format(keys=", ".join(keys), rows=rows), *keys):
        parts = np.column_stack([found[name] for name in ("xy", "xx", "yy")])
        yield about, within(parts, found["cluster"], int(found["n"].sum()), replicates=evidence.replicates)


def curve(evidence: Evidence, one: str, other: str) -> Curve | None:
    """None: no prompt has two samples that both have seen."""
    about = {"one": quoted(one), "other": quoted(other)}
    rows = evidence.rows(_SIZES.format(**about))
    if not rows or rows[0]["most"] < 2:
        return None
    most = rows[0]["most"]
    columns: dict[str, list[np.ndarray]] = {"size": [], "n": [], "k": [], "p": []}
    for size in [row["size"] for row in rows if row["size"] >= most]:
        for n in sizes(most):
            columns["size"].append(np.full(size + 1, size))
            columns["n"].append(np.full(size + 1, n))
            columns["k"].append(np.arange(size + 1))
            columns["p"].append(chances(size, n))
    table = pa.table({name: np.concatenate(parts) for name, parts in columns.items()})
    short = sum(row["groups"] for row in rows if row["size"] < most)
    return Curve(_BEST.format(**about), most, sum(row["groups"] for row in rows) - short, short, table)


def subjects(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Each source with itself and with what else sees its answers."""
    for source in sources(evidence):
        yield source, source
        for other in others(evidence, source):
            yield source, other
