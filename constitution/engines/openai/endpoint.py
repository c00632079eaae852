"""One server of a fleet: how much it is given at once, whether it is in service, and who waits for it.

What is in flight is bounded by `limit`, which adapts as TCP's window does: a sign of overload halves it, at most once
per round trip, and successes raise it again, up to the recipe's `concurrency`. Failures in a row are strikes; enough of
them take the server out of service, as a circuit breaker does.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from constitution.engines.openai.http import Transport
from constitution.errors import (
    AccessDenied,
    EngineError,
    EngineTimeout,
    EngineUnavailable,
    MalformedReply,
    RateLimited,
)

OVERLOAD = {429, 503, 504, 529}
STRIKES_OUT = 9
LOST_STRIKES = 3
"""Strikes for no reply at all: three of these in a row are enough."""
STEPS = 16
"""Round trips in which a limit grows from nothing to `concurrency`; a server that comes back starts with one step."""
FIRST_PROBE_SECONDS = 0.5
EVENTS_KEPT = 100


@dataclass(slots=True)
class Event:
    text: str


class Events:
    """Sentences on what went wrong and was mended; the oldest go first when there are too many."""

    def __init__(self) -> None:
        self._kept: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._count = 0

    def add(self, text: str) -> Event:
        event = Event(text)
        self._kept.append(event)
        self._count += 1
        return event

    def sentences(self) -> list[str]:
        lost = self._count - len(self._kept)
        return ([f"{lost} earlier events are not shown"] if lost else []) + [event.text for event in self._kept]


def now() -> str:
    """UTC, to the second, as events say it."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


@dataclass(slots=True, order=True)
class Ticket:
    """A request that waits for a place; the most urgent is the least."""

    priority: int
    """Lower first."""
    count: int
    """The order of arrival, over the whole fleet."""
    affinity: str = field(compare=False)
    tried: set[Endpoint] = field(compare=False)
    """Servers that failed this request in this round; it is not for them."""
    turn: asyncio.Future[Endpoint] = field(compare=False)


@dataclass(slots=True)
class Figures:
    """What is counted over the life of an endpoint."""

    calls: int = 0
    failures: int = 0
    retries: int = 0
    """Calls that had failed before, here or elsewhere."""
    overloads: int = 0
    """Times that the limit was lowered."""
    outages: int = 0
    out_of_service_seconds: float = 0.0


