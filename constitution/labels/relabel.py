"""The labels of a whole run, made again from its stored votes: what one pair's votes alone cannot say.

    relabelled, preferences = relabel(connection, run_id, rules, weights)

`label_pair` makes a label when a pair's votes are in. Three settings want the votes of every pair: Dawid–Skene learns
each voter's error rates, control learns what length and style have given, calibration holds the labels against gold
labels. Without them the labels are those that `label_pair` gave (a test compares the two). It works on columns: a
million votes as records would take minutes and gigabytes. Perturbations teach nothing and keep the label that
`label_pair` gave them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from constitution.labels.calibrate import calibrated
from constitution.labels.control import style_control
from constitution.labels.label import LABEL_SETTINGS, Rules, made_by
from constitution.labels.run_votes import RunVotes, array
from constitution.labels.votes import AveragedVotes, decide, describe, drop_reason, interval, side, tidy
from constitution.measures import aggregate
from constitution.measures.estimate import Floats
from constitution.records import FIXED_DROPS, Method


@dataclass(frozen=True, slots=True)
class Relabelled:
    """What became of a run's labels."""

    labels: int
    """Pairs with a label."""
    kept: int
    """Labels that are not dropped."""
    turned: int
    """Pairs whose label prefers the other answer now."""
    gained: int
    """Pairs kept now that were dropped."""
    lost: int
    """Pairs dropped now that were kept."""
    label_by: str
    """What was applied, as `preferences.label_by` says it."""
    notes: tuple[str, ...]
    """What was asked for and not applied, or is to be known with it."""

    def record(self, rules: Rules) -> dict[str, Any]:
        """What the run's record says of it (`Run.labels`)."""
        settings = {name: getattr(rules, name) for name in LABEL_SETTINGS}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return {"made_at": now, **settings, "applied": self.label_by, "notes": list(self.notes)}


def relabel(
    connection: duckdb.DuckDBPyConnection, run_id: str, rules: Rules, weights: Mapping[str, float], group: str = ""
) -> tuple[Relabelled, pa.Table]:
    """What became of the run's labels, and its preferences with them. To do it again changes nothing.

    connection: to the warehouse's views. weights: per id, of the principles whose votes count. group: of raters,
    whose gold labels are calibrated to; empty: all raters'. Raises duckdb.Error for what cannot be read.
    """
    run = RunVotes.read(connection, run_id, rules, weights)
    read, log_odds = run.averaged()
    later = run.ask("SELECT count(*) AS n FROM counted_votes WHERE run_id = $run AND wave > 0")["n"][0]
    control = style_control(run, *(run.first() if later else (read, log_odds)))
    votes = replace(run.controlled(control.shifts), consistent=read.consistent) if control.judges else read
    calibration = calibrated(run, _decided(run, votes), group)
    label_by = _label_by(run, votes, control.judges, calibration.applied)
    ends = interval(read, run.weight, len(run.pairs))
    table = _preferences(run, votes, (decide(read, run.weight, len(run.pairs)), *ends), calibration.p_b, label_by)
    notes = (*control.notes, *calibration.notes)
    return _relabelled(run.pairs, table, max(label_by, key=len, default=rules.aggregate), notes), table


def _decided(run: RunVotes, votes: AveragedVotes) -> Floats:
    """P(b) of each pair, NaN without a vote."""
    p_b = decide(votes, run.weight, len(run.pairs), run.rules.first_aggregate == "majority")
    if run.rules.aggregate == "dawid-skene":
        ids, sides = run.column("id"), side(votes.p)
        counts = (sides != 0) & ~run.perturbed[votes.place]
        posterior = aggregate.dawid_skene(ids[votes.place[counts]], votes.voter[counts], sides[counts] > 0)
        labelled = ~np.isnan(p_b) & ~run.perturbed
        p_b[labelled] = [posterior.get(id, 0.5) for id in ids[labelled]]  # of ties alone: one half
    return tidy(p_b)


