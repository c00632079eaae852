"""A run's metrics and traces, for those who ask for them. Off by default, and then nothing of it is imported.

    CONSTITUTION_METRICS=9400         Prometheus reads them at 127.0.0.1:9400 while the run works

The environment says it, so that the processes of a run's shards, and the workers of a scheduler, do the same. No text
of a prompt or an answer leaves the process, unless it is asked for by name.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from constitution.engines import Engines
from constitution.records import Run
from constitution.telemetry.base import Exporter, Source, Telemetry

__all__ = ["METRICS", "Telemetry", "check", "telemetry"]

METRICS = "CONSTITUTION_METRICS"
"""[HOST:]PORT."""


@asynccontextmanager
async def telemetry(now: Callable[[], Run], engines: Engines, shard: str = "") -> AsyncIterator[Telemetry | None]:
    """What the environment asks for, of the run that is at work on these engines, for as long as the block lasts; None:
    nothing. now: the run's record as of now. Raises InputError for what cannot be had."""
    if not os.environ.get(METRICS):
        yield None
        return
    source = Source(now, engines, shard)
    exporters: list[Exporter] = []
    try:
        exporters += _opened(source)
        watching = Telemetry(tuple(exporters))
        for role, engine in engines.distinct.items():
            engine.listen(role, watching)
        yield watching
    finally:
        for each in exporters:
            await asyncio.to_thread(each.close)


def check() -> None:
    """Raises InputError for what the environment asks for and cannot be had, before anything starts."""
    if where := os.environ.get(METRICS):
        from constitution.telemetry.prometheus import address

        address(where)


def _opened(source: Source) -> list[Exporter]:
    from constitution.telemetry.prometheus import PrometheusExporter

    return [PrometheusExporter(source, os.environ[METRICS])]
