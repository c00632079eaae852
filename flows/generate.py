"""Prompts and a constitution → preference data: the main job, as a Prefect flow.

    constitution run recipes/fake.toml                                 runs it with a progress bar
    prefect deploy --all                                               puts it on a schedule (prefect.yaml)

One task per slice of hundreds of prompts; the tasks share one session, so that the model never waits for a slice.
Nothing is retried or cached here: engines retry their requests, and the warehouse knows what is done.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from constitution.pipeline import Plan, Session, lost, prepare, report
from constitution.recipe import load_recipe
from constitution.records import Run


def name() -> str:
    """What the run is called in Prefect: the recipe's file and the time."""
    return f"{Path(flow_run.parameters['recipe']).stem} {flow_run.scheduled_start_time:%Y-%m-%d %H:%M}"


@task(cache_policy=NO_CACHE, persist_result=False)
async def prepare_run(recipe: Path, warehouse: Path, overrides: list[str], fresh: bool, allow: list[Path]) -> Plan:
    return await asyncio.to_thread(prepare, load_recipe(recipe, overrides), recipe, warehouse, fresh, allow)


@task(task_run_name="{part.stem}", cache_policy=NO_CACHE, persist_result=False)
async def work_slice(part: Path, session: Session) -> int:
    return await session.work(part)


@task(cache_policy=NO_CACHE, persist_result=False)
async def finish_run(session: Session) -> Run:
    return await session.finish()


@flow(name="generate", flow_run_name=name, persist_result=False, validate_parameters=True)
async def generate(
    recipe: str,
    warehouse: str = "warehouse",
    limit: int | None = None,
    overrides: list[str] | None = None,
    fresh: bool = False,
    allow: list[str] | None = None,
    retry_failed: bool = False,
) -> Run:
    """Runs `recipe` into `warehouse`. Started again, it goes on where it stopped; a finished run stays as it is.

    limit: the first so many prompts. overrides: `a.b=value`, as for --set. fresh: a new run of the same recipe.
    allow: folders that the recipe may read in, besides its project. retry_failed: prompts that failed for good are
    tried again, in a finished run too.
    """
    settings = [*(overrides or []), *([f"prompts.limit={limit}"] if limit else [])]
    plan = await prepare_run(Path(recipe), Path(warehouse), settings, fresh, [Path(folder) for folder in allow or ()])
    run = plan.run
    if plan.finished and not (retry_failed and lost(plan)):
        get_run_logger().info("run %s is finished already", plan.run_id)
    else:
        async with Session(plan, retry_failed) as session:
            await session.walk(lambda part: work_slice(part, session))
            run = await finish_run(session)
    await acreate_markdown_artifact(report(run), key="generate", description=f"Run {run.run_id}")
    return run
