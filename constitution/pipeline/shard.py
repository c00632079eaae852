"""A run that several processes work at once, on one machine or many: each a share of its slices.

    work_shard("recipe.toml", "warehouse", 3, 16)      what every scheduler calls, 16 times

Who comes first prepares the run; each shard resumes by itself; who comes last merges the parts, makes the labels that
take all votes, and writes the run's record.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from constitution.errors import RunLocked
from constitution.pipeline.closing import close_run
from constitution.pipeline.cost import Ledger
from constitution.pipeline.dealing import clock, dealt, left, summed
from constitution.pipeline.plan import Plan, prepare
from constitution.pipeline.progress import Progress, Spent
from constitution.pipeline.reopen import lost, reopen
from constitution.pipeline.session import open_run
from constitution.pipeline.state import STOP
from constitution.pipeline.tasks import to_its_end
from constitution.recipe import load_recipe
from constitution.records import Run, Shard
from constitution.warehouse import Warehouse, place

__all__ = ["dealt", "finish_run", "open_again", "prepare_run", "progress_of", "run_shard", "stop_shards", "work_shard"]

PATIENCE = 120.0
"""Seconds that a shard waits for another process to prepare, mend or finish the run."""


def work_shard(
    recipe: str,
    warehouse: str,
    number: int,
    of: int,
    *,
    resume: str = "",
    overrides: Sequence[str] = (),
    allow: Sequence[str] = (),
    retry_failed: bool = False,
) -> dict[str, Any]:
    """Works one shard of a recipe's run to its end, and finishes the run where it is the last. Blocks, and needs a
    thread without a running event loop. Called again it resumes; a shard that has ended has nothing left to do.

    number: from 1 to `of`; resume, overrides, allow: as of `constitution run`; retry_failed: a finished run is opened
    for the prompts that failed for good, by the first shard that comes.

    Returns what JSON can hold: run_id; shard; done, whether it came to the end of its prompts; stopped, why it took up
    no more; finished, when the run was, or None; left, a sentence for each shard that is not at its end; and of this
    shard counts, seconds and cost. Raises ConstitutionError: the same call resumes.
    """
    plan = prepare_run(Path(recipe), place(warehouse), overrides, allow, resume)
    return asyncio.run(run_shard(plan, Shard(number, of), retry_failed))


def prepare_run(
    recipe: Path,
    warehouse: Path,
    overrides: Sequence[str] = (),
    allow: Sequence[str] = (),
    resume: str = "",
    fresh: bool = False,
) -> Plan:
    """As `prepare`, after another process that is at it."""
    began, folders = time.monotonic(), [Path(folder) for folder in allow]
    while True:
        try:
            return prepare(load_recipe(recipe, list(overrides)), recipe, warehouse, fresh, folders, resume)
        except RunLocked:
            if time.monotonic() - began > PATIENCE:
                raise
        time.sleep(0.5)


def open_again(plan: Plan) -> Plan:
    """The run, of which no process works a shard, open for the prompts that failed for good."""
    warehouse = Warehouse(plan.warehouse)
    with warehouse.lock(plan.run_id, prepared=True):
        warehouse.recover(plan.run_id)
        warehouse.repair(plan.run_id)
        reopen(warehouse, plan.run_id)
    return replace(plan, run=warehouse.read_run(plan.run_id) or plan.run)


async def run_shard(plan: Plan, shard: Shard, retry_failed: bool = False) -> dict[str, Any]:
    """What `work_shard` does with a run that is prepared."""
    store = Warehouse(plan.warehouse)
    finished = plan.finished and not (retry_failed and lost(plan))
    # Another shard may have opened it again meanwhile.
    if not (finished and (run := store.read_run(plan.run_id)) and run.finished_at):
        async with open_run(plan, retry_failed, shard=shard) as session:
            await session.walk()
            await session.finish()
    run = await finish_run(plan)
    own = store.read_shard(plan.run_id, shard)
    return {
        "run_id": plan.run_id,
        "shard": str(shard),
        "done": run.finished_at is not None or bool(own and own.ended_at),
        "stopped": own.stopped if own else "",
        "finished": run.finished_at,
        "left": [] if run.finished_at else left(store.shards(plan.run_id)),
        "counts": own.counts if own else {},
        "seconds": own.seconds if own else 0.0,
        "cost": own.cost if own else None,
    }


def stop_shards(warehouse: str, run_id: str, why: str) -> None:
    """Tells the run's shards that are at work, on whatever machine, to take up no more prompts; they hear it at their
    next heartbeat. Those that begin later do not heed it."""
    at = datetime.now(UTC).isoformat()
    Warehouse(place(warehouse)).write_shared(run_id, STOP, {"why": why, "at": at})


def progress_of(warehouse: str, run_id: str) -> Progress:
    """How far a run is, by its records: those of its shards together, at most a heartbeat old."""
    store = Warehouse(place(warehouse))
    run = store.find_run(run_id)
    run = summed(run, store.shards(run.run_id))
    counts = Counter(run.counts)
    progress = Progress(counts["prompts"], counts["done"], counts["open"], counts["lost"], before=counts["done"])
    progress.rows, progress.ledger, progress.spent = counts, Ledger(run.usage), Spent(run.cost)
    return progress


async def finish_run(plan: Plan) -> Run:
    """The run's record, as what its shards' add up to. Where all of them have come to their end, it is finished, by
    the first to take its lock; killed meanwhile, the next call does it again.

    Raises WarehouseError where the tables have other rows than the shards count: their next starts make them again.
    """
    warehouse, began = Warehouse(plan.warehouse), time.monotonic()
    while True:
        try:
            return await to_its_end(_finish, warehouse, plan)
        except RunLocked:
            # Others work, or one of them finishes it; the last to come to its end finds it free.
            run = warehouse.read_run(plan.run_id) or plan.run
            records = warehouse.shards(plan.run_id)
            if run.finished_at or left(records):
                return run if run.finished_at else summed(run, records)
            if time.monotonic() - began > PATIENCE:
                raise
        await asyncio.sleep(0.5)


def _finish(warehouse: Warehouse, plan: Plan) -> Run:
    with warehouse.lock(plan.run_id, prepared=True, last_step=True):
        run, records = warehouse.read_run(plan.run_id) or plan.run, warehouse.shards(plan.run_id)
        if run.finished_at or not records:
            return run
        run = summed(replace(run, recipe=plan.recipe.model_dump(mode="json")), records)
        if not left(records):
            warehouse.recover(plan.run_id)
            # Labels that there are in an open run are of before it was opened again.
            run = close_run(warehouse, run, plan.recipe, run.counts, again=True)
            run = replace(run, finished_at=clock(), stopped="")
            warehouse.rebuild_views()
        warehouse.write_run(run)
        return run
