"""A fleet of real HTTP servers on this machine: where requests go, and what happens when servers fail."""

from __future__ import annotations

import asyncio
import json
import math
import string
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from constitution.engines import _served
from constitution.engines.base import Completion, Request
from constitution.engines.fake import FakeEngine
from constitution.engines.fake_server import FakeServer, Fault
from constitution.engines.openai import OpenAIEngine
from constitution.errors import ConstitutionError, EngineUnavailable, ModelLoadError, RateLimited, RecipeError
from constitution.recipe import FakeModel, OpenAIModel
from constitution.records import Message, Sampling

ASK = (Message("user", "How do I light a fire?"),)
VOTE = (Message("user", "(A) yes\n(B) no"), Message("assistant", "The answer is: ("))
CANARY = "sk-canary-77c1d2"


def ask(seed: int = 1, affinity: str = "", priority: int = 0) -> Request:
    return Request(ASK, Sampling(), seed, priority, affinity=affinity)


def vote(*choices: str) -> Request:
    return Request(VOTE, Sampling(), seed=6, choices=choices)


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
    return [endpoint["state"] for endpoint in engine.stats()["endpoints"]]


def seeds(server: FakeServer) -> list[int]:
    return [received.body["seed"] for received in server.requests]


# --- routing


async def test_a_prompts_chain_stays_on_one_server_and_prompts_spread() -> None:
    servers = [FakeServer(slow(0.002)) for _ in range(3)]
    async with fleet(servers) as engine:

        async def chain(number: int) -> None:
            for _ in range(5):
                await engine.generate(ask(seed=number, affinity=f"prompt {number}"))

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

        start = time.monotonic()
        await asyncio.gather(*(chains() for _ in range(24)))
        seconds = time.monotonic() - start
    a, b, c = (len(server.requests) for server in servers)
    assert c < 0.35 * min(a, b)
    # A third of the work on the slow one, eight at a time, would take 400 / 3 / 8 × 0.1 s.
    assert seconds < 0.75 * 400 / 3 / 8 * 0.1


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


# --- limits


async def test_a_refusal_goes_on_elsewhere_at_once_and_retry_after_holds_back_one_server_only() -> None:
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


@pytest.mark.parametrize("fault", [Fault(reset=True), Fault(status=500), Fault(truncate=True), Fault(delay_s=3)])
async def test_a_server_that_always_fails_is_left_and_every_request_is_answered(fault: Fault) -> None:
    bad, good = FakeServer(faults=[fault] * 1000), FakeServer(slow(0.005))
    async with fleet([bad, good], timeout_s=0.3, concurrency=16) as engine:
        for _ in range(4):
            await asyncio.gather(*(engine.generate(ask(seed, f"p{seed}")) for seed in range(32)))
        assert len(good.requests) == 128
        assert len(bad.requests) < 64
        assert engine.stats()["endpoints"][0]["outages"] >= 1
        assert any("out of service" in event for event in engine.stats()["events"])


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


# --- opening


async def test_opening_needs_one_server_and_takes_up_the_others_when_they_come() -> None:
    servers = [FakeServer(slow(0.01)) for _ in range(3)]
    async with servers[1], servers[2]:
        pass  # these two have a port now and do not listen
    async with servers[0]:
        engine = await opened(servers)
        assert states(engine) == ["in service", "out of service", "out of service"]
        assert sum("connection refused" in event for event in engine.stats()["events"]) == 2
        assert (await engine.generate(ask())).text
        async with servers[1]:
            await until(lambda: states(engine)[1] == "in service")
        await engine.close()
    with pytest.raises(EngineUnavailable, match="none of the 3 servers answers") as caught:
        await opened(servers, retries=0)
    assert all(server.base_url in str(caught.value) for server in servers)


@pytest.mark.parametrize("odd", [{"root": "other/weights"}, {"context": 4096}])
async def test_servers_that_differ_are_named_and_a_late_one_stays_out(odd: dict[str, Any]) -> None:
    one, two = FakeServer(context=1000), FakeServer(**{"context": 1000, **odd})
    async with one, two:
        with pytest.raises(RecipeError) as caught:
            await opened([one, two])
        assert one.base_url in str(caught.value)
        assert two.base_url in str(caught.value)
    async with one:
        engine = await opened([one, two])
        async with two:
            await asyncio.sleep(1.0)
            assert states(engine) == ["in service", "out of service"]
            assert (await engine.generate(ask())).text
        assert len(two.requests) == 0
        await engine.close()


async def test_a_server_of_another_model_is_refused() -> None:
    other = FakeServer(FakeEngine(FakeModel(engine="fake", model="other")))
    async with FakeServer() as good, other:
        with pytest.raises(ModelLoadError, match="does not serve 'fake'; it lists other") as caught:
            await opened([good, other])
        assert other.base_url in str(caught.value)


