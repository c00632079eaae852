"""A data set that trainers load, made from a run.

constitution export --format dpo --out data/dpo    the same from the command line
prefect deploy --all                               puts it on a schedule (prefect.yaml)
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

from constitution.export import CardOptions, Exported, Settings
from constitution.export import export as make
from constitution.export.push import push
from constitution.records import Run
from constitution.scheduling import flow, scheduled, task
from constitution.shown import markdown
from constitution.warehouse import Warehouse, place


@task()
async def write_files(run: Run, warehouse: Path, settings: Settings, out: Path, card: CardOptions) -> Exported:
    """An export of ours that is in `out` gives way."""
    written = partial(make, warehouse, run.run_id, settings, out, card=card, overwrite=True)
    return await asyncio.to_thread(written)


@task()
async def upload(out: Path, repo: str, public: bool) -> str:
    return await asyncio.to_thread(push, out, repo, private=not public)


@flow(name="export", named="run")
async def export(
    settings: Settings,
    out: str,
    run: str | None = None,
    warehouse: str = "warehouse",
    license: str = "",
    repo: str | None = None,
    public: bool = False,
) -> Any:
    """Exports a run; its state holds the run's id.

    Args:
        settings: What `constitution export` takes as options, cleaning in a section apart.
        out: The folder to make.
        run: The run's id, or how it begins; empty takes the newest that has what the format takes.
        warehouse: The warehouse's folder or address.
        license: The data set's license.
        repo: A data set of the hub, owner/name, that it is also uploaded to; empty uploads nothing.
        public: A data set that is made there is public.
    """
    async with scheduled() as schedule:
        folder = place(warehouse)
        source = Warehouse(folder).find_run(run, settings.tables)
        await schedule.mark(source.run_id, folder)
        done = await write_files(source, folder, settings, Path(out), CardOptions(license=license))
        where = await upload(Path(out), repo, public) if repo else out
        message = f"{done.run_id}: {sum(done.rows.values()):,} rows in {where}"
        await schedule.end(done.run_id, warehouse, "exported", _table(done, where), message)
    return schedule.result


def _table(done: Exported, where: str) -> str:
    counts = {"candidates": done.candidates, **done.rows} | {f"dropped: {why}": n for why, n in done.dropped.items()}
    lines = [f"# {done.export_id} of {done.run_id}", "", f"In {markdown(where)}", "", "| | rows |", "|---|--:|"]
    return "\n".join([*lines, *(f"| {markdown(what)} | {count:,} |" for what, count in counts.items())])
