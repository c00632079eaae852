"""How far a run's labels can be trusted: every figure into the warehouse, the report into a file, as a Prefect flow.

constitution audit                     the same from the command line
prefect deploy --all                   puts it on a schedule (prefect.yaml)
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed
from pydantic import BaseModel, ConfigDict

from constitution.ask.panel import Panel
from constitution.ask.scorecard import EVERY, WINDOW
from constitution.ask.scoring import Order, score
from constitution.ask.swaps import SHIPPED, load_swaps
from constitution.audit import Tags
from constitution.audit import audit as measure
from constitution.audit.report import report, summary
from constitution.pipeline.path_policy import allowed_folders, check_models
from constitution.principles import find_root, load_constitution
from constitution.recipe import load_recipe
from constitution.records import Run
from constitution.scheduling import Outcome, call, end_task_runs, mark, name, place_of, tell, told
from constitution.warehouse import Warehouse
from constitution.warehouse.find import find_run


class Scorecard(BaseModel):
    """What is asked of every answer before the audit, as by the options of `constitution audit`."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    name: str = "scorecard"
    """name or name@version, looked up in the project's principles/."""
    recipe: str | None = None
    """Whose judges are asked; None: the run's own."""
    swaps: bool | str = False
    """True: prompts are answered with the terms swapped that ship with the project; a file: with its terms."""
    sample: int = EVERY
    """Prompts at most."""
    concurrency: int = WINDOW
    """Answers in flight at most."""
    tags: dict[str, list[str]] = {}
    """Of prompts that are harmless, looks-harmful, harmful: the tags that say so, in place of those that are called so;
    empty: as the last audit had them."""


def run_name() -> str:
    return name(flow_run.parameters.get("run") or "newest run")


@task(cache_policy=NO_CACHE, persist_result=False)
async def ask_scorecard(run: Run, warehouse: Path, wanted: Scorecard) -> str | State[Any]:
    """The scorecard's name@version. What was asked before is not asked again."""
    return await told(_ask(run, warehouse, wanted))


async def _ask(run: Run, warehouse: Path, wanted: Scorecard) -> str:
    scorecard = load_constitution(find_root(Path.cwd()), wanted.name)
    panel = None
    if wanted.recipe:
        recipe = load_recipe(Path(wanted.recipe))
        check_models(recipe, allowed_folders(Path(wanted.recipe)))
        panel = Panel.of(recipe.model, recipe.judge, recipe.seed)
    swaps = load_swaps(Path(wanted.swaps) if isinstance(wanted.swaps, str) else SHIPPED) if wanted.swaps else ()
    logger = get_run_logger()
    for asked in await score(warehouse, run, Order(scorecard, panel, swaps, wanted.sample, wanted.concurrency)):
        what = f"{scorecard.label} asked of {asked.judge}" if asked.judge else "counterfactual prompts answered"
        logger.info("%s: %s: %d new, %d known before", run.run_id, what, asked.new, asked.known)
        for error, times in asked.failed.items():
            logger.warning("%s: %s: %d failed: %s: %s", run.run_id, what, times, error, asked.why[error])
    return scorecard.label


@task(cache_policy=NO_CACHE, persist_result=False)
async def measure_run(
    run: Run, warehouse: Path, replicates: int, scorecard: str, tags: Tags | None
) -> State[Any] | None:
    def measured() -> None:
        measure(warehouse, run.run_id, replicates=replicates, scorecard=scorecard, tags=tags)

    return await told(asyncio.to_thread(measured))


@task(cache_policy=NO_CACHE, persist_result=False)
async def write_report(run: Run, warehouse: Path, out: Path) -> State[Any] | None:
    def written() -> None:
        out.write_text(report(warehouse, run.run_id), encoding="utf-8")

    return await told(asyncio.to_thread(written))


@flow(name="audit", flow_run_name=run_name, persist_result=False, validate_parameters=True, on_crashed=[end_task_runs])
async def audit(
    run: str | None = None,
    warehouse: str = "warehouse",
    out: str = "report.html",
    replicates: int = 1000,
    scorecard: Scorecard | None = None,
) -> State[Any]:
    """Audits a run; its state holds the run's id.

    Args:
        run: The run's id, or how it begins; empty takes the newest that has preferences.
        warehouse: The warehouse's folder.
        out: The report's file.
        replicates: The number of replicates of each bootstrap.
        scorecard: What is asked of each answer first; empty asks nothing.
    """
    outcome = Outcome()
    async with outcome:
        # A fault in the tags is told before any model is asked.
        tags = Tags.of(scorecard.tags) if scorecard and scorecard.tags else None
        found = find_run(Warehouse(Path(warehouse)), run)
        await mark(found.run_id, place_of(Path(warehouse)))
        asked = await call(ask_scorecard, found, Path(warehouse), scorecard) if scorecard else ""
        await call(measure_run, found, Path(warehouse), replicates, asked, tags)
        await call(write_report, found, Path(warehouse), Path(out))
        told_of_it = summary(Path(warehouse), found.run_id)
        await acreate_markdown_artifact(told_of_it, key="audit", description=f"Audit of {found.run_id}")
        outcome.state = Completed(message=f"{found.run_id}: the report is {out}", data=found.run_id)
        tell("constitution.run.audited", found.run_id, warehouse)
    return outcome.state
