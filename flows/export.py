"""A data set that trainers load, made of a run, as a Prefect flow.

constitution export --format dpo --out data/dpo    the same from the command line
prefect deploy --all                               puts it on a schedule (prefect.yaml)
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
from prefect.states import Completed

from constitution.export import CardOptions, Exported, Settings
from constitution.export import export as make
from constitution.export.push import push
from constitution.export.settings import TABLE_OF
from constitution.records import Run
from constitution.scheduling import Outcome, call, end_task_runs, mark, name, place_of, tell, told
from constitution.shown import markdown
from constitution.warehouse import Warehouse
from constitution.warehouse.find import find_run


def run_name() -> str:
    return name(flow_run.parameters.get("run") or "newest run")


@task(cache_policy=NO_CACHE, persist_result=False)
async def write_files(
    run: Run, warehouse: Path, settings: Settings, out: Path, card: CardOptions
) -> Exported | State[Any]:
    """An export of ours that lies in `out` gives way."""
    return await told(asyncio.to_thread(make, warehouse, run.run_id, settings, out, card=card, overwrite=True))


@task(cache_policy=NO_CACHE, persist_result=False)
async def upload(out: Path, repo: str, public: bool) -> str | State[Any]:
    return await told(asyncio.to_thread(push, out, repo, private=not public))


@flow(name="export", flow_run_name=run_name, persist_result=False, validate_parameters=True, on_crashed=[end_task_runs])
async def export(
    settings: Settings,
    out: str,
    run: str | None = None,
    warehouse: str = "warehouse",
    license: str = "",
    repo: str | None = None,
    public: bool = False,
) -> State[Any]:
    """Exports a run; its state holds the run's id.

    Args:
        settings: What `constitution export` takes as options, cleaning in a section apart.
        out: The folder to make.
        run: The run's id, or how it begins; empty takes the newest that has what the format takes.
        warehouse: The warehouse's folder.
        license: The data set's license.
        repo: A data set of the hub, owner/name, that it is also uploaded to; empty uploads nothing.
        public: A data set that is made there is public.
    """
    outcome = Outcome()
    async with outcome:
        found = find_run(Warehouse(Path(warehouse)), run, TABLE_OF[settings.format])
        await mark(found.run_id, place_of(Path(warehouse)))
        done = await call(write_files, found, Path(warehouse), settings, Path(out), CardOptions(license=license))
        where = await call(upload, Path(out), repo, public) if repo else out
        await acreate_markdown_artifact(_table(done, where), key="export", description=f"Export of {done.run_id}")
        outcome.state = Completed(
            message=f"{done.run_id}: {sum(done.rows.values()):,} rows in {where}", data=done.run_id
        )
        tell("constitution.run.exported", done.run_id, warehouse)
    return outcome.state


def _table(done: Exported, where: str) -> str:
    counts = {"candidates": done.candidates, **done.rows} | {f"left out: {why}": n for why, n in done.dropped.items()}
    told = [f"# {done.export_id} of {done.run_id}", "", f"In {markdown(where)}", "", "| | rows |", "|---|--:|"]
    return "\n".join([*told, *(f"| {markdown(what)} | {count:,} |" for what, count in counts.items())])
