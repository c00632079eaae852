"""What vLLM servers say of themselves under /metrics, in Prometheus' text format, and whether they say anything at all.

A machine that is gone, or a process that is frozen, breaks no connection: its requests would wait for their time-out,
which is long, because a server that generates is silent too. But it answers this in the meantime.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from prometheus_client.parser import text_string_to_metric_families

from constitution.engines.openai.endpoint import Endpoint
from constitution.engines.openai.fleet import Fleet
from constitution.engines.openai.http import HEALTH, METRICS
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
NAMES = GAUGES | COUNTERS


class Server:
    """What one server was last seen to do: gauges as they were read last, counters since the first reading."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._answers = 0
        self._silences = 0
        self._last: dict[str, float] = {}
        self._grown: dict[str, float] = {}

    async def silent(self) -> bool:
        """Whether it has answered neither this nor any request for `SILENCES` readings in a row."""
        answered = await self._read() or self._endpoint.answers > self._answers
        self._answers = self._endpoint.answers
        self._silences = 0 if answered else self._silences + 1
        if self._silences < SILENCES:
            return False
        self._silences = 0
        # A gateway may shut /metrics off; a frozen server answers nothing.
        return await self._asked(HEALTH) is None

    async def _asked(self, path: str) -> str | None:
        """What it says, empty for a refusal; None: nothing."""
        try:
            return (await self._endpoint.transport.content(path, READ_SECONDS)).decode("utf-8", errors="replace")
        except EngineError as error:
            return None if isinstance(error, EngineUnavailable) and error.status is None else ""

    async def _read(self) -> bool:
        text = await self._asked(METRICS)
        found = parsed(text or "")
        for name in COUNTERS.values():
            if name in found and name in self._last:
                # A server that was started again counts from nothing.
                before = self._last[name] if found[name] >= self._last[name] else 0.0
                self._grown[name] = self._grown.get(name, 0.0) + found[name] - before
        self._last.update(found)
        return text is not None

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
        self._servers = {endpoint: Server(endpoint) for endpoint in fleet.endpoints}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def stats(self, endpoint: Endpoint) -> Mapping[str, int]:
        return self._servers[endpoint].stats()

    async def _run(self) -> None:
        while True:
            await asyncio.gather(*(self._look(each) for each in self._fleet.endpoints if each.in_service))
            await asyncio.sleep(EVERY_SECONDS)

    async def _look(self, endpoint: Endpoint) -> None:
        if await self._servers[endpoint].silent():
            await self._fleet.lose(endpoint, "it answers nothing any more")


def parsed(text: str) -> dict[str, float]:
    """Our names of the figures, each summed over its label sets: vLLM has one per engine of a data-parallel server.
    What follows a line that Prometheus does not know is not read."""
    found: dict[str, float] = {}
    with suppress(ValueError):
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                name = NAMES.get(sample.name)
                if name is not None and 0 <= sample.value < MOST:
                    found[name] = found.get(name, 0.0) + sample.value
    return found
