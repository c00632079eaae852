"""flows/principles.py: between what a model drafts and a run stands a person, with a Prefect server and without."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_project import small_project

from constitution.cli._flow import PREFECT
from constitution.errors import InputError
from constitution.principles import Lock
from constitution.scheduling import plainly

ROOT = Path(__file__).parents[1]
RULES = """# Rules

1. The assistant must not invent prices.
2. The assistant should answer briefly.
3. A customer is who writes to us.
"""
RECIPE = """
name = "rules"
constitution = "general@1.0.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "fake"
[revise]
rounds = 1
[judge]
principles = 1
"""


def load() -> Any:
    spec = importlib.util.spec_from_file_location("flow_principles", ROOT / "flows" / "principles.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.principles


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    recipe = small_project(tmp_path, 3, RECIPE)
    (tmp_path / "principles").unlink()  # a link to ours, and the flow writes there
    shutil.copytree(ROOT / "principles", tmp_path / "principles")
    (tmp_path / "rules.md").write_text(RULES)
    return {
        "document": str(tmp_path / "rules.md"),
        "name": "rules",
        "recipe": str(recipe),
        "warehouse": str(tmp_path / "warehouse"),
    }


def test_without_a_server_the_file_decides(settings: dict[str, Any], tmp_path: Path) -> None:
    with plainly():
        flow = load()
    with pytest.raises(InputError, match="no proposal is accepted yet"):
        asyncio.run(flow(**settings))
    assert not (tmp_path / "principles" / "rules").exists()
    assert not (tmp_path / "warehouse").exists()
    path = tmp_path / "proposals" / "rules" / "proposals.toml"
    asked = (tmp_path / "proposals" / "rules" / "replies.jsonl").read_bytes()
    path.write_text(path.read_text().replace('status = "proposed"', 'status = "accepted"', 1))
    run = asyncio.run(flow(**settings))
    assert (run.constitution, run.counts["done"]) == ("rules@1.0.0", 3)
    assert Lock.read(tmp_path / "principles").get("rules", "1.0.0") == run.constitution_digest
    assert (tmp_path / "proposals" / "rules" / "replies.jsonl").read_bytes() == asked
    assert asyncio.run(flow(**settings)).run_id == run.run_id


@pytest.fixture(scope="module")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    os.environ |= PREFECT
    os.environ["PREFECT_HOME"] = str(tmp_path_factory.mktemp("prefect"))
    from prefect.logging.configuration import setup_logging
    from prefect.testing.utilities import prefect_test_harness

    setup_logging()  # the first time it takes pytest's handlers off
    with prefect_test_harness(server_startup_timeout=180):
        from prefect.settings import PREFECT_API_URL

        yield str(PREFECT_API_URL.value())


def test_with_a_server_the_flow_run_pauses_until_it_is_resumed(
    prefect_api: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    """The artifact lists the proposals. Nothing is in principles/ before the input comes; then what it names is."""
    from prefect.client.orchestration import get_client
    from prefect.flow_runs import aresume_flow_run

    flow = load()

    async def decided() -> Any:
        work = asyncio.create_task(flow(**settings, wait=120))
        async with get_client() as client:
            while True:
                assert not work.done(), work.result()
                paused = [each for each in await client.read_flow_runs() if each.state and each.state.is_paused()]
                if paused:
                    break
                await asyncio.sleep(0.2)
            [shown] = [each for each in await client.read_artifacts() if each.key == "proposals"]
        assert "**rules-1**" in str(shown.data)
        assert not (tmp_path / "principles" / "rules").exists()
        await aresume_flow_run(paused[0].id, run_input={"accept": "rules-1"})
        return await work

    run = asyncio.run(decided())
    assert (run.constitution, run.counts["done"]) == ("rules@1.0.0", 3)
    text = (tmp_path / "principles" / "rules" / "1.0.0.toml").read_text()
    assert text.count("[[principles]]") == 1
