"""The plan of faults that a fake server draws by chance, and a client that gets through it."""

from __future__ import annotations

import asyncio
import random

from constitution.engines.base import Request
from constitution.engines.openai.engine import OpenAIEngine
from constitution.recipe import OpenAIModel
from constitution.records import Message, Sampling
from rehearsal.faults import PASSING, WORDLESS, Chance, Fault
from rehearsal.server import FakeServer

BODIES = [{"model": "fake", "messages": [{"role": "user", "content": f"{number} \ud800"}]} for number in range(400)]


def test_faults_follow_from_seed_body_and_times_seen() -> None:
    shuffled = random.Random(1).sample(BODIES, len(BODIES))
    plan, again = Chance(0.3, seed=5), Chance(0.3, seed=5)
    first = {str(body): plan(body) for body in BODIES}
    assert {str(body): again(body) for body in shuffled} == first
    assert [Chance(0.3, seed=6)(body) for body in BODIES] != list(first.values())
    faults = [fault for fault in first.values() if fault is not None]
    assert 80 < len(faults) < 160
    assert {id(fault) for fault in faults} == {id(fault) for fault in (*PASSING, WORDLESS)}
    second = [plan(body) for body in BODIES]
    assert second != list(first.values()), "asked again, a request may meet another fault or none"
    assert not any(map(Chance(0.0), BODIES))


def test_late_is_sound() -> None:
    assert Fault(delay_s=1.0).sound
    assert not any(fault.sound for fault in (*PASSING, WORDLESS) if not fault.delay_s)


async def test_a_client_gets_through() -> None:
    faults = tuple(fault for fault in PASSING if not fault.reply)
    async with FakeServer(faults=Chance(0.4, seed=2, faults=faults)) as server:
        engine = await OpenAIEngine.open(OpenAIModel(engine="openai", model="fake", base_url=server.base_url))
        try:
            requests = [
                Request((Message("user", f"What of {number}?"),), Sampling(), number, 0) for number in range(20)
            ]
            assert all(done.text for done in await asyncio.gather(*map(engine.generate, requests)))
        finally:
            await engine.close()
        assert len(server.requests) > 20
