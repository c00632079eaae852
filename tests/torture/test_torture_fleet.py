"""What a fleet does about faults: it waits, spreads, slows, leaves out and takes in again."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import wild_server as wild
from conftest import Torture
from fleet_servers import ask, fleet, slow
from pipeline_run import rows_of
from run_once import run_once
from test_torture_servers import CALLS, CASES, PROMPTS, _hurry, clean  # noqa: F401 -- a fixture of every test
from wild_server import Act, WildServer, project, says, thing

from constitution.engines.base import Request
from constitution.engines.openai import endpoint as _endpoint
from constitution.engines.openai import fleet as _fleet
from constitution.records import Message, Sampling
from rehearsal.server import FakeServer, Fault


def asked(number: int) -> Request:
    return Request((Message("user", f"How does thing {number} work?"),), Sampling(), number)


@pytest.mark.torture
async def test_retries_of_requests_that_failed_together_are_spread(
    monkeypatch: pytest.MonkeyPatch, torture: Torture
) -> None:
    monkeypatch.setattr(_fleet, "BACKOFF_SECONDS", 0.4)
    monkeypatch.setattr(_fleet, "BACKOFF_MOST", 0.4)
    act = says("503", 503)
    first: set[int] = set()

    def play(body: Mapping[str, Any]) -> Act | None:
        number = thing(body)
        again = number in first
        first.add(number)
        return None if again else act

    random.seed(torture.seed)
    server = WildServer(play)
    async with fleet([server], concurrency=64) as engine:
        # A limit that is lowered would itself spread them.
        monkeypatch.setattr(_endpoint, "OVERLOAD", set())
        monkeypatch.setattr(_endpoint, "STRIKES_OUT", 10**6)
        await asyncio.gather(*(engine.generate(asked(number)) for number in range(40)))
    torture.count("faults of servers", server.served.total())
    second = [at for number, at in server.arrivals[40:]]
    assert len(second) == 40
    begun = max(at for _, at in server.arrivals[:40])
    buckets = Counter(int((at - begun) / 0.1) for at in second)
    assert len(buckets) >= 4
    assert max(buckets.values()) <= 24
    torture.measure("seconds over which 40 retries are spread, of 0.4", round(max(second) - min(second), 3))


@pytest.mark.torture
async def test_a_server_ten_times_slower_does_not_hold_the_run_back(torture: Torture) -> None:
    """The same work by a fast server alone, and with the slow one beside it."""

    async def seconds(servers: Sequence[FakeServer]) -> float:
        async with fleet(servers, concurrency=8) as engine:
            numbers = iter(range(480))

            async def chains() -> None:
                for number in numbers:
                    await engine.generate(ask(seed=number, affinity=f"prompt {number // 2}"))

            start = time.monotonic()
            await asyncio.gather(*(chains() for _ in range(16)))
            return time.monotonic() - start

    alone = await seconds([FakeServer(slow(0.04))])
    both = await seconds([FakeServer(slow(0.04)), FakeServer(slow(0.4))])
    torture.measure("time with a server ten times slower beside it, of that without", round(both / alone, 2))
    # Its own last answer may be waited for. Half of the work on it would take 4 s, or 12 in the long version.
    assert both < 1.2 * alone + 0.8


async def test_a_breaker_opens_and_closes_and_the_limit_falls_and_rises(torture: Torture) -> None:
    down = [Fault(status=500)] * 12
    busy = [Fault(status=429)] * 12
    async with fleet([FakeServer(slow(0.002), faults=[*busy, *[None] * 60, *down])], concurrency=32) as engine:
        await asyncio.gather(*(engine.generate(ask(seed)) for seed in range(48)))
        endpoint = engine.stats()["endpoints"][0]
        assert endpoint["overloads"] >= 1
        low = endpoint["limit"]
        await asyncio.gather(*(engine.generate(ask(seed)) for seed in range(48)))
        endpoint = engine.stats()["endpoints"][0]
        assert endpoint["outages"] >= 1
        assert endpoint["state"] == "in service"
        for _ in range(8):
            await asyncio.gather(*(engine.generate(ask(seed)) for seed in range(64)))
        assert engine.stats()["endpoints"][0]["limit"] > low or low == 32
        assert engine.stats()["endpoints"][0]["limit"] >= 16
        events = engine.stats()["events"]
    assert any("overloaded" in event for event in events)
    assert any("out of service" in event and "back at" in event for event in events)
    torture.count("faults of servers", len(down) + len(busy))


# --- all at once


PASSING = [case.act for case in CASES if case.ends in ("well", "sound") or case.ends == "open MalformedReply"]
SLOW = {"hang", "trickle", "429, a date"}


def at_random(dice: random.Random, share: float, acts: Sequence[Act]) -> wild.Play:
    return lambda body: dice.choice(acts) if dice.random() < share else None


async def test_a_fleet_of_three_with_all_faults_at_once(tmp_path: Path, torture: Torture) -> None:
    """Rows are those of the undisturbed run, however often it takes a start."""
    prompts = 300 if torture.full else PROMPTS
    _, _, rows = await clean(tmp_path, prompts)
    dice = random.Random(f"{torture.seed}/fleet of three")
    for turn in range(4 if torture.full else 1):
        share = dice.uniform(0.05, 0.35)
        play = at_random(
            random.Random(dice.random()), share, [act for act in PASSING if torture.full or act.__name__ not in SLOW]
        )

        async with AsyncExitStack() as stack:
            servers = [await stack.enter_async_context(WildServer(play)) for _ in range(3)]
            recipe = project(tmp_path / f"hurt{turn}", [server.base_url for server in servers], prompts)
            starts = 0
            while not (run := await run_once(recipe, tmp_path / f"w{turn}", [])).finished_at:
                starts += 1
                assert starts < 40, run.stopped
            asked = sum(server.per_thing.total() for server in servers)
            served = sum(server.served.total() for server in servers)
        assert served
        torture.count("faults of servers", served)
        assert run.counts["lost"] == 0
        assert rows_of(tmp_path / f"w{turn}", run.run_id) == rows
        # Nothing that was written is asked for again; what failed is, and what was in flight beside it.
        assert asked <= prompts * CALLS + 3 * served
        torture.measure(f"calls a prompt, {share:.0%} of them failing (undisturbed {CALLS})", round(asked / prompts, 2))
