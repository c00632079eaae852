"""A fleet of real HTTP servers on this machine: where requests go, and what happens when servers fail."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest
from fleet_servers import ask, fleet, seeds, slow, states, until

from constitution.engines.base import Completion, Request
from constitution.engines.fake import FakeEngine
from constitution.engines.openai import fleet as _fleet
from constitution.engines.openai.endpoint import Endpoint, Events
from constitution.engines.openai.http import Transport
from constitution.errors import EngineUnavailable, RateLimited
from constitution.recipe import FakeModel
from rehearsal.server import FakeServer, Fault

# --- routing


async def test_a_prompts_chain_stays_on_one_server_and_prompts_spread() -> None:
    servers = [FakeServer(slow(0.002)) for _ in range(3)]
    async with fleet(servers) as engine:

        async def chain(number: int) -> None:
            for _ in range(5):
                await engine.generate(ask(seed=number, affinity=f"prompt {number}"))
                await asyncio.sleep(0.001 * (number % 7))  # so that chains do not walk in step

        await asyncio.gather(*map(chain, range(60)))
        counts = [Counter(seeds(server)) for server in servers]
    assert all(set(count.values()) == {5} for count in counts)
    assert sum(len(count) for count in counts) == 60
    assert min(len(count) for count in counts) >= 15


async def test_a_server_ten_times_slower_gets_less_work_by_itself() -> None:
    servers = [FakeServer(slow(latency)) for latency in (0.01, 0.01, 0.1)]
    async with fleet(servers, concurrency=8) as engine:
        numbers = iter(range(200))

        async def chains() -> None:
            for number in numbers:
                for _ in range(2):
                    await engine.generate(ask(seed=number, affinity=f"prompt {number}"))

        await asyncio.gather(*(chains() for _ in range(24)))
    a, b, c = (len(server.requests) for server in servers)
    assert c < min(a, b)


async def test_an_idle_server_takes_the_most_urgent_of_anothers_queue_and_keeps_its_prompt() -> None:
    first, second = FakeServer(slow(0.15)), FakeServer(slow(0.05))
    async with fleet([first, second], concurrency=1) as engine:
        await engine.generate(ask(1, "p"))
        await engine.generate(ask(1, "q"))
        assert len(first.requests) == 2  # both prompts live on the first
        busy = asyncio.create_task(engine.generate(ask(2, "p")))
        other = asyncio.create_task(engine.generate(ask(3)))  # no affinity: the idle one
        await until(lambda: len(first.requests) == 3 and len(second.requests) == 1)
        waiting = [
            asyncio.create_task(engine.generate(ask(4, "p", 5))),
            asyncio.create_task(engine.generate(ask(5, "q", 1))),
        ]
        await asyncio.gather(busy, other, *waiting)
        assert seeds(second)[:2] == [3, 5]
        await engine.generate(ask(6, "q"))
        assert seeds(second)[-1] == 6


async def test_of_several_queues_the_most_urgent_request_is_taken() -> None:
    servers = [FakeServer(slow(0.3)), FakeServer(slow(0.3)), FakeServer(slow(0.05))]
    async with fleet(servers, concurrency=1) as engine:
        tasks = [asyncio.create_task(engine.generate(ask(seed, f"p{seed}"))) for seed in range(3)]
        await until(lambda: all(server.requests for server in servers))
        # Queues: a late one behind p0, an urgent one behind p1; the third server is free first.
        tasks.append(asyncio.create_task(engine.generate(ask(10, "p0", priority=5))))
        tasks.append(asyncio.create_task(engine.generate(ask(11, "p1", priority=1))))
        await asyncio.gather(*tasks)
        assert seeds(servers[2]) == [2, 11, 10]


async def test_what_is_remembered_of_prompts_does_not_grow_with_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fleet, "HOMES_KEPT", 50)
    for servers, kept in (([FakeServer()], 0), ([FakeServer(), FakeServer()], 50)):
        async with fleet(servers) as engine:
            await asyncio.gather(*(engine.generate(ask(seed, f"p{seed}")) for seed in range(60)))
            assert len(engine._fleet._homes) == kept


async def test_a_cancelled_request_gives_its_place_back() -> None:
    servers = [FakeServer(slow(0.05)), FakeServer(slow(0.05))]
    async with fleet(servers, concurrency=2) as engine:
        tasks = [asyncio.create_task(engine.generate(ask(seed, f"p{seed % 3}"))) for seed in range(20)]
        await asyncio.sleep(0.02)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(result, Completion) for result in results) == 10
        assert all(endpoint["in_flight"] == endpoint["waiting"] == 0 for endpoint in engine.stats()["endpoints"])
        await asyncio.gather(*(engine.generate(ask(seed)) for seed in range(8)))


async def test_a_request_cancelled_just_as_its_turn_comes_gives_the_place_on() -> None:
    async with fleet([FakeServer()], concurrency=1) as engine:
        [endpoint] = engine._fleet.endpoints
        endpoint.in_flight = 1
        late = asyncio.create_task(engine.generate(ask()))
        await until(lambda: endpoint.first() is not None)
        engine._fleet._leave(endpoint)  # the place is the late one's now, which has not run yet
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)
        assert late.cancelled()
        assert endpoint.in_flight == 0


# --- limits


async def test_a_refusal_goes_on_elsewhere_at_once_and_retry_after_holds_back_one_server_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_fleet, "BACKOFF_SECONDS", 30.0)
    first, second = FakeServer(faults=[Fault(status=429, headers={"Retry-After": "1"})]), FakeServer()
    async with fleet([first, second]) as engine:
        start = time.monotonic()
        for seed in range(20):
            await engine.generate(ask(seed, "p"))
        assert time.monotonic() - start < 0.5
        assert (len(first.requests), len(second.requests)) == (1, 20)
        assert states(engine) == ["held", "in service"]
        assert engine.stats()["endpoints"][1]["retries"] == 1
        await until(lambda: states(engine) == ["in service"] * 2)
        assert time.monotonic() - start >= 0.99


async def test_one_burst_of_refusals_halves_the_limit_once_and_successes_raise_it_again() -> None:
    async with fleet([FakeServer(faults=[Fault(status=429, delay_s=0.05)] * 32)], concurrency=32) as engine:
        burst = [asyncio.create_task(engine.generate(ask(seed))) for seed in range(32)]
        await until(lambda: engine.stats()["endpoints"][0]["failures"] == 32)
        assert engine.stats()["endpoints"][0]["overloads"] == 1
        assert engine.stats()["endpoints"][0]["limit"] <= 18
        await asyncio.gather(*burst)
        for _ in range(5):
            await asyncio.gather(*(engine.generate(ask(seed)) for seed in range(100)))
        assert engine.stats()["endpoints"][0]["limit"] == 32
        [event] = engine.stats()["events"]
        assert "overloaded" in event
        assert "16 requests at once instead of 32" in event


async def test_the_limit_finds_what_a_server_can_take() -> None:
    class Small(FakeEngine):
        now = 0

        async def generate(self, request: Request) -> Completion:
            if self.now >= 6:
                raise EngineUnavailable("full")
            self.now += 1
            try:
                return await super().generate(request)
            finally:
                self.now -= 1

    engines = [Small(FakeModel(engine="fake", latency_s=0.01)) for _ in range(2)]
    async with fleet([FakeServer(each) for each in engines], concurrency=64, retries=20) as engine:
        numbers = iter(range(600))

        async def work() -> None:
            for number in numbers:
                await engine.generate(ask(number))

        await asyncio.gather(*(work() for _ in range(64)))
        stats = engine.stats()["endpoints"]
    assert all(endpoint["limit"] < 32 for endpoint in stats)
    assert sum(endpoint["calls"] - endpoint["failures"] for endpoint in stats) == 600


async def test_a_long_wait_that_is_asked_for_is_passed_on_unless_another_server_is_there() -> None:
    wait = Fault(status=429, headers={"Retry-After": "3600"})
    async with fleet([FakeServer(faults=[wait]), FakeServer()]) as engine:
        assert (await engine.generate(ask())).text
        assert states(engine) == ["out of service", "in service"]
        assert "asks to wait 3600 s" in engine.stats()["events"][-1]
    only = FakeServer(faults=[wait])
    async with fleet([only], concurrency=1) as engine:
        results = await asyncio.gather(*(engine.generate(ask(seed)) for seed in range(4)), return_exceptions=True)
        assert isinstance(results[0], RateLimited)
        assert all(isinstance(result, EngineUnavailable) for result in results)
        assert len(only.requests) == 1


async def test_what_an_endpoint_makes_of_failures() -> None:
    endpoint = Endpoint(Transport("http://127.0.0.1:1/v1", "", timeout_s=1), 32, Events())
    endpoint.in_flight = 4
    before = endpoint.begin(False)
    assert not endpoint.failed(RateLimited("busy"), before)
    assert endpoint.limit == 2  # half of what it had
    assert [endpoint.failed(EngineUnavailable("gone"), endpoint.begin(False)) for _ in range(3)] == [False, False, True]
    endpoint.leave("gone", 1.0)
    endpoint.come_back()
    assert endpoint.limit == 2  # a sixteenth of what it may have
    assert not endpoint.failed(EngineUnavailable("gone"), before)  # sent before the outage
    assert endpoint.failed(EngineUnavailable("gone"), endpoint.begin(False))  # the first failure on trial
    endpoint.come_back()
    endpoint.succeeded()
    assert not endpoint.failed(EngineUnavailable("gone"), endpoint.begin(False))
    await endpoint.transport.close()
