"""Labels fitted to the gold labels that there are: each half of the prompts by what the other half's teach."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from constitution.labels.run_votes import RunVotes
from constitution.labels.votes import tidy
from constitution.measures import calibrate
from constitution.measures.estimate import Floats
from constitution.sandbox import quoted


@dataclass(frozen=True, slots=True)
class Calibration:
    p_b: Floats
    applied: bool = False
    notes: tuple[str, ...] = ()


def calibrated(run: RunVotes, p_b: Floats, group: str = "") -> Calibration:
    """group: of raters, whose gold it is; empty: all raters'."""
    method = run.rules.calibrate
    if method == "off":
        return Calibration(p_b)
    source = f"(FROM group_gold WHERE rater_group = {quoted(group)})" if group else "gold"
    found = run.ask(
        f"SELECT place, g.p_b FROM {source} AS g JOIN label_pairs AS p ON p.id = g.pair_id "
        "WHERE g.run_id = $run AND g.principle_id = '' ORDER BY place"
    )
    labelled = ~np.isnan(p_b) & ~run.perturbed
    gold = np.full(len(p_b), np.nan)
    gold[found["place"]] = found["p_b"]
    second = calibrate.half(run.conversations())
    taught = [labelled & ~np.isnan(gold) & (second == half) for half in (False, True)]
    counts = [int(each.sum()) for each in taught]
    if min(counts) < calibrate.LEAST:
        whose = f" of {group}" if group else ""
        few = f"calibrate: not applied: {counts[0]} and {counts[1]} gold labels{whose} in the two halves of the prompts"
        return Calibration(p_b, notes=(f"{few}; {calibrate.LEAST} are needed in each",))
    new = p_b.copy()
    for half, teachers in zip((True, False), taught, strict=True):
        taken = labelled & (second == half)
        new[taken] = calibrate.fit(method, p_b[teachers], gold[teachers])(p_b[taken])
    new = tidy(new)
    useless = "calibrate: all labels became ties: they agree with the gold labels no more often than chance"
    return Calibration(new, True, (useless,) if labelled.any() and (new[labelled] == 0.5).all() else ())
