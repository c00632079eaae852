"""The state of one start of a run: its record, what was used so far, and whether more prompts are taken up."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, replace

from constitution.engines import Engines
from constitution.errors import WarehouseError
from constitution.pipeline.admission import Admission
from constitution.pipeline.cost import Cost, asked_by
from constitution.pipeline.input import COUNTS
from constitution.pipeline.models import check_same_models, models_of, with_sent
from constitution.pipeline.plan import Plan, small_window
from constitution.pipeline.progress import Progress
from constitution.pipeline.reopen import reopen
from constitution.pipeline.tasks import to_its_end
from constitution.records import Run
from constitution.warehouse import Tally, Warehouse

BATCHES = (
    "requests go out in batches, which may take a day each; stopped meanwhile, the same command waits for them again"
)
"""What is said of a run in batches before it begins."""
HEARTBEAT = 10.0
"""Seconds between two times that a run's record is written while it works."""


@dataclass(slots=True)
class State:
    plan: Plan
    warehouse: Warehouse
    before: Run
    """The record as earlier starts left it."""
    tally: Tally
    """What the rows of earlier starts add up to: by the rows, not by the record, which may be old or gone."""
    progress: Progress
    cost: Cost
    admission: Admission
    run: Run
    """The record, without what is counted: `now` has that too."""
    left: bool = False
    """True: the record says how the start ended."""

    @property
    def resumes(self) -> bool:
        """Whether there are rows of earlier starts."""
        return any(self.tally.counts.values())

    async def begin(self, engines: Engines) -> None:
        """Records the start. Raises RecipeError for a server that has another model than the run was begun with."""
        if self.resumes:
            check_same_models(self.before, engines.describe())
        self.cost.engines = engines
        models, starts = models_of(self.before, engines.describe()), self.before.starts + 1
        self.run = replace(self.run, models=models, starts=starts, stopped="", finished_at=None)
        await to_its_end(self.warehouse.write_run, self.run)

    def now(self) -> Run:
        """The run's record as of now.

        Prompts are counted as they are taken up: midway, the figures of the start before may be greater.
        """
        beside = {name: n for name, n in self.before.counts.items() if name in COUNTS}
        counts = self.progress.counts() | beside
        if self.progress.done < self.progress.total:
            before = self.before.counts
            counts |= {name: max(counts[name], before.get(name, 0)) for name in ("done", "open", "lost")}
        engines, cost = self.cost.engines, self.cost.total
        return replace(
            self.run,
            counts=counts,
            seconds=round(self.before.seconds + (self.progress.seconds if engines else 0.0), 3),
            usage=self.cost.usage(),
            engines=self.cost.stats(),
            models=with_sent(self.run.models, engines.describe() if engines else {}),
            cost=None if cost is None else round(cost, 6),
        )

    async def record(self) -> None:
        """Writes the run's record and the views."""
        self.run = self.now()
        if self.run.finished_at:
            # First: a finished run is not taken up again, and a kill between the two would leave it with old views.
            await to_its_end(self.warehouse.rebuild_views)
            await to_its_end(self.warehouse.write_run, self.run)
        else:
            await to_its_end(self.warehouse.write_run, self.run)
            await to_its_end(self.warehouse.rebuild_views)

    async def beat(self) -> None:
        """Keeps the run's record alive, for who looks at it and for what is left of it after a kill."""
        while True:
            await asyncio.sleep(HEARTBEAT)
            with suppress(WarehouseError):  # the writer meets the same disk, and reports it
                await to_its_end(self.warehouse.write_run, self.now())


async def take_stock(plan: Plan, warehouse: Warehouse, retry_failed: bool) -> State:
    """The state in which earlier starts left the run, whose lock is held; what was damaged is mended first."""
    run_id, recipe = plan.run_id, plan.recipe
    await to_its_end(warehouse.recover, run_id)
    await to_its_end(warehouse.repair, run_id)
    if retry_failed:
        await to_its_end(reopen, warehouse, run_id)
    before = warehouse.read_run(run_id) or plan.run
    tally = await asyncio.to_thread(warehouse.tally, run_id)
    answered = tally.answered.get(recipe.revise.rounds, 0) if recipe.chain else tally.sampled // max(recipe.samples, 1)
    ended = tally.labelled if recipe.judge else tally.rewarded if recipe.reward else answered
    # Of a scripted conversation, whose turns are one prompt here, each turn that was asked follows one at its end.
    finished = max(0, ended - tally.counts.get("turns", 0))
    waits = BATCHES if recipe.model.batched else ""
    note = "; ".join(filter(None, (plan.note, waits, small_window(recipe, plan.prompts))))
    progress = Progress(plan.prompts, before=finished, note=note, started=time.monotonic())
    progress.take_stock(tally)
    progress.currency = recipe.budget.currency if recipe.budget else "USD"
    progress.spent = cost = Cost(recipe.model, progress.ledger, before.engines, asked_by(recipe))
    admission = Admission(recipe.budget, cost, finished, stop_at_failures=recipe.output.stop_at_failures)
    run = replace(before, recipe=recipe.model_dump(mode="json"))
    return State(plan, warehouse, before, tally, progress, cost, admission, run)
