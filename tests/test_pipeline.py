"""Whole runs of the fake engine, to real Parquet and DuckDB: complete, resumable, and the same whatever happens."""

from __future__ import annotations

import asyncio
import gzip
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from pipeline_run import PROMPTS, ROOT, laid_out, one, rows_of
from run_once import run_once, stop_midway
from small_project import small_project, table

from constitution.engines.identity import model_identity
from constitution.errors import WarehouseError
from constitution.pipeline import prepare
from constitution.pipeline.report import report
from constitution.recipe import TransformersModel, load_recipe
from constitution.records import Row, Run
from constitution.warehouse import Warehouse

REAL = ROOT.parent / "shared" / "data" / "hh-harmless-dev.jsonl.gz"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return laid_out(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = laid_out(tmp_path_factory.mktemp("finished"))
    run = asyncio.run(run_once(folder / "recipe.toml", folder / "warehouse", []))
    return Finished(folder, run, rows_of(folder / "warehouse", run.run_id))


class Finished(NamedTuple):
    """A run that nothing disturbed."""

    project: Path
    run: Run
    rows: dict[str, Row]


def test_a_run_end_to_end_and_it_stays_as_it_is(finished: Finished) -> None:
    warehouse, run = finished.project / "warehouse", finished.run
    assert run.finished_at
    assert run.starts == 1
    counts = run.counts
    assert (counts["prompts"], counts["done"], counts["open"], counts["lost"]) == (PROMPTS, PROMPTS, 0, 0)
    assert counts["responses"] == PROMPTS * (3 + 2)
    assert counts["preferences"] == PROMPTS * 4
    stored = rows_of(warehouse, run.run_id, failures=True)
    assert len(stored) == sum(counts[table] for table in ("responses", "judgements", "preferences", "failures"))
    assert one(warehouse, "SELECT count(*), count(*) FILTER (complete) FROM chains") == (PROMPTS, PROMPTS)
    assert one(warehouse, "SELECT count(*) FROM preferences WHERE kept") == (counts["kept"],)
    tokens = "SELECT sum(completion_tokens + coalesce(critique_completion_tokens, 0)) FROM responses"
    assert one(warehouse, f"SELECT ({tokens}) + (SELECT sum(completion_tokens) FROM judgements)") == (
        counts["completion_tokens"],
    )
    # Judgements name responses that are there, and the judge's bias is in the votes but not in the order of answers.
    assert one(warehouse, "SELECT count(*) FROM judgements j ANTI JOIN responses r ON j.first_id = r.id") == (0,)
    assert one(warehouse, "SELECT avg(p_first) > 0.55 FROM judgements") == (True,)
    assert one(warehouse, "SELECT count(agrees_with_gold) FROM pairs WHERE kind = 'given'") == (PROMPTS,)
    assert f"| prompts | {PROMPTS} |" in report(run)
    recipe = finished.project / "recipe.toml"
    again = prepare(load_recipe(recipe), recipe, warehouse)
    assert (again.finished, again.run) == (True, run)


async def test_completion_order_changes_nothing(project: Path, finished: Finished) -> None:
    settings = ["model.policy.latency_s=0.004", "model.judge.latency_s=0.001", "output.window=7", "output.slice=11"]
    wild = await run_once(project / "recipe.toml", project / "wild", settings)
    assert wild.run_id == finished.run.run_id
    assert rows_of(project / "wild", wild.run_id) == finished.rows


def test_the_run_id_is_what_decides_the_rows(project: Path) -> None:
    def run_id(*overrides: str, fresh: bool = False, root: str = "warehouse") -> str:
        path = project / "recipe.toml"
        return prepare(load_recipe(path, overrides), path, project / root, fresh).run_id

    first = run_id()
    assert first.startswith("small-")
    assert run_id("output.window=3", "model.policy.failure_rate=0.5", "description=other") == first
    assert run_id(f"prompts.path={project / 'prompts.jsonl'}") == first
    others = {
        run_id("revise.rounds=1"),
        run_id("seed=2"),
        run_id("model.judge.position_bias=0"),
        run_id("prompts.limit=3"),
        run_id('prompts.tags=["x"]'),
        run_id("constitution=general@1.1.0"),
    }
    assert len(others | {first}) == 7
    fresh = run_id(fresh=True)
    assert fresh not in {*others, first}
    assert run_id() == fresh  # without --fresh the latest resumes
    assert run_id(root="elsewhere") == first
    with (project / "prompts.jsonl").open("a", encoding="utf-8") as file:
        file.write('\n{"prompt": "One more?", "good": "a", "bad": "b"}')
    assert run_id() not in {*others, first, fresh}


def test_a_models_identity_is_its_files_and_name_and_not_what_is_written_about_it(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "constitution" / "pocket" / "model", tmp_path / "pocket")
    copy = TransformersModel(engine="transformers", model=str(tmp_path / "pocket"))
    pocket = model_identity(TransformersModel(engine="transformers", model="pocket"))
    assert model_identity(copy) == pocket
    (tmp_path / "pocket" / "measured.json").write_text("{}", encoding="utf-8")
    assert model_identity(copy) == pocket
    # Answers and votes bear the name: a run that went on under another would cast its votes a second time.
    (tmp_path / "other").symlink_to(tmp_path / "pocket")
    assert model_identity(TransformersModel(engine="transformers", model=str(tmp_path / "other"))) != pocket
    (tmp_path / "pocket" / "generation_config.json").write_text("{}", encoding="utf-8")
    assert model_identity(copy) != pocket


async def test_failures_leave_a_run_open_and_a_restart_mends_it(project: Path, finished: Finished) -> None:
    recipe, warehouse = project / "recipe.toml", project / "warehouse"
    rate = ["model.policy.failure_rate=0.05", "model.judge.failure_rate=0.05"]
    broken = await run_once(recipe, warehouse, rate)
    assert broken.finished_at is None
    assert broken.counts["open"] > 0
    assert "not finished" in report(broken)
    mended = await run_once(recipe, warehouse, [])
    assert mended.run_id == broken.run_id
    assert mended.finished_at
    assert mended.starts == 2
    assert mended.counts["open"] == 0
    assert rows_of(warehouse, mended.run_id) == finished.rows
    assert one(warehouse, "SELECT count(*), count(*) FILTER (complete) FROM chains") == (PROMPTS, PROMPTS)


async def test_cancelling_flushes_and_the_run_goes_on(project: Path, finished: Finished) -> None:
    recipe, warehouse = project / "recipe.toml", project / "warehouse"
    slow = ["model.policy.latency_s=0.02", "output.flush_seconds=60", "output.flush_rows=100000"]
    await stop_midway(recipe, warehouse, slow, prompts=10)
    [stopped] = Warehouse(warehouse).runs()
    assert stopped.finished_at is None
    part = rows_of(warehouse, stopped.run_id)
    assert part
    done = await run_once(recipe, warehouse, [])
    whole = rows_of(warehouse, done.run_id)
    assert whole == finished.rows
    assert {id: whole[id] for id in part} == part


def kills(recipe: Path, warehouse: Path) -> Iterator[int]:
    """Starts the run again and again and kills it at a random moment, until it ends before it is killed."""
    generator = random.Random(5)
    command = [sys.executable, str(Path(__file__).parent / "run_once.py"), str(recipe), str(warehouse)]
    slow = ["model.policy.latency_s=0.01", "model.judge.latency_s=0.01", "output.window=8"]
    for number in range(40):
        with subprocess.Popen([*command, *slow], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(generator.uniform(0.0, 0.25))
            process.send_signal(signal.SIGKILL)
            if process.wait() == 0:
                return
        yield number


async def test_killed_at_any_point_a_run_ends_with_the_same_rows(project: Path, finished: Finished) -> None:
    recipe, warehouse = project / "recipe.toml", project / "warehouse"
    killed = 0
    for _ in kills(recipe, warehouse):
        killed += 1
        if killed == 4:
            break
    assert killed == 4
    done = await run_once(recipe, warehouse, [])
    assert done.run_id == finished.run.run_id
    assert rows_of(warehouse, done.run_id) == finished.rows
    ignored = ("starts", "seconds", "started_at", "finished_at")
    assert {name: count for name, count in done.counts.items() if name not in ignored} == finished.run.counts


async def test_a_start_killed_among_its_prompts_leaves_none_of_another_slicing(project: Path) -> None:
    path, warehouse = project / "recipe.toml", project / "warehouse"
    begun = prepare(load_recipe(path, ["output.slice=5"]), path, warehouse)
    (warehouse / "runs" / f"{begun.run_id}.json").unlink()  # the record is written last
    run = await run_once(path, warehouse, [])
    assert run.run_id == begun.run_id
    assert one(warehouse, "SELECT count(*), count(DISTINCT id) FROM prompts") == (PROMPTS, PROMPTS)


async def test_a_model_that_changed_between_two_starts_is_told(project: Path) -> None:
    path, warehouse = project / "recipe.toml", project / "warehouse"
    broken = await run_once(path, warehouse, ["model.policy.failure_rate=0.5"])
    older = {"name": "fake", "engine": "fake", "digest": "of other weights"}
    Warehouse(warehouse).write_run(replace(broken, models={**broken.models, "policy": older}))
    mended = await run_once(path, warehouse, ["model.policy.failure_rate=0.2"])
    assert mended.models == {**broken.models, "policy until start 1": older}
    assert (await run_once(path, warehouse, [])).models == mended.models
    assert "policy until start 1: fake" in report(mended)


async def test_a_lost_record_doubles_no_row_and_loses_no_usage(project: Path, finished: Finished) -> None:
    path, warehouse = project / "recipe.toml", project / "warehouse"
    run = await run_once(path, warehouse, [])
    (warehouse / "runs" / f"{run.run_id}.json").unlink()
    again = await run_once(path, warehouse, [])
    assert (again.counts, again.usage, again.cost) == (run.counts, run.usage, run.cost)
    assert rows_of(warehouse, run.run_id) == finished.rows


async def test_a_run_that_another_process_just_finished_is_not_prepared_again(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, warehouse = project / "recipe.toml", project / "warehouse"
    run = await run_once(path, warehouse, [])
    read, seen = Warehouse.read_run, []

    def late(store: Warehouse, run_id: str) -> Run | None:
        """What a process sees that looked just before the run was there."""
        seen.append(run_id)
        return None if len(seen) == 1 else read(store, run_id)

    monkeypatch.setattr(Warehouse, "read_run", late)
    assert prepare(load_recipe(path), path, warehouse).run == run


@pytest.mark.skipif(not REAL.exists(), reason="the HH-RLHF sample is not here")
async def test_real_transcripts_are_all_worked(project: Path) -> None:
    settings = ["model.policy={engine='fake'}", f"prompts.path={REAL}", "judge.principles=1"]
    run = await run_once(ROOT / "recipes" / "hh-harmless.toml", project / "warehouse", settings)
    assert run.finished_at
    with gzip.open(REAL, "rt", encoding="utf-8") as handle:
        assert run.counts["prompts"] == sum(1 for _ in handle) == 1163
    complete = "SELECT count(*), count(*) FILTER (complete), count(DISTINCT prompt_id) FROM chains"
    assert one(project / "warehouse", complete) == (1163, 1163, 1163)
    aligned = "SELECT count(gold_id) FROM pairs WHERE kind = 'given'"
    assert one(project / "warehouse", aligned) == (1163,)


async def test_labels_that_take_the_whole_run_are_made_at_its_end(tmp_path: Path) -> None:
    """By the recipe, and again by a restart, with the same rows."""
    recipe = small_project(tmp_path, 60)
    settings = ["judge.aggregate=dawid-skene", "judge.control=length", "judge.principles=3"]
    settings += ["model.judge.length_bias=20", "model.policy.verbosity=6"]
    run = await run_once(recipe, tmp_path / "warehouse", settings)
    made = "SELECT id, p_b, p_mean, label_by, kept FROM preferences ORDER BY id"
    first = table(tmp_path / "warehouse", made)
    labelled = [row for row in first if row[1] is not None]
    assert labelled
    assert {row[3] for row in labelled} == {"dawid-skene, length"}
    assert any(row[1] != row[2] for row in labelled)
    assert run.labels["applied"] == "dawid-skene, length"
    assert run.counts["kept"] == sum(row[4] for row in first)
    again = await run_once(recipe, tmp_path / "warehouse", settings)
    assert table(tmp_path / "warehouse", made) == first
    assert again.counts["kept"] == run.counts["kept"]


async def test_a_run_whose_views_could_not_be_made_is_not_finished(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing takes a finished run up again, so its record is the last to be written."""

    def full(self: Warehouse) -> Path:
        raise WarehouseError("no space left")

    recipe, root = project / "recipe.toml", project / "warehouse"
    with monkeypatch.context() as patch:
        patch.setattr(Warehouse, "rebuild_views", full)
        with pytest.raises(WarehouseError, match="no space left"):
            await run_once(recipe, root, [])
    assert not (root / "warehouse.duckdb").exists()
    assert [run.finished_at for run in Warehouse(root).runs()] == [None]
    done = await run_once(recipe, root, [])
    assert done.finished_at
    assert (root / "warehouse.duckdb").exists()
