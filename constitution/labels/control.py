"""Style control: what length and markdown have given b in each judge's votes, as far as it can be told."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from constitution.labels.run_votes import RunVotes
from constitution.labels.votes import AveragedVotes
from constitution.measures import style
from constitution.measures.estimate import Floats

SHIFTS = pa.schema({"pair_id": pa.string(), "judge": pa.string(), "shift": pa.float64()})
"""Log-odds for b that are taken out of a judge's votes on a pair."""


@dataclass(frozen=True, slots=True)
class Control:
    shifts: pa.Table
    """As SHIFTS says."""
    judges: frozenset[str] = frozenset()
    """Those whose votes are controlled."""
    notes: tuple[str, ...] = ()
    """Why others' are not."""


def style_control(run: RunVotes, votes: AveragedVotes, log_odds: Floats) -> Control:
    """A fit per judge, one row per pair, the mean over principles, each kind of pair with its own intercept."""
    nothing = SHIFTS.empty_table()
    if run.rules.control == "off":
        return Control(nothing)
    names = style.CONTROLS[run.rules.control]
    found = run.ask(
        f"SELECT place, {', '.join(names)} FROM style_differences AS s JOIN label_pairs AS p ON p.id = s.pair_id "
        "WHERE s.run_id = $run AND s.length IS NOT NULL ORDER BY place"
    )
    features = np.full((len(run.pairs), len(names)), np.nan)
    features[found["place"]] = np.column_stack([found[name] for name in names])
    known = ~run.perturbed & ~np.isnan(features).any(axis=1)
    ids, kinds, prompts = run.column("id"), run.column("kind").astype(str), run.conversations()
    shifts, judges, notes = [nothing], set(), []
    for judge in sorted({judge for judge, _ in run.names}):
        own = np.array([name == judge for name, _ in run.names])[votes.voter]
        count, total = (np.bincount(votes.place[own], each, len(known)) for each in (None, log_odds[own]))
        places = np.flatnonzero(known & (count > 0))
        fitted = style.control(
            total[places] / count[places], features[places], prompts[places], names, strata=kinds[places]
        )
        if len(places) < style.LEAST:
            notes.append(f"control: not of {judge}, which voted on {len(places)} pairs; {style.LEAST} are needed")
        elif all(effect.value is None for effect in fitted.effects.values()):
            notes.append(f"control: not of {judge}, whose votes show no effect of {run.rules.control}")
        else:
            columns = [pa.array(ids[places], pa.string()), pa.array([judge] * len(places))]
            shifts.append(pa.table([*columns, pa.array(fitted.shift(features[places]))], schema=SHIFTS))
            judges.add(judge)
    return Control(pa.concat_tables(shifts), frozenset(judges), tuple(notes))
