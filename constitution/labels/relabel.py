"""The labels of a whole run, made again from its stored votes: what one pair's votes alone cannot say.

    relabelled, preferences = relabel(connection, run_id, recipe.judge, weights)

`label_pair` makes a label when a pair's votes are in. Three settings want the votes of every pair: Dawid–Skene learns
each voter's error rates, control learns what length and style have given, calibration holds the labels against gold
labels. Without them the labels are those that `label_pair` gave (a test compares the two). It works on columns: a
million votes as records would take minutes and gigabytes.

Pairs of kind perturbation teach nothing and are left as `label_pair` makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from constitution.labels.label import LABEL_SETTINGS, Rules
from constitution.labels.votes import GIVEN, Couples, Votes, array, side
from constitution.measures import aggregate, calibrate, style
from constitution.measures.estimate import Floats
from constitution.recipe import JudgeSection
from constitution.records import FIXED_DROPS


@dataclass(frozen=True, slots=True)
class Relabelled:
    """What became of a run's labels."""

    labels: int
    """Pairs with a label."""
    kept: int
    """Of these, those that are not dropped."""
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

    def record(self, section: JudgeSection) -> dict[str, Any]:
        """What the run's record says of it (`Run.labels`)."""
        settings = section.model_dump(mode="json", include=set(LABEL_SETTINGS))
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return {"made_at": now, **settings, "applied": self.label_by, "notes": list(self.notes)}


def needed(section: JudgeSection) -> bool:
    """Whether the section asks for labels that only the whole run can make."""
    return section.aggregate == "dawid-skene" or section.control != "off" or section.calibrate != "off"


def relabel(
    connection: duckdb.DuckDBPyConnection, run_id: str, section: JudgeSection, weights: Mapping[str, float]
) -> tuple[Relabelled, pa.Table]:
    """What became of the run's labels, and its preferences with them. To do it again changes nothing.

    connection: to the warehouse's views. weights: per principle id. Raises duckdb.Error for what cannot be read.
    """
    votes = Votes.read(connection, run_id, section, weights)
    control = _control(votes)
    couples = votes.couples(control.given)
    p_b = _labels(votes, couples)
    calibration = _calibrate(votes, p_b)
    label_by = _label_by(votes, couples, control, calibration)
    table = _table(votes, couples, calibration.p_b, label_by)
    notes = (*control.notes, *calibration.notes)
    return _relabelled(votes, table, max(label_by, key=len, default=section.aggregate), notes), table


# --- what makes a label


@dataclass(frozen=True, slots=True)
class _Control:
    given: pa.Table
    """As GIVEN says."""
    judges: frozenset[str] = frozenset()
    """Those whose votes are controlled."""
    notes: tuple[str, ...] = ()


def _control(votes: Votes) -> _Control:
    """What style has given b in each judge's votes, as far as it can be told: a fit per judge, one row per pair, the
    mean over principles, each kind of pair with an intercept of its own."""
    given = GIVEN.empty_table()
    if votes.section.control == "off":
        return _Control(given)
    names = style.CONTROLS[votes.section.control]
    found = votes.ask(
        f"SELECT place, {', '.join(names)} FROM style_differences AS s JOIN pair ON pair.id = s.pair_id "
        "WHERE s.run_id = $run AND s.length IS NOT NULL ORDER BY place"
    )
    features = np.full((len(votes.pairs), len(names)), np.nan)
    features[found["place"]] = np.column_stack([found[name] for name in names])
    known = ~votes.perturbed & ~np.isnan(features).any(axis=1)
    couples, kinds, prompts = votes.couples(given), votes.column("kind").astype(str), votes.column("prompt_id")
    pieces, judges, notes = [given], set(), []
    for judge in sorted({judge for judge, _ in votes.names}):
        own = np.array([name == judge for name, _ in votes.names])[couples.voter]
        count, total = (
            np.bincount(couples.place[own], weights, len(known)) for weights in (None, couples.log_odds[own])
        )
        places = np.flatnonzero(known & (count > 0))
        fitted = style.control(
            total[places] / count[places], features[places], prompts[places], names, strata=kinds[places]
        )
        if len(places) < style.LEAST:
            notes.append(f"control: not of {judge}, which voted on {len(places)} pairs; {style.LEAST} are needed")
        elif all(effect.value is None for effect in fitted.effects.values()):
            notes.append(f"control: not of {judge}, whose votes show no effect of {votes.section.control}")
        else:
            shift = pa.array(fitted.shift(features[places]))
            pieces.append(pa.table({"place": places, "judge": pa.array([judge] * len(places)), "shift": shift}))
            judges.add(judge)
    return _Control(pa.concat_tables(pieces), frozenset(judges), tuple(notes))


