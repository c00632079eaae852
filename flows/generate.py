"""Prompts and a constitution → preference data: the main job.

    constitution run recipes/fake.toml                                 runs it with a progress bar
    prefect deploy --all                                               puts it on a schedule (prefect.yaml)

One task per slice of hundreds of prompts; the tasks share one session, so that the model never waits for a slice.
Engines retry their requests, and the warehouse knows what is done. How a run ended is the flow run's state in Prefect,
whose `retry` resumes it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from constitution.pipeline import Plan, Session, lost, open_run, prepare
from constitution.pipeline.report import report
from constitution.recipe import load_recipe
from constitution.records import Run
from constitution.scheduling import flow, scheduled, task
from constitution.warehouse import place


@task()
async def prepare_run(
    recipe: Path, warehouse: Path, overrides: list[str], fresh: bool, allow: list[Path], resume: str
) -> Plan:
    return await asyncio.to_thread(prepare, load_recipe(recipe, overrides), recipe, warehouse, fresh, allow, resume)


@task(run_name="{part.stem}")
async def work_slice(part: Path, session: Session) -> int:
    return await session.work(part)


@task()
async def finish_run(session: Session) -> Run:
    return await session.finish()


@flow(name="generate", named="recipe")
async def generate(
    recipe: str,
    warehouse: str = "warehouse",
    limit: int | None = None,
    overrides: list[str] | None = None,
    fresh: bool = False,
    allow: list[str] | None = None,
    retry_failed: bool = False,
    resume: str = "",
) -> Any:
    """Runs a recipe into a warehouse. Started again, it resumes where it stopped; a finished run stays as it is.

    Args:
        recipe: The recipe's file, from the project's folder.
        warehouse: The warehouse's folder or address.
        limit: The number of prompts to take, from the first; empty takes all.
        overrides: Settings in place of the recipe's, each `a.b=value`, as for --set.
        fresh: A new run, although the same recipe ran before. A retry resumes the run that it began.
        allow: Folders that the recipe may read in, besides its project.
        retry_failed: Prompts that failed for good are tried again, in a finished run too.
        resume: The run to resume, by its id or how it begins, with the prompts that it has; empty takes the recipe's.
    """
    settings = [*(overrides or []), *([f"prompts.limit={limit}"] if limit else [])]
    folders = [Path(folder) for folder in allow or ()]
    async with scheduled() as schedule:
        resume = await schedule.retried_run() or resume
        plan = await prepare_run(Path(recipe), place(warehouse), settings, fresh, folders, resume)
        run = plan.run
        if plan.finished and not (retry_failed and lost(plan)):
            await schedule.mark(run.run_id, plan.warehouse)
        else:
            async with open_run(plan, retry_failed) as session:
                async with schedule.watch(session):
                    await session.walk(lambda part: work_slice(part, session))
                run = await finish_run(session)
        await schedule.end(run, warehouse, "finished", report(run))
    return schedule.result