class Endpoint:
    """State of one server. It decides nothing about the others: that is the fleet's."""

    def __init__(self, transport: Transport, concurrency: int, events: Events) -> None:
        self.transport = transport
        self.place = transport.place
        self.in_flight = 0
        self.in_service = True
        self.held_until = 0.0
        """Monotonic clock: before it the server is sent nothing new, because it asked for that."""
        self.held = False
        self.out_since = 0.0
        """Monotonic clock; of the present outage."""
        self.out_at = ""
        self.reason = ""
        self.hopeless_at = 0.0
        """Monotonic clock: no request waits for it any longer than that."""
        self.probe_seconds = FIRST_PROBE_SECONDS
        self.answers = 0
        """Calls that had a reply of any kind."""
        self.proven = False
        """Whether any call succeeded."""
        self.figures = Figures()
        self._most = concurrency
        self._limit = float(concurrency)
        self._waiting: list[Ticket] = []
        self._events = events
        self._outage: Event | None = None
        self._strikes = 0
        self._lowered = 0
        self._returned = 0
        self._well = True
        """Whether a call succeeded since it came back from its last outage."""

    # --- places

    @property
    def limit(self) -> int:
        """Requests that it may have in flight now."""
        return int(self._limit)

    @property
    def free(self) -> bool:
        return self.in_flight < int(self._limit) and self.in_service and not self.held

    @property
    def load(self) -> float:
        """Requests in flight and waiting, per place."""
        return (self.in_flight + len(self._waiting)) / self._limit

    def push(self, ticket: Ticket) -> None:
        heapq.heappush(self._waiting, ticket)

    def first(self) -> Ticket | None:
        """The most urgent, of those the one that waited longest; cancelled ones fall out here."""
        while self._waiting:
            if not self._waiting[0].turn.done():
                return self._waiting[0]
            heapq.heappop(self._waiting)
        return None

    def pop(self) -> Ticket:
        """The one that `first` named."""
        return heapq.heappop(self._waiting)

    def drain(self) -> list[Ticket]:
        waiting, self._waiting = self._waiting, []
        return [ticket for ticket in sorted(waiting) if not ticket.turn.done()]

    # --- what calls tell

    def begin(self, retry: bool) -> int:
        """Counts a call and gives it its number."""
        self.figures.calls += 1
        self.figures.retries += retry
        return self.figures.calls

    def succeeded(self) -> None:
        self.answers += 1
        self.proven = self._well = True
        if self._limit < self._most:
            self._limit = min(self._most, self._limit + max(1.0, self._most / STEPS) / self._limit)
        if self._strikes:
            self._strikes = 0
            self.probe_seconds = FIRST_PROBE_SECONDS

    def failed(self, error: EngineError, number: int) -> bool:
        """Whether the server has to leave service; `number` is that of the call that failed."""
        self.figures.failures += 1
        lost = isinstance(error, EngineUnavailable) and error.status is None
        self.answers += not lost
        if isinstance(error, RateLimited | EngineTimeout) or getattr(error, "status", None) in OVERLOAD:
            self._overloaded(error, number)
        if not self.in_service or number <= self._returned or isinstance(error, AccessDenied | RateLimited):
            return False
        if not isinstance(error, EngineUnavailable | MalformedReply):
            self._strikes = 0  # it refuses a request, so it works
            return False
        if isinstance(error, EngineUnavailable) and error.status == 404:
            return True  # it has the model no more (`fleet._lost_model`)
        self._strikes += LOST_STRIKES if lost else 1
        return self._strikes >= STRIKES_OUT

    def _overloaded(self, error: EngineError, number: int) -> None:
        """Halves the limit, unless the call was sent before it was halved last."""
        if number <= self._lowered:
            return
        self._lowered = self.figures.calls
        # Half of what it had, not of what it was allowed: the limit may have been far off.
        self._limit = max(1.0, min(self._limit, self.in_flight) / 2)
        if not self.figures.overloads:
            self._events.add(
                f"{self.place} overloaded at {now()} ({self.words(error)}); it gets {self.limit} requests at once "
                f"instead of {self._most}, and more again as it answers"
            )
        self.figures.overloads += 1

    # --- service

    def leave(self, reason: str, wait_s: float) -> None:
        """Out of service; requests wait for it at most `wait_s`, from when it was well last: one that answers its
        probes and then fails what it is sent is not waited for time and again."""
        self.in_service = False
        self.out_since = time.monotonic()
        if self._well or not wait_s:
            self.out_at = now()
            self.hopeless_at = self.out_since + wait_s
        self._well = False
        self.reason = reason
        self.figures.outages += 1
        self._outage = self._events.add(f"{self.place} out of service at {now()} ({reason})")

    def come_back(self) -> None:
        """On trial: with a small limit, and the first failure takes it out again."""
        self.in_service = True
        self.figures.out_of_service_seconds += time.monotonic() - self.out_since
        self._limit = max(1.0, self._most / STEPS)
        self._strikes = STRIKES_OUT - 1
        # Calls sent before the outage may still fail of it.
        self._returned = self._lowered = self.figures.calls
        if self._outage is not None:
            self._outage.text += f"; back at {now()}"
            self._outage = None

    def words(self, error: Exception) -> str:
        """An error's message without the address, for a sentence that has the address already."""
        return str(error).removeprefix(f"{self.place}: ") or type(error).__name__

    def stats(self) -> dict[str, Any]:
        out = 0.0 if self.in_service else time.monotonic() - self.out_since
        return {
            "base_url": self.place,
            "state": ("held" if self.held else "in service") if self.in_service else f"out of service ({self.reason})",
            **asdict(self.figures),
            "out_of_service_seconds": round(self.figures.out_of_service_seconds + out, 3),
            "in_flight": self.in_flight,
            "waiting": sum(not ticket.turn.done() for ticket in self._waiting),
            "limit": self.limit,
        }