def _labels(votes: Votes, couples: Couples) -> Floats:
    """P(b) of each pair, NaN without a complete couple."""
    sides, weight = side(couples.shifted), votes.weight[couples.voter]
    majority = votes.section.aggregate == "majority"
    p_b = _weighted(couples, weight, (1 + sides) / 2 if majority else couples.shifted, len(votes.pairs))
    if votes.section.aggregate == "dawid-skene":
        ids = votes.column("id")
        decided = (sides != 0) & ~votes.perturbed[couples.place]
        place = couples.place[decided]
        posterior = aggregate.dawid_skene(ids[place], couples.voter[decided], sides[decided] > 0)
        labelled = ~np.isnan(p_b) & ~votes.perturbed
        p_b[labelled] = [posterior.get(id, 0.5) for id in ids[labelled]]  # of ties alone: one half
    return _tidy(p_b)


@dataclass(frozen=True, slots=True)
class _Calibration:
    p_b: Floats
    applied: bool = False
    notes: tuple[str, ...] = ()


def _calibrate(votes: Votes, p_b: Floats) -> _Calibration:
    """Each half of the prompts by what the other half's gold labels teach."""
    method = votes.section.calibrate
    if method == "off":
        return _Calibration(p_b)
    found = votes.ask(
        "SELECT place, g.p_b FROM gold AS g JOIN pair ON pair.id = g.pair_id "
        "WHERE g.run_id = $run AND g.principle_id = '' ORDER BY place"
    )
    labelled = ~np.isnan(p_b) & ~votes.perturbed
    gold = np.full(len(p_b), np.nan)
    gold[found["place"]] = found["p_b"]
    second = calibrate.half(votes.column("prompt_id"))
    taught = [labelled & ~np.isnan(gold) & (second == half) for half in (False, True)]
    counts = [int(each.sum()) for each in taught]
    if min(counts) < calibrate.LEAST:
        few = f"calibrate: not applied: {counts[0]} and {counts[1]} gold labels in the two halves of the prompts"
        return _Calibration(p_b, notes=(f"{few}; {calibrate.LEAST} are needed in each",))
    new = p_b.copy()
    for half, teachers in zip((True, False), taught, strict=True):
        taken = labelled & (second == half)
        new[taken] = calibrate.fit(method, p_b[teachers], gold[teachers])(p_b[taken])
    new = _tidy(new)
    useless = "calibrate: all labels became ties: they agree with the gold labels no more often than chance"
    return _Calibration(new, True, (useless,) if labelled.any() and (new[labelled] == 0.5).all() else ())


# --- the rows


def _label_by(votes: Votes, couples: Couples, control: _Control, calibration: _Calibration) -> list[str]:
    section, rules = votes.section, Rules.of(votes.section)
    controlled = np.zeros(len(votes.pairs), dtype=bool)
    by = np.array([judge in control.judges for judge, _ in votes.names], dtype=bool)
    controlled[couples.place[by[couples.voter]]] = True
    labelled = np.zeros(len(votes.pairs), dtype=bool)
    labelled[couples.place] = True
    said = []
    for perturbed, with_control, with_label in zip(votes.perturbed, controlled, labelled, strict=True):
        parts: list[str] = [rules.aggregate if perturbed else section.aggregate]
        if with_control and not perturbed:
            parts.append(section.control)
        if calibration.applied and with_label and not perturbed:
            parts.append(section.calibrate)
        said.append(", ".join(parts))
    return said


