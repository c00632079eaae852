"""What the votes of some of the principles say: pairs labelled again by these alone, and scores of single answers."""

from __future__ import annotations

import duckdb
import pyarrow as pa

from constitution.labels import judge_settings
from constitution.records import FIXED_DROPS, Principle, Run

# The labels that the chosen principles' votes make, as labels/ makes them of all: couples averaged by weight.
_RELABELLED = """
CREATE TABLE export.labelled AS
WITH cast_votes AS (
    SELECT
        p.id AS pair_id, j.judge || '/' || j.principle_id AS name, w.weight, j.method, j.first_id = p.b_id AS b_first,
        CASE WHEN j.method = 'rationale' THEN least(greatest(j.p_first, $low), $high) ELSE j.p_first END AS p_first
    FROM judgements AS j
    JOIN preferences AS p ON p.id = j.pair_id
    JOIN chosen_principles AS w USING (principle_id)
    WHERE j.label_mass >= $least_mass
),
orders AS (
    SELECT
        pair_id, name, any_value(weight) AS weight, any_value(method) AS method, count(*) AS votes,
        1 - avg(p_first ORDER BY p_first) FILTER (NOT b_first) AS p_ab,
        avg(p_first ORDER BY p_first) FILTER (b_first) AS p_ba
    FROM cast_votes GROUP BY pair_id, name
),
said AS (
    SELECT *, coalesce((p_ab + p_ba) / 2, p_ab) AS p_b
    FROM orders WHERE p_ab IS NOT NULL AND (p_ba IS NOT NULL OR method IN ('score', 'rubric'))
),
means AS (
    -- In the order of the names and rounded, so that no last bit depends on which thread read first.
    SELECT pair_id, round(sum(weight * p_b ORDER BY name) / sum(weight ORDER BY name), 12) AS p_b
    FROM said GROUP BY pair_id
),
labels AS (
    SELECT
        s.pair_id, any_value(m.p_b) AS p_b, sum(s.votes)::INTEGER AS votes,
        avg((side(s.p_ab) = side(s.p_ba))::INTEGER) FILTER (s.p_ba IS NOT NULL) AS consistency,
        avg((side(s.p_b) = side(m.p_b))::INTEGER) AS agreement,
        count(*) FILTER (side(s.p_b) = 0)::INTEGER AS ties,
        coalesce(list(s.name ORDER BY s.name) FILTER (side(s.p_b) * side(m.p_b) < 0), []) AS dissent
    FROM said AS s JOIN means AS m USING (pair_id) GROUP BY s.pair_id
)
SELECT * REPLACE (
    l.p_b AS p_b, l.p_b AS p_mean, coalesce(l.votes, 0) AS votes,
    l.consistency AS consistency, l.agreement AS agreement, coalesce(l.ties, 0) AS ties,
    coalesce(l.dissent, []) AS dissent, 'mean' AS label_by,
    CASE WHEN l.p_b < 0.5 THEN a_id ELSE b_id END AS chosen_id,
    CASE WHEN l.p_b < 0.5 THEN b_id ELSE a_id END AS rejected_id,
    greatest(l.p_b, 1 - l.p_b) AS p_chosen,
    CASE
        WHEN drop_reason IN {fixed} THEN drop_reason
        WHEN l.p_b IS NULL THEN 'votes-missing'
        WHEN side(l.p_b) = 0 THEN 'tie'
        WHEN greatest(l.p_b, 1 - l.p_b) < 0.5 + $margin THEN 'margin'
    END AS drop_reason
)
FROM preferences AS p LEFT JOIN labels AS l ON l.pair_id = p.id
"""

# Readings of an answer by itself, the mean of its principles by weight.
_SCORES = """
CREATE TABLE export.scored AS
WITH read AS (
    SELECT first_id AS response_id, judge, principle_id, method, read_first AS reading
    FROM judgements WHERE read_first IS NOT NULL AND label_mass >= $least_mass
    UNION ALL
    SELECT second_id, judge, principle_id, method, read_second
    FROM judgements WHERE read_second IS NOT NULL AND label_mass >= $least_mass
),
valued AS (
    SELECT
        r.response_id, r.judge, r.principle_id, w.weight,
        reading_value(r.method, r.reading, w.criteria) AS value
    FROM read AS r LEFT JOIN chosen_principles AS w USING (principle_id)
),
means AS (
    SELECT response_id, judge, principle_id, weight, avg(value ORDER BY value) AS value, count(*) AS readings
    FROM valued GROUP BY ALL
)
SELECT
    response_id, sum(readings) FILTER (weight IS NOT NULL)::INTEGER AS readings,
    round(sum(weight * value ORDER BY judge, principle_id) / sum(weight ORDER BY judge, principle_id), 12) AS score
FROM means GROUP BY response_id
"""


def relabel(connection: duckdb.DuckDBPyConnection, run: Run) -> None:
    """Makes export.labelled: the preferences, labelled by the votes of `chosen_principles` alone."""
    judge = judge_settings(run)
    low, high = judge.get("clamp") or (0.4, 0.6)
    numbers = {"margin": judge.get("margin"), "least_mass": judge.get("min_label_mass")}
    floats = {name: float(number or 0.0) for name, number in numbers.items()}
    connection.execute(_RELABELLED.format(fixed=FIXED_DROPS), {"low": low, "high": high, **floats})


def score(connection: duckdb.DuckDBPyConnection, run: Run) -> None:
    """Makes export.scored: of each answer that judges read by itself its score by `chosen_principles`, on [0, 1]."""
    connection.execute(_SCORES, {"least_mass": float(judge_settings(run).get("min_label_mass") or 0.0)})


def choose_principles(connection: duckdb.DuckDBPyConnection, principles: tuple[Principle, ...]) -> None:
    """Makes the table chosen_principles: what their votes weigh, and their checklists."""
    rows = [
        {
            "principle_id": principle.id,
            "weight": principle.weight,
            "criteria": [{"good": each.good, "weight": each.weight} for each in principle.criteria],
        }
        for principle in principles
    ]
    criteria = pa.list_(pa.struct([("good", pa.string()), ("weight", pa.float64())]))
    schema = pa.schema([("principle_id", pa.string()), ("weight", pa.float64()), ("criteria", criteria)])
    connection.register("chosen_principles", pa.Table.from_pylist(rows, schema=schema))
