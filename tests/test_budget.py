"""A budget stops a run cleanly: near its limit, with nothing lost, and the same command resumes when it is raised."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest
from chains import Scripted
from click.testing import CliRunner
from run_once import run_once
from small_project import small_project, table

from constitution.cli import run as run_command
from constitution.engines import Engines, Metered
from constitution.pipeline import Progress, open_run, prepare, session, watcher
from constitution.pipeline.admission import LAST, LEAST, Admission
from constitution.pipeline.cost import Cost, Ledger, money
from constitution.pipeline.report import report
from constitution.recipe import BudgetSection, Models, load_recipe
from constitution.records import Failure, Response, Run, Usage
from constitution.warehouse import Warehouse

SLOW = ["model.policy.latency_s=0.002", "model.judge.latency_s=0.001"]


async def whole(tmp_path: Path, prompts: int) -> tuple[Path, Run, float]:
    """The recipe, the whole run without a limit, and the cost of a prompt."""
    recipe = small_project(tmp_path, prompts=prompts)
    run = await run_once(recipe, tmp_path / "clean", [])
    assert run.cost is not None
    return recipe, run, run.cost / prompts


async def test_a_run_stops_at_its_limit_and_goes_on_when_it_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, clean, each_costs = await whole(tmp_path, 100)
    limit = 40 * each_costs
    stopped = await run_once(recipe, tmp_path / "w", [*SLOW, f"budget.limit={limit}"])
    assert stopped.finished_at is None
    assert stopped.cost is not None
    assert limit - 8 * each_costs < stopped.cost < limit + 8 * each_costs  # the window is 8 prompts
    assert stopped.stopped == f"budget: {money(stopped.cost)} of {money(limit)} USD spent"
    assert 32 <= stopped.counts["done"] <= 48
    assert stopped.counts["open"] == 0
    complete = "SELECT count(*) FILTER (complete), count(*) FILTER (responses > 0) FROM chains"
    assert table(tmp_path / "w", complete) == [(stopped.counts["done"], stopped.counts["done"])]
    assert "Stopped by its budget: " in report(stopped)

    def no_model(models: Models) -> None:
        raise AssertionError("a model was loaded")

    with monkeypatch.context() as patch:
        patch.setattr(session, "open_engines", no_model)
        again = await run_once(recipe, tmp_path / "w", [f"budget.limit={limit}"])
    assert again.stopped == stopped.stopped
    assert (again.starts, again.counts, again.seconds) == (1, stopped.counts, stopped.seconds)
    assert not Warehouse(tmp_path / "w").locked(again.run_id)

    more = await run_once(recipe, tmp_path / "w", [*SLOW, f"budget.limit={1.5 * limit}"])
    assert more.finished_at is None
    assert more.cost is not None
    assert limit + 4 * each_costs < more.cost < 1.5 * limit + 8 * each_costs
    done = await run_once(recipe, tmp_path / "w", [])
    assert done.finished_at
    assert (done.stopped, done.starts) == ("", 3)
    assert (done.usage, done.cost, done.counts) == (clean.usage, clean.cost, clean.counts)


async def test_a_window_that_is_wide_does_not_overshoot_a_small_limit(tmp_path: Path) -> None:
    recipe, _, each_costs = await whole(tmp_path, 200)
    wide = [*SLOW, "output.window=200", f"budget.limit={3 * each_costs}"]
    stopped = await run_once(recipe, tmp_path / "w", wide)
    assert stopped.finished_at is None
    assert 3 <= stopped.counts["done"] <= 16
    assert stopped.stopped


async def test_a_limit_that_is_enough_stops_nothing(tmp_path: Path) -> None:
    recipe, clean, each_costs = await whole(tmp_path, 20)
    run = await run_once(recipe, tmp_path / "w", [f"budget.limit={30 * each_costs}"])
    assert run.finished_at
    assert run.stopped == ""
    assert run.counts == clean.counts


async def test_hours_count_towards_the_limit(tmp_path: Path) -> None:
    """0.36 USD are a second and a third at 1,000 USD an hour: about as many prompts as are done in that time."""
    recipe = small_project(tmp_path, prompts=500)
    prices = ["model.policy.price={gpu_hour=1000}", "model.judge.price={}"]
    run = await run_once(recipe, tmp_path / "w", [*prices, "model.policy.latency_s=0.02", "budget.limit=0.36"])
    assert run.finished_at is None
    assert run.cost is not None
    assert run.cost == pytest.approx(run.engines["policy"]["open_seconds"] * 1000 / 3600, rel=0.1)
    assert 0.2 < run.cost < 0.7
    assert 20 < run.counts["done"] < 500


async def test_nobody_waits_in_circles_and_no_more_than_the_money_is_in_flight() -> None:
    """Prompts whose costs differ by far: all at once would be dear, so towards the end fewer are in flight."""
    models = Models.model_validate({"policy": {"engine": "fake", "price": {"output": 1e6}}})
    generator = random.Random(3)
    account = Cost(models, Ledger(), {})
    budget = Admission(BudgetSection(limit=1000), account, 0)
    asked, most, in_flight = 0, 0, 0

    async def prompt() -> None:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        used = Ledger()
        for _ in range(generator.randint(1, 5)):
            await asyncio.sleep(generator.uniform(0.0, 0.002))
            tokens = generator.randint(1, 5)
            row = Response("r", "run", "p", "initial", 0, "", "ok", "m", completion_tokens=tokens)
            account.ledger.add(row)
            used.add(row)
        in_flight -= 1
        budget.ended(used, True)

    async with asyncio.TaskGroup() as group:
        window = asyncio.Semaphore(16)
        for _ in range(1000):
            await window.acquire()
            asked += 1
            if not await budget.admits():
                break
            group.create_task(prompt()).add_done_callback(lambda _: window.release())
    assert most == 16
    assert asked < 300
    assert 1000 - 25 <= (account.total or 0) <= 1000 + 25 * 16
    assert budget.stopped.startswith("budget: ")


async def test_cheap_prompts_that_end_first_do_not_set_the_price() -> None:
    models = Models.model_validate({"policy": {"engine": "fake", "price": {"output": 1}}})
    budget = Admission(BudgetSection(limit=1000), Cost(models, Ledger(), {}), 0)
    for _ in range(16):
        assert await budget.admits()
    budget.ended(Ledger(), True)
    assert await budget.admits()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(budget.admits(), 0.01)


async def test_loading_a_model_is_no_part_of_what_a_prompt_costs() -> None:
    models = Models.model_validate({"policy": {"engine": "fake", "price": {"gpu_hour": 1}}})
    account = Cost(models, Ledger(), {"policy": {"open_seconds": 0}})
    budget = Admission(BudgetSection(limit=10), account, 0)
    policy = Metered(Scripted(lambda request: ""), time.monotonic() - 6 * 3600)
    account.engines = Engines(policy, {"fake": policy})
    for _ in range(3):
        assert await budget.admits()
        budget.ended(Ledger(), True)
    policy._opened -= 3.9 * 3600  # 1.3 h a prompt, and a tenth of an hour left
    assert not await budget.admits()
    assert budget.stopped == "budget: 9.90 of 10.00 USD spent"


def test_what_is_spent_is_known_before_anything_opens() -> None:
    models = Models.model_validate({"policy": {"engine": "fake", "price": {"output": 1.0, "gpu_hour": 2}}})
    ledger = Ledger([Usage("initial", "m", 10, 0, 0, 5_000_000)])
    account = Cost(models, ledger, {"policy": {"open_seconds": 7200}})
    assert Admission(BudgetSection(limit=9), account, 10).stopped == "budget: 9.00 of 9.00 USD spent"
    assert Admission(BudgetSection(limit=9.5, currency="EUR"), account, 10).stopped == "budget: 9.00 of 9.50 EUR spent"
    assert Admission(BudgetSection(limit=10), account, 10).stopped == ""
    assert Admission(None, account, 10).stopped == ""


def test_money() -> None:
    assert [money(amount) for amount in (0, 1234.567, 9.98, 0.001234, 0.5)] == [
        *("0.00", "1,234.57", "9.98", "0.00123", "0.5"),
    ]


async def test_a_budget_that_stops_a_cancelled_run_leaves_it_whole(tmp_path: Path) -> None:
    """Cancelled while prompts wait for the budget: what is there is written, and nothing hangs."""
    recipe, clean, each_costs = await whole(tmp_path, 60)
    plan = prepare(load_recipe(recipe, [*SLOW, f"budget.limit={30 * each_costs}"]), recipe, tmp_path / "w")

    async def work() -> None:
        async with open_run(plan) as opened:
            await opened.walk()

    def stop(seen: Progress) -> None:
        if seen.done == 25:
            task.cancel()

    token = watcher.set(stop)
    task = asyncio.create_task(work())
    with pytest.raises(asyncio.CancelledError):
        await task
    watcher.reset(token)
    done = await run_once(recipe, tmp_path / "w", [])
    assert (done.usage, done.counts) == (clean.usage, clean.counts)


def test_the_command_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small_project(tmp_path)

    async def flow(path: str, warehouse: str, limit: object, overrides: list[str], fresh: bool, *_: object) -> Run:
        return await run_once(Path(path), Path(warehouse), overrides, fresh)

    monkeypatch.setattr(run_command, "load_flow", lambda *_, **__: flow)
    arguments = [str(recipe), "--warehouse", str(tmp_path / "w"), "--set", "budget.limit=0.001"]
    for _ in range(2):
        shown = CliRunner().invoke(run_command.run, arguments)
        assert shown.exit_code == 1
        assert "Stopped by its budget: " in shown.output
        assert "of 0.001 USD spent. Raise budget.limit" in shown.output
        assert "Engines failed" not in shown.output
    shown = CliRunner().invoke(run_command.run, [*arguments[:-1], "budget.limit=10"])
    assert shown.exit_code == 0
    assert "budget" not in shown.output
    assert "fake-judge" in shown.output


def trouble(error: str, message: str = "m") -> Failure:
    return Failure("f", "run", "p", "initial", error, message, retryable=True)


def test_what_a_run_stops_for_and_what_not() -> None:
    def begun(share: float) -> Admission:
        account = Cost(Models.model_validate({"policy": {"engine": "fake"}}), Ledger(), {})
        return Admission(None, account, 0, stop_at_failures=share)

    late = begun(0.5)
    for _ in range(10_000):
        late.saw(None)
    for _ in range(LAST // 2):
        late.saw(trouble("EngineTimeout"))
    assert late.stopped == ""
    late.saw(trouble("EngineTimeout"))  # it had been well for long, and yet
    assert late.stopped == "failures: engines failed 501 of the last 1000 prompts, 501 of them by EngineTimeout: m"
    never = begun(1.0)
    for _ in range(10_000):
        never.saw(trouble("EngineTimeout"))
    assert never.stopped == ""
    few = begun(0.01)
    for _ in range(LEAST - 1):
        few.saw(trouble("EngineTimeout"))
    assert few.stopped == ""
    few.saw(None)
    assert few.stopped == ""  # not at a prompt that went well
    few.saw(trouble("MalformedReply"))
    assert few.stopped == "failures: engines failed 100 of the last 101 prompts, 99 of them by EngineTimeout"
    denied = begun(1.0)
    for _ in range(100):
        for failure in (trouble("AccessDenied"), trouble("AccessDenied"), None):
            denied.saw(failure)
    assert denied.stopped == ""
    for _ in range(3):
        denied.saw(trouble("AccessDenied", "no"))
    assert denied.stopped == "engines: no"
    gone = begun(1.0)
    gone.saw(trouble("EngineGone", "x" * 1000))
    assert gone.stopped == "engines: " + "x" * 300
