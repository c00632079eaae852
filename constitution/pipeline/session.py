"""A run at work: engines, writer, and the window of prompts in flight over all of its slices."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, Self

from constitution.engines import Engines, open_engines
from constitution.judge import Ballot, Judge, Pair, given_answers, pairs, vote
from constitution.pipeline.plan import Plan, principles_for, slice_of
from constitution.prefer import Rules, prefer
from constitution.records import Failure, Judgement, Preference, Prompt, Response, Row, Run
from constitution.revise import Chain, Reviser, revise
from constitution.warehouse import Warehouse, Writer

P = ParamSpec("P")

UNSAID = ("EmptyOutput", "CritiqueRefused")
"""Failures that are what a model said, not an engine that failed."""


@dataclass(slots=True)
class Progress:
    """How far a run is, counted over all its starts as its prompts are taken up."""

    total: int
    """Prompts of the run."""
    done: int = 0
    """Prompts worked to their end in this start, those that were finished before among them."""
    open: int = 0
    """Of those, prompts that an engine failed and that a restart tries again."""
    lost: int = 0
    """Of those, prompts that an engine failed for good."""
    rows: Counter[str] = field(default_factory=Counter)
    """Rows per table; also `kept`, the preferences that were not dropped, and `unsaid`, failures that are a model's
    empty output or refusal."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    started: float = field(default_factory=time.monotonic)
    """Monotonic clock, seconds."""
    resumed: int = 0
    """Prompts that were finished before this start."""

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def count(self, row: Row) -> None:
        match row:
            case Response():
                self.rows["responses"] += 1
                self.prompt_tokens += row.prompt_tokens + row.critique_prompt_tokens
                self.cached_tokens += row.cached_tokens + row.critique_cached_tokens
                self.completion_tokens += row.completion_tokens + row.critique_completion_tokens
            case Judgement():
                self.rows["judgements"] += 1
                self.prompt_tokens += row.prompt_tokens
                self.cached_tokens += row.cached_tokens
                self.completion_tokens += row.completion_tokens
            case Preference():
                self.rows["preferences"] += 1
                self.rows["kept"] += row.kept
            case Failure():
                self.rows["failures"] += 1
                self.rows["unsaid"] += row.error in UNSAID

    def counts(self) -> dict[str, int]:
        """For the run's record."""
        tables = ("responses", "judgements", "preferences", "kept", "failures", "unsaid")
        return {
            "prompts": self.total,
            "done": self.done,
            "open": self.open,
            "lost": self.lost,
            **{table: self.rows[table] for table in tables},
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "completion_tokens": self.completion_tokens,
        }


watcher: ContextVar[Callable[[Progress], None] | None] = ContextVar("watcher", default=None)
"""Called after every prompt of any session that is opened in this context: for a progress bar."""


