"""The labels of a stored run by the weights of a profile, made of the votes that there are; nothing is stored.

Each of the settings of labels keeps its meaning: weights are those of the mean and the majority; Dawid–Skene learns
each voter's error rates, so that of weights 0 alone counts; control is fitted on the votes that count; calibration is
to the gold of the profile's group, where it names one. Votes that stopped early (judge.votes adaptive) stopped for the
weights of the run: pairs that they left undecided by these are counted (`undecided`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from constitution.errors import InputError
from constitution.labels.adaptive import change
from constitution.labels.label import Rules, judge_settings
from constitution.labels.relabel import Relabelled, relabel
from constitution.records import Constitution, Profile, Run

IGNORED = "dawid-skene weighs voters by their error rates: of the profile's weights 0 alone counts"

_ASKED = """
SELECT v.pair_id, list(v.principle_id ORDER BY v.principle_id) AS principles, list(v.p ORDER BY v.principle_id) AS p
FROM (
    SELECT pair_id, principle_id, avg(p_counted) AS p FROM averaged_votes WHERE run_id = $run
    GROUP BY pair_id, principle_id
) AS v
SEMI JOIN (
    SELECT id FROM preferences WHERE run_id = $run AND votes_spared > 0 AND kind <> 'perturbation'
) AS p ON p.id = v.pair_id
GROUP BY v.pair_id ORDER BY v.pair_id
"""


@dataclass(frozen=True, slots=True)
class ProfileLabels:
    """A run's labels by a profile."""

    relabelled: Relabelled
    """Against the labels that the run has."""
    preferences: pa.Table
    """The run's preferences with these labels, by id."""
    stopped: int
    """Pairs whose votes stopped early, by the weights of the run."""
    changed: bool
    """False: the profile's weights are the principles' own, and the labels are those that the run has."""
    undecided: int
    """Pairs of these whose label the votes that were not asked for would change more often than judge.sure allows."""


def profile_of(constitution: Constitution, id: str) -> Profile:
    """Raises InputError for an id that the constitution does not have."""
    known = {profile.id: profile for profile in constitution.profiles}
    if id not in known:
        there = f"it has {', '.join(known)}" if known else "it has none: [[profiles]] in a new version"
        raise InputError(f"{constitution.label} has no profile {id!r}", hint=there)
    return known[id]


def weights_of(run: Run, constitution: Constitution, profile: Profile | None) -> dict[str, float]:
    """What the run's votes count by the profile. Raises InputError where none of its principles was voted by."""
    weights = constitution.weights(profile)
    asked = {each.id for each in constitution.principles if each.compares}
    if not asked & weights.keys():
        raise InputError(f"{run.run_id}: no vote counts by {profile and profile.id}", hint="give a weight above 0")
    return weights


def profile_labels(
    connection: duckdb.DuckDBPyConnection, run: Run, constitution: Constitution, profile: Profile
) -> ProfileLabels:
    """connection: to the warehouse's views. By the settings that the run's labels were last made by. A profile whose
    weights are the principles' own has the stored labels. Raises duckdb.Error for what cannot be read, InputError
    where there are no votes."""
    if not run.recipe.get("judge") or judge_settings(run).get("confirm", "votes") != "votes":
        raise InputError(f"{run.run_id}: its labels are made without votes", hint="profiles weigh votes")
    rules, weights = Rules.of_run(run), weights_of(run, constitution, profile)
    group = profile.group if rules.calibrate != "off" else ""
    relabelled, preferences = relabel(connection, run.run_id, rules, weights, group)
    changed = bool(group) or weights != constitution.weights()
    if not changed:
        # The same labels, to the last bit.
        stored = connection.sql("FROM preferences WHERE run_id = $run ORDER BY id", params={"run": run.run_id})
        preferences = stored.to_arrow_table()
    stopped, undecided = _undecided(connection, run, weights, rules.margin)
    notes = (*relabelled.notes, *([IGNORED] if rules.aggregate == "dawid-skene" else []))
    made = Relabelled(**{name: getattr(relabelled, name) for name in _COUNTS}, notes=notes)
    return ProfileLabels(made, preferences, stopped, changed, undecided)


_COUNTS = ("labels", "kept", "turned", "gained", "lost", "label_by")


def _undecided(
    connection: duckdb.DuckDBPyConnection, run: Run, weights: Mapping[str, float], margin: float
) -> tuple[int, int]:
    """Pairs whose votes stopped early, and those of them that are undecided by these weights."""
    settings = judge_settings(run)
    if settings.get("votes") != "adaptive":
        return 0, 0
    sure = float(settings.get("sure", 0.99))
    asked = "SELECT DISTINCT principle_id FROM judgements WHERE run_id = $run"
    voted = {str(id) for (id,) in connection.execute(asked, {"run": run.run_id}).fetchall()}
    stopped = connection.execute(_ASKED, {"run": run.run_id}).fetchall()
    undecided = 0
    for _, principles, values in stopped:
        said = [(p, weights[id]) for id, p in zip(principles, values, strict=True) if id in weights]
        left = [weights[id] for id in sorted(voted & weights.keys() - set(principles))]
        if not said:
            undecided += 1
        elif left:
            p_b = float(np.average([p for p, _ in said], weights=[weight for _, weight in said]))
            undecided += change(p_b, said, left, margin) > 1 - sure
    return len(stopped), undecided
