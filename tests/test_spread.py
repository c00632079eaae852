"""Where shards are worked, and what the states of their flow runs say."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from small_project import small_project

from constitution.errors import EngineGone, InputError, RecipeError, RunLocked
from constitution.pipeline.dealing import begun
from constitution.records import Shard
from constitution.scheduling import Schedule
from constitution.scheduling.spread import Spread
from constitution.warehouse import Warehouse


@pytest.mark.parametrize(
    ("runner", "kind", "address"),
    [
        ("thread", "thread", None),
        ("process", "process", None),
        ("ray", "ray", None),
        ("ray://head:10001", "ray", "ray://head:10001"),
        ("dask", "dask", None),
        ("tcp://scheduler:8786", "dask", "tcp://scheduler:8786"),
        ("shard/pool", "pool", None),
    ],
)
def test_a_runner_is_named_by_its_place(runner: str, kind: str, address: str | None) -> None:
    spread = Spread(runner=runner)
    assert (spread.kind, spread.address) == (kind, address)


@pytest.mark.parametrize("wrong", ["", "slurm", "http://head:1", "shard/", "/pool", "a/b/c"])
def test_other_runners_are_refused(wrong: str) -> None:
    with pytest.raises(ValidationError, match="expected thread, process, ray, dask, an address"):
        Spread(runner=wrong)


def test_a_state_says_how_a_shard_ended() -> None:
    """What a restart helps is Unfinished."""
    from prefect.client.schemas.objects import State, StateType

    from constitution.scheduling.shards import helps_again, state_of_error, state_of_shard

    def of(done: bool, stopped: str = "") -> State[Any]:
        counts = {"prompts": 1200, "done": 1000}
        return state_of_shard({"run_id": "r", "shard": "3/8", "done": done, "stopped": stopped, "counts": counts})

    states = [
        (of(True), "COMPLETED", "Completed", False),
        (of(False), "FAILED", "Unfinished", True),
        (of(False, "engines: all are gone"), "FAILED", "Unfinished", True),
        (of(False, "budget: 1 of 1 USD spent"), "FAILED", "BudgetSpent", False),
        (of(False, "failures: half of 100"), "FAILED", "Failed", False),
        (state_of_error(RunLocked("shard 3/8 is at work")), "FAILED", "Unfinished", True),
        (state_of_error(EngineGone("gone")), "FAILED", "Unfinished", True),
        (state_of_error(OSError("disk")), "FAILED", "Unfinished", True),
        (state_of_error(RecipeError("wrong")), "FAILED", "Failed", False),
    ]
    for state, kind, name, again in states:
        assert (state.type, state.name) == (StateType(kind), name)
        assert helps_again(None, None, State(type=StateType.FAILED, data=state)) is again
    assert of(False, "budget: x").message == "r, shard 3/8: 1,000 of 1,200 prompts. Stopped by its budget: x"


def test_a_flow_run_is_given_up_where_neither_its_state_nor_its_record_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.states import Pending, Running

    from constitution.scheduling import shards

    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    life = shards._Life({"warehouse": str(tmp_path), "resume": "r-1", "number": 3, "of": 8})
    record = replace(begun("r-1", Shard(3, 8)), beat_at="2026-01-01T00:00:00+00:00")
    silent = []
    for at, state, beat in [
        (10, Pending, ""),
        (70, Pending, ""),
        (80, Running, ""),
        (100, Running, "1"),
        (190, Running, "1"),
    ]:
        now[0] = at
        if beat:
            Warehouse(tmp_path).write_shard(replace(record, beat_at=beat))
        silent.append(life.silent(state()))
    assert silent == [0, 60, 0, 0, 90]


def test_without_prefect_the_flow_names_the_command(tmp_path: Path) -> None:
    from constitution.pipeline import prepare
    from constitution.recipe import load_recipe

    recipe = small_project(tmp_path, 2)
    plan = prepare(load_recipe(recipe, []), recipe, tmp_path / "w")
    with pytest.raises(InputError, match="flow of Prefect") as caught:
        asyncio.run(Schedule().spread(plan, Spread(), {}))
    assert caught.value.hint == "`constitution run --shards N` needs none"
