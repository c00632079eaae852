"""Several engines in turns on one accelerator: one is awake, the others sleep until it has nothing to do.

turns = Turns([judge, policy])      # all asleep but the last
async with turns.turn(judge):       # waits until the judge is awake, and keeps it so
    ...
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar

from constitution.errors import EngineUnavailable

LINGER_SECONDS = 0.05
"""An engine with nothing in flight stays awake so long: a prompt's next request comes right after its last answer."""


class Sleeper(Protocol):
    async def sleep(self) -> None: ...

    async def wake_up(self) -> None: ...


S = TypeVar("S", bound=Sleeper)


class Turns(Generic[S]):
    """The awake engine changes when it has nothing in flight and another one is waited for, first come first served.

    Nobody waits for ever as long as callers are bounded: those that wait for the sleeping one send nothing to the
    awake one. When sleeping or waking fails, all who wait and all who come later get EngineUnavailable.
    """

    def __init__(self, engines: Sequence[S], linger_s: float = LINGER_SECONDS) -> None:
        """All of them sleep but the last."""
        self._awake: S | None = engines[-1]
        """None while one falls asleep and another one wakes up."""
        self._linger_s = linger_s
        self._in_flight = 0
        self._waiting: dict[int, deque[asyncio.Future[None]]] = {}
        """By the engine's identity, in the order in which they were first waited for."""
        self._engines = {id(engine): engine for engine in engines}
        self._timer: asyncio.TimerHandle | None = None
        self._switch: asyncio.Task[None] | None = None
        self._failure = ""
        """What has gone wrong; not empty: nobody is let in any more."""

    @asynccontextmanager
    async def turn(self, engine: S) -> AsyncIterator[None]:
        """While in it, `engine` is awake. Raises EngineUnavailable where it cannot be woken."""
        await self._enter(engine)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, engine: S) -> None:
        if self._failure:
            raise self._unavailable()
        if self._awake is engine:
            self._in_flight += 1
            self._stay()
            return
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(id(engine), deque()).append(admitted)
        self._look()
        try:
            await admitted
        except asyncio.CancelledError:
            if admitted.done() and not admitted.cancelled() and admitted.exception() is None:
                self._leave()  # it was let in, and left before it knew
            raise

    def _leave(self) -> None:
        self._in_flight -= 1
        self._look()

    def _look(self) -> None:
        """Begin to switch in a moment, if the awake engine has nothing to do and another one is waited for."""
        if self._failure or self._awake is None or self._in_flight or self._timer is not None:
            return
        if self._next() is not None:
            self._timer = asyncio.get_running_loop().call_later(self._linger_s, self._begin)

    def _stay(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin(self) -> None:
        self._timer = None
        following = self._next()
        if following is not None and self._awake is not None:
            leaving, self._awake = self._awake, None
            self._switch = asyncio.get_running_loop().create_task(self._change(leaving, following))

    def _next(self) -> S | None:
        """The engine that was waited for first and still is."""
        for key in list(self._waiting):
            if any(not waiter.done() for waiter in self._waiting[key]):
                return self._engines[key]
            del self._waiting[key]  # all of them were cancelled
        return None

    async def _change(self, leaving: S, following: S) -> None:
        try:
            await leaving.sleep()
            await following.wake_up()
        except Exception as error:
            self._fail(f"the engines cannot take turns: {type(error).__name__}: {error}")
            return
        self._awake = following
        for waiter in self._waiting.pop(id(following), ()):
            if not waiter.done():
                self._in_flight += 1
                waiter.set_result(None)
        self._look()  # all of them may have been cancelled meanwhile

    def _fail(self, why: str) -> None:
        """All who wait and all who come are told."""
        self._failure = self._failure or why
        for waiter in [waiter for waiters in self._waiting.values() for waiter in waiters]:
            if not waiter.done():
                waiter.set_exception(self._unavailable())
        self._waiting.clear()

    def _unavailable(self) -> EngineUnavailable:
        return EngineUnavailable(
            self._failure,
            hint='starting the run again resumes it; placement = "together" keeps both in memory',
        )

    async def close(self) -> None:
        """Wait for a change that is under way, so that no engine is closed in the middle of it; none comes after it,
        and those who still wait get EngineUnavailable."""
        self._stay()
        if self._switch is not None:
            await asyncio.gather(self._switch, return_exceptions=True)
        self._stay()
        self._fail("the engines are closed")