def _table(votes: Votes, couples: Couples, p_b: Floats, label_by: list[str]) -> pa.Table:
    """The preferences with everything that follows from the votes and from `p_b`."""
    pairs, n = votes.pairs, len(votes.pairs)
    sides, label = side(couples.shifted), np.where(np.isnan(p_b), 0, side(p_b))
    cast = np.bincount(couples.place, couples.votes, n).astype(np.int64)
    expected = votes.column("votes") + votes.column("votes_missing")
    both = ~np.isnan(couples.consistent)
    dissents = sides * label[couples.place] < 0
    names = pa.array([f"{judge}/{principle}" for judge, principle in votes.names], pa.string())
    ends = np.concatenate([[0], np.cumsum(np.bincount(couples.place[dissents], minlength=n))])
    dissent = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), names.take(pa.array(couples.voter[dissents])))
    chose_a = np.nan_to_num(p_b, nan=0.5) < 0.5
    reason = _drop_reasons(votes, p_b)
    made = {
        "p_b": _nullable(p_b),
        "p_mean": _nullable(_tidy(_weighted(couples, votes.weight[couples.voter], couples.plain, n))),
        "votes": pa.array(cast),
        "votes_missing": pa.array(expected - cast),
        "consistency": _nullable(_shares(couples.place[both], couples.consistent[both], n)),
        "agreement": _nullable(_shares(couples.place, sides == label[couples.place], n)),
        "ties": pa.array(np.bincount(couples.place, sides == 0, n).astype(np.int64)),
        "dissent": dissent,
        "label_by": pa.array(label_by, pa.string()),
        "drop_reason": reason,
        "kept": pc.is_null(reason),
        "chosen_id": pc.if_else(pa.array(chose_a), pairs.column("a_id"), pairs.column("b_id")),
        "rejected_id": pc.if_else(pa.array(chose_a), pairs.column("b_id"), pairs.column("a_id")),
        "p_chosen": _nullable(np.maximum(p_b, 1 - p_b)),
    }
    return pa.table({name: made.get(name, pairs.column(name)) for name in pairs.column_names})


def _drop_reasons(votes: Votes, p_b: Floats) -> pa.Array:
    """As `label_pair` finds them; what no vote changes stays."""
    stored = votes.column("drop_reason")
    found = np.full(len(p_b), None, dtype=object)
    found[np.maximum(p_b, 1 - p_b) < 0.5 + votes.section.margin] = "margin"
    found[side(p_b) == 0] = "tie"
    found[np.isnan(p_b)] = "votes-missing"
    fixed = np.isin(stored.astype(str), FIXED_DROPS)
    found[fixed] = stored[fixed]
    return pa.array(found, pa.string())


def _relabelled(votes: Votes, table: pa.Table, label_by: str, notes: tuple[str, ...]) -> Relabelled:
    before, after = (np.nan_to_num(array(each.column("p_b")), nan=0.5) for each in (votes.pairs, table))
    was, kept = (array(each.column("kept")).astype(bool) for each in (votes.pairs, table))
    return Relabelled(
        labels=int(len(table) - table.column("p_b").null_count),
        kept=int(kept.sum()),
        turned=int((side(before) * side(after) < 0).sum()),
        gained=int((kept & ~was).sum()),
        lost=int((was & ~kept).sum()),
        label_by=label_by,
        notes=notes,
    )


# --- arrays


def _nullable(values: Floats) -> pa.Array:
    return pa.array(values, pa.float64(), mask=np.isnan(values))


def _tidy(p_b: Floats) -> Floats:
    """What is within rounding of one half is one half."""
    found: Floats = np.where(side(p_b) == 0, 0.5, np.clip(p_b, 0.0, 1.0))
    return found


def _weighted(couples: Couples, weight: Floats, values: NDArray[Any], count: int) -> Floats:
    """Weighted mean per pair; NaN where it has no couple."""
    with np.errstate(invalid="ignore"):
        found: Floats = np.bincount(couples.place, weight * values, count) / np.bincount(couples.place, weight, count)
    return found


def _shares(place: NDArray[np.int64], flags: NDArray[Any], count: int) -> Floats:
    with np.errstate(invalid="ignore"):
        found: Floats = np.bincount(place, flags, count) / np.bincount(place, minlength=count)
    return found
