"""The labels of a whole run: those of `label_pair` where it can make them, better where they know more than it."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from relabelled import JURY, changes, relabelled, same, section, stored, table, unchanged
from votes_run import RUN, WEIGHTS, Voter, Votes, make

from constitution.labels import Rules, label_pair
from constitution.measures import aggregate, calibrate, style
from constitution.pipeline.relabel import relabel_run
from constitution.records import Annotation, Judgement
from constitution.warehouse import Warehouse

# --- what `label_pair` can make


@pytest.mark.parametrize(
    ("voters", "settings"),
    [
        (JURY, {}),
        (JURY, {"aggregate": "majority", "margin": 0.1}),
        (JURY, {"repeats": 3, "min_label_mass": 0.5}),
        ((Voter("one", method="rationale", position=0.5), Voter("two", method="rationale")), {"clamp": (0.3, 0.6)}),
        ((Voter("one", method="score"), Voter("two", method="rubric")), {"repeats": 2, "aggregate": "majority"}),
    ],
)
def test_without_more_it_makes_what_label_pair_made(
    tmp_path: Path, voters: tuple[Voter, ...], settings: dict[str, Any]
) -> None:
    warehouse = Warehouse(tmp_path)
    votes = make(warehouse, voters, section=section(**settings))
    before = stored(warehouse)
    assert {row.drop_reason for row in before.values()} >= {None, "perturbation", "identical", "empty", "cut"}
    done = relabel_run(warehouse, RUN, Rules.of(votes.section))
    assert stored(warehouse).keys() == before.keys()
    unchanged(warehouse, before.values())
    assert (done.turned, done.gained, done.lost, done.notes) == (0, 0, 0, ())
    assert done.labels == sum(row.p_b is not None for row in before.values())
    methods = sorted({voter.method for voter in voters} - {"label"})
    assert done.label_by == ", ".join([votes.section.aggregate, *methods])
    assert not Rules.of(votes.section).whole_run


def test_other_settings_make_what_label_pair_would_have_made_and_derived_columns_follow(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    votes = make(warehouse, JURY)
    before = stored(warehouse)
    done = relabelled(warehouse, aggregate="majority", margin=0.2)
    unchanged(warehouse, votes.preferences(Rules(margin=0.2, aggregate="majority")))
    after = stored(warehouse)
    assert (done.turned, done.gained, done.lost) == changes(before, after)
    assert done.lost > 0
    rows = table(warehouse, "SELECT id, kept, chosen_id, rejected_id, p_chosen, created_at IS NULL FROM preferences")
    assert len(rows) == len(after) == 200
    for id, kept, chosen, rejected, p_chosen, undated in rows:
        row = after[id]
        assert (kept, chosen, rejected, undated) == (row.kept, row.chosen_id, row.rejected_id, False)
        assert p_chosen == pytest.approx(row.p_chosen)
    relabel_run(warehouse, RUN, Rules.of(votes.section))
    unchanged(warehouse, before.values())


# --- control


@pytest.mark.parametrize("control", ["length", "style"])
def test_control_takes_the_shift_out_of_each_vote(tmp_path: Path, control: str) -> None:
    warehouse = Warehouse(tmp_path)
    votes = make(warehouse, JURY, pairs=300, section=section(control=control, aggregate="majority"))
    shifts = expected_shifts(warehouse, votes, control)
    done = relabel_run(warehouse, RUN, Rules.of(votes.section))
    after = stored(warehouse)
    assert done.notes == tuple(
        f"control: not of {name}, whose votes show no effect of {control}" for name in ("one", "two")
    )  # only the third was given one
    assert done.label_by == f"majority, {control}"
    for pair in votes.pairs:
        cast = votes.judgements[pair.id]
        probe = pair.kind == "perturbation"
        plain = label_pair(pair, cast, votes.expected[pair.id], WEIGHTS, Rules.of(votes.section))
        given = {} if probe else shifts.get(pair.id, {})
        moved = [shifted(vote, pair.b.id, given.get(vote.judge, 0.0)) for vote in cast]
        row = label_pair(pair, moved, votes.expected[pair.id], WEIGHTS, Rules.of(votes.section))
        by = f"majority, {control}" if row.votes and not probe else "majority"
        same(after[pair.id], row, label_by=by, p_mean=plain.p_mean, consistency=plain.consistency)
    assert done.turned > 0


def shifted(vote: Judgement, b_id: str, shift: float) -> Judgement:
    """The vote less the log-odds `shift` in favour of b; one that is sure is taken for log-odds of ln(1e6)."""
    p = min(max(vote.p_first, 1 / (1 + 1e6)), 1 - 1 / (1 + 1e6))
    towards_first = shift if vote.first_id == b_id else -shift
    return replace(vote, p_first=1 / (1 + np.exp(towards_first) * (1 - p) / p)) if shift else vote


def expected_shifts(warehouse: Warehouse, votes: Votes, control: str) -> dict[str, dict[str, float]]:
    """Per pair and judge, from the views."""
    names = style.CONTROLS[control]
    shifts: dict[str, dict[str, float]] = {}
    for voter in JURY:
        rows = table(
            warehouse,
            "SELECT pair_id, v.kind, avg(l_b), any_value(v.prompt_id), "
            f"{', '.join(f'any_value({name})' for name in names)} FROM training_votes AS v "
            f"JOIN style_differences AS s USING (run_id, pair_id) "
            f"WHERE judge = '{voter.name}' GROUP BY pair_id, v.kind",
        )
        kinds, odds, prompts = ([row[place] for row in rows] for place in (1, 2, 3))
        features = np.array([row[4:] for row in rows], dtype=float)
        fit = style.control(odds, features, prompts, names, strata=kinds)
        for row, shift in zip(rows, fit.shift(features), strict=True):
            shifts.setdefault(row[0], {})[voter.name] = float(shift)
    return shifts


def test_control_finds_the_truth_that_length_hid(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    votes = make(warehouse, [Voter("long", length=4.0, noise=0.3)], pairs=1500, section=section(control="length"))

    def right() -> float:
        rows = [row for row in stored(warehouse).values() if row.p_b is not None]
        return float(np.mean([(row.p_b > 0.5) == votes.better_b[row.id] for row in rows if row.p_b is not None]))

    before = right()
    relabel_run(warehouse, RUN, Rules.of(votes.section))
    assert right() > before + 0.05
    after = stored(warehouse)
    for row in votes.preferences():
        assert after[row.id].p_mean == pytest.approx(row.p_mean)


@pytest.mark.parametrize(
    ("settings", "gold", "notes"),
    [
        ({"control": "style"}, 0.0, [f"control: not of {name}, which voted on" for name in ("one", "three", "two")]),
        ({"calibrate": "isotonic"}, 0.5, ["calibrate: not applied: "]),
    ],
)
def test_what_has_too_little_to_learn_from_is_not_applied_and_it_says_so(
    tmp_path: Path, settings: dict[str, Any], gold: float, notes: list[str]
) -> None:
    warehouse = Warehouse(tmp_path)
    votes = make(warehouse, JURY, pairs=40, gold=gold)
    done = relabelled(warehouse, **settings)
    assert len(done.notes) == len(notes)
    for found, said in zip(done.notes, notes, strict=True):
        assert found.startswith(said)
        assert f"{calibrate.LEAST} are needed" in found
    assert done.label_by == "mean"
    unchanged(warehouse, votes.preferences())


# --- Dawid–Skene


def test_dawid_skene_is_of_the_order_averaged_votes_without_ties(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    votes = make(warehouse, JURY, section=section(aggregate="dawid-skene", margin=0.05))
    before = stored(warehouse)
    done = relabel_run(warehouse, RUN, Rules.of(votes.section))
    after = stored(warehouse)
    rows = table(
        warehouse,
        "SELECT pair_id, judge || '/' || principle_id, p_b > 0.5 FROM training_votes WHERE side(p_b) <> 0",
    )
    expected = aggregate.dawid_skene(*(np.array(column) for column in zip(*rows, strict=True)))
    assert done.label_by == "dawid-skene"
    checked = 0
    for id, row in after.items():
        assert row.p_mean == pytest.approx(before[id].p_mean)
        if row.kind == "perturbation":
            same(row, before[id])
        elif id in expected:
            checked += 1
            assert row.label_by == "dawid-skene"
            assert row.p_b == pytest.approx(expected[id], abs=1e-6)
            assert row.p_chosen is not None
            if row.drop_reason not in ("identical", "empty", "cut"):
                assert row.drop_reason == ("margin" if row.p_chosen < 0.55 else None)
            sides = {name: b for pair, name, b in rows if pair == id}
            prefers_b = row.chosen_id == row.b_id
            assert list(row.dissent) == sorted(name for name, b in sides.items() if b != prefers_b)
            assert row.agreement == pytest.approx(
                sum(b == prefers_b for b in sides.values()) / (len(sides) + row.ties)
            )  # fmt: skip
    assert checked > 100


def test_dawid_skene_hears_the_better_judge(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    voters = [Voter("good", sharpness=5.0), *(Voter(f"poor-{n}", sharpness=0.2, noise=2.0) for n in range(3))]
    votes = make(warehouse, voters, pairs=800, section=section(aggregate="majority"))

    def right() -> float:
        rows = [row for row in stored(warehouse).values() if row.p_b is not None and row.kind != "perturbation"]
        return float(
            np.mean([(row.p_b or 0) > 0.5 if votes.better_b[row.id] else (row.p_b or 0) < 0.5 for row in rows])
        )

    before = right()
    relabelled(warehouse, aggregate="dawid-skene")
    assert right() > before + 0.03


# --- calibration


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_each_half_is_calibrated_by_the_other(tmp_path: Path, method: calibrate.Calibration) -> None:
    warehouse = Warehouse(tmp_path)
    votes = make(warehouse, [Voter("shy", sharpness=0.3, noise=0.1)], pairs=900, gold=0.6)
    plain = stored(warehouse)
    done = relabelled(warehouse, calibrate=method)
    after = stored(warehouse)
    assert done.notes == ()
    assert done.label_by == f"mean, {method}"
    pairs = [pair for pair in votes.pairs if pair.kind != "perturbation" and plain[pair.id].p_b is not None]
    p = np.array([plain[pair.id].p_b for pair in pairs], dtype=float)
    y = np.array([np.nan if pair.gold_id is None else pair.gold_id == pair.b.id for pair in pairs], dtype=float)
    second = calibrate.half(pair.a.prompt_id for pair in pairs)
    for half in (False, True):
        taught = ~np.isnan(y) & (second != half)
        fitted = calibrate.fit(method, p[taught], y[taught])
        own = second == half
        found = [after[pair.id].p_b for pair, mine in zip(pairs, own, strict=True) if mine]
        np.testing.assert_allclose(np.array(found, dtype=float), fitted(p[own]), atol=1e-9)
    known = ~np.isnan(y)
    new = np.array([after[pair.id].p_b for pair in pairs], dtype=float)
    before, now = calibrate.ece(p[known], y[known]), calibrate.ece(new[known], y[known])
    assert before is not None
    assert now is not None
    assert now < before - 0.05
    assert now < 0.1
    for pair in votes.pairs:
        if pair.kind == "perturbation":
            same(after[pair.id], plain[pair.id])


def test_peoples_labels_teach_as_gold_ids_do(tmp_path: Path) -> None:
    one, other = Warehouse(tmp_path / "gold"), Warehouse(tmp_path / "labels")
    votes = make(one, JURY, pairs=400, gold=0.7)
    make(other, JURY, pairs=400, gold=0.0)
    same_seed = {pair.id: pair for pair in votes.pairs}
    ungolded = {id: row for id, row in stored(other).items() if row.gold_id is None}
    assert len(ungolded) == 400
    labels = [
        Annotation(
            f"label-{id}", RUN, pair.a.prompt_id, "ann", float(pair.gold_id == pair.b.id), "file.csv", pair_id=id
        )
        for id, pair in same_seed.items()
        if pair.gold_id
    ]
    other.write_annotations(RUN, labels)
    done = [relabelled(warehouse, calibrate="temperature") for warehouse in (one, other)]
    assert done[0] == done[1]
    assert {id: row.p_b for id, row in stored(one).items()} == {id: row.p_b for id, row in stored(other).items()}


def test_labels_that_gold_contradicts_become_ties_and_it_says_so(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    make(warehouse, [Voter("wrong", sharpness=-3.0)], pairs=400, gold=1.0)
    done = relabelled(warehouse, calibrate="temperature")
    assert done.notes == (
        "calibrate: all labels became ties: they agree with the gold labels no more often than chance",
    )
    assert not any(row.kept for row in stored(warehouse).values())


# --- the whole


def test_everything_at_once_twice_gives_the_same_rows(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    make(warehouse, JURY, pairs=500, gold=0.5, section=section(repeats=3))
    every = section(repeats=3, aggregate="dawid-skene", control="style", calibrate="isotonic", margin=0.02)
    first = relabel_run(warehouse, RUN, Rules.of(every))
    assert first.label_by == "dawid-skene, style, isotonic"
    assert Rules.of(every).whole_run
    rows = table(warehouse, "FROM preferences ORDER BY id")
    again = relabel_run(warehouse, RUN, Rules.of(every))
    assert table(warehouse, "FROM preferences ORDER BY id") == rows
    assert (again.turned, again.gained, again.lost, again.labels) == (0, 0, 0, first.labels)
    warehouse.compact(RUN)
    relabel_run(warehouse, RUN, Rules.of(every))
    assert table(warehouse, "FROM preferences ORDER BY id") == rows


@pytest.mark.parametrize("settings", [{"calibrate": "temperature"}, {"calibrate": "isotonic"}, {"control": "style"}])
def test_the_order_in_which_prompts_ended_changes_no_digit(tmp_path: Path, settings: dict[str, str]) -> None:
    """As it differs between a run that was killed and one that was not."""
    one, other = Warehouse(tmp_path / "one"), Warehouse(tmp_path / "other")
    for warehouse in (one, other):
        make(warehouse, JURY, 300, gold=0.9)
    rows = list(stored(other).values())
    random.Random(4).shuffle(rows)
    other.replace_rows("preferences", RUN, rows)
    for warehouse in (one, other):
        relabelled(warehouse, aggregate="dawid-skene", **settings)
    assert stored(one) == stored(other)
    assert {row.label_by for row in stored(one).values()} > {"dawid-skene"}


def test_a_run_without_votes_or_pairs(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    votes = make(warehouse, JURY, pairs=5)
    for name in ("judgements", "preferences"):
        for part in warehouse.parts(name, RUN):
            part.unlink()
    every = section(aggregate="dawid-skene", control="style", calibrate="isotonic")
    assert relabel_run(warehouse, RUN, Rules.of(every)).labels == 0
    assert stored(warehouse) == {}
    warehouse.write_part("preferences", RUN, votes.preferences())
    relabel_run(warehouse, RUN, Rules.of(every))
    assert {row.drop_reason for row in stored(warehouse).values()} <= {
        "votes-missing",
        "perturbation",
        "empty",
        "identical",
    }
