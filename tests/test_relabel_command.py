"""`constitution relabel`, a kill in its midst, and a whole run with a jury."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from relabelled import JURY, changes, relabelled, stored, table, unchanged
from run_once import run_once
from small_project import small_project
from votes_run import RUN, make

from constitution.cli import app
from constitution.errors import InputError, RunLocked, WarehouseError
from constitution.labels import Rules
from constitution.pipeline.relabel import relabel_run
from constitution.recipe import JudgeSection
from constitution.warehouse import Warehouse, files

# --- constitution relabel


def label(warehouse: Warehouse, *words: str) -> Result:
    return CliRunner().invoke(app, ["relabel", *words, "--warehouse", str(warehouse.root)])


def test_the_command_makes_labels_again_and_says_what_changed(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    votes = make(warehouse, JURY, pairs=300, gold=0.8)
    before = stored(warehouse)
    done = label(warehouse, "votes-", "--aggregate", "majority", "--calibrate", "temperature", "--margin", "0.1")
    assert done.exit_code == 0, done.output
    after = stored(warehouse)
    turned, gained, lost = changes(before, after)
    kept = sum(row.kept for row in after.values())
    assert lost > 0
    labels = sum(row.p_b is not None for row in after.values())
    assert done.output.splitlines() == [
        f"{RUN}: {labels} labels by majority, temperature, {kept} kept",
        f"  {turned} prefer the other answer now · {gained} kept now · {lost} dropped now",
    ]
    run = warehouse.read_run(RUN)
    assert run is not None
    assert run.counts["kept"] == kept
    assert {name: run.labels[name] for name in ("aggregate", "control", "calibrate", "margin", "applied", "notes")} == {
        "aggregate": "majority",
        "control": "off",
        "calibrate": "temperature",
        "margin": 0.1,
        "applied": "majority, temperature",
        "notes": [],
    }
    assert run.recipe["judge"] == votes.section.model_dump(mode="json"), "what was run stays what was run"
    assert label(warehouse, RUN).exit_code == 0
    unchanged(warehouse, before.values())
    assert "control: not of one, whose votes show no effect" in label(warehouse, RUN, "--control", "style").output


def test_what_the_command_refuses(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "warehouse")
    missing = label(warehouse, RUN)
    assert isinstance(missing.exception, WarehouseError)
    make(warehouse, JURY, pairs=20)
    rows = table(warehouse, "FROM preferences ORDER BY id")
    assert isinstance(label(warehouse, "other").exception, InputError)
    assert label(warehouse, RUN, "--margin", "0.7").exit_code == 2
    run = warehouse.read_run(RUN)
    assert run is not None
    with warehouse.lock(RUN):
        assert isinstance(label(warehouse, RUN).exception, RunLocked)
    warehouse.write_run(replace(run, finished_at=None))
    assert "not finished" in str(label(warehouse, RUN).exception)
    warehouse.write_run(replace(run, recipe={"name": "votes", "judge": None}))
    assert "no votes" in str(label(warehouse, RUN).exception)
    assert table(warehouse, "FROM preferences ORDER BY id") == rows


def test_a_kill_while_the_rows_are_replaced_leaves_the_old_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = Warehouse(tmp_path)
    make(warehouse, JURY, pairs=100)
    before = stored(warehouse)
    for step, now in (("exchange", False), ("remove_tree", True)):
        with monkeypatch.context() as patch:
            calls = [0]

            def killed(*arguments: Any, step: str = step, calls: list[int] = calls) -> None:
                calls[0] += 1
                if step == "exchange" or calls[0] > 1:  # the first removal clears the way
                    raise KeyboardInterrupt

            patch.setattr(files, step, killed)
            with pytest.raises(KeyboardInterrupt):
                relabelled(warehouse, aggregate="majority", margin=0.3)
        assert (stored(warehouse) != before) is now
        assert len(table(warehouse, "FROM preferences")) == 100
        with warehouse.lock(RUN):
            warehouse.recover(RUN)
        assert (stored(warehouse) != before) is now
        assert not list((tmp_path / "preferences").glob(".*"))


# --- a run of the pipeline


async def test_a_jurys_run_is_relabelled_to_the_labels_it_made_and_then_to_others(tmp_path: Path) -> None:
    recipe = small_project(tmp_path, 150, JURY_RECIPE)
    warehouse = Warehouse(tmp_path / "warehouse")
    run = await run_once(recipe, warehouse.root, [])
    assert run.finished_at
    rows = table(warehouse, "SELECT * EXCLUDE dissent, list_sort(dissent) FROM preferences ORDER BY id")
    by_id = {row[1]: row for row in rows}
    own = JudgeSection.model_validate(run.recipe["judge"])
    done = relabel_run(warehouse, run.run_id, Rules.of(own))
    assert (done.turned, done.gained, done.lost, done.kept) == (0, 0, 0, run.counts["kept"])
    for row in table(warehouse, "SELECT * EXCLUDE dissent, list_sort(dissent) FROM preferences ORDER BY id"):
        for value, before in zip(row, by_id[row[1]], strict=True):
            assert value == (pytest.approx(before, abs=1e-9) if isinstance(before, float) else before)
    every = JudgeSection.model_validate(
        own.model_dump() | {"aggregate": "dawid-skene", "control": "style", "calibrate": "temperature"}
    )
    done = relabel_run(warehouse, run.run_id, Rules.of(every))
    assert [note.split(",")[0] for note in done.notes if "not applied" in note or "not of" in note] == [
        "control: not of one",
        "control: not of weak",
    ]  # the second prefers what is longer
    assert done.label_by == "dawid-skene, style, temperature"
    assert {row[0] for row in table(warehouse, "SELECT DISTINCT kind FROM preferences WHERE label_by = 'mean'")} == {
        "perturbation"
    }
    probes = "SELECT id, p_b = p_mean FROM preferences WHERE kind = 'perturbation' AND p_b IS NOT NULL"
    assert {same for _, same in table(warehouse, probes)} == {True}


JURY_RECIPE = """
name = "jury"
constitution = "general@1.1.0"
[prompts]
path = "prompts.jsonl"
answers = ["good", "bad"]
gold = "good"
[model.policy]
engine = "fake"
verbosity = 6
[model.jury.one]
engine = "fake"
position_bias = 0.5
[model.jury.two]
engine = "fake"
model = "second"
length_bias = 20.0
[model.jury.weak]
engine = "fake"
model = "third"
failure_rate = 0.5
[revise]
rounds = 1
[judge]
principles = 3
pairs = ["first-last", "given"]
margin = 0.02
[perturb]
share = 0.5
[output]
flush_seconds = 0.05
"""