async def test_servers_without_a_health_check_or_a_list_of_models_do() -> None:
    async with fleet([FakeServer(lacks=["health"]), FakeServer(lacks=["health", "models"])]) as engine:
        await asyncio.gather(*(engine.generate(ask(seed)) for seed in range(8)))
        assert states(engine) == ["in service"] * 2


async def test_a_server_that_hangs_does_not_hold_up_the_opening(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_served, "CHECK_SECONDS", 0.2)
    silent = await asyncio.start_server(lambda reader, writer: asyncio.sleep(5), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}/v1"
    async with FakeServer() as server:
        section = OpenAIModel(engine="openai", model="fake", base_url=(url, server.base_url))
        engine = await OpenAIEngine.open(section)
        assert states(engine) == ["out of service", "in service"]
        assert "no reply within 0.2 s" in engine.stats()["events"][0]
        await engine.close()
    silent.close()


# --- vLLM's own fields


async def test_votes_are_exact_also_for_labels_that_are_not_among_the_likeliest() -> None:
    letters = tuple(string.ascii_uppercase)
    exact = await FakeEngine(FakeModel(engine="fake")).generate(vote(*letters))
    assert exact.choice_logprobs is not None
    ranked = sorted(letters, key=lambda letter: -exact.choice_logprobs[letter])  # type: ignore[index]
    likely, unlikely = ranked[0], ranked[-1]
    for lack in ((), ("tokenize",), ("logprob_token_ids",)):
        async with fleet([FakeServer(labels=letters, lacks=lack)]) as engine:  # type: ignore[arg-type]
            found = (await engine.generate(vote(unlikely, likely))).choice_logprobs
            events = engine.stats()["events"]
        assert found is not None
        assert found[likely] == pytest.approx(exact.choice_logprobs[likely])
        assert found[unlikely] == (-math.inf if lack else pytest.approx(exact.choice_logprobs[unlikely]))
        assert len(events) == bool(lack)
        assert all("20 likeliest tokens" in event for event in events)


async def test_a_labels_tokens_are_asked_once_and_long_labels_fall_back_and_say_so() -> None:
    server = FakeServer(slow(0.01), labels=("A", "B", "Yes", "No"))
    async with fleet([server]) as engine:
        await asyncio.gather(*(engine.generate(vote("A", "B")) for _ in range(20)))
        tail = VOTE[-1].content
        assert server.tokenized == [tail, tail + "A", tail + "B"]
        assert server.requests[-1].body["logprob_token_ids"] == [65, 66]
        await asyncio.gather(*(engine.generate(vote("Yes", "No")) for _ in range(5)))
        assert "logprob_token_ids" not in server.requests[-1].body
        assert len(server.tokenized) == 6
        [event] = engine.stats()["events"]
        assert "'Yes', 'No' are not one token each" in event


async def test_priority_and_salt_go_to_vllm_and_to_no_other() -> None:
    server = FakeServer()
    async with fleet([server], cache_salt="salt") as engine:
        await engine.generate(ask(priority=3))
        body = server.requests[-1].body
        assert (body["priority"], body["cache_salt"]) == (3, "salt")
    server = FakeServer(prefix="echo")
    async with fleet([server], cache_salt="salt") as engine:
        await engine.generate(ask(priority=3))
        await engine.generate(vote("A", "B"))
        assert not {"priority", "cache_salt"} & set(server.requests[0].body)
        assert "logprob_token_ids" not in server.requests[1].body
        assert server.tokenized == []


async def test_a_server_without_priorities_gets_none_and_the_run_is_told_once() -> None:
    server = FakeServer(slow(0.005), lacks=["priority"])
    async with fleet([server]) as engine:
        await asyncio.gather(*(engine.generate(ask(seed, priority=3)) for seed in range(8)))
        await engine.generate(ask(priority=2))
        assert "priority" not in server.requests[-1].body
        [event] = engine.stats()["events"]
        assert "--scheduling-policy priority" in event
        assert states(engine) == ["in service"]


# --- what is told


async def test_what_is_told_holds_no_key_is_json_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", CANARY)
    leaky = Fault(status=500, body=json.dumps({"error": {"message": f"bad key {CANARY}"}}))
    async with fleet([FakeServer(faults=[leaky] * 300), FakeServer()], api_key_env="TEST_KEY") as engine:
        await asyncio.gather(*(engine.generate(ask(seed)) for seed in range(60)))
        for number in range(500):
            engine._fleet.events.add(f"event {number}")
        said = json.dumps([engine.stats(), engine.describe()])
        events = engine.stats()["events"]
        first = engine._fleet.endpoints[0]
        assert "***" in first.reason
    assert CANARY not in said
    assert len(events) == 101
    assert events[-1] == "event 499"
    assert "earlier events are left out" in events[0]
