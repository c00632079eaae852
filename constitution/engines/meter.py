"""An engine with a clock and a counter, for the run's record and its cost."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from constitution.engines.base import Completion, Engine, Request, Scorer
from constitution.engines.odd import Oddities, sound, storable
from constitution.errors import MalformedReply, RequestRefused
from constitution.records import Messages, Sampling


class Watch(Protocol):
    """Is given every request that an engine gets, and how it ended."""

    async def turn(self, request: Request) -> None:
        """Waits until the request may be sent; raises EngineError where it may not. `begun` and `ended` follow."""
        ...

    def begun(self, request: Request) -> None: ...

    def ended(self, request: Request, error: BaseException | None) -> None:
        """error: what is raised; None: it was answered."""
        ...

    def proven(self, request: Request) -> bool:
        """Whether the engine has answered one like it."""
        ...


@dataclass(slots=True)
class Call:
    """A request on its way to an engine and back, for a listener."""

    role: str
    """The engine's first."""
    model: str
    request: Request
    began: int
    """Nanoseconds since 1970."""
    seconds: float = 0.0
    """From when it was sent to its answer, with all that the engine tried again."""
    completion: Completion | None = None
    """None: it failed, or a score was asked for."""
    error: BaseException | None = None
    """None: it was answered."""
    note: Any = None
    """The listener's own."""


class Listener(Protocol):
    """Is given every request that is sent, for those who look on: it changes nothing, and raises nothing."""

    def begun(self, call: Call) -> None: ...

    def ended(self, call: Call) -> None: ...


class Metered:
    """An `Engine` that counts what passes through to the one within it. Seconds are of the monotonic clock."""

    def __init__(self, engine: Engine, began: float | None = None) -> None:
        """began: when the engine began to open, monotonic clock; None: now."""
        self.watch: Watch | None = None
        self._role = ""
        self._listener: Listener | None = None
        self._engine = engine
        self._opened = time.monotonic() if began is None else began
        self._since = 0.0
        self._busy = 0.0
        self._in_flight = 0
        self._most = 0
        self._calls = 0
        self._failures = 0
        self._odd = Oddities()

    @property
    def model(self) -> str:
        return self._engine.model

    def describe(self) -> Mapping[str, str]:
        return self._engine.describe()

    def listen(self, role: str, listener: Listener) -> None:
        """From now on `listener` is given every request. role: as it names this engine."""
        self._role, self._listener = role, listener

    @property
    def in_flight(self) -> int:
        """Requests."""
        return self._in_flight

    @property
    def open_seconds(self) -> float:
        """Since the engine began to open, loading included: what an accelerator is paid for."""
        return time.monotonic() - self._opened

    @property
    def busy_seconds(self) -> float:
        """Part of those seconds: at least one request was in flight."""
        return self._busy + (time.monotonic() - self._since if self._in_flight else 0.0)

    def stats(self) -> Mapping[str, Any]:
        """The engine's own, after: calls, failures (requests that ended in an exception), most_in_flight,
        busy_seconds, open_seconds; `events` also of what was odd in completions."""
        stats = self._engine.stats()
        events = [*stats.get("events", ()), *self._odd.events()]
        return {
            "calls": self._calls,
            "failures": self._failures,
            "most_in_flight": self._most,
            "busy_seconds": round(self.busy_seconds, 3),
            "open_seconds": round(self.open_seconds, 3),
            **stats,
            **({"events": events} if events else {}),
        }

    async def generate(self, request: Request) -> Completion:
        async with self._counted(request) as call:
            completion = sound(await self._engine.generate(request), request, self._odd.add)
            completion = completion if request.choices else self._stored(completion)
            self._useful(completion, request)
            if call is not None:
                call.completion = completion
        return completion

    async def score(self, messages: Messages, *, step: str = "", affinity: str = "") -> float:
        """step, affinity: as a request's, for the watch. Raises RequestRefused for an engine that has no scores,
        MalformedReply for what is no number."""
        if not isinstance(self._engine, Scorer):
            raise RequestRefused(f"{self.model}: {type(self._engine).__name__} has no score of an answer")
        async with self._counted(Request(messages, Sampling(), 0, step=step, affinity=affinity, closed=True)):
            score = await self._engine.score(messages)
            if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
                error = MalformedReply(f"{self.model}: its score is no number: {score!r}")
                error.retryable = False
                raise error
        return float(score)

    @asynccontextmanager
    async def _counted(self, request: Request) -> AsyncIterator[Call | None]:
        """The request is sent in the block. None: no listener is there."""
        if self.watch is not None:
            await self.watch.turn(request)
            self.watch.begun(request)
        if not self._in_flight:
            self._since = time.monotonic()
        self._in_flight += 1
        self._most = max(self._most, self._in_flight)
        self._calls += 1
        listener, call, since = self._listener, None, 0.0
        if listener is not None:
            call, since = Call(self._role, self.model, request, time.time_ns()), time.monotonic()
            listener.begun(call)
        try:
            yield call
        except BaseException as error:
            if call is not None:
                call.error = error
            self._failures += isinstance(error, Exception)  # to be cancelled is no failure
            if self.watch is not None:
                self.watch.ended(request, error)
            raise
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._busy += time.monotonic() - self._since
            if listener is not None and call is not None:
                call.seconds = time.monotonic() - since
                listener.ended(call)
        if self.watch is not None:
            self.watch.ended(request, None)

    def _useful(self, done: Completion, request: Request) -> None:
        """Raises MalformedReply for what is answered so by an engine that was set up wrongly: final for a vote, and for
        an answer only until the engine has given another one, since a model may say nothing."""
        said = ""
        if request.choices and done.choice_logprobs is None and done.finish_reason not in ("refusal", "content_filter"):
            error = MalformedReply(f"{self.model}: the reply has no log-probabilities of the labels")
            error.no_logprobs, error.retryable = True, False
            raise error
        unread = request.choices and done.choice_logprobs == {}
        thought = not (request.choices or done.text) and done.reasoning and done.finish_reason == "stop"
        if unread:
            said = f"none of the labels {', '.join(request.choices)} is among the likeliest tokens"
        elif thought and self.watch is not None and not self.watch.proven(request):
            said = "the answer has no text, and the reasoning has: the server may take one for the other"
        if said:
            error = MalformedReply(f"{self.model}: {said}", hint=None if unread else "correct the reasoning parser")
            error.retryable = False
            raise error

    def _stored(self, done: Completion) -> Completion:
        """With texts that can be stored as they are. Raises MalformedReply where they cannot."""
        cut = done.finish_reason == "length"
        text = storable(done.text, cut, self.model, self._odd.add)
        # Where a cut left nothing but reasoning, that is what was cut.
        thought = done.reasoning and storable(done.reasoning, cut and not text, self.model, self._odd.add)
        return done if (text, thought) == (done.text, done.reasoning) else replace(done, text=text, reasoning=thought)

    async def close(self) -> None:
        await self._engine.close()
