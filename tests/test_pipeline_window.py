"""Prompts in flight, locks, cancellation and errors of a run."""

from __future__ import annotations

import asyncio
import gc
import time
from dataclasses import replace
from pathlib import Path

import pytest
from pipeline_run import PROMPTS, laid_out, rows_of
from run_once import run_once

from constitution.engines import Completion, Request
from constitution.engines.fake import FakeEngine
from constitution.errors import PromptError, RecipeError, RunLocked, WarehouseError
from constitution.pipeline import Progress, open_run, prepare, watcher
from constitution.pipeline.tasks import COLLECTED, OF_A_PROMPT, seldom_collected
from constitution.recipe import load_recipe
from constitution.warehouse import Warehouse


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return laid_out(tmp_path)


async def test_prompts_in_flight_are_bounded_over_all_slices(project: Path) -> None:
    seen: list[tuple[int, int]] = []

    def watch(progress: Progress) -> None:
        seen.append((progress.done, len(asyncio.all_tasks())))

    token = watcher.set(watch)
    try:
        settings = ["model.policy.latency_s=0.001", "revise.rounds=0", 'judge.pairs=["given"]', "output.slice=3"]
        await run_once(project / "recipe.toml", project / "warehouse", settings)
    finally:
        watcher.reset(token)
    assert [done for done, _ in seen] == list(range(1, PROMPTS + 1))
    # 16 prompts with at most 4 votes each, 7 slices in two tasks, writer, heartbeat, the session's own task; never one
    # task a prompt.
    assert max(tasks for _, tasks in seen) <= 16 + 16 * 4 + 2 * 7 + 4


@pytest.mark.parametrize(("note", "first"), [("each batch may take a day", 0), ("", 1)])
async def test_a_note_is_told_before_the_first_prompt_is_asked_for(project: Path, note: str, first: int) -> None:
    seen: list[tuple[int, str]] = []
    token = watcher.set(lambda progress: seen.append((progress.done, progress.note)))
    try:
        plan = prepare(load_recipe(project / "recipe.toml"), project / "recipe.toml", project / "warehouse")
        async with open_run(replace(plan, note=note)) as session:
            await session.walk()
            await session.finish()
    finally:
        watcher.reset(token)
    assert seen == [(done, note) for done in range(first, PROMPTS + 1)]


async def test_a_slow_prompt_holds_up_no_other_slice(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate, freed, finished = FakeEngine.generate, asyncio.Event(), [0]
    first: list[Request] = []

    async def one_is_slow(self: FakeEngine, request: Request) -> Completion:
        if not first:
            first.append(request)
            await freed.wait()
        return await generate(self, request)

    def watch(progress: Progress) -> None:
        finished.append(progress.done)
        if progress.done == PROMPTS - 1:
            freed.set()

    monkeypatch.setattr(FakeEngine, "generate", one_is_slow)
    token = watcher.set(watch)
    try:
        settings = ["output.slice=3", "output.window=4", "revise.rounds=0", 'judge.pairs=["given"]']
        async with asyncio.timeout(30):
            await run_once(project / "recipe.toml", project / "warehouse", settings)
    finally:
        watcher.reset(token)
    assert finished[-1] == PROMPTS


async def test_cancelled_while_it_compacts_a_run_keeps_its_lock_to_the_end_of_that(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compact, begun, held = Warehouse.compact, asyncio.Event(), []
    loop = asyncio.get_running_loop()

    def slowly(store: Warehouse, run_id: str, *, counts: dict[str, int] | None = None) -> int:
        loop.call_soon_threadsafe(begun.set)
        time.sleep(0.3)
        gone = compact(store, run_id, counts=counts)
        held.append(store.locked(run_id))
        return gone

    monkeypatch.setattr(Warehouse, "compact", slowly)
    task = asyncio.create_task(run_once(project / "recipe.toml", project / "warehouse", []))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert held == [True]
    [stopped] = Warehouse(project / "warehouse").runs()
    assert stopped.finished_at is None
    assert (await run_once(project / "recipe.toml", project / "warehouse", [])).counts == stopped.counts


async def test_two_processes_do_not_share_a_run(project: Path) -> None:
    path = project / "recipe.toml"
    plan = prepare(load_recipe(path), path, project / "warehouse")
    async with open_run(plan):
        with pytest.raises(RunLocked):
            await open_run(plan).__aenter__()


async def test_garbage_is_looked_for_seldom_while_a_run_is_open_and_as_before_afterwards(project: Path) -> None:
    path, before = project / "recipe.toml", gc.get_threshold()
    plan = prepare(load_recipe(path), path, project / "warehouse")
    try:
        for own, during in ((700, COLLECTED), (2 * COLLECTED, 2 * COLLECTED), (0, 0)):  # 0: never, as the program wants
            gc.set_threshold(own, *before[1:])
            async with open_run(plan):
                assert gc.get_threshold() == (during, *before[1:])
            assert gc.get_threshold() == (own, *before[1:])
    finally:
        gc.set_threshold(*before)


def test_a_wide_window_is_looked_through_less_often_and_of_two_runs_in_a_process_the_first_says_how_often() -> None:
    before = gc.get_threshold()
    try:
        for outer, inner, during in ((256, 256, COLLECTED), (4096, 16, OF_A_PROMPT * 4096), (16, 4096, COLLECTED)):
            gc.set_threshold(700, *before[1:])
            with seldom_collected(outer), seldom_collected(inner):
                assert gc.get_threshold()[0] == during
            assert gc.get_threshold()[0] == 700
    finally:
        gc.set_threshold(*before)


async def test_an_error_of_ours_is_raised_as_it_is_and_what_was_made_is_kept(project: Path) -> None:
    path = project / "recipe.toml"
    plan = prepare(load_recipe(path), path, project / "warehouse")
    broken = replace(plan, parts=(*plan.parts[:1], project / "gone.parquet"))

    async def work() -> None:
        async with open_run(broken) as session:

            async def last(part: Path) -> int:
                while part == broken.parts[-1] and not rows_of(project / "warehouse", plan.run_id):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                return await session.work(part)

            await session.walk(last)

    with pytest.raises(WarehouseError, match=r"gone\.parquet"):
        await work()
    assert rows_of(project / "warehouse", plan.run_id)


@pytest.mark.parametrize(
    ("override", "error", "said"),
    [
        ('revise.principles=["nowhere"]', RecipeError, "nowhere"),
        ("judge.principles=99", RecipeError, "99 to be drawn"),
        ("prompts.field=other", PromptError, "there is no 'other'"),
    ],
)
def test_faults_are_told_before_anything_is_written(
    project: Path, override: str, error: type[Exception], said: str
) -> None:
    path = project / "recipe.toml"
    with pytest.raises(error, match=said):
        prepare(load_recipe(path, [override]), path, project / "warehouse")
    assert not (project / "warehouse").exists()


def test_a_broken_last_row_leaves_nothing_behind(project: Path) -> None:
    with (project / "prompts.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n{broken")
    path = project / "recipe.toml"
    with pytest.raises(PromptError, match=f"line {PROMPTS + 1}"):
        prepare(load_recipe(path), path, project / "warehouse")
    assert not (project / "warehouse").exists()
