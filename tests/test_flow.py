"""The flow, once through a real Prefect API and otherwise as the plain function that it is."""

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
from warehouse_rows import RUN, fill

from constitution.cli._flow import PREFECT, load_flow
from constitution.errors import InputError, RecipeError
from constitution.pipeline import prepare
from constitution.recipe import load_recipe
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
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        from prefect.settings import PREFECT_API_URL

        yield str(PREFECT_API_URL.value())


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "principles").symlink_to(ROOT / "principles")
    (tmp_path / "flows").symlink_to(ROOT / "flows")
    rows = (json.dumps({"prompt": f"Question {n}?"}) for n in range(10))
    (tmp_path / "prompts.jsonl").write_text("\n".join(rows), encoding="utf-8")
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def test_the_flow_shows_in_prefect(
    prefect_api: str, recipe: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from prefect.client.orchestration import get_client

    outside = tmp_path_factory.mktemp("outside")
    (tmp_path / "prompts.jsonl").rename(outside / "prompts.jsonl")
    recipe.write_text(RECIPE.replace("prompts.jsonl", f"{outside}/prompts.jsonl"), encoding="utf-8")
    settings: dict[str, Any] = {"limit": 9, "overrides": ["seed=3"], "allow": [str(outside)]}

    async def go() -> None:
        run = await load_flow(None, recipe, prefect=True)(str(recipe), str(tmp_path / "warehouse"), **settings)
        assert run.finished_at
        assert run.counts["prompts"] == 9
        assert run.recipe["seed"] == 3
        async with get_client() as client:
            [flow_run] = await client.read_flow_runs()
            tasks = sorted(task.name for task in await client.read_task_runs())
            artifacts = {each.key: each for each in await client.read_artifacts()}
        assert flow_run.name.startswith("recipe 20")
        assert flow_run.parameters["limit"] == 9
        assert flow_run.state is not None
        assert flow_run.state.is_completed()
        assert [name for name in tasks if name.startswith("part-")] == ["part-0", "part-1", "part-2"]
        assert len(tasks) == 5
        assert flow_run.state.message == f"{run.run_id}: 9 of 9 prompts, 9 preferences"
        assert flow_run.tags == [run.run_id]
        assert artifacts.keys() == {"generate", "progress"}
        assert f"# {run.run_id}" in str(artifacts["generate"].data)
        assert "| prompts | 9 |" in str(artifacts["generate"].data)
        assert artifacts["progress"].data == 100.0
        again = await load_flow(None, recipe, prefect=True)(str(recipe), str(tmp_path / "warehouse"), **settings)
        assert again == run

    asyncio.run(go())
    [stored] = Warehouse(tmp_path / "warehouse").runs()
    assert stored.starts == 1


def run_of(**counts: int) -> Run:
    return Run("r-1", {}, "general@1.0.0", "", {}, {}, "", {}, "2026-01-01T00:00:00+00:00", counts=counts)


def test_a_state_says_how_a_run_ended() -> None:
    """As docs/recipes.md lists them; the command's exit code is 0 for Completed alone."""
    from constitution.scheduling.on_prefect import state_of, usable

    done = replace(run_of(prompts=10, done=10, preferences=9), finished_at="2026-01-01T01:00:00+00:00")
    lossy = replace(done, counts={**done.counts, "lost": 2})
    lost = replace(done, counts={**done.counts, "lost": 10, "preferences": 0})
    left = run_of(prompts=10, done=10, open=3, preferences=7)
    spent = replace(run_of(prompts=10, done=4, preferences=4), stopped="budget: 1 of 1 USD spent")
    found = [(str(state.type), state.name) for state in map(state_of, (done, lossy, lost, left, spent))]
    assert found == [
        ("StateType.COMPLETED", "Completed"),
        ("StateType.COMPLETED", "CompletedWithFailures"),
        ("StateType.FAILED", "Failed"),
        ("StateType.FAILED", "Failed"),
        ("StateType.FAILED", "BudgetSpent"),
    ]
    assert [usable(run) for run in (done, lossy, lost, left, spent)] == [True, True, False, False, False]
    assert state_of(lossy).message == "r-1: 8 of 10 prompts, 2 failed for good, 9 preferences"
    assert state_of(left).message == "r-1: 7 of 10 prompts, 3 to be tried again, 7 preferences"
    assert str(state_of(spent).message).endswith("4 preferences. Stopped by its budget: 1 of 1 USD spent")


def test_the_log_has_a_line_now_and_then(
    prefect_api: str, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from constitution.scheduling import on_prefect

    monkeypatch.setattr(on_prefect, "EVERY", 0.05)
    settings: dict[str, Any] = {"overrides": ["model.policy.latency_s=0.2"]}
    with caplog.at_level("INFO"):
        run = asyncio.run(load_flow(None, recipe, prefect=True)(str(recipe), str(tmp_path / "warehouse"), **settings))
    lines = [line for line in caplog.messages if line.startswith(f"{run.run_id}: ")]
    assert lines[0] == f"{run.run_id}: begins, 10 prompts, 0 of them done before"
    assert re.fullmatch(rf"{run.run_id}: \d+/10 prompts · \S+/s · \S+ tokens/s · 0 failures · \S+ left", lines[1])
    assert lines[-1] == f"{run.run_id}: 10 of 10 prompts, 10 preferences"


def test_a_fault_of_a_person_has_no_traceback_in_the_log(
    prefect_api: str, recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe.write_text(RECIPE.replace("rounds = 1", "rounds = -1"), encoding="utf-8")
    with caplog.at_level("INFO"), pytest.raises(RecipeError):
        asyncio.run(load_flow(None, recipe, prefect=True)(str(recipe), str(tmp_path / "warehouse")))
    told = [line for line in caplog.records if line.levelname == "ERROR" and "rounds" in line.getMessage()]
    [ours] = [
        line for line in told if "Finished in state" not in line.getMessage() and line.name == "prefect.flow_runs"
    ]
    assert ours.getMessage().startswith(f"{recipe}: revise.rounds")
    assert not any(line.exc_info for line in caplog.records)


def test_a_retry_resumes_the_run_that_it_began(recipe: Path, tmp_path: Path) -> None:
    """Whatever other runs of the same recipe there are by then, and although it asked for a new one."""
    warehouse = tmp_path / "warehouse"
    first = prepare(load_recipe(recipe), recipe, warehouse)
    second = prepare(load_recipe(recipe), recipe, warehouse, fresh=True)
    assert first.run_id != second.run_id
    for run_id in (first.run_id, second.run_id):
        assert prepare(load_recipe(recipe), recipe, warehouse, fresh=True, resume=run_id).run_id == run_id
    assert prepare(load_recipe(recipe), recipe, warehouse).run_id == second.run_id
    with pytest.raises(InputError, match="of-another-recipe: there is no such run"):
        prepare(load_recipe(recipe), recipe, warehouse, fresh=True, resume="of-another-recipe")
    with pytest.raises(RecipeError, match="was made by a recipe, a constitution or a model that says something else"):
        prepare(load_recipe(recipe, ["seed=2"]), recipe, warehouse, resume=first.run_id)
    assert len(Warehouse(warehouse).runs()) == 2


def test_every_parameter_is_described() -> None:
    from prefect.utilities.callables import parameter_schema

    for name in ("generate", "audit", "export"):
        schema = parameter_schema(getattr(flow_module(name), name)).model_dump()
        for section in (schema, *schema["definitions"].values()):
            bare = [field for field, one in section["properties"].items() if not one.get("description")]
            assert not bare, (name, bare)


def test_the_command_goes_by_the_server_that_it_is_told(prefect_api: str, recipe: Path, tmp_path: Path) -> None:
    def command(*more: str) -> tuple[int, str]:
        words = ["run", str(recipe), "--warehouse", str(tmp_path / "warehouse"), "--limit", "2", *more]
        done = subprocess.run(
            [sys.executable, "-c", "from constitution.cli import main; main()", *words],
            env=os.environ | {"PREFECT_API_URL": prefect_api, "PREFECT_HOME": str(tmp_path / "prefect")},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.stderr == ""
        return done.returncode, done.stdout

    failed, told = command("--set", "model.policy.failure_rate=1.0")
    assert failed == 1
    assert "not finished" in told
    assert "prompts to be tried again" in told
    mended, told = command()
    assert mended == 0
    assert "Nothing to do" not in told
    again, told = command()
    assert again == 0
    assert "Nothing to do: this run finished on " in told
    [run] = Warehouse(tmp_path / "warehouse").runs()
    assert run.starts == 2
    assert not (tmp_path / "prefect" / "prefect.db").exists()  # no server of its own


def flow_module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"flow_{name}", ROOT / "flows" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_audit_shows_in_prefect(prefect_api: str, tmp_path: Path) -> None:
    from prefect.client.orchestration import get_client

    module = flow_module("audit")
    warehouse = fill(tmp_path / "warehouse")

    async def go() -> None:
        out = tmp_path / "report.html"
        scorecard = {"recipe": str(ROOT / "recipes" / "fake.toml"), "sample": 2, "tags": {"looks-harmful": ["mine"]}}
        done = await module.audit(RUN[:6], str(warehouse.root), str(out), replicates=100, scorecard=scorecard)
        assert done == RUN
        assert f"Audit of {RUN}" in out.read_text(encoding="utf-8")
        async with get_client() as client:
            [artifact] = [found for found in await client.read_artifacts() if found.key == "audit"]
        assert f"# Audit of {RUN}" in str(artifact.data)
        assert "Position bias | judge |" in str(artifact.data)

    asyncio.run(go())
    made = warehouse.read_figures(RUN)
    assert any(figure.figure == "scorecard_refusal" for figure in made)
    assert any(figure.subject == "looks-harmful=mine" for figure in made)


def test_the_export_shows_in_prefect(prefect_api: str, tmp_path: Path) -> None:
    from prefect.client.orchestration import get_client

    module = flow_module("export")
    warehouse = fill(tmp_path / "warehouse")

    async def go() -> None:
        out = tmp_path / "sft"
        settings = {"format": "sft", "cleaning": {"dedupe": "off"}}
        for _ in range(2):  # a scheduled export takes the place of the one before
            assert await module.export(settings, str(out), warehouse=str(warehouse.root)) == RUN
        counts = json.loads((out / "manifest.json").read_text(encoding="utf-8"))["counts"]
        async with get_client() as client:
            found = [each for each in await client.read_artifacts() if each.key == "export"]
        assert f"| candidates | {counts['candidates']} |" in str(found[-1].data)

    asyncio.run(go())
