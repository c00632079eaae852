"""What the servers of a fleet say that they serve, vLLM's own fields, and what is told of the servers."""

from __future__ import annotations

import asyncio
import json
import math
import string
from dataclasses import replace

import pytest
from aiohttp import web
from fleet_servers import ask, fleet, opened, slow, states, until

from constitution.engines.base import Request
from constitution.engines.fake import FakeEngine
from constitution.engines.openai import metrics, served
from constitution.engines.openai.engine import OpenAIEngine
from constitution.errors import EngineUnavailable, ModelLoadError, RecipeError
from constitution.recipe import FakeModel, OpenAIModel
from constitution.records import Message, Sampling
from rehearsal.server import FakeServer, Fault

VOTE = (Message("user", "(A) yes\n(B) no"), Message("assistant", "The answer is: ("))
CANARY = "sk-canary-77c1d2"


def vote(*choices: str) -> Request:
    return Request(VOTE, Sampling(), seed=6, choices=choices)


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


@pytest.mark.parametrize(("root", "context"), [("other/weights", 1000), ("fake", 4096)])
async def test_servers_that_differ_are_named_and_a_late_one_stays_out(root: str, context: int) -> None:
    one, two = FakeServer(context=1000), FakeServer(context=context)
    two.root = root
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
            [_, event] = engine.stats()["events"]
            assert event.startswith(f"{two.base_url} answers again and stays out of service: ")
            assert one.base_url in event
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


async def test_a_health_check_that_wants_another_key_says_nothing_of_the_server() -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=401)

    server = FakeServer()
    server._health = refuse  # type: ignore[method-assign]
    async with fleet([server]) as engine:
        assert (await engine.generate(ask())).text


async def test_a_server_that_hangs_does_not_hold_up_the_opening(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "CHECK_SECONDS", 0.2)
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
            done = await engine.generate(vote(unlikely, likely))
            found = done.choice_logprobs
            events = engine.stats()["events"]
        assert found is not None
        assert found[likely] == pytest.approx(exact.choice_logprobs[likely])
        if lack:
            assert unlikely not in found, "it is bounded and not read"
            assert done.unseen is not None
            assert math.exp(exact.choice_logprobs[unlikely]) <= done.unseen.each
        else:
            assert found[unlikely] == pytest.approx(exact.choice_logprobs[unlikely])
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


async def test_labels_after_a_rationale_are_asked_once_for_all_rationales() -> None:
    server = FakeServer()
    async with fleet([server]) as engine:
        for number in range(3):
            reasoned = Message("assistant", f"Reason {number}.\n\nThe answer is: (")
            request = replace(vote("A", "B"), messages=(VOTE[0], reasoned))
            assert (await engine.generate(request)).choice_logprobs
            assert server.requests[-1].body["logprob_token_ids"] == [65, 66]
    assert server.tokenized == ["The answer is: (", "The answer is: (A", "The answer is: (B"]


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


async def test_vllms_own_figures_are_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "EVERY_SECONDS", 0.02)
    first, second = FakeServer(slow(0.01)), FakeServer(slow(0.01), lacks=["metrics"])
    async with first:
        section = OpenAIModel(engine="openai", model="fake", base_url=first.base_url)
        other = await OpenAIEngine.open(section)
        await other.generate(ask())  # before ours opens: not counted
        await other.close()
        engine = await opened([first])
        await asyncio.sleep(0.1)
        [before] = engine.stats()["endpoints"]
        assert before["server"]["prefix_queries"] == 0
        completion = await engine.generate(ask())
        await until(lambda: engine.stats()["endpoints"][0]["server"]["prefix_queries"] > 0)
        [after] = engine.stats()["endpoints"]
        assert after["server"]["prefix_queries"] == completion.prompt_tokens
        assert set(after["server"]) == {
            "running",
            "waiting",
            "preemptions",
            "prefix_queries",
            "prefix_hits",
        }
        await engine.close()
    async with fleet([second]) as engine:
        await asyncio.sleep(0.1)
        assert "server" not in engine.stats()["endpoints"][0]
        assert engine.stats()["endpoints"][0]["failures"] == 0


def test_figures_are_summed_over_engines_and_broken_lines_left_out() -> None:
    lines = ['vllm:num_requests_running{engine="0"} 3.0', 'vllm:num_requests_running{engine="1"} 4.0', "# HELP x"]
    lines += ["vllm:num_requests_waiting 2", "vllm:num_preemptions_total{} x", "vllm:num_requests_running_max{} 9"]
    lines += ["vllm:prefix_cache_hits_total NaN", "vllm:prefix_cache_queries_total +Inf"]
    assert metrics.parsed("\n".join(lines)) == {"running": 7, "waiting": 2}


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
    assert "earlier events are not shown" in events[0]
