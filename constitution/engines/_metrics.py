"""What a vLLM server says of itself under /metrics, in Prometheus' text format: read rarely, since opening."""

from __future__ import annotations

from collections.abc import Mapping

from constitution.engines._http import METRICS, Transport
from constitution.errors import EngineError

EVERY_SECONDS = 10.0
READ_SECONDS = 5.0

GAUGES = {"vllm:num_requests_running": "running", "vllm:num_requests_waiting": "waiting"}
COUNTERS = {
    "vllm:num_preemptions_total": "preemptions",
    "vllm:prefix_cache_queries_total": "prefix_cache_queries",
    "vllm:prefix_cache_hits_total": "prefix_cache_hits",
}


class ServerFigures:
    """One server's figures: gauges as they were read last, counters since the first reading, over its engines."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._last: dict[str, float] = {}
        self._grown: dict[str, float] = {}

    async def read(self) -> None:
        """Ask the server; one that does not answer leaves the figures as they are."""
        try:
            found = parsed(await self._transport.text(METRICS, READ_SECONDS))
        except EngineError:
            return
        for name in COUNTERS.values():
            if name in found and name in self._last:
                # A server that was started again counts from nothing.
                before = self._last[name] if found[name] >= self._last[name] else 0.0
                self._grown[name] = self._grown.get(name, 0.0) + found[name] - before
        self._last.update(found)

    def stats(self) -> Mapping[str, int]:
        """Empty where the server told nothing."""
        gauges = {name: int(self._last[name]) for name in GAUGES.values() if name in self._last}
        return gauges | {name: int(self._grown.get(name, 0.0)) for name in COUNTERS.values() if name in self._last}


def parsed(text: str) -> dict[str, float]:
    """Our names of the figures, each summed over its label sets: vLLM has one per engine of a data-parallel server."""
    names = GAUGES | COUNTERS
    found: dict[str, float] = {}
    for line in text.splitlines():
        name = names.get(line.partition("{")[0].partition(" ")[0])
        if name is not None:
            try:
                found[name] = found.get(name, 0.0) + float(line.rpartition(" ")[2])
            except ValueError:
                continue
    return found
