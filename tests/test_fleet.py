"""A fleet of real HTTP servers on this machine: where requests go, and what happens when servers fail."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from constitution.engines.base import Completion, Request
from constitution.engines.fake import FakeEngine
from constitution.engines.openai import fleet as _fleet
from constitution.engines.openai import metrics as _metrics
from constitution.engines.openai.endpoint import Endpoint, Events
from constitution.engines.openai.engine import OpenAIEngine
from constitution.engines.openai.http import Transport
from constitution.errors import ConstitutionError, EngineGone, EngineUnavailable, RateLimited
from constitution.recipe import FakeModel, OpenAIModel
from constitution.records import Message, Sampling
from rehearsal.server import FakeServer, Fault

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


# --- outages


async def test_a_lost_server_is_left_and_taken_back_when_it_answers_again() -> None:
    first, second = FakeServer(slow(0.01)), FakeServer(slow(0.01))
    async with fleet([first, second], concurrency=8) as engine:
        await engine.generate(ask(1, "p"))
        await first.__aexit__(None, None, None)
        completions = await asyncio.gather(*(engine.generate(ask(seed, f"p{seed}")) for seed in range(60)))
        assert len(completions) == 60
        assert states(engine) == ["out of service", "in service"]
        await engine.generate(ask(2, "p"))
        assert seeds(second)[-1] == 2
        async with first:
            await until(lambda: states(engine) == ["in service"] * 2)
            stats = engine.stats()["endpoints"][0]
            assert (stats["limit"], stats["outages"]) == (1, 1)
            assert stats["out_of_service_seconds"] > 0
            before = len(first.requests)
            for _ in range(3):
                await asyncio.gather(*(engine.generate(ask(seed)) for seed in range(40)))
            assert len(first.requests) > before
            assert engine.stats()["endpoints"][0]["limit"] > 1
        said = [event for event in engine.stats()["events"] if "out of service" in event]
        assert said[0].startswith(f"{first.base_url} out of service at ")
        assert "(connection refused); back at " in said[0] or "(connection reset" in said[0]


async def test_the_queue_of_a_lost_server_goes_on_elsewhere_by_priority() -> None:
    first, second = FakeServer(faults=[None] + [Fault(delay_s=0.02, reset=True)] * 9), FakeServer(slow(0.04))
    async with fleet([first, second], concurrency=1) as engine:
        await engine.generate(ask(0, "a"))
        for seed in range(10, 20):
            engine._fleet._assign(f"b{seed}", engine._fleet.endpoints[1])
        calm = [asyncio.create_task(engine.generate(ask(seed, f"b{seed}", priority=9))) for seed in range(10, 20)]
        hit = [asyncio.create_task(engine.generate(ask(seed, "a", priority=1))) for seed in range(2, 7)]
        await asyncio.gather(*hit, *calm)
        assert set(range(2, 7)) <= set(seeds(second)[:10])
        assert "out of service" in engine.stats()["events"][0]


@pytest.mark.parametrize("fault", [Fault(reset=True), Fault(status=500), Fault(truncate=True), Fault(delay_s=6)])
async def test_a_server_that_always_fails_is_left_and_every_request_is_answered(fault: Fault) -> None:
    bad, good = FakeServer(faults=[fault] * 1000), FakeServer(slow(0.005))
    timeout_s = 1.0 if fault.delay_s else 30.0
    async with fleet([bad, good], timeout_s=timeout_s, concurrency=16) as engine:
        for _ in range(4):
            await asyncio.gather(*(engine.generate(ask(seed, f"p{seed}")) for seed in range(32)))
        assert len(good.requests) == 128
        assert len(bad.requests) < 64
        assert engine.stats()["endpoints"][0]["outages"] >= 1
        assert any("out of service" in event for event in engine.stats()["events"])


async def test_what_a_lost_server_was_sent_before_does_not_wait_for_the_time_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A machine that is gone takes no connections and breaks none."""
    monkeypatch.setattr(_metrics, "EVERY_SECONDS", 60.0)
    gone, good = FakeServer(slow(60)), FakeServer(slow(0.005))
    async with good:
        await gone.__aenter__()
        engine = await opened([gone, good], timeout_s=60)
        engine._fleet._assign("p", engine._fleet.endpoints[0])
        hanging = asyncio.create_task(engine.generate(ask(1, "p")))
        await until(lambda: len(gone.requests) == 1)
        assert gone._runner is not None
        for site in list(gone._runner.sites):
            await site.stop()
        others = [engine.generate(ask(seed, f"q{seed}")) for seed in range(2, 40)]
        async with asyncio.timeout(5):
            await asyncio.gather(*others, hanging)
        assert "out of service" in engine.stats()["events"][0]
        await engine.close()
        await gone.__aexit__(None, None, None)


