"""How far a run's labels can be trusted: every figure into the warehouse, the report into a file.

constitution audit                     the same from the command line
prefect deploy --all                   puts it on a schedule (prefect.yaml)
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from constitution.ask import EVERY, SHIPPED, WINDOW
from constitution.ask.panel import Panel
from constitution.ask.scorecard import Order, score
from constitution.ask.swaps import load_swaps
from constitution.audit import Tags
from constitution.audit import audit as measure
from constitution.audit.report import report
from constitution.audit.summary import summary
from constitution.pipeline.path_policy import allowed_folders, check_models
from constitution.principles import find_root, load_constitution
from constitution.recipe import load_recipe
from constitution.records import Run
from constitution.scheduling import flow, scheduled, task
from constitution.warehouse import Warehouse, place

logger = logging.getLogger("prefect.flow_runs")  # shows in Prefect in a flow run


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


@task()
async def ask_scorecard(run: Run, warehouse: Path, wanted: Scorecard) -> str:
    """The scorecard's name@version. What was asked before is not asked again."""
    scorecard = load_constitution(find_root(Path.cwd()), wanted.name)
    panel = None
    if wanted.recipe:
        recipe = load_recipe(Path(wanted.recipe))
        check_models(recipe, allowed_folders(Path(wanted.recipe)))
        panel = Panel.of(recipe.model, recipe.judge, recipe.seed)
    swaps = load_swaps(Path(wanted.swaps) if isinstance(wanted.swaps, str) else SHIPPED) if wanted.swaps else ()
    for asked in await score(warehouse, run, Order(scorecard, panel, swaps, wanted.sample, wanted.concurrency)):
        what = f"{scorecard.label} asked of {asked.judge}" if asked.judge else "counterfactual prompts answered"
        logger.info("%s: %s: %d new, %d known before", run.run_id, what, asked.new, asked.known)
        for error, times in asked.failed.items():
            logger.warning("%s: %s: %d failed: %s: %s", run.run_id, what, times, error, asked.why[error])
    return scorecard.label


@task()
async def measure_run(run: Run, warehouse: Path, replicates: int, scorecard: str, tags: Tags | None) -> None:
    figures = partial(measure, warehouse, run.run_id, replicates=replicates, scorecard=scorecard, tags=tags)
    await asyncio.to_thread(figures)


@task()
async def write_report(run: Run, warehouse: Path, out: Path) -> None:
    def write() -> None:
        out.write_text(report(warehouse, run.run_id), encoding="utf-8")

    await asyncio.to_thread(write)


@flow(name="audit", named="run")
async def audit(
    run: str | None = None,
    warehouse: str = "warehouse",
    out: str = "report.html",
    replicates: int = 1000,
    scorecard: Scorecard | None = None,
) -> Any:
    """Audits a run; its state holds the run's id.

    Args:
        run: The run's id, or how it begins; empty takes the newest that has preferences.
        warehouse: The warehouse's folder or address.
        out: The report's file.
        replicates: The number of replicates of each bootstrap.
        scorecard: What is asked of each answer first; empty asks nothing.
    """
    async with scheduled() as schedule:
        # A fault in the tags is reported before any model is asked.
        tags = Tags.of(scorecard.tags) if scorecard and scorecard.tags else None
        folder = place(warehouse)
        audited = Warehouse(folder).find_run(run)
        await schedule.mark(audited.run_id, folder)
        asked = await ask_scorecard(audited, folder, scorecard) if scorecard else ""
        await measure_run(audited, folder, replicates, asked, tags)
        await write_report(audited, folder, Path(out))
        message = f"{audited.run_id}: the report is {out}"
        await schedule.end(audited.run_id, warehouse, "audited", summary(folder, audited.run_id), message)
    return schedule.result
