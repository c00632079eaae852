"""A run at work: every prompt in flight, over all of its slices, within one window."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

from constitution.engines import Request, open_engines
from constitution.errors import EngineGone
from constitution.generate import Generator, Setup, answer, final, generators
from constitution.generate.base import Emit
from constitution.generate.own import check_passed
from constitution.identity import row_id
from constitution.judge.by_last_token import check_trained
from constitution.judge.reference import Check, check_of
from constitution.judge.reward import Rewarder, rewarder
from constitution.pipeline.closing import close_run
from constitution.pipeline.cost import Ledger
from constitution.pipeline.dealing import clock
from constitution.pipeline.label import Labeller, labeller
from constitution.pipeline.plan import Plan
from constitution.pipeline.progress import Progress, watcher
from constitution.pipeline.proven import Proving, prove
from constitution.pipeline.state import State, mend, take_stock, unmended
from constitution.pipeline.tasks import Window, end, first_error, seldom_collected, sigterm_cancels, to_its_end
from constitution.pipeline.turns import after
from constitution.records import UNSAID, Failure, Prompt, Row, Run, Shard, Turn
from constitution.telemetry import Telemetry, telemetry
from constitution.warehouse import Warehouse, Writer
from constitution.warehouse.files import number_of
from constitution.warehouse.tally import most_left_first

FEEDING = 2
"""Slices that have prompts still to be taken up, at most: one feeds the window and the next is read meanwhile."""


class Observer(Protocol):
    """Sees what a run does, prompt by prompt."""

    def asked(self, role: str, request: Request) -> None:
        """A request as its engine gets it. role: the engine's first."""
        ...

    def worked(self, prompt: Prompt, rows: Sequence[Row], used: Ledger, seconds: float) -> None:
        """A prompt left the window after this time in it, with all its rows, those of its later turns among them. One
        that is asked again comes again."""
        ...


@asynccontextmanager
async def open_run(
    plan: Plan, retry_failed: bool = False, observer: Observer | None = None, shard: Shard | None = None
) -> AsyncIterator[Session]:
    """Holds the run's lock, its engines and its writer; nothing of it outlives the block. shard: works this share of
    the run's slices, beside other processes that work the others (shard.py).

    However the block ends, rows that exist are written: a run that was stopped resumes from them. Where the budget is
    spent already, no model is loaded and `work` takes up nothing. retry_failed: what failed for good in earlier starts
    is tried again (reopen.py).

    Raises RunLocked where another process works on the run, ModelLoadError for a model that does not load, RecipeError
    for a server that has another model than the one that the run was begun with.
    """
    warehouse = Warehouse(plan.warehouse)
    plan = plan.of(shard) if shard else plan
    async with AsyncExitStack() as stack:
        stack.enter_context(seldom_collected(plan.recipe.output.window))
        # A shard waits for the first one, which may be in another thread of this process, or on this loop.
        lock = await to_its_end(stack.enter_context, warehouse.lock(plan.run_id, prepared=True, shard=shard))
        if plan.recipe.reward or plan.recipe.reference:
            stack.enter_context(warehouse.rewarding(plan.run_id, shard))
        if lock.alone:
            await to_its_end(mend, plan, warehouse, retry_failed)
        else:
            plan = await to_its_end(unmended, plan, warehouse)
        if shard:
            await to_its_end(warehouse.recover, plan.run_id, shard)
            lock.share()
        state = await take_stock(plan, warehouse)
        steps = None if state.admission.stopped or state.ended else await _begin(state, stack, observer)
        state.progress.started = time.monotonic()
        yield Session(state, steps, retry_failed, observer)


class Taken(NamedTuple):
    """A prompt that is taken up, with all turns of its conversation where it has a script."""

    prompt: Prompt
    rows: Sequence[Row]
    """That there are of it."""
    slice: int
    position: int
    """In the slice."""


