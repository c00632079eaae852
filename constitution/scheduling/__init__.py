"""What the flows in flows/ run on: Prefect, or plain calls.

    @task
    async def make(n: int) -> int: ...

    @flow(name="count", named="n")
    async def count(n: int, warehouse: str) -> Any:
        async with scheduled() as schedule:
            run = await make(n)
            await schedule.end(run, warehouse, …)
        return schedule.result

A worker, `prefect deploy` and a script that imports a flow's file get Prefect's flow. Where no Prefect API is
configured, `constitution run` takes the plain function (cli/_flow.py), and imports nothing of Prefect.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from pydantic import BaseModel, ConfigDict

from constitution.errors import InputError
from constitution.telemetry import log
from constitution.warehouse import place

if TYPE_CHECKING:
    from constitution.pipeline import Plan, Session
    from constitution.records import Run
    from constitution.scheduling.spread import Spread

P = ParamSpec("P")
T = TypeVar("T")

_plain = ContextVar("_plain", default=False)


@contextmanager
def plainly() -> Iterator[None]:
    """Flows that are defined within it are plain functions."""
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def flow(
    *, name: str, named: str, also: str = ""
) -> Callable[[Callable[P, Awaitable[Any]]], Callable[P, Awaitable[Any]]]:
    """The decorator of a flow. named: the parameter after whose value a flow run is called; also: what follows it in
    its name, with parameters in braces."""

    def decorate(body: Callable[P, Awaitable[Any]]) -> Callable[P, Awaitable[Any]]:
        if _plain.get():
            return body
        from constitution.scheduling import on_prefect

        made: Callable[P, Awaitable[Any]] = on_prefect.flow_of(body, name, named, also)
        return made

    return decorate


@dataclass(frozen=True)
class Step:
    """A task of a flow."""

    body: Callable[..., Awaitable[Any]]
    run_name: str | None
    """What its task run is called, with parameters in braces; None: as Prefect calls it."""


def task(*, run_name: str | None = None) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Awaitable[T]]]:
    """The decorator of a flow's step: a task of Prefect in a flow run, a plain call elsewhere. It takes positional
    arguments, and raises what its body raises."""

    def decorate(body: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        step = Step(body, run_name)

        @wraps(body)
        async def called(*arguments: P.args, **_: P.kwargs) -> T:
            result: T = await _call(step, *arguments)
            return result

        return called

    return decorate


async def _call(step: Step, *arguments: Any) -> Any:
    """By its name in flows that Prefect sends to other processes: a ContextVar cannot be sent."""
    return await _current.get().call(step, *arguments)


class Decision(BaseModel):
    """What a person says of proposals."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    accept: str = ""
    """`all` of those without a fault, or ids with commas between them; empty: those that proposals.toml says are
    accepted."""

    @property
    def everything(self) -> bool:
        return self.accept.strip() == "all"

    @property
    def ids(self) -> list[str]:
        return [] if self.everything else [id for each in self.accept.split(",") if (id := each.strip())]


class Schedule:
    """Around a flow's body: plain calls. `on_prefect.PrefectSchedule` reports to Prefect."""

    result: Any = None
    """What the flow returns."""

    async def __aenter__(self) -> Self:
        self._token = _current.set(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        _current.reset(self._token)
        return False

    async def call(self, step: Step, *arguments: Any) -> Any:
        return await step.body(*arguments)

    async def retried_run(self) -> str:
        """The id of the run that this flow run worked on before it was retried; empty: it was not."""
        return ""

    async def decide(self, name: str, proposals: str, wait: int) -> Decision:
        """A person's decision on the proposals called `name`. proposals: what they are, as Markdown; wait: seconds at
        most. Here it is what their file says."""
        return Decision()

    async def mark(self, run_id: str, warehouse: Path) -> None:
        """Which run the flow works on, and where it is stored."""

    @asynccontextmanager
    async def watch(self, session: Session) -> AsyncIterator[None]:
        """Within it the session's progress is told."""
        yield

    async def spread(self, plan: Plan, how: Spread, call: Mapping[str, Any]) -> Run:
        """Works the run's shards; its record, finished where all of them came to their end. call: what the shards'
        `work_shard` takes beside their numbers."""
        raise InputError("flows/scale.py is a flow of Prefect", hint="`constitution run --shards N` needs none")

    async def end_shard(self, result: Mapping[str, Any]) -> None:
        """The last word of one shard's flow. result: what `work_shard` returns."""
        self.result = result

    async def end(self, result: Run | str, warehouse: str, event: str, report: str, message: str = "") -> None:
        """The flow's last word. result: the run, or the id of one whose data were looked at; event: how the event
        `constitution.run.…` ends that others wait for; report: Markdown; message: of the flow run's state."""
        self.result = result
        await asyncio.to_thread(log, place(warehouse), result if isinstance(result, str) else result.run_id)


NO_PREFECT = Schedule()
_current: ContextVar[Schedule] = ContextVar("_current", default=NO_PREFECT)


def scheduled() -> Schedule:
    """Prefect's in a flow run of Prefect."""
    if "prefect" in sys.modules:
        from constitution.scheduling import on_prefect

        if on_prefect.in_flow_run():
            return on_prefect.PrefectSchedule()
    return Schedule()
