"""How far a run's labels can be trusted: every figure into the warehouse, the report into a file, as a Prefect flow.

constitution audit                     the same from the command line
prefect deploy --all                   puts it on a schedule (prefect.yaml)
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from pydantic import BaseModel

from constitution.audit import Tags
from constitution.audit import audit as measure
from constitution.audit.asking import EVERY, WINDOW
from constitution.audit.panel import Panel
from constitution.audit.report import report, summary
from constitution.audit.scoring import Order, score
from constitution.audit.swaps import SHIPPED, load_swaps
from constitution.pipeline.places import allowed_folders, check_models
from constitution.principles import find_root, load_constitution
from constitution.recipe import load_recipe
from constitution.records import Run
from constitution.warehouse import Warehouse
from constitution.warehouse.find import find_run


class Scorecard(BaseModel):
    """What is asked of every answer before the audit, as by the options of `constitution audit`."""

    name: str = "scorecard"
    """name or name@version, looked up in the project's principles/."""
    recipe: str | None = None
    """Whose judges are asked; None: the run's own."""
    swaps: bool | str = False
    """True: prompts are answered with the terms swapped that ship with the project; a file: with its terms."""
    sample: int = EVERY
    """Prompts at the most."""
    concurrency: int = WINDOW
    """Answers in flight at the most."""
    tags: dict[str, list[str]] = {}
    """Of prompts that are harmless, looks-harmful, harmful: the tags that say so, in place of those that are called so;
    empty: as the last audit had them."""


def name() -> str:
    """What the run is called in Prefect: what is audited and the time."""
    return f"{flow_run.parameters.get('run') or 'newest run'} {flow_run.scheduled_start_time:%Y-%m-%d %H:%M}"


@task(cache_policy=NO_CACHE, persist_result=False)
async def ask_scorecard(run: Run, warehouse: Path, wanted: Scorecard) -> str:
    """The scorecard's name@version. What was asked before is not asked again."""
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
        logger.info("%s: %d new, %d known before", what, asked.new, asked.known)
        for error, times in asked.failed.items():
            logger.warning("%s: %d failed: %s: %s", what, times, error, asked.why[error])
    return scorecard.label


@task(cache_policy=NO_CACHE, persist_result=False)
async def measure_run(run: Run, warehouse: Path, replicates: int, scorecard: str, tags: Tags | None) -> None:
    await asyncio.to_thread(measure, warehouse, run.run_id, replicates=replicates, scorecard=scorecard, tags=tags)


@task(cache_policy=NO_CACHE, persist_result=False)
async def write_report(run: Run, warehouse: Path, out: Path) -> None:
    text = await asyncio.to_thread(report, warehouse, run.run_id)
    await asyncio.to_thread(out.write_text, text, encoding="utf-8")


@flow(name="audit", flow_run_name=name, persist_result=False, validate_parameters=True)
async def audit(
    run: str | None = None,
    warehouse: str = "warehouse",
    out: str = "report.html",
    replicates: int = 1000,
    scorecard: Scorecard | None = None,
) -> str:
    """Audits `run` (its id, or how it begins; None: the newest that has preferences) and returns its id.

    out: the report's file. replicates: of each bootstrap. scorecard: what is asked of each answer first; None: nothing.
    """
    tags = (
        Tags.of(scorecard.tags) if scorecard and scorecard.tags else None
    )  # a fault is told before any model is asked
    found = find_run(Warehouse(Path(warehouse)), run)
    asked = await ask_scorecard(found, Path(warehouse), scorecard) if scorecard else ""
    await measure_run(found, Path(warehouse), replicates, asked, tags)
    await write_report(found, Path(warehouse), Path(out))
    told = summary(Path(warehouse), found.run_id)
    await acreate_markdown_artifact(told, key="audit", description=f"Audit of {found.run_id}")
    return found.run_id
