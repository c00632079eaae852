"""A run in its own process, without Prefect: `run_once.py RECIPE WAREHOUSE [a.b=c …]`. Says when it works."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path

from constitution.pipeline import Progress, open_run, prepare, watcher
from constitution.recipe import load_recipe
from constitution.records import Run


async def run_once(recipe: Path, warehouse: Path, overrides: list[str], fresh: bool = False) -> Run:
    plan = prepare(load_recipe(recipe, overrides), recipe, warehouse, fresh)
    if plan.finished:
        return plan.run
    async with open_run(plan) as session:
        print("working", flush=True)
        await session.walk()
        return await session.finish()


async def stop_midway(recipe: Path, warehouse: Path, overrides: list[str], prompts: int) -> None:
    """Runs it and cancels it when so many prompts are done."""

    def watch(progress: Progress) -> None:
        if progress.done >= prompts:
            task.cancel()

    token = watcher.set(watch)
    task = asyncio.create_task(run_once(recipe, warehouse, overrides))
    watcher.reset(token)
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled(), "the run ended before it was to be stopped"


if __name__ == "__main__":
    asyncio.run(run_once(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