def _label_by(run: RunVotes, votes: AveragedVotes, judges: frozenset[str], calibrated: bool) -> list[str]:
    """For each pair. judges: those whose votes are controlled."""
    rules, by = run.rules, np.array([judge in judges for judge, _ in run.names], dtype=bool)
    method_of = run.methods()
    methods = np.array([method_of[judge] for judge, _ in run.names], dtype=object)
    used: list[list[Method]] = [[] for _ in range(len(run.pairs))]
    for method in set(method_of.values()):
        for place in np.unique(votes.place[(methods == method)[votes.voter]]).tolist():
            used[place].append(method)
    controlled, labelled = np.zeros(len(run.pairs), dtype=bool), np.zeros(len(run.pairs), dtype=bool)
    controlled[votes.place[by[votes.voter]]] = True
    labelled[votes.place] = True
    applied = [
        (*((rules.control,) * bool(style)), *((rules.calibrate,) * bool(calibrated and label)))
        for style, label in zip(controlled, labelled, strict=True)
    ]
    return [
        made_by(rules.first_aggregate, each) if perturbed else made_by(rules.aggregate, each, *also)
        for each, also, perturbed in zip(used, applied, run.perturbed, strict=True)
    ]


def _preferences(
    run: RunVotes, votes: AveragedVotes, mean: tuple[Floats, Floats, Floats], p_b: Floats, label_by: list[str]
) -> pa.Table:
    """The stored ones with everything that follows from the votes, their `mean` with its interval, and `p_b`."""
    p_mean, *ends = mean
    pairs, about = run.pairs, describe(votes, p_b)
    fixed = [reason if reason in FIXED_DROPS else None for reason in pairs.column("drop_reason").to_pylist()]
    reasons = [drop_reason(each, p, run.rules.margin) for each, p in zip(fixed, p_b.tolist(), strict=True)]
    reason = pa.array(reasons, pa.string())
    prefers_a = pa.array(np.nan_to_num(p_b, nan=0.5) < 0.5)
    made = {
        "p_b": _nullable(p_b),
        "p_mean": _nullable(p_mean),
        "votes": pa.array(about["votes"]),
        "votes_missing": pa.array(run.column("votes") + run.column("votes_missing") - about["votes"]),
        "consistency": _nullable(about["consistency"]),
        "agreement": _nullable(about["agreement"]),
        "ties": pa.array(about["ties"]),
        "dissent": _dissent(run, votes, about["dissents"]),
        "label_by": pa.array(label_by, pa.string()),
        "p_low": _nullable(ends[0]),
        "p_high": _nullable(ends[1]),
        "drop_reason": reason,
        "kept": pc.is_null(reason),
        "chosen_id": pc.if_else(prefers_a, pairs.column("a_id"), pairs.column("b_id")),
        "rejected_id": pc.if_else(prefers_a, pairs.column("b_id"), pairs.column("a_id")),
        "p_chosen": _nullable(np.maximum(p_b, 1 - p_b)),
    }
    return pa.table({name: made.get(name, pairs.column(name)) for name in pairs.column_names})


def _dissent(run: RunVotes, votes: AveragedVotes, dissents: NDArray[np.bool_]) -> pa.Array:
    names = pa.array([f"{judge}/{principle}" for judge, principle in run.names], pa.string())
    ends = np.concatenate([[0], np.cumsum(np.bincount(votes.place[dissents], minlength=len(run.pairs)))])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), names.take(pa.array(votes.voter[dissents])))


def _relabelled(was: pa.Table, now: pa.Table, label_by: str, notes: tuple[str, ...]) -> Relabelled:
    before, after = (np.nan_to_num(array(each.column("p_b")), nan=0.5) for each in (was, now))
    kept_before, kept = (array(each.column("kept")).astype(bool) for each in (was, now))
    return Relabelled(
        labels=int(len(now) - now.column("p_b").null_count),
        kept=int(kept.sum()),
        turned=int((side(before) * side(after) < 0).sum()),
        gained=int((kept & ~kept_before).sum()),
        lost=int((kept_before & ~kept).sum()),
        label_by=label_by,
        notes=notes,
    )


def _nullable(values: Floats) -> pa.Array:
    return pa.array(values, pa.float64(), mask=np.isnan(values))
