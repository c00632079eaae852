"""How far a run's labels can be trusted: every figure into the warehouse, the report into a file, as a Prefect flow.

constitution audit                     the same from the command line
prefect deploy --all                   puts it on a schedule (prefect.yaml)
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from prefect import flow, task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from constitution.audit import audit as measure
from constitution.audit.report import report, summary
from constitution.records import Run
from constitution.warehouse import Warehouse
from constitution.warehouse.find import find_run


def name() -> str:
    """What the run is called in Prefect: what is audited and the time."""
    return f"{flow_run.parameters.get('run') or 'newest run'} {flow_run.scheduled_start_time:%Y-%m-%d %H:%M}"


@task(cache_policy=NO_CACHE, persist_result=False)
async def measure_run(run: Run, warehouse: Path, replicates: int) -> None:
    await asyncio.to_thread(measure, warehouse, run.run_id, replicates=replicates)


@task(cache_policy=NO_CACHE, persist_result=False)
async def write_report(run: Run, warehouse: Path, out: Path) -> None:
    text = await asyncio.to_thread(report, warehouse, run.run_id)
    await asyncio.to_thread(out.write_text, text, encoding="utf-8")


@flow(name="audit", flow_run_name=name, persist_result=False, validate_parameters=True)
async def audit(
    run: str | None = None, warehouse: str = "warehouse", out: str = "report.html", replicates: int = 1000
) -> str:
    """Audits `run` (its id, or how it begins; None: the newest that has preferences) and returns its id.

    out: the report's file. replicates: of each bootstrap.
    """
    found = find_run(Warehouse(Path(warehouse)), run)
    await measure_run(found, Path(warehouse), replicates)
    await write_report(found, Path(warehouse), Path(out))
    told = summary(Path(warehouse), found.run_id)
    await acreate_markdown_artifact(told, key="audit", description=f"Audit of {found.run_id}")
    return found.run_id