@dataclass(frozen=True, slots=True)
class Steps:
    """What every prompt of this start goes through, and where its rows go."""

    generators: tuple[Generator, ...]
    check: Check | None
    rewarder: Rewarder | None
    labeller: Labeller | None
    proving: tuple[Proving, ...]
    """One an engine."""
    writer: Writer
    heart: asyncio.Task[None]
    """Writes the run's record from time to time."""
    telemetry: Telemetry | None


async def _begin(state: State, stack: AsyncExitStack, observer: Observer | None) -> Steps:
    """Engines, record, writer and heartbeat, to be closed by `stack` in the opposite order."""
    plan, recipe, output = state.plan, state.plan.recipe, state.plan.recipe.output
    check_passed(recipe)
    engines = await stack.enter_async_context(
        open_engines(
            recipe.model.on(state.before.day),
            answers=recipe.asks_policy,
            notes=state.warehouse.batches(plan.run_id, plan.shard),
            votes=recipe.asks_judges,
        )
    )
    check_trained(recipe, engines.policy)
    await state.begin(engines)
    watched = await stack.enter_async_context(telemetry(state.now, engines, str(plan.shard or "")))
    if watched and watched.note:
        state.progress.note = "; ".join(filter(None, (state.progress.note, watched.note)))
    run = state.run
    judge = next(iter(engines.judges.values())) if len(engines.judges) == 1 else None
    setup = Setup(run.run_id, recipe, plan.constitution, run.starts, engines.policy, engines.pool, judge)
    judges = labeller(recipe, plan.constitution, run, engines.judges)
    check = check_of(recipe, plan.constitution, run, engines.judges)
    author = setup.engine(recipe.rubric_by) if recipe.rubric_by else None
    rewards = rewarder(
        recipe, plan.constitution, run, engines.judges, scorer=engines.scorer, policy=engines.policy, writer=author
    )
    able, asked = output.stop_at_failures < 1, observer.asked if observer else None
    proving = prove(engines, state.tally.usage, state.admission.stop, able=able, asked=asked)
    writer = Writer(
        state.warehouse,
        run.run_id,
        shard=plan.shard,
        flush_rows=output.flush_rows,
        flush_seconds=output.flush_seconds,
    )
    stack.push_async_callback(_leave, state)
    stack.enter_context(sigterm_cancels())
    await stack.enter_async_context(writer)
    heart = asyncio.create_task(state.beat(), name=f"heartbeat of {run.run_id}")
    stack.push_async_callback(end, heart)
    return Steps(generators(setup), check, rewards, judges, proving, writer, heart, watched)


async def _leave(state: State) -> None:
    """The writer is closed by now."""
    if not state.left:
        await state.record()