class Session:
    """Holds the run's lock, its engines and its writer; nothing of it outlives the `async with` block.

    However the block ends, rows that exist are written: a run that was stopped goes on from them.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.run = plan.run
        self.progress = Progress(plan.prompts)
        output = plan.recipe.output
        self.slices_at_once = -(-output.window // (output.slice or slice_of(plan.prompts))) + 1
        """So many slices fill the window while one of them runs out."""
        self._window = asyncio.Semaphore(output.window)
        self._warehouse = Warehouse(plan.warehouse)
        self._watcher = watcher.get()
        self._finished = False

    async def __aenter__(self) -> Self:
        """Raises RunLocked where another process works on the run, ModelLoadError for a model that does not load."""
        recipe, run_id = self.plan.recipe, self.plan.run_id
        async with AsyncExitStack() as stack:
            stack.enter_context(self._warehouse.lock(run_id))
            await _to_its_end(self._warehouse.recover, run_id)
            # Told by the rows, not by the record, which may be gone.
            self._resumes = self._warehouse.has_rows(run_id)
            engines = await stack.enter_async_context(open_engines(recipe.model))
            stored = self._warehouse.read_run(run_id) or self.plan.run
            models = _models(stored, engines.describe())
            self.run = replace(stored, models=models, starts=stored.starts + 1, finished_at=None)
            self._seconds_before = stored.seconds
            await _to_its_end(self._warehouse.write_run, self.run)
            self._prepare_steps(engines)
            self._writer = Writer(
                self._warehouse, run_id, flush_rows=recipe.output.flush_rows, flush_seconds=recipe.output.flush_seconds
            )
            stack.push_async_callback(self._leave)
            stack.enter_context(_sigterm_cancels())
            await stack.enter_async_context(self._writer)
            self.progress.started = time.monotonic()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, traceback)

    def _prepare_steps(self, engines: Engines) -> None:
        recipe, run = self.plan.recipe, self.run
        revising, judging = principles_for(recipe, self.plan.constitution)
        self._reviser = Reviser(
            run.run_id, recipe.seed, run.starts, engines.policy, self.plan.constitution, revising, recipe.revise
        )
        self._judge: Judge | None = None
        if recipe.judge is not None:
            self._judge = Judge(run.run_id, recipe.seed, run.starts, engines.judge, judging, recipe.judge)
            self._rules = Rules(recipe.judge.margin, recipe.judge.min_label_mass)
            self._weights = {principle.id: principle.weight for principle in judging}

    async def work(self, part: Path) -> int:
        """Walks every prompt of one slice to its end, within the window that all slices share; returns how many."""
        prompts = await asyncio.to_thread(self._warehouse.read_prompts, part)
        have: Mapping[str, list[Row]] = {}
        if self._resumes:
            ids = [prompt.id for prompt in prompts]
            have = await asyncio.to_thread(self._warehouse.rows_of, self.plan.run_id, ids)
        async with asyncio.TaskGroup() as group:
            for prompt in prompts:
                # A prompt becomes a task when the window has room for it, so that tasks are as many as the window.
                await self._window.acquire()
                group.create_task(self._in_window(prompt, have.get(prompt.id, ())))
        return len(prompts)

    async def finish(self) -> Run:
        """Writes what is left, and the run's record. Call it when every slice is worked.

        Finished means that no restart can add a row: then the parts are merged. While prompts are open it is not.
        """
        await self._writer.close()
        if not self.progress.open:
            await _to_its_end(self._warehouse.compact, self.plan.run_id)
            self.run = replace(self.run, finished_at=datetime.now(UTC).isoformat(timespec="seconds"))
        await self._record(self.progress.counts())
        self._finished = True
        return self.run

    async def _leave(self) -> None:
        """The writer is closed by now. Of a run that was stopped midway the counts are those that are known best."""
        if not self._finished:
            seen, before = self.progress.counts(), self.run.counts
            await self._record({name: max(count, before.get(name, 0)) for name, count in seen.items()})

    async def _record(self, counts: dict[str, int]) -> None:
        self.run = replace(self.run, counts=counts, seconds=round(self._seconds_before + self.progress.seconds, 3))
        await _to_its_end(self._warehouse.write_run, self.run)
        await _to_its_end(self._warehouse.rebuild_views)

    # --- one prompt

    async def _in_window(self, prompt: Prompt, rows: Sequence[Row]) -> None:
        try:
            await self._prompt(prompt, rows)
        finally:
            self._window.release()

    async def _prompt(self, prompt: Prompt, rows: Sequence[Row]) -> None:
        for row in rows:
            self.progress.count(row)
        have = {row.id: row for row in rows}
        before = sum(self.progress.rows.values())
        chain = await revise(self._reviser, prompt, have, self._emit)
        ballots = await self._label(prompt, chain, have) if self._judge else []
        progress = self.progress
        retryable = any(failure.retryable for failure in chain.failures) or any(ballot.open for ballot in ballots)
        failures = [*chain.failures, *(failure for ballot in ballots for failure in ballot.failures)]
        progress.open += retryable
        progress.lost += not retryable and any(failure.error not in UNSAID for failure in failures)
        progress.done += 1
        progress.resumed += bool(rows) and sum(progress.rows.values()) == before
        if self._watcher:
            self._watcher(progress)

    async def _label(self, prompt: Prompt, chain: Chain, have: Mapping[str, Row]) -> list[Ballot]:
        judge = self._judge
        assert judge is not None
        run_id, kinds = self.plan.run_id, judge.section.pairs
        given = given_answers(run_id, prompt) if "given" in kinds else ()
        await self._emit([answer for answer in given if answer.id not in have])
        ballots = []
        for pair in pairs(run_id, prompt, () if chain.stopped else chain.responses, given, kinds):
            ballot = await vote(judge, prompt, pair, have, self._emit)
            ballots.append(ballot)
            await self._prefer(pair, ballot, have)
        return ballots

    async def _prefer(self, pair: Pair, ballot: Ballot, have: Mapping[str, Row]) -> None:
        """A label is made once: not while a vote may still come."""
        if not ballot.open and pair.id not in have:
            await self._emit([prefer(pair, ballot.judgements, ballot.expected, self._weights, self._rules)])

    async def _emit(self, rows: Sequence[Row]) -> None:
        await self._writer.put(rows)
        for row in rows:
            self.progress.count(row)


async def each(parts: Iterable[Path], work: Callable[[Path], Awaitable[object]], at_once: int) -> None:
    """Calls `work` on every part, `at_once` of them at a time; the first error cancels the rest and is raised."""
    waiting = iter(parts)

    async def worker() -> None:
        for part in waiting:
            await work(part)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(worker())
    except BaseExceptionGroup as errors:
        raise _first(errors) from errors


async def _to_its_end(write: Callable[P, object], *arguments: P.args, **settings: P.kwargs) -> None:
    """Calls `write` in a thread. A cancellation waits for it: the run's lock must not be given up while it writes."""
    task = asyncio.create_task(asyncio.to_thread(write, *arguments, **settings))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled:
        raise cancelled


def _models(stored: Run, now: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """What the engines say of their models, beside what they said differently when earlier rows were made.

    A server may have other weights under the same name today, and a library another version.
    """
    last = f"until start {stored.starts}"
    before = {role: facts for role, facts in stored.models.items() if role not in now}
    changed = {f"{role} {last}": facts for role, facts in stored.models.items() if now.get(role, facts) != facts}
    return {**now, **before, **changed}


@contextmanager
def _sigterm_cancels() -> Iterator[None]:
    """Makes SIGTERM cancel the task that is in this block, as Ctrl-C does, so that it leaves in good order.

    Others' handlers (Prefect's) raise wherever the program happens to be, which tears the event loop down with the
    writer in it; they are put back at the end. Outside the main thread, where signals are not ours, it does nothing.
    """
    task = asyncio.current_task()
    if task is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, before)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that came first, out of groups within groups."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
