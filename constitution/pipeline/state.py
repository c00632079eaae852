"""The state of one start of a run: its record, what was used so far, and whether more prompts are taken up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from constitution.engines import Engines
from constitution.errors import WarehouseError
from constitution.pipeline.admission import Admission
from constitution.pipeline.cost import Cost, Ledger, asked_by
from constitution.pipeline.dealing import begun, clock, deal, of_shard, said_by, summed, taken_up
from constitution.pipeline.input import COUNTS
from constitution.pipeline.models import check_same_models, models_of, with_sent
from constitution.pipeline.plan import Plan, small_window
from constitution.pipeline.pot import Pot, account, refill
from constitution.pipeline.progress import Progress
from constitution.pipeline.reopen import reopen
from constitution.pipeline.tasks import to_its_end
from constitution.recipe import Recipe
from constitution.records import Run, ShardRecord
from constitution.warehouse import Tally, Warehouse
from constitution.writing import author

BATCHES = (
    "requests go out in batches, which may take a day each; stopped meanwhile, the same command waits for them again"
)
"""What is said of a run in batches before it begins."""
STOP = "stop"
"""What the shards share that tells them to stop."""
HEARTBEAT = 10.0
"""Seconds between two times that a run's record is written while it works."""


@dataclass(slots=True)
class State:
    plan: Plan
    warehouse: Warehouse
    before: Run
    """The record as earlier starts left it; of a shard, the run's with what is counted in its own."""
    tally: Tally
    """What the rows of earlier starts add up to: by the rows, not by the record, which may be old or gone."""
    progress: Progress
    cost: Cost
    admission: Admission
    run: Run
    """The record, without what is counted: `now` has that too. Of a shard, as `before`."""
    record_of_shard: ShardRecord | None = None
    """As it was begun; None: the run is worked as a whole."""
    ended: bool = False
    """A shard's earlier starts left nothing to do."""
    told: Mapping[str, str] = field(default_factory=dict)
    """Why a shard should have stopped before it began (`told`)."""
    left: bool = False
    """True: the record says how the start ended."""

    @property
    def resumes(self) -> bool:
        """Whether there are rows of earlier starts."""
        return any(self.tally.counts.values())

    async def begin(self, engines: Engines) -> None:
        """Records the start. Raises RecipeError for a server that has another model than the run was begun with."""
        if self.resumes or self.plan.shard:  # other shards may have rows already
            check_same_models(self.before, engines.describe())
        self.cost.engines = engines
        models, starts = models_of(self.before, engines.describe()), self.before.starts + 1
        authors = tuple(dict.fromkeys((*self.before.authors, author())))
        self.run = replace(self.run, models=models, starts=starts, authors=authors, stopped="", finished_at=None)
        await to_its_end(self._write, self.run)

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

    def _write(self, run: Run) -> None:
        """The run's record, or the shard's."""
        shard = self.record_of_shard
        if shard is None:
            self.warehouse.write_run(run)
            return
        own = {name: n for name, n in run.counts.items() if name not in COUNTS}
        self.warehouse.write_shard(
            replace(
                shard,
                beat_at=clock(),
                ended_at=run.finished_at,
                stopped=run.stopped,
                starts=shard.starts + run.starts - self.before.starts,
                seconds=run.seconds,
                counts=own,
                usage=run.usage,
                engines=run.engines,
                models=run.models,
                cost=run.cost,
            )
        )

    async def record(self) -> None:
        """Writes the record and the views."""
        self.run = self.now()
        if self.plan.shard is not None:
            await to_its_end(self._write, self.run)
            await self.admission.leave()
        elif self.run.finished_at:
            # First: a finished run is not taken up again, and a kill between the two would leave it with old views.
            await to_its_end(self.warehouse.rebuild_views)
            await to_its_end(self._write, self.run)
        else:
            await to_its_end(self._write, self.run)
            await to_its_end(self.warehouse.rebuild_views)

    async def beat(self) -> None:
        """Keeps the record alive, for who looks at it and for what is left of it after a kill. A shard stops where it
        is told to, or where another one stopped for failures."""
        while True:
            await asyncio.sleep(HEARTBEAT)
            with suppress(WarehouseError):  # the writer meets the same disk, and reports it
                await to_its_end(self._write, self.now())
                for said in (await asyncio.to_thread(told, self.plan, self.warehouse)).items() - self.told.items():
                    self.admission.stop(said[1])


