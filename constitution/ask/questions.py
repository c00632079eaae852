"""Questions put to one model: some at a time, the rows of each written as soon as it is answered.

    asked = Asked("judge")
    await ask_all(warehouse, run_id, asked, questions, total=1000, window=32, note="answers asked of judge")

A question that fails leaves no row and is asked again by the next start. To be called while `scoring` the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from constitution.engines import Metered, open_engine
from constitution.errors import EngineError, EngineUnavailable, MalformedReply, RequestRefused
from constitution.generate.outcomes import clean
from constitution.pipeline.progress import Progress, watcher
from constitution.pipeline.proven import BARE
from constitution.pipeline.tasks import Window, first_error
from constitution.recipe import ModelSection
from constitution.records import Counterfactual, Message, Messages, Score
from constitution.warehouse import Warehouse, Writer

GIVEN_UP = 64
"""Failures in a row after which an engine is taken for gone."""
_FETCHED = 512

Question = Callable[[], Awaitable[Sequence[Score | Counterfactual]]]
"""Returns the rows of its answer, or raises EngineError."""


@dataclass(slots=True)
class Asked:
    """What became of one judge's questions, or of the policy's counterfactual prompts."""

    judge: str
    """Empty: no judge, but the policy, asked to answer counterfactual prompts."""
    new: int = 0
    """Rows that were written."""
    known: int = 0
    """Rows that were there before."""
    failed: dict[str, int] = field(default_factory=dict)
    """Questions without an answer, by class of error."""
    why: dict[str, str] = field(default_factory=dict)
    """The first message of each of these classes."""
    in_a_row: int = 0
    """Failures since the engine last gave a sign of life."""
    bare: int = 0
    """Replies without the log-probabilities that were asked for, before any came with them."""

    def success(self, rows: int) -> None:
        self.new += rows
        self.in_a_row = 0

    def failure(self, error: EngineError) -> None:
        """Raises EngineUnavailable where this many failed in a row that the next ones would only fail too, or came
        without log-probabilities where none ever came with them."""
        name, message = type(error).__name__, clean(str(error))
        self.failed[name] = self.failed.get(name, 0) + 1
        self.why.setdefault(name, message)
        self.bare += error.no_logprobs and not (self.new or self.known)
        if self.bare >= BARE:
            raise EngineUnavailable(
                f"{self.judge} gives no log-probabilities, which its readings are made of: {message}",
                hint="name judges that give them with --recipe or --model",
            ) from error
        # An engine that refuses a request or garbles a reply is there.
        self.in_a_row = 0 if isinstance(error, RequestRefused | MalformedReply) else self.in_a_row + 1
        if self.in_a_row >= GIVEN_UP:
            raise EngineUnavailable(
                f"{self.judge or 'the policy'} answers no more: {self.in_a_row} requests in a row failed, the last "
                f"with {name}: {message}",
                hint="what was answered is kept; once the engine is put right, the same command resumes from there",
            ) from error


async def ask_all(
    warehouse: Warehouse,
    run_id: str,
    asked: Asked,
    questions: Iterable[Sequence[Question]],
    *,
    total: int,
    window: int,
    note: str,
) -> None:
    """Asks the `total` groups of `questions`, each group's all at once and `window` groups at a time.

    What becomes of them is counted in `asked`; `watcher` is called after each group, with `note` in its Progress.
    Raises EngineUnavailable where the engine is gone and WarehouseError where rows cannot be written; rows that exist
    are written, however it ends.
    """
    progress, watch = Progress(total, note=note), watcher.get()

    async def put(question: Question) -> None:
        try:
            rows = await question()
        except EngineError as error:
            asked.failure(error)
        else:
            await writer.put(rows)
            asked.success(len(rows))

    async def put_all(group: Sequence[Question]) -> None:
        async with asyncio.TaskGroup() as tasks:
            for question in group:
                tasks.create_task(put(question))
        progress.done += 1
        if watch:
            watch(progress)

    room = Window(window)
    try:
        async with Writer(warehouse, run_id) as writer, asyncio.TaskGroup() as tasks:
            for group in questions:
                await room.acquire()
                room.start(tasks, put_all(group))
    except BaseExceptionGroup as errors:
        raise first_error(errors) from errors


@asynccontextmanager
async def opened(section: ModelSection) -> AsyncIterator[Metered]:
    """The section's engine, closed at the end. Raises ModelLoadError, RecipeError or EngineUnavailable."""
    engine = Metered(await open_engine(section))
    try:
        yield engine
    finally:
        await engine.close()


_SAME_MODEL = ("digest", "revision", "adapter", "server_model")


def differs(was: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The fact by which what an engine said of its model then tells another model than what it says now, as then;
    empty: none."""
    for fact in _SAME_MODEL:
        if was.get(fact, "unknown") != "unknown" and now.get(fact, "unknown") not in ("unknown", was[fact]):
            return f"{fact} {was[fact][:12]}"
    return ""


def fetched(connection: Any) -> Iterator[tuple[Any, ...]]:
    """The rows of the connection's last answer, some at a time."""
    while batch := connection.fetchmany(_FETCHED):
        yield from batch


def as_messages(turns: Iterable[Mapping[str, Any]]) -> Messages:
    return tuple(Message(turn["role"], turn["content"]) for turn in turns)
