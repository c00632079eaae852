"""What vLLM servers say of themselves under /metrics, in Prometheus' text format, and whether they say anything at all.

A machine that is gone, or a process that is frozen, breaks no connection: its requests would wait for their time-out,
which is long, because a server that generates is silent too. But it answers this in the meantime.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping

from constitution.engines.openai.endpoint import Endpoint
from constitution.engines.openai.fleet import Fleet
from constitution.engines.openai.http import HEALTH, METRICS, Transport
from constitution.errors import EngineError, EngineUnavailable

EVERY_SECONDS = 10.0
READ_SECONDS = 10.0
MOST = 2.0**53
"""What a server says that is more, under 0 or no number is no count."""
SILENCES = 3
"""So many times in a row without an answer, to this or to any request, and a server is given up."""

GAUGES = {"vllm:num_requests_running": "running", "vllm:num_requests_waiting": "waiting"}
COUNTERS = {
    "vllm:num_preemptions_total": "preemptions",
    "vllm:prefix_cache_queries_total": "prefix_queries",
    "vllm:prefix_cache_hits_total": "prefix_hits",
}


class ServerFigures:
    """One server's figures: gauges as they were read last, counters since the first reading, over its engines."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._last: dict[str, float] = {}
        self._grown: dict[str, float] = {}

    async def read(self) -> bool:
        """Ask the server: whether it answered. An answer without figures leaves them as they are."""
        try:
            found = parsed(await self._transport.text(METRICS, READ_SECONDS))
        except EngineError as error:
            return _is_reply(error)
        for name in COUNTERS.values():
            if name in found and name in self._last:
                # A server that was started again counts from nothing.
                before = self._last[name] if found[name] >= self._last[name] else 0.0
                self._grown[name] = self._grown.get(name, 0.0) + found[name] - before
        self._last.update(found)
        return True

    def stats(self) -> Mapping[str, int]:
        """Empty where the server told nothing."""
        gauges = {name: int(self._last[name]) for name in GAUGES.values() if name in self._last}
        grown = {name: int(self._grown.get(name, 0.0)) for name in COUNTERS.values() if name in self._last}
        if grown.get("prefix_hits", 0) > grown.get("prefix_queries", 0):
            del grown["prefix_hits"]  # more than was looked for: one of the two is wrong
        return gauges | grown


class Watch:
    """Reads the figures of a fleet's servers from time to time, and gives up those that went silent."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._figures = {endpoint: ServerFigures(endpoint.transport) for endpoint in fleet.endpoints}
        self._silences = dict.fromkeys(fleet.endpoints, 0)
        self._answers = dict.fromkeys(fleet.endpoints, 0)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def stats(self, endpoint: Endpoint) -> Mapping[str, int]:
        return self._figures[endpoint].stats()

    async def _run(self) -> None:
        while True:
            await asyncio.gather(*(self._look(each) for each in self._fleet.endpoints if each.in_service))
            await asyncio.sleep(EVERY_SECONDS)

    async def _look(self, endpoint: Endpoint) -> None:
        answered = await self._figures[endpoint].read() or endpoint.answers > self._answers[endpoint]
        self._answers[endpoint] = endpoint.answers
        self._silences[endpoint] = 0 if answered else self._silences[endpoint] + 1
        if self._silences[endpoint] >= SILENCES:
            self._silences[endpoint] = 0
            # A gateway may shut /metrics off; a frozen server answers nothing.
            if not await _replies(endpoint.transport.text(HEALTH, READ_SECONDS)):
                await self._fleet.lose(endpoint, "it answers nothing any more")


async def _replies(exchange: Awaitable[str]) -> bool:
    try:
        await exchange
    except EngineError as error:
        return _is_reply(error)
    return True


def _is_reply(error: EngineError) -> bool:
    """Whether the server said this, and not the lack of an answer."""
    return not isinstance(error, EngineUnavailable) or error.status is not None


def parsed(text: str) -> dict[str, float]:
    """Our names of the figures, each summed over its label sets: vLLM has one per engine of a data-parallel server."""
    names = GAUGES | COUNTERS
    found: dict[str, float] = {}
    for line in text.splitlines():
        name = names.get(line.partition("{")[0].partition(" ")[0])
        if name is not None:
            try:
                value = float(line.rpartition(" ")[2])
            except ValueError:
                continue
            if 0 <= value < MOST:
                found[name] = found.get(name, 0.0) + value
    return found
