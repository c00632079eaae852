"""The labels that each profile's weights make of the run's votes, held against the run's labels and against the gold of
the profile's group of raters."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from constitution.audit.evidence import Evidence
from constitution.errors import InputError
from constitution.labels.profiles import ProfileLabels, profile_labels
from constitution.records import Figure, Profile
from constitution.sandbox import quoted

FIGURES = ("profile_kept", "profile_flips", "profile_alignment", "profile_undecided")

_LABELS = """
SELECT
    q.cluster, l.kept::INTEGER AS kept, side(l.p_b) AS side, side(p.p_b) AS base, side(g.p_b) AS gold,
    l.p_b IS NULL AS missing
FROM profile_labels AS l
JOIN audit.training_pairs AS q ON q.pair_id = l.id
JOIN (SELECT id, p_b FROM preferences WHERE run_id = {run}) AS p USING (id)
LEFT JOIN (FROM group_gold WHERE run_id = {run} AND principle_id = '' AND rater_group = {group}) AS g
    ON g.pair_id = l.id
ORDER BY q.place
"""


def figures(evidence: Evidence) -> Iterator[Figure]:
    if not evidence.constitution.profiles:
        yield from map(evidence.missing, FIGURES)
    for profile in evidence.constitution.profiles:
        try:
            found = profile_labels(evidence.connection, evidence.run, evidence.constitution, profile)
        except InputError as error:
            yield from (evidence.missing(name, str(error), subject=profile.id) for name in FIGURES)
            continue
        yield from _of(evidence, profile, found)


def _of(evidence: Evidence, profile: Profile, found: ProfileLabels) -> Iterator[Figure]:
    about = {"subject": profile.id}
    evidence.connection.register("profile_labels", _narrow(found.preferences))
    rows = evidence.ask(_LABELS.replace("{group}", quoted(profile.group)))
    evidence.connection.unregister("profile_labels")
    columns = {name: rows.column(name).to_numpy(zero_copy_only=False) for name in rows.column_names}
    clusters = columns["cluster"]
    notes = "; ".join(found.relabelled.notes)
    yield evidence.figure("profile_kept", evidence.mean(columns["kept"], clusters, proportion=True), notes, **about)
    both = ~columns["missing"].astype(bool) & (columns["side"] * columns["base"] != 0)
    flips = (columns["side"] * columns["base"] < 0)[both]
    yield evidence.figure("profile_flips", evidence.mean(flips, clusters[both], proportion=True), **about)
    yield _alignment(evidence, profile, columns)
    if found.stopped:
        yield evidence.count("profile_undecided", found.undecided / found.stopped, found.stopped, **about)


def _alignment(evidence: Evidence, profile: Profile, columns: dict[str, np.ndarray]) -> Figure:
    if not profile.group:
        return evidence.missing("profile_alignment", "the profile names no `group` of raters", subject=profile.id)
    gold = np.nan_to_num(columns["gold"].astype(float))
    said = (gold != 0) & ~columns["missing"].astype(bool)
    if not said.any():
        return evidence.missing(
            "profile_alignment", f"no labelled pair has gold of the group {profile.group}", subject=profile.id
        )
    product = (columns["side"] * gold)[said]
    right = evidence.mean((1 + product) / 2, columns["cluster"][said], proportion=True)
    base = evidence.mean((1 + (columns["base"] * gold)[said]) / 2, columns["cluster"][said], proportion=True)
    return evidence.figure(
        "profile_alignment", right, f"of {profile.group}; the run's labels {base.value:.1%}", subject=profile.id
    )


def _narrow(preferences: pa.Table) -> pa.Table:
    return preferences.select(["id", "p_b", "kept"])
