"""Whole runs whose requests go out in batches, beside plain ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from batch_servers import ABOUT, ChatBatchServer, Fate, Fault
from run_once import run_once
from small_project import small_project, table
from test_batch import FAST

from constitution.judge.units import WAVES
from constitution.pipeline.plan import batch_steps, small_window
from constitution.recipe import load_recipe
from constitution.trial import Trial, try_recipe
from constitution.warehouse import Warehouse

RECIPE = """
name = "batched"
constitution = "general@1.1.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "openai"
model = "fake"
base_url = "{url}"
{about}
price = {{ input = 1.0, cached = 0.1, output = 4.0 }}
{policy}
[model.judge]
engine = "openai"
model = "fake"
base_url = "{url}"
{about}
concurrency = 64
price = {{ input = 2.0, output = 8.0 }}
{judge}
[revise]
rounds = 1
[judge]
principles = 2
method = "{method}"
[output]
window = {window}
flush_seconds = 0.05
"""
STEPS = 4
"""Steps of the recipe: of each, one request goes ahead alone."""
BATCH = "\n".join(f"{name} = {json.dumps(value)}" for name, value in FAST.items())


def project(
    folder: Path,
    url: str,
    policy: str = BATCH,
    judge: str = BATCH,
    window: int = 12,
    about: str = ABOUT,
    method: str = "label",
) -> Path:
    """about: what the section of a model has for this kind of server."""
    recipe = RECIPE.format(url=url, policy=policy, judge=judge, window=window, about=about, method=method)
    return small_project(folder, 12, recipe)


def same_rows(warehouse: Path, other: Path) -> None:
    """All rows of the two runs, but for when they were made."""
    for name in ("prompts", "responses", "judgements", "preferences"):
        query = f"SELECT * EXCLUDE (created_at) FROM {name} ORDER BY id"
        ours, theirs = table(warehouse, query), table(other, query)
        assert ours
        different = [(one, two) for one, two in zip(ours, theirs, strict=True) if one != two]
        assert different[:1] == []


def costs(warehouse: Path) -> list[tuple[Any, ...]]:
    return table(warehouse, "SELECT run_id, stage, model, calls, cost FROM usage ORDER BY ALL")


async def test_a_run_in_batches_has_the_rows_of_a_plain_one_at_half_its_cost(tmp_path: Path) -> None:
    async with ChatBatchServer() as server:
        run = await run_once(project(tmp_path / "plain", server.base_url, "", ""), tmp_path / "one", [])
        paid = server.paid
    fates = [Fate("expired", answered=5), Fate(), Fate(twice=True, stray=True), Fate(lines={0: None})]
    faults: dict[str, list[Fault | None]] = {"POST /v1/batches": [None, Fault(500, done=True)]}
    async with ChatBatchServer(fates=fates, faults=faults) as server:
        path = project(tmp_path / "batched", server.base_url)
        made = await run_once(path, tmp_path / "two", [])
        assert server.paid == paid
        assert server.calls["POST /v1/chat/completions"] == STEPS
    assert made.run_id == run.run_id
    same_rows(tmp_path / "two", tmp_path / "one")
    assert made.cost
    assert run.cost
    assert made.cost == pytest.approx(run.cost / 2, rel=1e-3)
    assert costs(tmp_path / "two") == [(*each[:-1], pytest.approx(each[-1] / 2)) for each in costs(tmp_path / "one")]
    assert [used.cost for used in made.usage] == [pytest.approx((used.cost or 0) / 2) for used in run.usage]
    assert not (tmp_path / "two" / "batches").exists(), "a run that is finished keeps no notes"
    assert Warehouse(tmp_path / "two").verify(made.run_id) == []


async def test_a_reply_that_is_of_no_use_is_asked_for_again_by_the_next_start(tmp_path: Path) -> None:
    """The first answer, critique, revision and vote of the batches."""
    async with ChatBatchServer() as server:
        await run_once(project(tmp_path / "plain", server.base_url, "", ""), tmp_path / "one", [])
    bare = {"choices": [{"index": 0, "message": {"content": "A"}, "finish_reason": "none of ours"}]}
    line = {"response": {"status_code": 200, "request_id": "r", "body": bare}, "error": None}
    async with ChatBatchServer(fates=[Fate(lines={0: line})] * 4) as server:
        path = project(tmp_path / "batched", server.base_url)
        first = await run_once(path, tmp_path / "two", [])
        assert first.counts["open"] == 4
        assert first.counts["failures"] == 4
        worked = server.paid.total()
        last = await run_once(path, tmp_path / "two", [])
        assert last.finished_at
        assert set(server.paid.values()) == {1}
        assert worked < server.paid.total()
    same_rows(tmp_path / "two", tmp_path / "one")


async def test_adaptive_votes_go_out_in_a_batch_a_wave(tmp_path: Path) -> None:
    settings = ["judge.votes=adaptive", "judge.principles=12"]
    async with ChatBatchServer() as server:
        run = await run_once(project(tmp_path / "plain", server.base_url, "", ""), tmp_path / "one", settings)
        paid = server.paid
    async with ChatBatchServer() as server:
        path = project(tmp_path / "batched", server.base_url)
        made = await run_once(path, tmp_path / "two", settings)
        assert server.paid == paid
    assert made.counts == run.counts
    assert made.counts["votes_spared"] > 0
    same_rows(tmp_path / "two", tmp_path / "one")
    assert batch_steps(load_recipe(path, settings)) == 3 + WAVES


async def test_a_window_that_makes_small_batches_is_told(tmp_path: Path) -> None:
    recipe = load_recipe(project(tmp_path / "small", "http://127.0.0.1:1/v1", window=5))
    assert batch_steps(recipe) == 4
    assert "about 3 × 4 of them follow on each other" in small_window(recipe, 12)
    assert small_window(recipe, 5) == ""
    assert small_window(load_recipe(recipe.path, ["model.policy.batch=false", "model.judge.batch=false"]), 12) == ""


async def test_a_trial_waits_for_no_batch_and_foresees_half_the_cost_and_no_time(tmp_path: Path) -> None:
    found: dict[str, Trial] = {}
    async with ChatBatchServer() as server:
        for name, batch in (("alone", ""), ("batched", BATCH)):
            path = project(tmp_path / name, server.base_url, batch, batch, window=5)
            found[name] = await try_recipe(load_recipe(path), path, tmp_path / name / "warehouse", 4)
        assert not server.batches
    alone, batched = found["alone"], found["batched"]
    assert (batched.forecast["cost"].value or 0) == pytest.approx((alone.forecast["cost"].value or 0) / 2)
    assert batched.run.cost == alone.run.cost, "the trial itself pays the whole price"
    assert alone.forecast["hours"].value
    assert batched.forecast["hours"].value is None
    assert [each.setting for each in batched.findings if "output.window" in each.what] == ["output.window = 12"]
    assert not [each for each in alone.findings if "output.window" in each.what]
