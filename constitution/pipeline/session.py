"""A run at work: engines, writer, and the window of prompts in flight over all of its slices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from constitution.engines import Engines, open_engines
from constitution.errors import EngineGone, WarehouseError
from constitution.generate.base import Emit
from constitution.generate.revise import Reviser, revise
from constitution.identity import row_id
from constitution.labels import Rules
from constitution.pipeline.admission import Intake
from constitution.pipeline.cost import Account, Ledger
from constitution.pipeline.label import labeller
from constitution.pipeline.models import check_same_models, models_of, with_sent
from constitution.pipeline.plan import Plan, principles_for
from constitution.pipeline.progress import Progress, watcher
from constitution.pipeline.proven import Proving
from constitution.pipeline.relabel import relabel_run
from constitution.pipeline.reopen import reopen
from constitution.pipeline.tasks import end, first_error, sigterm_cancels, to_its_end
from constitution.records import UNSAID, Failure, Prompt, Row, Run
from constitution.warehouse import Tally, Warehouse, Writer
from constitution.warehouse.slices import most_left_first

FEEDING = 2
"""Slices that have prompts still to be taken up, at the most: one feeds the window and the next is read meanwhile."""

HEARTBEAT = 10.0
"""Seconds between two times that a run's record is written while it works."""


class Session:
    """Holds the run's lock, its engines and its writer; nothing of it outlives the `async with` block.

    However the block ends, rows that exist are written: a run that was stopped resumes from them."""

    def __init__(self, plan: Plan, retry_failed: bool = False) -> None:
        """retry_failed: what failed for good in earlier starts is tried again (reopen.py)."""
        self.plan = plan
        self._retry_failed = retry_failed
        self.run = plan.run
        output, budget = plan.recipe.output, plan.recipe.budget
        currency = budget.currency if budget else "USD"
        self.progress = Progress(plan.prompts, currency=currency, note=plan.note)
        self._feeding = asyncio.Semaphore(FEEDING)
        self._window = asyncio.Semaphore(output.window)
        self._warehouse = Warehouse(plan.warehouse)
        self._watcher = watcher.get()
        self._finished = False
        self._proving: list[Proving] = []
        self._again: list[tuple[Prompt, list[Row]]] = []
        """Prompts that were refused something before it was known whether that was theirs, with their rows."""

    async def __aenter__(self) -> Self:
        """Raises RunLocked where another process works on the run, ModelLoadError for a model that does not load,
        RecipeError for a server that has another model than the one that the run was begun with.

        Where the budget is spent already, no model is loaded and `work` takes up nothing.
        """
        run_id = self.plan.run_id
        async with AsyncExitStack() as stack:
            stack.enter_context(self._warehouse.lock(run_id, prepared=True))
            await to_its_end(self._warehouse.recover, run_id)
            await to_its_end(self._warehouse.repair, run_id)
            if self._retry_failed:
                await to_its_end(reopen, self._warehouse, run_id)
            self.run = self._warehouse.read_run(run_id) or self.plan.run
            self._seconds_before, self._counts_before = self.run.seconds, self.run.counts
            self._take_stock(await asyncio.to_thread(self._warehouse.tally, run_id))
            self.run = replace(self.run, recipe=self.plan.recipe.model_dump(mode="json"))
            if not self._intake.stopped:
                await self._open(stack)
            self.progress.started = time.monotonic()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, traceback)

    def _take_stock(self, tally: Tally) -> None:
        """What earlier starts left: told by the rows, not by the record, which may be old or gone."""
        recipe, progress = self.plan.recipe, self.progress
        self._resumes, self._usage_before = any(tally.counts.values()), tally.usage
        progress.before = tally.labelled if recipe.judge else tally.answered.get(recipe.revise.rounds, 0)
        progress.take_stock(tally)
        self._account = Account(recipe.model, progress.ledger, self.run.engines)
        progress.cost = lambda: self._account.cost
        self._intake = Intake(
            recipe.budget, self._account, progress.before, stop_at_failures=recipe.output.stop_at_failures
        )

    async def _open(self, stack: AsyncExitStack) -> None:
        """Engines, record, writer and heartbeat, to be closed by `stack` in the opposite order."""
        output, stored = self.plan.recipe.output, self.run
        engines = await stack.enter_async_context(open_engines(self.plan.recipe.model.on(stored.day)))
        if self._resumes:
            check_same_models(stored, engines.describe())
        self._account.engines = engines
        models, starts = models_of(stored, engines.describe()), stored.starts + 1
        self.run = replace(stored, models=models, starts=starts, stopped="", finished_at=None)
        await to_its_end(self._warehouse.write_run, self.run)
        self._prepare_steps(engines)
        self._writer = Writer(
            self._warehouse, self.run.run_id, flush_rows=output.flush_rows, flush_seconds=output.flush_seconds
        )
        stack.push_async_callback(self._leave)
        stack.enter_context(sigterm_cancels())
        await stack.enter_async_context(self._writer)
        self._heart = asyncio.create_task(self._beat(), name=f"heartbeat of {self.run.run_id}")
        stack.push_async_callback(end, self._heart)

    def _prepare_steps(self, engines: Engines) -> None:
        recipe, run = self.plan.recipe, self.run
        revising, _ = principles_for(recipe, self.plan.constitution)
        self._reviser = Reviser(
            run.run_id,
            recipe.seed,
            run.starts,
            engines.policy,
            self.plan.constitution,
            revising,
            recipe.revise,
            recipe.model.policy.family or None,
        )
        self._labeller = labeller(self.plan, run, engines)
        able = recipe.output.stop_at_failures < 1
        for role, engine in engines.distinct.items():
            names = {name for name, judge in engines.judges.items() if judge is engine}
            earlier = {each.stage for each in self._usage_before if each.stage != "vote" or each.model in names}
            engine.watch = proving = Proving(role, earlier, self._intake.stop, able=able)
            self._proving.append(proving)

    async def walk(self, work: Callable[[Path], Awaitable[object]] | None = None) -> None:
        """Works every slice; the first error cancels the rest and is raised. work: what is called for a slice, to
        wrap `Session.work`, which it must call.

        A slice is begun when another has no prompt left to take up, however long its last ones may take, so that the
        window stays full over the seams. Those that have the most left to do come first.
        """
        ended = self._warehouse.parts("preferences" if self.plan.recipe.judge else "responses", self.plan.run_id)
        parts = await asyncio.to_thread(most_left_first, self.plan.parts, ended)
        try:
            async with asyncio.TaskGroup() as group:
                for part in parts:
                    await self._feeding.acquire()
                    group.create_task(_call(work or self.work, part))
            while not self._stopped() and self._again:
                async with asyncio.TaskGroup() as group:
                    await self._ask_again(group)
        except BaseExceptionGroup as errors:
            raise first_error(errors) from errors

    def _stopped(self) -> bool:
        """Whether the start has ended, once it is decided which steps are proven."""
        for proving in self._proving:
            if not self._intake.stopped:
                proving.decide()
        return bool(self._intake.stopped)

    async def _ask_again(self, group: asyncio.TaskGroup) -> None:
        """The prompts that were refused something early: what is refused now is final."""
        again, self._again = self._again, []
        for prompt, rows in again:
            await self._window.acquire()
            if not await self._intake.admits():
                self._window.release()
                return
            self.progress.done -= 1
            self.progress.open -= 1
            group.create_task(self._in_window(prompt, rows))

    async def work(self, part: Path) -> int:
        """Walks every prompt of one slice to its end, within the window that all slices share; returns how many, which
        are not all of them once the run takes up no more."""
        async with asyncio.TaskGroup() as group:
            try:
                return await self._take_up(part, group)
            finally:
                self._feeding.release()

    async def _take_up(self, part: Path, group: asyncio.TaskGroup) -> int:
        """A task for each prompt of the slice, as the window has room for it: so tasks are as many as the window."""
        if self._intake.stopped:
            return 0
        prompts = await asyncio.to_thread(self._warehouse.read_prompts, part)
        have: Mapping[str, list[Row]] = {}
        if self._resumes:
            ids = [prompt.id for prompt in prompts]
            have = await asyncio.to_thread(self._warehouse.rows_of, self.plan.run_id, ids)
        for taken, prompt in enumerate(prompts):
            await self._window.acquire()
            if not await self._intake.admits():
                self._window.release()
                return taken
            group.create_task(self._in_window(prompt, have.get(prompt.id, ())))
        return len(prompts)

    async def finish(self) -> Run:
        """Writes what is left, and the run's record. Call it when every slice is worked.

        Finished means that no restart can add a row: then the parts are merged. While prompts are open, or any were not
        taken up (`Run.stopped` says why), it is not.
        """
        progress, stopped = self.progress, self._intake.stopped
        # Too many failures may be found at the last prompts, when there is nothing left to stop.
        whole = not progress.open and (not stopped or progress.done >= progress.total > 0)
        self.run = replace(self.run, stopped="" if whole else stopped)
        if self._account.engines is not None:
            await end(self._heart)
            await self._writer.close()
            if whole:
                await to_its_end(self._warehouse.compact, self.plan.run_id, counts=progress.counts())
                await self._relabel()
                self.run = replace(self.run, finished_at=datetime.now(UTC).isoformat(timespec="seconds"))
        await self._record()
        self._finished = True
        return self.run

    async def _relabel(self) -> None:
        """The labels that take all votes of the run, where the recipe asks for them."""
        section, again = self.plan.recipe.judge, self._retry_failed and bool(self.run.labels)
        if section is None:
            return
        # `constitution relabel` may have made those that are there by other settings: all are made alike.
        rules = Rules.of_run(self.run) if again else Rules.of(section)
        if again or rules.whole_run:
            relabelled = await to_its_end(relabel_run, self._warehouse, self.plan.run_id, rules)
            self.progress.rows["kept"] = relabelled.kept
            self.run = replace(self.run, labels=relabelled.record(rules))

    async def _leave(self) -> None:
        """The writer is closed by now."""
        if not self._finished:
            await self._record()

    async def _record(self) -> None:
        self.run = self._as_it_is()
        if self.run.finished_at:
            # First: a finished run is not taken up again, and a kill between the two would leave it with old views.
            await to_its_end(self._warehouse.rebuild_views)
            await to_its_end(self._warehouse.write_run, self.run)
        else:
            await to_its_end(self._warehouse.write_run, self.run)
            await to_its_end(self._warehouse.rebuild_views)

    async def _beat(self) -> None:
        """Keeps the run's record alive, for who looks at it and for what is left of it after a kill."""
        while True:
            await asyncio.sleep(HEARTBEAT)
            with suppress(WarehouseError):  # the writer meets the same disk, and tells of it
                await to_its_end(self._warehouse.write_run, self._as_it_is())

    def _as_it_is(self) -> Run:
        """The run's record as of now.

        Prompts are counted as they are taken up: midway, the figures of the start before may be greater.
        """
        counts = self.progress.counts()
        if self.progress.done < self.progress.total:
            walked = {name: max(counts[name], self._counts_before.get(name, 0)) for name in ("done", "open", "lost")}
            counts |= walked
        cost, open = self._account.cost, self._account.engines is not None
        return replace(
            self.run,
            counts=counts,
            seconds=round(self._seconds_before + (self.progress.seconds if open else 0.0), 3),
            usage=self.progress.ledger.usage(),
            engines=self._account.stats(),
            models=with_sent(self.run.models, self._account.engines.describe() if self._account.engines else {}),
            cost=None if cost is None else round(cost, 6),
        )

    # --- one prompt

    async def _in_window(self, prompt: Prompt, rows: Sequence[Row]) -> None:
        used, new = Ledger(), 0
        have, known = {row.id: row for row in rows}, list(rows)

        async def emit(made: Sequence[Row]) -> None:
            nonlocal new
            made = [_under_its_own_id(row, have) for row in made]
            await self._emit(made)
            new += len(made)
            known.extend(made)
            for row in made:
                used.add(row)

        done = False
        try:
            failure = await self._prompt(prompt, have, emit)
            if failure and failure.retryable and any(each.early(prompt.id) for each in self._proving):
                self._again.append((prompt, known))
            worked = bool(new) or not rows
            self.progress.resumed += not worked
            if worked:
                self._intake.saw(failure)
            done = worked and not (failure and failure.retryable)
        finally:
            self._window.release()
            self._intake.ended(used, done)
        self.progress.ended_calls += used.calls
        if self._watcher:
            self._watcher(self.progress)

    async def _prompt(self, prompt: Prompt, have: Mapping[str, Row], emit: Emit) -> Failure | None:
        """What an engine failed it by, one that a restart tries again before one that is final."""
        chain = await revise(self._reviser, prompt, have, emit)
        left = await self._labeller.label(prompt, chain, have, emit) if self._labeller else []
        failures = [each for each in (*chain.failures, *left) if each.retryable or each.error not in UNSAID]
        failure = min(failures, key=lambda each: (each.error != EngineGone.__name__, not each.retryable), default=None)
        progress = self.progress
        progress.done += 1
        progress.open += failure is not None and failure.retryable
        progress.lost += failure is not None and not failure.retryable
        return failure

    async def _emit(self, rows: Sequence[Row]) -> None:
        await self._writer.put(rows)
        for row in rows:
            self.progress.count(row)


async def _call(work: Callable[[Path], Awaitable[object]], part: Path) -> None:
    await work(part)


def _under_its_own_id(row: Row, have: Mapping[str, Row]) -> Row:
    """A failure's id has the number of its start in it, which a record that was lost counts from one again."""
    return replace(row, id=row_id(row.id, len(have))) if isinstance(row, Failure) and row.id in have else row
