"""The flows on a real Prefect API; that they run as plain functions, every other test of whole runs shows."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_project import small_project
from warehouse_rows import RUN, fill

from constitution.cli._flow import PREFECT, load_flow
from constitution.errors import InputError, NotFinished, RecipeError
from constitution.records import Run
from constitution.warehouse import Warehouse

ROOT = Path(__file__).parents[1]
RECIPE = """
name = "flow"
constitution = "general@1.0.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "fake"
[revise]
rounds = 1
[judge]
principles = 1
[output]
slice = 4
"""


@pytest.fixture(scope="module")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prefect server of the tests' own, on loopback; it takes time while it idles, so it ends here."""
    os.environ |= PREFECT
    os.environ["PREFECT_HOME"] = str(tmp_path_factory.mktemp("prefect"))
    from prefect.logging.configuration import setup_logging
    from prefect.testing.utilities import prefect_test_harness

    setup_logging()  # the first time it takes pytest's handlers off
    with prefect_test_harness(server_startup_timeout=180):
        from prefect.settings import PREFECT_API_URL

        yield str(PREFECT_API_URL.value())


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "flows").symlink_to(ROOT / "flows")
    return small_project(tmp_path, 10, RECIPE)


def read(ask: str, **filters: Any) -> list[Any]:
    """What Prefect's server has: flow_runs, task_runs, artifacts."""
    from prefect.client.orchestration import get_client

    async def go() -> list[Any]:
        async with get_client() as client:
            return list(await getattr(client, f"read_{ask}")(**filters))

    return asyncio.run(go())


