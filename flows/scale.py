"""The main job on many processes or machines: a run in shards.

    prefect deployment run scale/shards --param recipe=recipes/mine.toml     a deployment of prefect.yaml

`scale` deals the run into shards and works them under Prefect's thread or process runner, on Ray, on Dask, or as flow
runs of `shard` in a work pool. Shards resume by themselves, and the last one finishes the run, so a shard that is lost,
a flow that is killed and a retry lose nothing. Without Prefect: `constitution run --shards 8`, or --shard 3/8.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from constitution.pipeline import Plan, lost
from constitution.pipeline.report import report
from constitution.pipeline.shard import open_again, prepare_run, run_shard
from constitution.records import Shard
from constitution.scheduling import flow, scheduled, task
from constitution.scheduling.spread import Spread
from constitution.warehouse import place

EIGHT = Spread()


@task()
async def prepare_shards(
    recipe: Path, warehouse: Path, overrides: list[str], allow: list[str], resume: str, fresh: bool, retry_failed: bool
) -> Plan:
    plan = await asyncio.to_thread(prepare_run, recipe, warehouse, overrides, allow, resume, fresh)
    return await asyncio.to_thread(open_again, plan) if retry_failed and lost(plan) else plan


@flow(name="scale", named="recipe")
async def scale(
    recipe: str,
    warehouse: str = "warehouse",
    spread: Spread = EIGHT,
    overrides: list[str] | None = None,
    fresh: bool = False,
    allow: list[str] | None = None,
    retry_failed: bool = False,
    resume: str = "",
) -> Any:
    """Runs a recipe into a warehouse, in shards. Started again, it resumes where it stopped.

    Args:
        recipe: The recipe's file, from the project's folder, which all workers see.
        warehouse: The warehouse's folder, which all workers see, or its address.
        spread: How many shards there are, and where they are worked.
        overrides: Settings in place of the recipe's, each `a.b=value`, as for --set.
        fresh: A new run, although the same recipe ran before. A retry resumes the run that it began.
        allow: Folders that the recipe may read in, besides its project.
        retry_failed: Prompts that failed for good are tried again, in a finished run too.
        resume: The run to resume, by its id or how it begins, with the prompts that it has; empty takes the recipe's.
    """
    settings, folders = overrides or [], allow or []
    async with scheduled() as schedule:
        resume = await schedule.retried_run() or resume
        plan = await prepare_shards(Path(recipe), place(warehouse), settings, folders, resume, fresh, retry_failed)
        call = {"recipe": recipe, "warehouse": warehouse, "resume": plan.run_id}
        run = await schedule.spread(plan, spread, call | {"overrides": settings, "allow": folders})
        await schedule.end(run, warehouse, "finished", report(run))
    return schedule.result


@task(run_name="{shard}")
async def work_one(plan: Plan, shard: Shard) -> dict[str, Any]:
    return await run_shard(plan, shard)


@flow(name="shard", named="recipe", also="{number}/{of}")
async def shard(
    recipe: str,
    number: int,
    of: int,
    warehouse: str = "warehouse",
    resume: str = "",
    overrides: list[str] | None = None,
    allow: list[str] | None = None,
) -> Any:
    """Works one shard of a recipe's run, and finishes the run where it is the last. The flow `scale` starts it.

    Args:
        recipe: The recipe's file, from the project's folder.
        number: Which shard, from 1.
        of: How many shards the run has.
        warehouse: The warehouse's folder or address.
        resume: The run's id; empty takes the recipe's.
        overrides: Settings in place of the recipe's, each `a.b=value`, as for --set.
        allow: Folders that the recipe may read in, besides its project.
    """
    async with scheduled() as schedule:
        plan = await prepare_shards(Path(recipe), place(warehouse), overrides or [], allow or [], resume, False, False)
        result = await work_one(plan, Shard(number, of))
        await schedule.end_shard(result)
    return schedule.result
