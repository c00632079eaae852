"""A fleet of fake servers for the tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from constitution.engines.base import Request
from constitution.engines.fake import FakeEngine
from constitution.engines.openai.engine import OpenAIEngine
from constitution.recipe import FakeModel, OpenAIModel
from constitution.records import Message, Sampling
from rehearsal.server import FakeServer

ASK = (Message("user", "How do I light a fire?"),)


def ask(seed: int = 1, affinity: str = "", priority: int = 0) -> Request:
    return Request(ASK, Sampling(), seed, priority, affinity=affinity)


def slow(latency_s: float) -> FakeEngine:
    return FakeEngine(FakeModel(engine="fake", latency_s=latency_s))


@asynccontextmanager
async def fleet(servers: Sequence[FakeServer], **fields: Any) -> AsyncIterator[OpenAIEngine]:
    """The servers, started, and an engine over them."""
    async with AsyncExitStack() as stack:
        for server in servers:
            await stack.enter_async_context(server)
        engine = await opened(servers, **fields)
        stack.push_async_callback(engine.close)
        yield engine


async def opened(servers: Sequence[FakeServer], **fields: Any) -> OpenAIEngine:
    urls = tuple(server.base_url for server in servers)
    return await OpenAIEngine.open(OpenAIModel(engine="openai", **{"model": "fake", "base_url": urls, **fields}))


async def until(true: Callable[[], bool], seconds: float = 8.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.01)


def states(engine: OpenAIEngine) -> list[str]:
    return [endpoint["state"].partition(" (")[0] for endpoint in engine.stats()["endpoints"]]


def seeds(server: FakeServer) -> list[int]:
    return [received.body["seed"] for received in server.requests]
