"""Damage to what a run's end does not need: its failures, and what is said of its answers afterwards."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import Torture
from machine import damage, project, start, stored
from scorecard_rows import COMPLIES, scores

from constitution.audit import audit
from constitution.cli.verify import verify
from constitution.errors import DamagedPart
from constitution.export import Settings, export
from constitution.records import Annotation, Counterfactual, Message, StoredClause
from constitution.warehouse import Warehouse, ask, connect
from constitution.warehouse.damage import REMEDIES

KINDS = ("flipped", "cut", "emptied", "zeroed", "deleted")
RATE = "model.policy.failure_rate"


def said(warehouse: Warehouse, run_id: str) -> None:
    """A row or more in each table of what is said afterwards."""
    with connect(warehouse.root) as connection:
        rows = list(ask(connection, "SELECT id, prompt_id FROM responses WHERE round = 0 ORDER BY id LIMIT 3").rows)
    warehouse.write_annotations(
        run_id, [Annotation(id, run_id, of, "ann", 1.0, "a.csv", response_id=id) for id, of in rows]
    )
    asked = [replace(score, run_id=run_id) for id, of in rows for score in scores(id, of, {"j": COMPLIES})]
    message = (Message("user", "How does she mend it?"),)
    swaps = [Counterfactual(f"c{id}", run_id, of, id, "gender", "he → she", message, "So.", "m") for id, of in rows]
    clause = ("md", "law#1", 0, "1", ("Law",), "", "paragraph", "Be kind.", 0, 8, None, 3)
    warehouse.write_clauses(run_id, [StoredClause("c1", run_id, "law", "0" * 64, *clause)])
    with warehouse.scoring(run_id):
        warehouse.write_part("scores", run_id, asked)
        warehouse.write_part("counterfactuals", run_id, swaps)


def counted(root: Path) -> dict[str, int]:
    with connect(root) as connection:
        return {
            table: int(next(iter(ask(connection, f"SELECT count(*) FROM {table}").rows))[0])
            for table in (*REMEDIES, "responses", "judgements", "preferences")
        }


def test_each_table_of_what_is_said_afterwards(torture: Torture, tmp_path: Path) -> None:
    """Its damage is named with what makes it again; it is quarantined, the run stays finished, all else stays."""
    chance = random.Random(f"{torture.seed}/notes")
    recipe = project(tmp_path)
    run = start(recipe, tmp_path / "w")
    warehouse = Warehouse(tmp_path / "w")
    said(warehouse, run.run_id)

    def exported(root: Path) -> object:
        return export(root, run.run_id, Settings(format="dpo"), tmp_path / "dpo", overwrite=True)

    def audited(root: Path) -> object:
        return audit(root, run.run_id, replicates=100)

    exported(warehouse.root)
    audited(warehouse.root)
    before = counted(warehouse.root)
    assert min(before.values()) > 0
    again: dict[str, Callable[[Path], object]] = {"figures": audited, "exported": exported}
    for number, table in enumerate(REMEDIES):
        for kind in KINDS if torture.full else [chance.choice(KINDS)]:
            root = tmp_path / f"{number}-{kind}"
            shutil.copytree(warehouse.root, root)
            [path] = Warehouse(root).folder(table, run.run_id).glob("*.parquet")
            damage(chance, kind, path, [])
            [found] = Warehouse(root).verify(run.run_id)
            assert (found.table, found.path) == (table, path)
            if table not in again:
                with pytest.raises(DamagedPart, match=path.name):
                    audited(root)
            told = CliRunner().invoke(verify, ["--repair", f"--warehouse={root}"])
            assert told.exit_code == 1
            assert f"{table}: {REMEDIES[table]}" in told.output
            assert counted(root) == {**before, table: 0}
            aside = [one for one in (root / "quarantine").rglob("*") if one.is_file()]
            assert [one.name for one in aside] == ([] if kind == "deleted" else [path.name])
            again.get(table, audited)(root)
            assert counted(root)[table] == (before[table] if table in again else 0)
            kept = Warehouse(root).read_run(run.run_id)
            assert kept is not None
            assert kept.finished_at == run.finished_at
            assert Warehouse(root).verify(run.run_id) == []
            torture.count("faults of the machine")


def failing(root: Path, recipe: Path) -> str:
    """A run of which requests failed, and that is open; its id."""
    run = start(recipe, root, [f"{RATE}=0.2"])
    assert not run.finished_at
    return run.run_id


def test_failures_that_are_damaged_are_tried_again(torture: Torture, tmp_path: Path) -> None:
    chance = random.Random(f"{torture.seed}/failures")
    recipe = project(tmp_path)
    start(recipe, tmp_path / "calm")
    run_id = failing(tmp_path / "w", recipe)
    rows = {table: rows for table, rows in stored(tmp_path / "calm", run_id).items() if table != "failures"}
    for kind in KINDS if torture.full else [chance.choice(KINDS)]:
        root = tmp_path / kind
        shutil.copytree(tmp_path / "w", root)
        path = chance.choice(Warehouse(root).parts("failures", run_id))
        damage(chance, kind, path, [])
        assert [one.path for one in Warehouse(root).verify(run_id)] == [path]
        assert start(recipe, root).finished_at
        assert {table: rows for table, rows in stored(root, run_id).items() if table != "failures"} == rows
        assert Warehouse(root).verify(run_id) == []
        torture.count("faults of the machine")


def test_failures_have_ids_of_their_own_when_the_record_is_gone(torture: Torture, tmp_path: Path) -> None:
    """The record counts the starts, and a start that fails like an earlier one must not write its rows again."""
    recipe, root = project(tmp_path), tmp_path / "w"
    for _ in range(3):
        run_id = failing(root, recipe)
        (root / "runs" / f"{run_id}.json").unlink()
    failing(root, recipe)
    with connect(root) as connection:
        [(ids, rows)] = ask(connection, "SELECT count(DISTINCT id), count(*) FROM failures").rows
    assert ids == rows > 0
    assert start(recipe, root).finished_at
    torture.count("faults of the machine", 3)