def told(plan: Plan, warehouse: Warehouse) -> dict[str, str]:
    """Why a shard should stop, by who says so and in which start: no clock tells what is new. Nothing of a run that is
    worked as a whole."""
    found: dict[str, str] = {}
    if plan.shard is None:
        return found
    for record in warehouse.shards(plan.run_id):
        if record.number and record.shard != plan.shard and record.stopped.startswith("failures: "):
            found[f"{record.number} {record.starts}"] = said_by(record)
    if asked := warehouse.read_shared(plan.run_id, STOP):
        found[f"{STOP} {asked.get('at')}"] = f"request: {asked.get('why')}"
    return found


def mend(plan: Plan, warehouse: Warehouse, retry_failed: bool) -> None:
    """Clears and mends what earlier starts left, holding the run's lock alone, and deals the run again where it was
    worked otherwise. A shard opens a finished run alone for what failed for good: the others find it open, and an open
    one may have failures of this start."""
    warehouse.recover(plan.run_id)
    warehouse.repair(plan.run_id)
    run = warehouse.read_run(plan.run_id)
    if retry_failed and (plan.shard is None or (run and run.finished_at)):
        reopen(warehouse, plan.run_id)
    deal(warehouse, plan.run_id, plan.shard.of if plan.shard else 0, plan.recipe)
    if plan.shard and plan.recipe.budget and (run := warehouse.read_run(plan.run_id)):
        engines = summed(run, warehouse.shards(plan.run_id)).engines
        tally = warehouse.tally(plan.run_id)
        cost = Cost(plan.recipe.model, Ledger(tally.usage), engines, asked_by(plan.recipe))
        refill(warehouse, plan.run_id, account(cost, _finished(tally, plan.recipe)))


def unmended(plan: Plan, warehouse: Warehouse) -> Plan:
    """The plan with a note of what is damaged, by names and sizes, and cannot be mended beside other shards."""
    found = warehouse.verify(plan.run_id, read_parts=False)
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    seen = f"{found[0]}{more}: left as it is while other shards work; the next start mends it" if found else ""
    return replace(plan, note="; ".join(filter(None, (plan.note, seen))))


async def take_stock(plan: Plan, warehouse: Warehouse) -> State:
    """The state in which earlier starts left the run, or the shard, whose lock is held."""
    run_id, recipe, shard = plan.run_id, plan.recipe, plan.shard
    before, own = warehouse.read_run(run_id) or plan.run, None
    if shard is not None:
        own = warehouse.read_shard(run_id, shard)
        own = taken_up(own) if own else begun(run_id, shard)
        before = of_shard(before, warehouse.shards(run_id), own)
    tally = await asyncio.to_thread(warehouse.tally, run_id, shard, plan.parts)
    finished = _finished(tally, recipe)
    waits = BATCHES if recipe.model.batched else ""
    note = "; ".join(filter(None, (plan.note, waits, small_window(recipe, plan.prompts))))
    progress = Progress(plan.prompts, before=finished, note=note, started=time.monotonic())
    progress.take_stock(tally)
    progress.currency = recipe.budget.currency if recipe.budget else "USD"
    progress.spent = cost = Cost(recipe.model, progress.ledger, before.engines, asked_by(recipe))
    ended = not plan.prompts or (own is not None and bool(own.ended_at) and _same(own.counts, progress.counts()))
    pot = None
    if shard is not None and recipe.budget is not None and not ended:
        pot = Pot(warehouse, run_id, shard, recipe.budget.limit)
        await to_its_end(pot.enter, account(cost, finished))
    limit = None if ended else recipe.budget
    admission = Admission(limit, cost, finished, stop_at_failures=recipe.output.stop_at_failures, pot=pot)
    run = replace(before, recipe=recipe.model_dump(mode="json"))
    heard = told(plan, warehouse)
    return State(plan, warehouse, before, tally, progress, cost, admission, run, own, ended, heard)


def _finished(tally: Tally, recipe: Recipe) -> int:
    """Prompts that were worked to their end."""
    answered = tally.answered.get(recipe.revise.rounds, 0) if recipe.chain else tally.sampled // max(recipe.samples, 1)
    at_end = tally.labelled if recipe.judge else tally.rewarded if recipe.reward else answered
    # Of a scripted conversation, whose turns are one prompt here, each turn that was asked follows one at its end.
    return max(0, at_end - tally.counts.get("turns", 0))


def _same(recorded: Mapping[str, int], counted: Mapping[str, int]) -> bool:
    """Whether a shard's rows are those that its record counts: none was lost since."""
    taken_up = ("done", "open", "lost")
    return {**recorded, **{name: counted[name] for name in taken_up}} == dict(counted)
