"""A run in shards under Prefect, on Ray, on Dask and by two workers of a pool, while all of them are killed: no row is
lost or doubled, and all are those of an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from conftest import Torture
from shard_runs import same, whole

from constitution.warehouse import Warehouse

sys.path.append(str(Path(__file__).parents[1] / "installed"))
from place import BIN, Place, scheduled, until

RECIPE = """
name = "scaled"
constitution = "general@1.1.0"
[prompts]
format = "sql"
query = "SELECT 'Thing ' || range || '?' AS prompt FROM range(160)"
[model.policy]
engine = "fake"
latency_s = 0.5
[revise]
rounds = 1
[judge]
principles = 1
[output]
slice = 5
window = 1
flush_rows = 4
flush_seconds = 0.1
"""
KILLS = 16
"""Of each runner, at least."""
SHARDS = 4
RUNNERS = ("thread", "process", "ray", "dask", "shard/pool")
FLOW = """
import asyncio, sys
from flows.scale import scale
if __name__ == "__main__":
    spread = {"shards": %d, "runner": sys.argv[1], "restarts": 100, "lost_after_s": 40}
    asyncio.run(scale("recipes/scaled.toml", sys.argv[2], spread))
"""
pytestmark = pytest.mark.torture


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server and a pool with two workers."""
    with scheduled(tmp_path_factory.mktemp("scaled"), workers=2) as made:
        (made.project / "recipes" / "scaled.toml").write_text(RECIPE, encoding="utf-8")
        (made.project / "scaled.py").write_text(FLOW % SHARDS, encoding="utf-8")
        yield made


@pytest.fixture(scope="module")
def quiet(place: Place) -> Path:
    return whole(place.project / "recipes" / "scaled.toml", place.project / "quiet", ["model.policy.latency_s=0"])


def at_work(warehouse: Path) -> set[int]:
    """The processes that wrote a shard's record last and have not ended it."""
    store = Warehouse(warehouse)
    records = [record for run in store.runs() for record in store.shards(run.run_id)]
    found = {each.process for each in records if each.number and not each.ended_at}
    return {process for process in found if Path(f"/proc/{process}").exists()}


BEGUN: list[subprocess.Popen[bytes]] = []


@pytest.fixture(autouse=True)
def _no_flow_outlives_its_test() -> Iterator[None]:
    yield
    while BEGUN:
        BEGUN.pop().kill()


def begin(place: Place, runner: str, log: Path) -> subprocess.Popen[bytes]:
    """The flow, into a warehouse called like its log."""
    with log.open("ab") as file:
        line = [str(BIN / "python"), "scaled.py", runner, log.stem]
        BEGUN.append(subprocess.Popen(line, cwd=place.project, env=place.env, stdout=file, stderr=file))
    return BEGUN[-1]


def killed(processes: set[int]) -> int:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return len(processes)


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_run_whose_processes_are_killed_has_the_rows_of_a_quiet_one(
    runner: str, place: Place, quiet: Path, torture: Torture
) -> None:
    """The flow is begun again by the same command where it was killed; what else is killed, the flow begins again."""
    draw, name = random.Random(f"{torture.seed} {runner}"), runner.replace("/", "-")
    warehouse, total, log = place.project / name, 0, place.project / f"{name}.log"

    flow = begin(place, runner, log)
    while total < KILLS:
        until(partial(at_work, warehouse), "a shard works")
        time.sleep(draw.uniform(0.5, 3))
        assert flow.poll() is None, log.read_text()[-3000:]
        shards = at_work(warehouse) - {flow.pid}
        some = set(draw.sample(sorted(shards), draw.randint(0, len(shards))))
        if n := killed(some):
            torture.count(f"kills of shards under {name}", n)
            total += n
        if "/" in runner and draw.random() < 0.3:
            worker = place.workers.pop(0)
            total += killed({worker.pid})
            torture.count("kills of workers of a pool")
            worker.wait()
            place.begin_worker()
        if draw.random() < 0.3 or runner == "thread":
            total += killed({flow.pid})
            torture.count(f"kills of the flow under {name}")
            flow.wait()
            flow = begin(place, runner, log)
    assert flow.wait(600) == 0, log.read_text()[-3000:]
    same(warehouse, quiet)


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_cancelled_flow_ends_its_shards_in_good_order(
    runner: str, place: Place, quiet: Path, torture: Torture
) -> None:
    """Where they are threads, and in other processes; the same command resumes them."""
    name = f"cancelled-{runner.replace('/', '-')}"
    warehouse, log = place.project / name, place.project / f"{name}.log"

    flow = begin(place, runner, log)
    until(partial(at_work, warehouse), "a shard works")
    [run] = Warehouse(warehouse).runs()
    flow.terminate()
    flow.wait(300)
    torture.count(f"cancellations under {name}")
    tagged = place.ask("/flow_runs/filter", flow_runs={"tags": {"all_": [run.run_id]}})
    states = {each["name"]: each["state_type"] for each in tagged if each["parameters"]["warehouse"] == name}
    until(lambda: not at_work(warehouse), "they have ended")
    assert "CRASHED" not in states.values(), states
    assert "CANCELLED" in states.values(), states
    assert Warehouse(warehouse).holders(run.run_id) == []
    assert begin(place, runner, log).wait(600) == 0, log.read_text()[-3000:]
    same(warehouse, quiet)