async def test_requests_wait_for_the_only_server_to_come_back() -> None:
    server = FakeServer()
    async with fleet([server], timeout_s=20) as engine:
        await server.__aexit__(None, None, None)
        waiting = asyncio.gather(*(engine.generate(ask(seed)) for seed in range(12)))
        await until(lambda: states(engine) == ["out of service"])
        await asyncio.sleep(0.2)
        assert not waiting.done()
        async with server:
            assert len(await waiting) == 12
        assert "back at" in engine.stats()["events"][0]


async def test_what_waits_goes_to_the_first_server_that_is_back_whichever_it_waited_for() -> None:
    first, second = FakeServer(), FakeServer(slow(0.01))
    async with fleet([first, second], concurrency=1, timeout_s=20) as engine:
        for server in (first, second):
            await server.__aexit__(None, None, None)
        lost = [asyncio.create_task(engine.generate(ask(99, priority=20))) for _ in range(12)]
        await until(lambda: states(engine) == ["out of service"] * 2)
        # Without a server in service they wait evenly for both.
        tasks = [asyncio.create_task(engine.generate(ask(seed, priority=1 + seed % 2))) for seed in range(16)]
        async with second:
            await asyncio.gather(*tasks, *lost)
        assert [seed % 2 for seed in seeds(second)[:16]] == [0] * 8 + [1] * 8


async def test_when_all_are_gone_the_error_says_which_and_since_when() -> None:
    servers = [FakeServer(), FakeServer()]
    async with fleet(servers, timeout_s=1.0, retries=8) as engine:
        for server in servers:
            await server.__aexit__(None, None, None)
        start = time.monotonic()
        results = await asyncio.gather(*(engine.generate(ask(seed)) for seed in range(20)), return_exceptions=True)
        assert 0.9 < time.monotonic() - start < 4
        start = time.monotonic()
        with pytest.raises(EngineUnavailable, match="none of the 2 servers is in service") as caught:
            await engine.generate(ask())
        assert time.monotonic() - start < 0.2  # what comes later does not wait anew
    assert all(isinstance(result, EngineUnavailable) for result in results)
    assert all(server.base_url in str(caught.value) for server in servers)
    assert str(caught.value).count(" out of service since 20") == 2
    assert caught.value.retryable


async def test_retries_are_bounded_over_the_whole_fleet() -> None:
    servers = [FakeServer(faults=[Fault(status=500)] * 10) for _ in range(2)]
    async with fleet(servers, retries=2) as engine:
        with pytest.raises(EngineUnavailable):
            await engine.generate(ask())
        assert sorted(len(server.requests) for server in servers) == [1, 2]


async def test_a_refused_request_says_nothing_against_the_server() -> None:
    server = FakeServer(faults=[Fault(status=400)] * 30)
    async with fleet([server]) as engine:
        for _ in range(30):
            with pytest.raises(ConstitutionError):
                await engine.generate(ask())
        assert (states(engine), engine.stats()["events"]) == (["in service"], [])


async def test_a_server_that_lost_its_model_is_left_and_does_not_stop_the_run_while_another_is_well() -> None:
    """EngineGone, at which a run stops, is for a fleet of which nothing is left."""
    first, second = FakeServer(faults=[None, *[Fault(status=404)] * 100]), FakeServer()
    async with fleet([first, second], retries=0) as engine:
        await engine.generate(ask(1, "p"))
        assert len(first.requests) == 1
        with pytest.raises(EngineUnavailable, match="404") as caught:
            await engine.generate(ask(2, "p"))
        assert not isinstance(caught.value, EngineGone)
        assert states(engine) == ["out of service", "in service"]
        await engine.generate(ask(3, "p"))
        assert seeds(second) == [3]
