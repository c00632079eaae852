"""Prompts and a constitution → preference data: the main job, as a Prefect flow.

    constitution run recipes/fake.toml                                 runs it with a progress bar
    prefect deploy --all                                               puts it on a schedule (prefect.yaml)

One task per slice of hundreds of prompts; the tasks share one session, so that the model never waits for a slice.
Nothing is retried or cached here: engines retry their requests, and the warehouse knows what is done. How a run ended
is the flow run's state (constitution/scheduling.py); Prefect's `retry` resumes it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from constitution.pipeline import Plan, Session, lost, prepare, report
from constitution.recipe import load_recipe
from constitution.records import Run
from constitution.scheduling import Outcome, Watch, call, end_task_runs, mark, name, place_of, retried_run, told


def run_name() -> str:
    return name(Path(flow_run.parameters["recipe"]).stem)


@task(cache_policy=NO_CACHE, persist_result=False)
async def prepare_run(
    recipe: Path, warehouse: Path, overrides: list[str], fresh: bool, allow: list[Path], resume: str
) -> Plan | State[Any]:
    def prepared() -> Plan:
        return prepare(load_recipe(recipe, overrides), recipe, warehouse, fresh, allow, resume)

    return await told(asyncio.to_thread(prepared))


@task(task_run_name="{part.stem}", cache_policy=NO_CACHE, persist_result=False)
async def work_slice(part: Path, session: Session) -> int | State[Any]:
    return await told(session.work(part))


@task(cache_policy=NO_CACHE, persist_result=False)
async def finish_run(session: Session) -> Run | State[Any]:
    return await told(session.finish())


@flow(
    name="generate",
    flow_run_name=run_name,
    persist_result=False,
    validate_parameters=True,
    on_crashed=[end_task_runs],
)
async def generate(
    recipe: str,
    warehouse: str = "warehouse",
    limit: int | None = None,
    overrides: list[str] | None = None,
    fresh: bool = False,
    allow: list[str] | None = None,
    retry_failed: bool = False,
    resume: str = "",
) -> State[Any]:
    """Runs a recipe into a warehouse. Started again, it resumes where it stopped; a finished run stays as it is.

    Args:
        recipe: The recipe's file, from the project's folder.
        warehouse: The warehouse's folder.
        limit: The number of prompts to take, from the first; empty takes all.
        overrides: Settings in place of the recipe's, each `a.b=value`, as for --set.
        fresh: A new run, although the same recipe ran before. A retry resumes the run that it began.
        allow: Folders that the recipe may read in, besides its project.
        retry_failed: Prompts that failed for good are tried again, in a finished run too.
        resume: The run to resume, by its id or how it begins, with the prompts that it has; empty takes the recipe's.
    """
    settings = [*(overrides or []), *([f"prompts.limit={limit}"] if limit else [])]
    folders = [Path(folder) for folder in allow or ()]
    outcome = Outcome()
    async with outcome:
        resume = await retried_run() or resume
        plan = await call(prepare_run, Path(recipe), Path(warehouse), settings, fresh, folders, resume)
        run = plan.run
        if plan.finished and not (retry_failed and lost(plan)):
            await mark(run.run_id, place_of(plan.warehouse))
        else:
            async with Session(plan, retry_failed) as session:
                await outcome.begin(session)
                async with Watch(session):
                    await session.walk(lambda part: call(work_slice, part, session))
                run = await call(finish_run, session)
        await acreate_markdown_artifact(report(run), key="generate", description=f"Run {run.run_id}")
        await outcome.ended(run, warehouse)
    return outcome.state
