"""Servers of one model, used as one: routing, waiting, retries, outages. A single server is a fleet of one.

    fleet = Fleet(endpoints, events, check, timeout_s=600, retries=6)
    await fleet.open()
    reply, place = await fleet.post(CHAT, body, priority=0, affinity=prompt_id)

- Requests of equal affinity go to one server, whose prefix cache has what they share; the first of them, and requests
  without affinity, go to the server with the least load.
- A server with free places and no queue takes the most urgent request of another's queue, and keeps its prompt.
- What a server fails is sent at once to one that has not failed it yet, and after a back-off where there is none.
- A server out of service is asked every few seconds whether it is well again; while none is in service, requests wait.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import Any

from constitution.engines.openai.endpoint import Endpoint, Events, Ticket
from constitution.engines.openai.http import AT_ROOT, Transport
from constitution.errors import (
    AccessDenied,
    ConstitutionError,
    EngineError,
    EngineGone,
    EngineUnavailable,
    MalformedReply,
    ModelLoadError,
    RateLimited,
)

BACKOFF_SECONDS = 0.5
"""Upper bound of the first wait; it doubles with every further one."""
BACKOFF_MOST = 30.0
PROBE_MOST = 15.0
"""Upper bound of the seconds between two probes of a server out of service."""
OPEN_RETRIES = 2
HOMES_KEPT = 20_000
"""Prompts whose server is remembered, those asked for last; more than are in flight."""

Check = Callable[[Transport], Awaitable[None]]
"""Asks a server whether it is well and serves what the others do; raises ConstitutionError where not."""


class Fleet:
    """At least one endpoint. Nothing here depends on what the requests say."""

    def __init__(
        self, endpoints: Sequence[Endpoint], events: Events, check: Check, *, timeout_s: float, retries: int
    ) -> None:
        self.endpoints = tuple(endpoints)
        self.events = events
        self._check = check
        self._timeout_s = timeout_s
        self._retries = retries
        self._homes: OrderedDict[str, Endpoint] = OrderedDict()
        self._arrivals = count()
        self._probes: dict[Endpoint, asyncio.Task[None]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._closed = False

    async def open(self) -> None:
        """Ask every server. Those that do not answer are out of service from the start; raises where none does, and
        where one answers that cannot be used at all."""
        waiting = list(self.endpoints)
        for attempt in range(min(self._retries, OPEN_RETRIES) + 1):
            answers = await asyncio.gather(*(self._asked(endpoint) for endpoint in waiting))
            silent = [(endpoint, error) for endpoint, error in zip(waiting, answers, strict=True) if error]
            if len(silent) < len(self.endpoints):
                for endpoint, error in silent:
                    self._out(endpoint, endpoint.words(error), self._timeout_s)
                return
            asked = min(getattr(error, "retry_after", None) or 0.0 for _, error in silent)
            if attempt == min(self._retries, OPEN_RETRIES) or asked > self._timeout_s:
                break
            await asyncio.sleep(asked + _jitter(attempt))
        if len(silent) == 1:
            raise silent[0][1]
        listed = "; ".join(f"{endpoint.place} ({endpoint.words(error)})" for endpoint, error in silent)
        raise EngineUnavailable(f"none of the {len(silent)} servers answers: {listed}")

    async def close(self) -> None:
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        for task in self._probes.values():
            task.cancel()
        await asyncio.gather(*self._probes.values(), return_exceptions=True)
        self._dismiss()
        for endpoint in self.endpoints:
            await endpoint.transport.close()

    async def post(self, path: str, body: bytes, priority: int, affinity: str) -> tuple[Any, str]:
        """The reply's JSON and the address of the server that gave it. Raises the last error once `retries` are used
        up, and EngineGone when no server has been in service for about timeout_s."""
        tried: set[Endpoint] = set()
        attempt = 0
        while True:
            endpoint = self._enter(affinity, tried) or await self._turn(priority, affinity, tried)
            number = endpoint.begin(attempt > 0)
            try:
                reply = await endpoint.transport.post(path, body)
            except EngineError as raised:
                error = _lost_model(raised) if path not in AT_ROOT and endpoint.proven else raised
                self._failed(endpoint, error, number)
                wait = self._until_next(endpoint, error, tried, attempt)
            else:
                endpoint.succeeded()
                return reply, endpoint.place
            finally:
                self._leave(endpoint)
            if wait:
                await asyncio.sleep(wait)
            attempt += 1

    async def lose(self, endpoint: Endpoint, reason: str) -> None:
        """Give a server up that went silent: what it has in flight is sent elsewhere, without waiting for time-outs."""
        if endpoint.in_service and not self._closed:
            self._out(endpoint, reason, self._timeout_s)
            await endpoint.transport.break_off()

    # --- places

    def _route(self, affinity: str, tried: set[Endpoint]) -> Endpoint:
        """The prompt's server while it is in service, else the one with the least load."""
        if affinity:
            home = self._homes.get(affinity)
            if home is not None and home.in_service and home not in tried:
                self._homes.move_to_end(affinity)
                return home
        best = min(self.endpoints, key=lambda each: (not each.in_service, each in tried, each.held, each.load))
        self._assign(affinity, best)
        return best

    def _assign(self, affinity: str, endpoint: Endpoint) -> None:
        if affinity and len(self.endpoints) > 1:
            self._homes[affinity] = endpoint
            if len(self._homes) > HOMES_KEPT:
                self._homes.popitem(last=False)

    def _enter(self, affinity: str, tried: set[Endpoint]) -> Endpoint | None:
        """A place at once, or None: then the request has to wait for its turn."""
        endpoint = self._route(affinity, tried)
        if not endpoint.free or endpoint.first() is not None:
            return None
        endpoint.in_flight += 1
        return endpoint

    async def _turn(self, priority: int, affinity: str, tried: set[Endpoint]) -> Endpoint:
        if self._closed:
            raise EngineUnavailable(f"{self._names()}: the engine is closed", hint="")
        if self._hopeless():
            raise self._gone()
        turn: asyncio.Future[Endpoint] = asyncio.get_running_loop().create_future()
        ticket = Ticket(priority, next(self._arrivals), affinity, tried, turn)
        self._route(affinity, tried).push(ticket)
        self._share()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._leave(turn.result())
            raise

    def _leave(self, endpoint: Endpoint) -> None:
        endpoint.in_flight -= 1
        self._fill(endpoint)

    def _fill(self, endpoint: Endpoint) -> None:
        """Gives free places to those that wait: its own first, then the most urgent of other queues."""
        while endpoint.free:
            source: Endpoint | None = endpoint
            if endpoint.first() is None:
                source = self._most_urgent_beside(endpoint)
            if source is None:
                return
            ticket = source.pop()
            if source is not endpoint:
                self._assign(ticket.affinity, endpoint)
            endpoint.in_flight += 1
            ticket.turn.set_result(endpoint)

    def _most_urgent_beside(self, thief: Endpoint) -> Endpoint | None:
        """The other endpoint whose queue begins with the most urgent request that `thief` has not failed."""
        firsts = [(endpoint.first(), endpoint) for endpoint in self.endpoints if endpoint is not thief]
        able = [(ticket, endpoint) for ticket, endpoint in firsts if ticket and thief not in ticket.tried]
        return min(able, key=lambda pair: pair[0])[1] if able else None

    def _share(self) -> None:
        for endpoint in self.endpoints:
            if endpoint.free:
                self._fill(endpoint)

    # --- failures

    def _failed(self, endpoint: Endpoint, error: EngineError, number: int) -> None:
        """What a failure says of the server."""
        if self._closed:
            return
        broken = endpoint.failed(error, number)
        asked = getattr(error, "retry_after", None) or 0.0
        if endpoint.in_service and asked > self._timeout_s:
            # Longer than a request may take: for the person who runs this to decide.
            endpoint.probe_seconds = asked
            self._out(endpoint, f"{endpoint.words(error)}; it asks to wait {asked:g} s", 0.0)
        elif endpoint.in_service and asked:
            self._hold(endpoint, asked)
        elif broken:
            self._out(endpoint, endpoint.words(error), self._timeout_s)

    def _until_next(self, endpoint: Endpoint, error: EngineError, tried: set[Endpoint], attempt: int) -> float:
        """Seconds until the next attempt; raises `error` where there is none."""
        if not error.retryable or isinstance(error, AccessDenied) or attempt >= self._retries or self._closed:
            raise error
        tried.add(endpoint)
        if any(each.in_service and not each.held and each not in tried for each in self.endpoints):
            return 0.0
        if isinstance(error, RateLimited) and (error.retry_after or 0.0) > self._timeout_s:
            raise error
        tried.clear()
        return _jitter(attempt)

    def _hold(self, endpoint: Endpoint, seconds: float) -> None:
        """Nothing new for this server for so long; its queue is there for the others."""
        endpoint.held = True
        endpoint.held_until = max(endpoint.held_until, time.monotonic() + seconds)
        self._at(f"hold {endpoint.place}", endpoint.held_until, lambda: self._release(endpoint))
        self._share()

    def _release(self, endpoint: Endpoint) -> None:
        endpoint.held = False
        self._fill(endpoint)

    # --- service

    def _out(self, endpoint: Endpoint, reason: str, wait_s: float) -> None:
        """Out of service: its queue goes to the others, and it is probed until it is well."""
        endpoint.leave(reason, wait_s)
        self._probes[endpoint] = asyncio.create_task(self._probe(endpoint))
        self._route_again(endpoint)
        if not any(each.in_service for each in self.endpoints):
            # A little later, because a timer may come a little early.
            self._at("dark", max(each.hopeless_at for each in self.endpoints) + 0.01, self._give_up)

    async def _probe(self, endpoint: Endpoint) -> None:
        while True:
            await asyncio.sleep(endpoint.probe_seconds * random.uniform(0.8, 1.2))
            # It stays doubled on trial, and is what it was at first once a call succeeds.
            endpoint.probe_seconds = min(PROBE_MOST, 2 * endpoint.probe_seconds)
            try:
                await self._check(endpoint.transport)
            except ConstitutionError as error:
                if isinstance(error, EngineUnavailable) and error.status is None and endpoint.in_flight:
                    # A machine that is gone breaks no connection: what it was sent would wait for the time-out.
                    await endpoint.transport.break_off()
                reason = endpoint.words(error)
                if reason != endpoint.reason and not isinstance(error, EngineUnavailable):
                    self.events.add(f"{endpoint.place} answers again and stays out of service: {reason}")
                endpoint.reason = reason
                continue
            break
        endpoint.come_back()
        for each in self.endpoints:
            if not each.in_service:
                self._route_again(each)
        self._share()

    def _route_again(self, endpoint: Endpoint) -> None:
        for ticket in endpoint.drain():
            self._route(ticket.affinity, ticket.tried).push(ticket)
        self._share()

    async def _asked(self, endpoint: Endpoint) -> EngineError | None:
        """The error of a server that does not answer."""
        try:
            await self._check(endpoint.transport)
        except AccessDenied:
            raise
        except (EngineUnavailable, MalformedReply) as error:
            return error
        return None

    def _hopeless(self) -> bool:
        moment = time.monotonic()
        return all(not each.in_service and each.hopeless_at <= moment for each in self.endpoints)

    def _give_up(self) -> None:
        if self._hopeless():
            self._dismiss()

    def _dismiss(self) -> None:
        """Ends all waiting."""
        for endpoint in self.endpoints:
            for ticket in endpoint.drain():
                error: EngineUnavailable = self._gone()
                if self._closed:
                    error = EngineUnavailable(f"{self._names()}: the engine is closed", hint="")
                ticket.turn.set_exception(error)

    def _gone(self) -> EngineGone:
        listed = "; ".join(
            f"{each.place} out of service since {each.out_at} ({each.reason})" for each in self.endpoints
        )
        several = f"none of the {len(self.endpoints)} servers is in service: " if len(self.endpoints) > 1 else ""
        return EngineGone(several + listed)

    def _names(self) -> str:
        return ", ".join(endpoint.place for endpoint in self.endpoints)

    def _at(self, name: str, moment: float, call: Callable[[], None]) -> None:
        """Calls `call` when the monotonic clock says `moment`; a later call under the same name replaces it."""
        if name in self._timers:
            self._timers[name].cancel()
        loop = asyncio.get_running_loop()
        self._timers[name] = loop.call_at(loop.time() + max(0.0, moment - time.monotonic()), call)


def _lost_model(error: EngineError) -> EngineError:
    """A server that answered and says now that it has no such model is one to go away from; the request is well."""
    if not isinstance(error, ModelLoadError):
        return error
    # No EngineGone, at which the run stops: whether there are other servers, the fleet knows.
    lost = EngineUnavailable(str(error), hint=error.hint)
    lost.status = 404
    return lost


def _jitter(attempt: int) -> float:
    """Full jitter, so that requests that failed together do not come back together."""
    return random.uniform(0.0, min(BACKOFF_MOST, BACKOFF_SECONDS * 2.0**attempt))
