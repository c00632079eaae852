"""A recipe tried on a few of its prompts before money is spent: what is wrong with it, and what all of it will take.

    trial = await try_recipe(load_recipe(path), path, Path("warehouse"))
    trial.findings, trial.forecast["cost"]

A trial is a run by the pipeline that runs use, in its own warehouse: a new folder in `.try` within the runs'
warehouse, where no reader of that one looks. It can be read by every command (`--warehouse`), and deleted at any time.
One prompt is worked first; the others only when something came of every step, so that a server which refuses everything
is asked little.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from constitution.audit import audit
from constitution.engines import Request
from constitution.measures import Estimate, forecast
from constitution.pipeline import Plan, open_run, prepare
from constitution.pipeline.cost import Cost, Ledger, asked_by
from constitution.recipe import OutputSection, Recipe
from constitution.records import Figure, Run
from constitution.trial.findings import Evidence, Finding, findings
from constitution.trial.sample import Draw, Seen, Watching
from constitution.trial.shares import Step, dropped, echoed, hopeless, rewarded, steps
from constitution.warehouse.upkeep.inventory import TRIALS

PROMPTS = 16
"""One that goes wrong is 6 % of them, and the forecast is within 10 to 20 %."""
SECTIONS = ("position", "judges", "agreement")
"""Sections of the audit that sixteen prompts can say something of."""
REPLICATES = 200
"""Replicates of each bootstrap: on sixteen prompts more of them say nothing more."""


@dataclass(frozen=True)
class Trial:
    """What a recipe's trial came to."""

    recipe: Recipe
    run: Run
    folder: Path
    """The trial's warehouse."""
    population: int
    """Prompts of the recipe."""
    worked: int
    """Prompts that were tried to their end."""
    in_flight: int
    """At once, in the trial."""
    steps: Sequence[Step]
    figures: Sequence[Figure]
    forecast: Mapping[str, Estimate]
    """For all prompts, 95 % prediction intervals: calls, tokens_in, tokens_cached, tokens_out, cost (value None: no
    prices) and hours, at the rate of the trial, with as many prompts in flight (value None: batches take their own
    time). All are None where the trial was stopped early."""
    findings: Sequence[Finding]
    examples: Mapping[tuple[str, str], Request]
    """The first request of each kind, by the role of its engine and what it is for."""


async def try_recipe(
    recipe: Recipe, recipe_path: Path, warehouse: Path, prompts: int = PROMPTS, allow: Sequence[Path] = ()
) -> Trial:
    """Draws `prompts` of the recipe's by its seed, works them, and reports. Raises as `prepare` and `open_run` do."""
    draw, watching = Draw(recipe.seed, prompts), Watching()
    plan = _planned(recipe, recipe_path, warehouse / TRIALS, allow, draw)
    folder = plan.warehouse
    async with open_run(plan, observer=watching) as session:
        for part in plan.parts:
            await session.begin([part])
            doubt = hopeless(steps(watching.rows))
            if session.stopped or not doubt:
                break
            if doubt.sure:
                session.stop(f"trial: {doubt.why}")
        await session.walk()
        run = await session.finish()
    in_flight = min(max(plan.prompts - 1, 1), recipe.output.window)
    figures = audit(folder, run.run_id, replicates=REPLICATES, sections=SECTIONS) if run.counts["judgements"] else []
    # What a step that comes to nothing costs says nothing of a run that is set right.
    seen = [] if run.stopped else list(watching.whole.values())
    foreseen = _forecast(seen, draw, recipe, in_flight)
    rows = watching.rows
    found, pairs = steps(rows), dropped(rows)
    evidence = Evidence(
        recipe, run, found, figures, foreseen["cost"], draw.population, pairs, echoed(rows), rewarded(rows)
    )
    return Trial(
        recipe,
        run,
        folder,
        draw.population,
        len(watching.whole),
        in_flight,
        found,
        figures,
        foreseen,
        findings(evidence),
        watching.examples,
    )


def _planned(recipe: Recipe, recipe_path: Path, shelf: Path, allow: Sequence[Path], draw: Draw) -> Plan:
    """The trial's run, in a new folder on the shelf. What says how a run is divided and when it is stopped is as a
    trial needs it; nothing waits for a batch."""
    output = OutputSection(slice=1, window=recipe.output.window, flush_seconds=recipe.output.flush_seconds)
    small = recipe.model_copy(update={"output": output, "budget": None, "model": recipe.model.alone})
    shelf.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=shelf, prefix=f"{recipe.name}-"))
    try:
        return prepare(small, recipe_path, folder, allow=allow, draw=draw)
    except BaseException:
        with suppress(OSError):  # unless something was written
            folder.rmdir()
        raise


def _forecast(seen: Sequence[Seen], draw: Draw, recipe: Recipe, in_flight: int) -> dict[str, Estimate]:
    cost, hourly = Cost(recipe.model, Ledger(), {}, asked_by(recipe)), _hourly(recipe)

    def hours(each: Seen) -> float:
        """This prompt's part of the whole run's hours: as many prompts are in flight at once (Little's law)."""
        return each.seconds / 3600 / in_flight

    needs: dict[str, Callable[[Seen], float]] = {
        "calls": lambda each: each.total("calls"),
        "tokens_in": lambda each: each.total("prompt_tokens"),
        "tokens_cached": lambda each: each.total("cached_tokens"),
        "tokens_out": lambda each: each.total("completion_tokens"),
        "cost": lambda each: sum(map(cost.token_cost, each.used)) + hours(each) * hourly,
        "hours": hours,
    }
    sizes = [each.size for each in seen]
    made = {
        name: forecast.total([need(each) for each in seen], sizes, draw.population, draw.mean_size)
        for name, need in needs.items()
    }
    unknown = Estimate(None, None, None, len(seen))
    made |= {} if cost.priced else {"cost": unknown}
    return made | {"hours": unknown} if recipe.model.batched else made


def _hourly(recipe: Recipe) -> float:
    """What the accelerators of all engines cost by the hour; sections that are equal but for the price are one."""
    models = recipe.model
    asked = [models.policy] if recipe.asks_policy else []
    judges = [*models.judges.values()] if recipe.asks_judges else []
    scorer = [models.reward_model] if models.reward_model else []
    sections = [*asked, *models.pool.values(), *judges, *scorer]
    bare = [section.bare for section in sections]
    prices = [section.price for place, section in enumerate(sections) if bare[place] not in bare[:place]]
    return sum(price.gpus * price.gpu_hour for price in prices if price)