def flow(name: str, file: str = "") -> Any:
    """file: that it is in, where that is not its own."""
    spec = importlib.util.spec_from_file_location(f"flow_{name}", ROOT / "flows" / f"{file or name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def test_a_run_shows_in_prefect(
    prefect_api: str, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its name, tags, tasks, state, artifacts, and a line in the log now and then; run again, it stays as it is."""
    from constitution.scheduling import on_prefect

    monkeypatch.setattr(on_prefect, "EVERY", 0.05)
    settings: dict[str, Any] = {"limit": 9, "overrides": ["seed=3", "model.policy.latency_s=0.2"]}

    def run() -> Run:
        done: Run = asyncio.run(load_flow(None, recipe, prefect=True)(str(recipe), str(tmp_path / "w"), **settings))
        return done

    with caplog.at_level("INFO"):
        done = run()
    assert (done.counts["prompts"], done.recipe["seed"]) == (9, 3)
    [flow_run] = read("flow_runs")
    assert flow_run.name.startswith("recipe 20")
    assert flow_run.parameters["limit"] == 9
    assert flow_run.state.is_completed()
    assert flow_run.state.message == f"{done.run_id}: 9 of 9 prompts, 9 preferences"
    assert flow_run.tags == [done.run_id]
    tasks = sorted(task.name for task in read("task_runs"))
    assert ([name for name in tasks if name.startswith("part-")], len(tasks)) == (["part-0", "part-1", "part-2"], 5)
    artifacts = {each.key: each for each in read("artifacts")}
    assert artifacts.keys() == {"generate", "progress"}
    assert f"# {done.run_id}" in str(artifacts["generate"].data)
    assert "| prompts | 9 |" in str(artifacts["generate"].data)
    assert artifacts["progress"].data == 100.0
    lines = [line for line in caplog.messages if line.startswith(f"{done.run_id}: ")]
    assert lines[0] == f"{done.run_id}: begins, 9 prompts, 0 of them done before"
    assert re.fullmatch(rf"{done.run_id}: \d+/9 prompts · \S+/s · \S+ tokens/s · 0 failures · \S+ left", lines[1])
    assert lines[-1] == flow_run.state.message
    assert run() == done
    [stored] = Warehouse(tmp_path / "w").runs()
    assert stored.starts == 1


def test_a_state_says_how_a_run_ended() -> None:
    """As docs/recipes.md lists them; the command's exit code is 0 for Completed alone."""
    from constitution.scheduling.on_prefect import state_of, usable

    def of(finished: bool, stopped: str = "", **counts: int) -> Run:
        run = Run("r-1", {}, "general@1.0.0", "", {}, {}, "", {}, "2026-01-01T00:00:00+00:00", counts=counts)
        return replace(run, finished_at="2026-01-01T01:00:00+00:00" if finished else None, stopped=stopped)

    done, lossy = of(True, prompts=10, done=10, preferences=9), of(True, prompts=10, done=10, lost=2, preferences=9)
    lost, left = of(True, prompts=10, done=10, lost=10), of(False, prompts=10, done=10, open=3, preferences=7)
    spent = of(False, "budget: 1 of 1 USD spent", prompts=10, done=4, preferences=4)
    states = [state_of(run) for run in (done, lossy, lost, left, spent)]
    assert [(state.type.value, state.name) for state in states] == [
        ("COMPLETED", "Completed"),
        ("COMPLETED", "CompletedWithFailures"),
        ("FAILED", "Failed"),
        ("FAILED", "Failed"),
        ("FAILED", "BudgetSpent"),
    ]
    assert [usable(run) for run in (done, lossy, lost, left, spent)] == [True, True, False, False, False]
    assert states[1].message == "r-1: 8 of 10 prompts, 2 failed for good, 9 preferences"
    assert states[3].message == "r-1: 7 of 10 prompts, 3 to be tried again, 7 preferences"
    assert str(states[4].message).endswith("4 preferences. Stopped by its budget: 1 of 1 USD spent")


def test_a_fault_of_a_person_has_no_traceback_in_the_log(
    prefect_api: str, recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe.write_text(RECIPE.replace("rounds = 1", "rounds = -1"), encoding="utf-8")
    with caplog.at_level("INFO"), pytest.raises(RecipeError):
        asyncio.run(load_flow(None, recipe, prefect=True)(str(recipe), str(tmp_path / "w")))
    said = [line for line in caplog.records if line.levelname == "ERROR" and line.name == "prefect.flow_runs"]
    [ours] = [line.getMessage() for line in said if "Finished in state" not in line.getMessage()]
    assert ours.startswith(f"{recipe}: revise.rounds")
    assert not any(line.exc_info for line in caplog.records)


def test_every_parameter_is_described() -> None:
    from prefect.utilities.callables import parameter_schema

    flows = {name: flow(name) for name in ("generate", "audit", "export", "scale")} | {"shard": flow("shard", "scale")}
    for name, each in flows.items():
        schema = parameter_schema(each).model_dump()
        for section in (schema, *schema["definitions"].values()):
            bare = [field for field, about in section["properties"].items() if not about.get("description")]
            assert not bare, (name, bare)


def test_the_command_goes_by_the_server_that_it_is_told(prefect_api: str, recipe: Path, tmp_path: Path) -> None:
    before = len(read("flow_runs"))
    words = ["run", str(recipe), "--warehouse", str(tmp_path / "w"), "--limit", "2"]
    fails = ["--set", "model.policy.failure_rate=1.0"]
    cases = [
        (fails, 1, "prompts to be tried again"),
        ([], 0, "  finished"),
        ([], 0, "Nothing to do: this run finished"),
    ]
    for more, code, said in cases:
        done = subprocess.run(
            [sys.executable, "-c", "from constitution.cli import main; main()", *words, *more],
            env=os.environ | {"PREFECT_API_URL": prefect_api, "PREFECT_HOME": str(tmp_path / "prefect")},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr, said in done.stdout) == (code, "", True), done.stdout
    [run] = Warehouse(tmp_path / "w").runs()
    assert run.starts == 2
    assert len(read("flow_runs")) == before + 3
    assert not (tmp_path / "prefect" / "prefect.db").exists()  # no server beside it


def test_shards_show_in_prefect(
    prefect_api: str, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In threads; a shard that is not at its end is tried again, and one flow can work a shard of another's run. Other
    runners, and kills of all of them, are in tests/torture."""
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.objects import StateType

    from constitution.scheduling import shards

    monkeypatch.setattr(shards, "DELAY", 0.1)
    monkeypatch.setattr(shards, "POLL", 0.2)
    slow = ["output.slice=2", "model.policy.latency_s=0.1"]

    def run(runner: str, **settings: Any) -> Any:
        spread = {"shards": 3, "runner": runner, "restarts": 1}
        return asyncio.run(flow("scale")(str(recipe), str(tmp_path / "w"), spread, **settings))

    with pytest.raises(NotFinished, match=r"0 of 10 prompts, 10 to be tried again") as caught:
        run("thread", overrides=[*slow, "model.policy.failure_rate=1.0"])
    assert caught.value.run.shards == 3
    [run_id] = [each.run_id for each in Warehouse(tmp_path / "w").runs()]
    of_flow = {"flow_run_filter": FlowRunFilter.model_validate({"tags": {"all_": [run_id]}})}
    of_shards = [each for each in read("task_runs", **of_flow) if each.name.startswith("shard ")]
    assert sorted(each.name for each in of_shards) == ["shard 1/3", "shard 2/3", "shard 3/3"]
    assert {(each.state.name, each.run_count) for each in of_shards} == {("Unfinished", 2)}
    alone = asyncio.run(flow("shard", "scale")(str(recipe), 2, 3, str(tmp_path / "w"), overrides=slow))
    assert (alone["shard"], alone["done"], alone["finished"]) == ("2/3", True, None)
    done = run("thread", overrides=slow)
    assert (done.run_id, done.counts["preferences"], done.finished_at is None) == (run_id, 10, False)
    assert Warehouse(tmp_path / "w").verify(run_id) == []
    of_shards = [each.name for each in read("task_runs", **of_flow) if each.state_type == StateType.COMPLETED]
    assert sorted(name for name in of_shards if name.startswith("shard ")) == ["shard 1/3", "shard 3/3"]
    assert any(each.name.startswith("recipe 2/3 20") for each in read("flow_runs"))
    assert run("process") == done  # there is nothing to do, in no process either
    monkeypatch.setitem(sys.modules, "prefect_dask", None)
    with pytest.raises(InputError, match=r"dask: .* is not installed"):
        run("dask", fresh=True)
    with pytest.raises(InputError, match="shard/none: Prefect has no such deployment"):
        run("shard/none", fresh=True)


def test_the_audit_and_the_export_show_in_prefect(prefect_api: str, tmp_path: Path) -> None:
    warehouse = fill(tmp_path / "w")
    page, out = tmp_path / "report.html", tmp_path / "sft"
    scorecard = {"recipe": str(ROOT / "recipes" / "fake.toml"), "sample": 2, "tags": {"looks-harmful": ["mine"]}}
    work = flow("audit")(RUN[:6], str(warehouse.root), str(page), replicates=100, scorecard=scorecard)
    assert asyncio.run(work) == RUN
    assert f"Audit of {RUN}" in page.read_text(encoding="utf-8")
    figures = warehouse.read_figures(RUN)
    assert any(figure.figure == "scorecard_refusal" for figure in figures)
    assert any(figure.subject == "looks-harmful=mine" for figure in figures)
    settings = {"format": "sft", "cleaning": {"dedupe": "off"}}
    for _ in range(2):  # a scheduled export takes the place of the one before
        assert asyncio.run(flow("export")(settings, str(out), warehouse=str(warehouse.root))) == RUN
    counts = json.loads((out / "manifest.json").read_text(encoding="utf-8"))["counts"]
    artifacts = {each.key: str(each.data) for each in read("artifacts")}
    assert f"# Audit of {RUN}" in artifacts["audit"]
    assert "Position bias | judge |" in artifacts["audit"]
    assert f"| candidates | {counts['candidates']} |" in artifacts["export"]
