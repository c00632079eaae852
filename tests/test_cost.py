"""What a run used and cost: the same from its record, its rows and its engines, whatever stopped it on the way."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chains import Scripted
from click.testing import CliRunner
from run_once import run_once
from small_project import small_project, table
from warehouse_rows import RUN, chain, prompt

import constitution.engines as engines_module
from constitution.cli.runs import runs
from constitution.engines import Engines, Metered
from constitution.engines.base import Completion, Request
from constitution.errors import EngineUnavailable, InputError, RecipeError
from constitution.pipeline import Progress, open_run, prepare, state, watcher
from constitution.pipeline.cost import Cost, Ledger
from constitution.pipeline.report import report
from constitution.recipe import Models, load_recipe
from constitution.records import Judgement, Message, Response, Row, Sampling, Usage
from constitution.warehouse import Warehouse

USAGE = "SELECT stage, model, calls, prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens, cost FROM usage"


async def test_record_view_and_engines_agree_on_what_was_used(tmp_path: Path) -> None:
    run = await run_once(small_project(tmp_path), tmp_path / "w", [])
    viewed = {Usage(*row) for row in table(tmp_path / "w", USAGE)}
    assert set(run.usage) == viewed
    assert [(one.stage, one.model) for one in run.usage] == [
        *(("initial", "fake"), ("critique", "fake"), ("revision", "fake")),
        ("vote", "fake-judge"),
    ]
    calls = {one.stage: one.calls for one in run.usage}
    assert (calls["initial"], calls["critique"]) == (50, 100)
    assert sum(calls[stage] for stage in ("initial", "critique", "revision")) == run.engines["policy"]["calls"]
    assert calls["vote"] == run.engines["judge"]["calls"] == run.counts["judgements"]
    assert sum(one.completion_tokens for one in run.usage) == run.counts["completion_tokens"]
    assert 0 < run.engines["policy"]["busy_seconds"] <= run.engines["policy"]["open_seconds"]
    by_hand = sum(
        one.prompt_tokens * (2.0 if one.stage == "vote" else 1.0)
        + one.completion_tokens * (8.0 if one.stage == "vote" else 4.0)
        for one in run.usage
    )
    assert run.cost == pytest.approx(by_hand / 1e6, abs=1e-6)
    assert sum(one.cost or 0 for one in run.usage) == pytest.approx(run.cost, abs=1e-6)
    assert all(one.cost for one in run.usage)
    [(cost, stopped, stages)] = table(
        tmp_path / "w", "SELECT cost, stopped, json_array_length(usage) FROM runs WHERE engines IS NOT NULL"
    )
    assert (cost, stopped, stages) == (run.cost, "", 4)


def thinking(row: Row) -> Row:
    """The row of a model that thinks before it writes."""
    if isinstance(row, Response):
        row = replace(row, reasoning="Let me see.", reasoning_tokens=4, critique_reasoning_tokens=2)
    return replace(row, reasoning_tokens=3) if isinstance(row, Judgement) else row


def test_rows_and_their_calls() -> None:
    """A skipped revision made a critique only, an answer that came with its prompt nothing."""
    ledger = Ledger([Usage("vote", "judge", 5, 50, 5, 5)])
    rows: list[Row] = [thinking(row) for row in chain(0)]
    first, second = (row for row in rows[:2] if isinstance(row, Response))
    critiqued = replace(second, critique_prompt_tokens=7, critique_cached_tokens=3, critique_completion_tokens=2)
    critiqued = replace(critiqued, critique_reasoning="Hm.", critique_reasoning_tokens=1)
    rows[1] = replace(critiqued, outcome="skipped", critique_outcome="refused", prompt_tokens=0, calls=0)
    rows.append(replace(first, id="given", kind="given", model="given", prompt_tokens=0, calls=0))
    for row in rows:
        ledger.add(row)
    assert ledger.usage() == (
        Usage("initial", "pocket", 1, 100, 50, 20, 4),
        Usage("critique", "pocket", 2, 7, 3, 2, 3),
        Usage("revision", "pocket", 1, 100, 50, 20, 4),
        Usage("vote", "judge", 7, 450, 5, 7, 6),
    )
    assert (ledger.calls, ledger.written) == (6, 44)


def test_the_tally_of_rows_on_disk_is_the_ledgers(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    assert warehouse.tally(RUN).usage == ()
    skipped = [
        replace(row, outcome="skipped", critique_outcome="empty", prompt_tokens=0, cached_tokens=0, completion_tokens=0)
        for row in chain(3)
        if isinstance(row, Response) and row.round == 2
    ]
    given = Response("g", RUN, prompt(3).id, "given", 0, "said", "ok", "given")
    chains = [thinking(row) for row in (*chain(1), *chain(2))]
    votes = [row for row in chains if isinstance(row, Judgement)]
    votes = [
        replace(row, label_mass=mass, censored=mass == 0.5)
        for row, mass in zip(votes, (0.0, 0.499, 0.5, 1.0), strict=True)
    ]
    rows: list[Row] = [row for row in chains if isinstance(row, Response)]
    rows += [*skipped, given, *votes]
    warehouse.write_part("responses", RUN, [row for row in rows if isinstance(row, Response)])
    warehouse.write_part("judgements", RUN, votes)
    made, stored = Progress(3), Progress(3)
    for row in rows:
        made.count(row)
    tally = warehouse.tally(RUN)
    stored.take_stock(tally)
    assert set(tally.usage) == set(made.ledger.usage())
    assert made.counts() == stored.counts()
    assert tally.counts == {
        "turns": 0,
        "responses": 8,
        "judgements": 4,
        "off_label": 2,
        "censored": 1,
        "preferences": 0,
        "kept": 0,
        "votes_missing": 0,
        "votes_spared": 0,
        "failures": 0,
        **dict.fromkeys(("scores", "scores_off_label", "rewards", "rewards_missing", "rewards_other"), 0),
        **dict.fromkeys(("reference_checks", "references_dropped", "rubrics", "rubrics_dropped"), 0),
    }
    assert (tally.answered, tally.labelled) == ({0: 2, 1: 2, 2: 3}, 0)


def test_prices_of_cached_tokens_and_of_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    models = Models.model_validate(
        {
            "policy": {"engine": "fake", "price": {"input": 3, "cached": 0.5, "output": 10}},
            "judge": {"engine": "fake", "price": {"gpu_hour": 2.5, "gpus": 4}},
        }
    )
    ledger = Ledger([Usage("revision", "m", 1, 1_000_000, 400_000, 100_000), Usage("vote", "m", 9, 10**9, 0, 10**9)])
    account = Cost(models, ledger, {"judge": {"open_seconds": 1800.0}, "policy": {"open_seconds": 1e9}})
    assert account.total == pytest.approx(0.6 * 3 + 0.4 * 0.5 + 0.1 * 10 + 0.5 * 4 * 2.5)
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    account.engines = Engines(Metered(Scripted(lambda request: "")), {"fake": Metered(Scripted(lambda request: ""))})
    now[0] += 1800
    assert account.engine_cost == pytest.approx(10)
    assert account.stats()["judge"]["open_seconds"] == 3600
    shared = Metered(Scripted(lambda request: ""))
    account.engines = Engines(shared, {"fake": shared})
    now[0] += 1800
    assert account.engine_cost == pytest.approx(5)  # the policy's hours have no price, and it is one engine
    assert Cost(Models.model_validate({"policy": {"engine": "fake"}}), ledger, {}).total is None


async def test_stats_of_several_starts_are_one_record() -> None:
    class Telling(Scripted):
        def stats(self) -> Mapping[str, Any]:
            return {"waiting": 3, "hit_rate": float("nan"), "events": [f"event {n}" for n in range(70)]}

    def refused(request: Request) -> Exception:
        return EngineUnavailable("no")

    before = {"policy": {"calls": 10, "failures": 1, "busy_seconds": 2.5, "most_in_flight": 9, "waiting": 8}}
    before["policy"]["events"] = [f"old {n}" for n in range(50)]  # type: ignore[assignment]
    account = Cost(Models.model_validate({"policy": {"engine": "fake"}}), Ledger(), before)
    policy = Metered(Telling(refused))
    account.engines = Engines(policy, {"fake": policy})
    with pytest.raises(EngineUnavailable):
        await policy.generate(Request((Message("user", "?"),), Sampling(), 1))
    stats = account.stats()["policy"]
    assert (stats["calls"], stats["failures"], stats["most_in_flight"], stats["waiting"]) == (11, 2, 9, 3)
    assert stats["hit_rate"] is None
    assert stats["busy_seconds"] >= 2.5
    assert (stats["events"][0], stats["events"][-1], len(stats["events"])) == ("old 20", "event 69", 100)


async def test_a_call_that_is_cancelled_is_no_failure() -> None:
    class Silent(Scripted):
        async def generate(self, request: Request) -> Completion:
            await asyncio.sleep(60)
            raise AssertionError

    metered = Metered(Silent(lambda request: ""))
    call = asyncio.create_task(metered.generate(Request((Message("user", "?"),), Sampling(), 1)))
    await asyncio.sleep(0.01)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    stats = metered.stats()
    assert (stats["calls"], stats["failures"]) == (1, 0)


def kill_midway(recipe: Path, warehouse: Path) -> None:
    script = str(Path(__file__).parent / "run_once.py")
    command = [sys.executable, script, str(recipe), str(warehouse), "model.policy.latency_s=0.06"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.5)
        process.send_signal(signal.SIGKILL)


async def test_the_view_of_runs_has_figures_of_their_types(tmp_path: Path) -> None:
    run = await run_once(small_project(tmp_path), tmp_path / "w", [])
    names = ("prompts", "done", "open", "lost", "responses", "judgements", "votes_missing", "preferences", "kept",
             "failures", "prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens")  # fmt: skip
    [found] = table(tmp_path / "w", f"SELECT {', '.join(names)} FROM runs")
    assert dict(zip(names, found, strict=True)) == {name: run.counts[name] for name in names}
    [(calls, currency)] = table(tmp_path / "w", "SELECT calls, currency FROM runs")
    assert (calls, currency) == (sum(one.calls for one in run.usage), "USD")
    kinds = "SELECT DISTINCT data_type FROM duckdb_columns() WHERE table_name = 'runs' AND column_name IN "
    assert table(tmp_path / "w", f"{kinds}{(*names, 'calls')}") == [("BIGINT",)]
    # What was not recorded yet is not known, and is no zero.
    early = replace(run, run_id="early-0123456789ab", counts={"prompts": 50}, usage=())
    Warehouse(tmp_path / "w").write_run(early)
    ask = f"SELECT prompts, done, calls, completion_tokens FROM runs WHERE run_id = '{early.run_id}'"
    assert table(tmp_path / "w", ask) == [(50, None, None, None)]


@pytest.mark.parametrize("own", ["", "model.judge.price={gpu_hour=2.0}"])
async def test_a_stage_whose_tokens_have_no_price_has_no_cost(tmp_path: Path, own: str) -> None:
    recipe = small_project(tmp_path)
    text = recipe.read_text()
    assert "price = { input = 2.0" in text
    recipe.write_text("\n".join(line for line in text.splitlines() if not line.startswith("price = { input = 2.0")))
    settings = ["prompts.limit=3", *([own] if own else [])]
    run = await run_once(recipe, tmp_path / "w", settings)
    costs = {one.stage: one.cost for one in run.usage}
    assert costs["vote"] is None  # and not the policy's price
    assert costs["initial"]
    assert {Usage(*row) for row in table(tmp_path / "w", USAGE)} == set(run.usage)


async def test_nothing_is_lost_and_nothing_counted_twice_after_kills(tmp_path: Path) -> None:
    recipe = small_project(tmp_path)
    for _ in range(2):
        kill_midway(recipe, tmp_path / "w")
    [killed] = Warehouse(tmp_path / "w").runs()
    assert not killed.usage  # its record was not written since it began
    [(responses,)] = table(tmp_path / "w", "SELECT count(*) FROM responses")
    shown = CliRunner().invoke(runs, [killed.run_id, "--warehouse", str(tmp_path / "w")])
    assert re.search(rf"^ *responses +{responses:,} *$", shown.output, re.MULTILINE)
    done = await run_once(recipe, tmp_path / "w", [])
    clean = await run_once(recipe, tmp_path / "clean", [])
    assert done.starts == 3
    assert done.usage == clean.usage
    assert done.cost == clean.cost
    assert done.counts == clean.counts
    assert set(done.usage) == {Usage(*row) for row in table(tmp_path / "w", USAGE)}


async def test_the_record_is_alive_while_the_run_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "HEARTBEAT", 0.1)
    recipe, warehouse = small_project(tmp_path), Warehouse(tmp_path / "w")
    slow = ["model.policy.latency_s=0.05", "model.policy.price.gpu_hour=1000"]
    seen = []
    task = asyncio.create_task(run_once(recipe, tmp_path / "w", slow))
    while not task.done():
        await asyncio.sleep(0.1)
        seen += [run for run in warehouse.runs() if run.usage and not run.finished_at]
    run = await task
    assert len(seen) >= 3
    for early, late in zip(seen, [*seen[1:], run], strict=True):
        assert 0 < early.seconds <= late.seconds
        assert early.counts["done"] <= late.counts["done"]
        assert early.counts["completion_tokens"] <= late.counts["completion_tokens"]
        assert early.engines["policy"]["calls"] <= late.engines["policy"]["calls"]
        assert (early.cost or 0) <= (late.cost or 0)
    assert seen[-1].counts["completion_tokens"] > seen[0].counts["completion_tokens"]
    assert warehouse.read_run(run.run_id) == run


async def test_midway_a_resumed_runs_counts_do_not_shrink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "HEARTBEAT", 0.02)
    recipe, warehouse = small_project(tmp_path, prompts=60), Warehouse(tmp_path / "w")

    def stop(seen: Progress) -> None:
        if seen.done > 20:
            task.cancel()

    watching = watcher.set(stop)
    task = asyncio.create_task(run_once(recipe, tmp_path / "w", ["model.policy.latency_s=0.02"]))
    with pytest.raises(asyncio.CancelledError):
        await task
    watcher.reset(watching)
    [stopped] = warehouse.runs()
    path = tmp_path / "recipe.toml"
    plan = prepare(load_recipe(path), path, tmp_path / "w")
    async with open_run(plan):
        await asyncio.sleep(0.1)
        [opened] = warehouse.runs()
    for run in (opened, *warehouse.runs()):
        assert run.starts == 2
        assert {name: run.counts[name] for name in stopped.counts} == stopped.counts
        assert run.usage == stopped.usage
        assert run.seconds > stopped.seconds


def test_prices_and_budget_are_no_part_of_the_run(tmp_path: Path) -> None:
    path = small_project(tmp_path)

    def run_id(*overrides: str) -> str:
        return prepare(load_recipe(path, overrides), path, tmp_path / "w").run_id

    first = run_id()
    assert run_id("model.policy.price.input=9", "budget.limit=3", "budget.currency=EUR") == first
    assert run_id("model.judge.price={gpu_hour=1}") == first
    assert run_id("model.judge.model=other") != first


async def test_the_cost_is_at_the_latest_starts_prices(tmp_path: Path) -> None:
    recipe = small_project(tmp_path)
    broken = await run_once(recipe, tmp_path / "w", ["model.policy.failure_rate=0.5"])
    done = await run_once(
        recipe, tmp_path / "w", ["model.policy.price={input=0}", "model.judge.price={output=1000000}"]
    )
    assert done.run_id == broken.run_id
    assert done.cost == done.counts["judgements"]
    assert done.recipe["model"]["judge"]["price"]["output"] == 1_000_000


class Served(Scripted):
    """What the openai engine says of a server's model."""

    def __init__(self, **facts: str) -> None:
        super().__init__(lambda request: EngineUnavailable("down"), "m")
        self._facts = {"name": "m", "engine": "openai", **facts}

    def describe(self) -> Mapping[str, str]:
        return self._facts


