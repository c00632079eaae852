"""What the votes of some of the principles say: pairs labelled again by these alone, and scores of single answers."""

from __future__ import annotations

from dataclasses import replace

import duckdb
import pyarrow as pa

from constitution.errors import InputError
from constitution.export.settings import Settings
from constitution.labels import Rules, judge_settings
from constitution.labels import relabel as labels
from constitution.records import Principle, Run

_LABELLED = """
CREATE TABLE export.labelled AS
SELECT r.* REPLACE (p.votes_missing AS votes_missing) FROM relabelled AS r JOIN preferences AS p USING (id)
"""

# Readings of an answer by itself, the mean of its principles by weight; rounded and in the order of the names, so that
# no last bit depends on which thread read first.
_SCORES = """
CREATE TABLE export.scored AS
WITH means AS (
    SELECT response_id, judge, principle_id, weight, favg(value) AS value, count(*) AS readings
    FROM readings LEFT JOIN chosen_principles USING (principle_id) GROUP BY ALL
)
SELECT
    response_id, sum(readings) FILTER (weight IS NOT NULL)::INTEGER AS readings,
    round(sum(weight * value ORDER BY judge, principle_id) / sum(weight ORDER BY judge, principle_id), 12) AS score
FROM means GROUP BY response_id
"""


def relabel(connection: duckdb.DuckDBPyConnection, run: Run) -> None:
    """Makes export.labelled: the preferences, labelled by the mean of the votes of `chosen_principles` alone."""
    rules = replace(Rules.of_run(run), aggregate="mean", control="off", calibrate="off")
    weights = dict(connection.execute("SELECT principle_id, weight FROM chosen_principles").fetchall())
    _, preferences = labels.relabel(connection, run.run_id, rules, weights)
    connection.register("relabelled", preferences)
    connection.execute(_LABELLED)
    connection.unregister("relabelled")


def check_votes(run: Run, settings: Settings) -> None:
    """Raises InputError for a setting about votes, where the run's labels are made without any."""
    by = judge_settings(run).get("confirm", "votes")
    about_votes = {
        "--principles": settings.principles and settings.spec.unit == "pair",
        "--min-agreement": settings.min_agreement,
        "--consistent-only": settings.consistent_only,
        "--drop-broken": settings.cleaning.drop_broken,
        "--labels sampled": settings.labels == "sampled",
        "--margin log-odds": settings.margin == "log-odds",
        "--format robust": settings.spec.shards,
    }
    for option, given in about_votes.items():
        if given and by != "votes":
            raise InputError(
                f"{option}: is about votes, and the labels of {run.run_id} are by {by}", hint="leave it out"
            )


def score(connection: duckdb.DuckDBPyConnection) -> None:
    """Makes export.scored: of each answer that judges read by itself its score by `chosen_principles`, on [0, 1]."""
    connection.execute(_SCORES)


def choose_principles(connection: duckdb.DuckDBPyConnection, principles: tuple[Principle, ...]) -> None:
    """Makes the table chosen_principles: what their votes weigh."""
    names = pa.array([principle.id for principle in principles], pa.string())
    weights = pa.array([principle.weight for principle in principles], pa.float64())
    connection.register("chosen_principles", pa.table({"principle_id": names, "weight": weights}))
