"""What the votes of some of the principles say: pairs labelled again by these alone, and scores of single answers."""

from __future__ import annotations

from dataclasses import replace

import duckdb
import pyarrow as pa

from constitution.errors import InputError
from constitution.export.settings import Settings
from constitution.export.work import Work
from constitution.labels import Rules, judge_settings
from constitution.labels import relabel as labels
from constitution.labels.profiles import ProfileLabels, profile_labels, profile_of
from constitution.labels.standings import standings_again
from constitution.records import Constitution, Principle, Run
from constitution.warehouse.views import shadow

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


def relabel_by_profile(work: Work, constitution: Constitution) -> ProfileLabels:
    """Makes export.labelled: the preferences, labelled by the weights of the profile that the settings name; and puts
    rewards by these labels in the place of the run's rewards by votes."""
    connection, run = work.connection, work.run
    found = profile_labels(connection, run, constitution, profile_of(constitution, work.settings.profile))
    connection.register("relabelled", found.preferences)
    connection.execute(_LABELLED)
    connection.unregister("relabelled")
    if work.source == "votes" and found.changed:
        rewards = standings_again(connection, run.run_id, found.preferences)
        if rewards is not None:
            shadow(connection, "rewards", rewards)
    return found


def weighed(constitution: Constitution, profile: str) -> Constitution:
    """The constitution with the profile's weights, without the principles that do not count by it; no profile: as it
    is. Raises InputError for one that it does not have."""
    if not profile:
        return constitution
    weights = constitution.weights(profile_of(constitution, profile))
    principles = (replace(each, weight=weights[each.id]) for each in constitution.principles if each.id in weights)
    return replace(constitution, principles=tuple(principles))


def check_profile(run: Run, settings: Settings) -> None:
    """Raises InputError for a profile where the format is made of no vote."""
    if settings.profile and settings.spec.unit == "answer" and not settings.spec.scored:
        if not settings.selects or settings.source_of(run) != "votes":
            hint = "sft takes it with --select best --source votes, of runs whose samples were compared"
            raise InputError("--profile: these answers are not chosen by votes", hint=hint)
    elif settings.profile and settings.source_of(run) not in (None, "votes") and settings.source:
        hint = "leave one of the two out"
        raise InputError(f"--profile: weighs votes, and rewards by {settings.source} are made without", hint=hint)


def check_votes(run: Run, settings: Settings) -> None:
    """Raises InputError for a setting about votes, where the run's labels are made without any."""
    by = judge_settings(run).get("confirm", "votes")
    check_profile(run, settings)
    about_votes = {
        "--profile": settings.profile,
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