async def test_a_run_goes_on_with_the_model_that_it_was_begun_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small_project(tmp_path, prompts=3)

    async def start(**facts: str) -> dict[str, dict[str, str]]:
        async def opened(section: object, notes: object) -> Served:
            return Served(**facts)

        monkeypatch.setattr(engines_module, "open_engine", opened)
        return (await run_once(recipe, tmp_path / "w", [])).models

    await start(base_url="a", server_model="llama")
    await start(base_url="b", server_model="llama")  # another address is nothing
    await start(base_url="b", server_model="unknown")  # a server that does not say
    models = await start(base_url="b")
    assert models["policy"] == {"name": "m", "engine": "openai", "base_url": "b"}
    with pytest.raises(RecipeError, match="begun with llama, and the server at c has qwen") as caught:
        await start(base_url="c", server_model="qwen")
    assert "--fresh" in caught.value.hint
    assert (await start(base_url="c", server_model="llama"))["policy"]["base_url"] == "c"


async def test_what_is_shown_of_a_run(tmp_path: Path) -> None:
    recipe = small_project(tmp_path)
    run = await run_once(recipe, tmp_path / "w", [])
    told = replace(run, engines={**run.engines, "judge": {**run.engines["judge"], "events": ["one server was gone"]}})
    Warehouse(tmp_path / "w").write_run(told)
    text = report(told)
    assert "| vote | fake-judge |" in text
    assert "- judge: one server was gone" in text
    assert "| cost | 0." in text
    listed = CliRunner().invoke(runs, ["--warehouse", str(tmp_path / "w")], env={"COLUMNS": "200"})
    assert "USD" in listed.output
    shown = CliRunner().invoke(runs, [run.run_id, "--warehouse", str(tmp_path / "w")])
    assert shown.exit_code == 0
    for expected in ("critique", "fake-judge", "USD", "judge: one server was gone", "1 start", "finished 20"):
        assert expected in shown.output
    long = replace(run, usage=(*run.usage, Usage("vote", "m" * 50, 9, 1_234_567_890, 0, 9_876_543_210)))
    Warehouse(tmp_path / "w").write_run(long)
    narrow = CliRunner().invoke(runs, [run.run_id, "--warehouse", str(tmp_path / "w")], env={"COLUMNS": "80"}).output
    assert sum(word.count("m") for word in narrow.split() if set(word) == {"m"}) == 50
    assert "1,234,567,890" in narrow
    assert "9,876,543,210" in narrow
    missing = CliRunner().invoke(runs, ["nowhere", "--warehouse", str(tmp_path / "w")])
    assert isinstance(missing.exception, InputError)