class Session:
    """A run that `open_run` has opened."""

    def __init__(self, state: State, steps: Steps | None, retry_failed: bool, observer: Observer | None = None) -> None:
        """steps: None where nothing is taken up."""
        self._observer = observer
        self._state = state
        self._steps = steps
        self._retry_failed = retry_failed
        self._feeding = asyncio.Semaphore(FEEDING)
        self._window = Window(state.plan.recipe.output.window)
        self._watcher = watcher.get()
        self._noted = False
        self._begun: set[Path] = set()
        """Slices that `begin` has worked."""
        self._again: list[Taken] = []
        """Prompts that were refused something before it was known whether that was theirs."""

    @property
    def plan(self) -> Plan:
        return self._state.plan

    @property
    def run(self) -> Run:
        """The record, as it was written last."""
        return self._state.run

    @property
    def progress(self) -> Progress:
        return self._state.progress

    @property
    def stopped(self) -> str:
        """Why no more prompts are taken up; empty: they are."""
        return self._state.admission.stopped

    def stop(self, reason: str) -> None:
        """No more prompts are taken up; the first reason is kept."""
        self._state.admission.stop(reason)

    async def begin(self, slices: Sequence[Path]) -> None:
        """Works these of the plan's slices before `walk` works the others."""
        self._begun.update(slices)
        await self._each(slices, self.work)

    async def walk(self, work: Callable[[Path], Awaitable[object]] | None = None) -> None:
        """Works every slice; the first error cancels the rest and is raised. work: what is called for a slice, to
        wrap `Session.work`, which it must call.

        A slice is begun when another has no prompt left to take up, however long its last ones may take, so that the
        window stays full over the seams. Those that have the most left to do come first.
        """
        plan, warehouse = self.plan, self._state.warehouse
        if self._steps is None:
            return
        last = "preferences" if plan.recipe.judge else "rewards" if plan.recipe.reward else "responses"
        ended = warehouse.parts(last, plan.run_id, plan.shard)
        parts = await asyncio.to_thread(most_left_first, plan.parts, ended)
        await self._each([part for part in parts if part not in self._begun], work or self.work)
        try:
            while not self._stopped() and self._again:
                async with asyncio.TaskGroup() as group:
                    await self._ask_again(group)
        except BaseExceptionGroup as errors:
            raise first_error(errors) from errors

    async def _each(self, parts: Sequence[Path], work: Callable[[Path], Awaitable[object]]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for part in parts:
                    await self._feeding.acquire()
                    group.create_task(_call(work, part))
        except BaseExceptionGroup as errors:
            raise first_error(errors) from errors

    def _stopped(self) -> bool:
        """Whether the start has ended, once it is decided which steps are proven."""
        for proving in self._steps.proving if self._steps else ():
            if not self._state.admission.stopped:
                proving.decide()
        return bool(self._state.admission.stopped)

    async def _ask_again(self, group: asyncio.TaskGroup) -> None:
        """The prompts that were refused something early: what is refused now is final."""
        again, self._again = self._again, []
        for taken in again:
            if not await self._take(group, taken):
                return
            self.progress.done -= 1
            self.progress.open -= 1

    async def work(self, part: Path) -> int:
        """Walks every prompt of one slice to its end, within the window that all slices share; returns how many, which
        are not all of them once the run takes up no more."""
        async with asyncio.TaskGroup() as group:
            try:
                return await self._take_up(part, group)
            finally:
                self._feeding.release()

    async def _take_up(self, part: Path, group: asyncio.TaskGroup) -> int:
        state = self._state
        if state.admission.stopped:
            return 0
        prompts = await asyncio.to_thread(state.warehouse.read_prompts, part)
        have: Mapping[str, list[Row]] = {}
        if state.resumes:
            ids = [id for prompt in prompts for id in (prompt.id, *prompt.later_ids())]
            have = await asyncio.to_thread(state.warehouse.rows_of, state.plan.run_id, ids, state.plan.shard)
        number = number_of(part)
        for position, prompt in enumerate(prompts):
            turns = (prompt.id, *prompt.later_ids()) if have else ()
            rows = [row for id in turns for row in have.get(id, ())]
            if not await self._take(group, Taken(prompt, rows, number, position)):
                return position
        return len(prompts)

    async def _take(self, group: asyncio.TaskGroup, taken: Taken) -> bool:
        """A task for the prompt, once the window has room for it: so tasks are as many as the window. False: the run
        takes up no more."""
        await self._window.acquire()
        if self._steps is None or not await self._state.admission.admits():
            self._window.release()
            return False
        if self._watcher and self.progress.note and not self._noted:
            self._noted = True  # before the first prompt is asked for, which may take a batch's day
            self._watcher(self.progress)
        self._window.start(group, self._in_window(self._steps, taken))
        return True

    async def finish(self) -> Run:
        """Writes what is left, and the run's record. Call it when every slice is worked.

        Finished means that no restart can add a row: then the parts are merged. While prompts are open, or any were not
        taken up (`Run.stopped` says why), it is not. Of a shard the record is as the run's, of its prompts alone; what
        follows when all shards are finished is shard.finish_run's.
        """
        state, progress, stopped = self._state, self.progress, self._state.admission.stopped
        # Too many failures may be found at the last prompts, when there is nothing left to stop.
        whole = not progress.open and (not stopped or progress.done >= progress.total > 0)
        state.run = replace(state.run, stopped="" if whole else stopped)
        if self._steps is not None:
            await end(self._steps.heart)
            await self._steps.writer.close()
        if whole and self.plan.shard is None and self._steps is not None:
            counts, recipe = progress.counts(), self.plan.recipe
            state.run = await to_its_end(
                close_run, state.warehouse, state.run, recipe, counts, again=self._retry_failed
            )
            progress.rows["kept"] = state.run.counts["kept"]
        if whole and (self.plan.shard or self._steps):
            state.run = replace(state.run, finished_at=clock())
        await state.record()
        state.left = True
        return state.run

    # --- one prompt

    async def _in_window(self, steps: Steps, taken: Taken) -> None:
        progress, admission, used, new = self.progress, self._state.admission, Ledger(), 0
        began, prompt = time.monotonic(), taken.prompt
        have: defaultdict[str, dict[str, Row]] = defaultdict(dict)
        """By prompt, which are the conversation's turns, and by id."""
        for row in taken.rows:
            have[row.prompt_id][row.id] = row

        async def emit(made: Sequence[Row]) -> None:
            nonlocal new
            made = [_under_its_own_id(row, have[row.prompt_id]) for row in made]
            await steps.writer.put(made)
            new += len(made)
            for row in made:
                have[row.prompt_id][row.id] = row
                progress.count(row)
                used.add(row)

        done = False
        try:
            failure = await self._conversation(steps, taken, have, emit)
            rows = [row for own in have.values() for row in own.values()]
            early = any(proving.early(prompt.id) for proving in steps.proving)
            again = bool(failure and failure.retryable and early)
            if again:
                self._again.append(taken._replace(rows=rows))
            worked = bool(new) or not taken.rows
            progress.resumed += not worked
            if worked and not again:  # what is asked again counts when it is final
                admission.saw(failure)
            done = worked and not (failure and failure.retryable)
            if self._observer:
                self._observer.worked(prompt, rows, used, time.monotonic() - began)
            if steps.telemetry:
                steps.telemetry.worked(prompt, failure, time.monotonic() - began)
        finally:
            admission.ended(used, done)
        progress.ended_calls += used.calls
        if self._watcher:
            self._watcher(progress)

    async def _conversation(
        self, steps: Steps, taken: Taken, have: Mapping[str, Mapping[str, Row]], emit: Emit
    ) -> Failure | None:
        """All turns, one after the other. Returns what an engine failed them by, one that a restart tries again before
        one that is final. have: rows by turn, an empty mapping for one that has none."""
        run_id, recipe = self.plan.run_id, self.plan.recipe
        turn: Prompt | None = taken.prompt
        failures: list[Failure] = []
        while turn is not None:
            own = have[turn.id]
            rewards = steps.rewarder.rewards if steps.rewarder else None
            check = steps.check.made if steps.check else None
            made, unread = await answer(steps.generators, turn, own, emit, rewards, check)
            failures += [*(failure for answers in made for failure in answers.failures), *unread]
            if steps.labeller:
                failures += await steps.labeller.label(turn, final(made), own, emit)
            turn, unasked = after(run_id, turn, own, recipe, all(answers.complete for answers in made))
            following: list[Row] = [*unasked, *([Turn(run_id, taken.slice, taken.position, turn)] if turn else [])]
            await emit([row for row in following if row.id not in have[row.prompt_id]])
        failures = [failure for failure in failures if failure.retryable or failure.error not in UNSAID]
        failure = min(failures, key=lambda each: (each.error != EngineGone.__name__, not each.retryable), default=None)
        self.progress.ended(failure)
        return failure


async def _call(work: Callable[[Path], Awaitable[object]], part: Path) -> None:
    await work(part)


def _under_its_own_id(row: Row, have: Mapping[str, Row]) -> Row:
    """A failure's id has the number of its start in it, which a record that was lost counts from one again."""
    return replace(row, id=row_id(row.id, len(have))) if isinstance(row, Failure) and row.id in have else row
