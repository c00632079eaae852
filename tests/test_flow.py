"""The flow, once through a real Prefect API and otherwise as the plain function that it is."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from warehouse_rows import RUN, fill

from constitution.cli.run import PREFECT, load_flow
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


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Prefect server of the tests' own, on loopback."""
    os.environ |= PREFECT
    os.environ["PREFECT_HOME"] = str(tmp_path_factory.mktemp("prefect"))
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "principles").symlink_to(ROOT / "principles")
    (tmp_path / "flows").symlink_to(ROOT / "flows")
    rows = (json.dumps({"prompt": f"Question {n}?"}) for n in range(10))
    (tmp_path / "prompts.jsonl").write_text("\n".join(rows), encoding="utf-8")
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def test_the_flow_shows_in_prefect(prefect_api: None, recipe: Path, tmp_path: Path) -> None:
    from prefect.client.orchestration import get_client

    async def go() -> None:
        run = await load_flow(recipe)(str(recipe), str(tmp_path / "warehouse"), limit=9, overrides=["seed=3"])
        assert run.finished_at
        assert run.counts["prompts"] == 9
        assert run.recipe["seed"] == 3
        async with get_client() as client:
            [flow_run] = await client.read_flow_runs()
            tasks = sorted(task.name for task in await client.read_task_runs())
            [artifact] = await client.read_artifacts()
        assert flow_run.name.startswith("recipe 20")
        assert flow_run.parameters["limit"] == 9
        assert flow_run.state is not None
        assert flow_run.state.is_completed()
        assert [name for name in tasks if name.startswith("part-")] == ["part-0", "part-1", "part-2"]
        assert len(tasks) == 5
        assert artifact.key == "generate"
        assert f"# {run.run_id}" in str(artifact.data)
        assert "| prompts | 9 |" in str(artifact.data)
        again = await load_flow(recipe)(str(recipe), str(tmp_path / "warehouse"), limit=9, overrides=["seed=3"])
        assert again == run

    asyncio.run(go())
    [stored] = Warehouse(tmp_path / "warehouse").runs()
    assert stored.starts == 1


def test_the_audit_shows_in_prefect(prefect_api: None, tmp_path: Path) -> None:
    from prefect.client.orchestration import get_client

    spec = importlib.util.spec_from_file_location("audit", ROOT / "flows" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    warehouse = fill(tmp_path / "warehouse")

    async def go() -> None:
        out = tmp_path / "report.html"
        assert await module.audit(RUN[:6], str(warehouse.root), str(out), replicates=100) == RUN
        assert f"Audit of {RUN}" in out.read_text(encoding="utf-8")
        async with get_client() as client:
            [artifact] = [found for found in await client.read_artifacts() if found.key == "audit"]
        assert f"# Audit of {RUN}" in str(artifact.data)
        assert "Position bias | judge |" in str(artifact.data)

    asyncio.run(go())
    assert warehouse.read_figures(RUN)
