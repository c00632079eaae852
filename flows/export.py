"""A data set that trainers load, made of a run, as a Prefect flow.

constitution export --format dpo --out data/dpo    the same from the command line
prefect deploy --all                               puts it on a schedule (prefect.yaml)
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from prefect import flow, task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from constitution.export import CardOptions, Exported, Settings
from constitution.export import export as make
from constitution.export.push import push
from constitution.export.settings import TABLE_OF
from constitution.records import Run
from constitution.shown import markdown
from constitution.warehouse import Warehouse
from constitution.warehouse.find import find_run


def name() -> str:
    """What the run is called in Prefect: what is exported and the time."""
    return f"{flow_run.parameters.get('run') or 'newest run'} {flow_run.scheduled_start_time:%Y-%m-%d %H:%M}"


@task(cache_policy=NO_CACHE, persist_result=False)
async def write_files(run: Run, warehouse: Path, settings: Settings, out: Path, card: CardOptions) -> Exported:
    """An export of ours that lies in `out` gives way."""
    return await asyncio.to_thread(make, warehouse, run.run_id, settings, out, card=card, overwrite=True)


@task(cache_policy=NO_CACHE, persist_result=False)
async def upload(out: Path, repo: str, public: bool) -> str:
    return await asyncio.to_thread(push, out, repo, private=not public)


@flow(name="export", flow_run_name=name, persist_result=False, validate_parameters=True)
async def export(
    settings: Settings,
    out: str,
    run: str | None = None,
    warehouse: str = "warehouse",
    license: str = "",
    repo: str | None = None,
    public: bool = False,
) -> str:
    """Exports `run` (its id, or how it begins; None: the newest that has what the format takes) and returns its id.

    settings: what `constitution export` takes as options, cleaning in a section of its own. out: the folder. license:
    of the data set. repo: also uploads it to this data set of the hub; public: one that is made there is public.
    """
    found = find_run(Warehouse(Path(warehouse)), run, TABLE_OF[settings.format])
    done = await write_files(found, Path(warehouse), settings, Path(out), CardOptions(license=license))
    where = await upload(Path(out), repo, public) if repo else out
    counts = {"candidates": done.candidates, **done.rows} | {f"left out: {why}": n for why, n in done.dropped.items()}
    told = [f"# {done.export_id} of {done.run_id}", "", f"In {markdown(where)}", "", "| | rows |", "|---|--:|"]
    told += [f"| {markdown(what)} | {count:,} |" for what, count in counts.items()]
    await acreate_markdown_artifact("\n".join(told), key="export", description=f"Export of {done.run_id}")
    return done.run_id
