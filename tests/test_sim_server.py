"""The simulated engine server: slots, queue, prefix cache, lengths, votes; over HTTP with our engine and a socket."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import aiohttp
import pytest

from benchmarks.sim_engine import BLOCK, CHARACTERS, Job, PrefixCache, Slots, Stragglers, output_tokens, reply_text
from benchmarks.sim_server import MODEL, SimServer
from constitution.engines.base import Request
from constitution.engines.openai.engine import OpenAIEngine
from constitution.recipe import OpenAIModel
from constitution.records import Message, Sampling


def job(tokens: int, priority: int = 0, prompt: str = "") -> Job:
    return Job(prompt=prompt, tokens=tokens, finished=lambda job: None, priority=priority)


def make_slots(count: int, cache: PrefixCache | None = None) -> Slots:
    """A second for a token, half a second for a prompt token that is not cached."""
    return Slots(count, prefill_s=0.5, token_s=1.0, cache=cache or PrefixCache(100))


# --- slots


def test_a_job_holds_a_slot_for_its_prefill_and_its_tokens() -> None:
    slots = make_slots(1)
    one = job(tokens=3, prompt="x" * 10 * CHARACTERS)
    slots.submit(one, now=100.0)
    assert slots.next_due == 100.0 + 10 * 0.5 + 3
    assert slots.advance(107.9) == []
    assert slots.advance(108.0) == [one]
    assert (slots.running, slots.busy_s) == (0, 8.0)


def test_those_that_wait_go_by_priority_then_by_arrival() -> None:
    slots = make_slots(1)
    jobs = {name: job(1, priority) for name, priority in [("first", 9), ("late", 5), ("a", 2), ("b", 2)]}
    for one in jobs.values():
        slots.submit(one, 0.0)
    order = [one for second in range(1, 5) for one in slots.advance(second)]
    assert order == [jobs["first"], jobs["a"], jobs["b"], jobs["late"]]


def test_a_late_look_does_not_slow_the_engine() -> None:
    """Both jobs of the one slot are over by second 2, although nobody looked in between."""
    slots = make_slots(1)
    slots.submit(job(1), 0.0)
    slots.submit(job(1), 0.0)
    assert len(slots.advance(2.0)) == 2
    assert slots.busy_s == 2.0


def test_a_job_cannot_start_before_it_came() -> None:
    slots = make_slots(1)
    slots.submit(job(1), 0.0)
    slots.submit(job(1), 5.0)  # the slot was free from second 1 on, and nobody had looked
    slots.advance(5.0)
    assert slots.next_due == 6.0


def test_as_many_run_at_once_as_there_are_slots() -> None:
    slots = make_slots(3)
    for _ in range(7):
        slots.submit(job(2), 0.0)
    assert [len(slots.advance(now)) for now in (1.0, 2.0, 4.0, 6.0)] == [0, 3, 3, 1]
    assert slots.busy_s == 14.0


def test_who_hangs_up_frees_the_slot() -> None:
    slots = make_slots(1)
    gone, queued, last = job(100), job(1), job(2)
    for one in (gone, queued, last):
        slots.submit(one, 0.0)
    slots.cancel(queued, 1.0)
    slots.cancel(gone, 4.0)
    assert slots.advance(6.0) == [last]
    assert slots.busy_s == 4.0 + 2.0
    assert slots.advance(1000.0) == []
    assert slots.running == 0


def test_a_share_of_the_requests_takes_longer_the_same_ones_every_time() -> None:
    jobs = [job(1, prompt=f"Question {number}?") for number in range(2000)]
    late = Stragglers(share=0.1, times=30.0)
    slowed = [one for one in jobs if late.slows(one) == 30.0]
    assert 140 < len(slowed) < 260
    assert [one for one in jobs if late.slows(one) != 1.0] == slowed
    assert all(Stragglers().slows(one) == 1.0 for one in jobs)
    slots = Slots(1, prefill_s=0.0, token_s=1.0, cache=PrefixCache(100), stragglers=late)
    slots.submit(slowed[0], now=0.0)
    assert slots.next_due == 30.0


# --- prefix cache


def blocks(count: int, letter: str = "x") -> str:
    return letter * (count * BLOCK * CHARACTERS)


def test_whole_blocks_from_the_beginning_are_known_again() -> None:
    cache = PrefixCache(100)
    assert cache.take(blocks(3) + "tail") == 0
    assert cache.take(blocks(3) + "another tail") == 3 * BLOCK
    assert cache.take(blocks(2) + blocks(5, "y")) == 2 * BLOCK
    assert cache.take("y" + blocks(3)) == 0


def test_the_last_token_is_always_computed() -> None:
    cache = PrefixCache(100)
    cache.take(blocks(2))
    assert cache.take(blocks(2)) == 1 * BLOCK


def test_the_least_recently_used_blocks_go_first() -> None:
    cache = PrefixCache(4)
    cache.take(blocks(2, "a") + ".")
    cache.take(blocks(2, "b") + ".")
    assert cache.take(blocks(2, "a") + ".") == 2 * BLOCK
    cache.take(blocks(2, "c") + ".")  # takes the place of b
    assert cache.take(blocks(2, "a") + ".") == 2 * BLOCK
    assert cache.take(blocks(2, "b") + ".") == 0


def test_a_cached_prompt_costs_less() -> None:
    slots = make_slots(1, PrefixCache(100))
    for expected in ((2 * BLOCK + 1) * 0.5 + 1, 0.5 + 1):
        slots.submit(job(1, prompt=blocks(2) + "tail"), 0.0)
        assert slots.next_due == expected
        slots.advance(1e9)


# --- lengths and texts


def test_lengths_have_a_heavy_tail_and_follow_from_the_content() -> None:
    lengths = sorted(output_tokens(f"question {number}", 1, 10_000) for number in range(4000))
    assert 90 <= lengths[2000] <= 110
    assert 115 <= sum(lengths) / 4000 <= 140
    assert lengths[-40] > 4 * lengths[2000]
    assert output_tokens("question 7", 3, 10_000) == output_tokens("question 7", 3, 10_000)
    assert len({output_tokens("question 7", turns, 10_000) for turns in range(20)}) > 10
    assert output_tokens("question 7", 1, 2) == 2


def test_texts_are_as_long_as_they_say_and_differ_by_prompt_and_seed() -> None:
    text = reply_text("a prompt", seed=1, tokens=50)
    assert 48 <= len(text) / CHARACTERS <= 50
    assert text == reply_text("a prompt", seed=1, tokens=50)
    assert text not in (reply_text("a prompt", seed=2, tokens=50), reply_text("another", seed=1, tokens=50))


def test_no_two_prompts_get_the_same_text() -> None:
    texts = {reply_text(f"prompt {number}", seed=0, tokens=8) for number in range(20_000)}
    assert len(texts) == 20_000


# --- over HTTP


def model(server: SimServer) -> OpenAIModel:
    return OpenAIModel(engine="openai", model=MODEL, base_url=server.base_url, dialect="vllm")


def asked(text: str, priority: int = 0) -> Request:
    return Request((Message("user", text),), Sampling(max_tokens=20), seed=1, priority=priority)


def vote(text: str) -> Request:
    messages = (Message("user", text), Message("assistant", "The answer is: ("))
    return Request(messages, Sampling(max_tokens=1), seed=1, choices=("A", "B"))


async def stats(server: SimServer) -> Any:
    async with (
        aiohttp.ClientSession() as session,
        session.get(server.base_url.removesuffix("/v1") + "/stats") as reply,
    ):
        return await reply.json()


async def test_our_engine_gets_texts_and_votes_and_the_counters_say_so() -> None:
    async with SimServer(speed=1000) as server:
        engine = await OpenAIEngine.open(model(server))
        try:
            answers = [await engine.generate(asked("What is a knot?")) for _ in range(2)]
            votes = [await engine.generate(vote(f"{number}: A or B?")) for number in range(20)]
        finally:
            await engine.close()
        counted = await stats(server)
    assert answers[0].text == answers[1].text
    assert answers[0].text
    assert answers[0].finish_reason == "length"
    assert answers[0].completion_tokens == 20
    for completion in votes:
        assert completion.choice_logprobs is not None
        assert math.isclose(sum(math.exp(value) for value in completion.choice_logprobs.values()), 0.95)
    assert len({completion.text for completion in votes}) == 2, "votes go both ways"
    assert (counted["replies"], counted["votes"]) == (22, 20)


async def test_top_logprobs_hold_both_labels() -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "?"}], "max_tokens": 1, "logprobs": True}
    async with (
        SimServer(speed=1000) as server,
        aiohttp.ClientSession() as session,
        session.post(server.base_url + "/chat/completions", json=body | {"top_logprobs": 5}) as reply,
    ):
        entries = (await reply.json())["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    assert len(entries) == 5
    assert {"A", "B"} <= {entry["token"] for entry in entries}


async def test_utilisation_is_held_slot_seconds_over_those_there_were() -> None:
    """Two slots and one request at a time: half of them are used."""
    async with SimServer(slots=2, token_ms=5) as server:
        engine = await OpenAIEngine.open(model(server))
        for number in range(4):
            await engine.generate(asked(f"{number}"))
        await engine.close()
        counted = await stats(server)
    assert counted["busy_slot_s"] == pytest.approx(4 * 20 * 0.005, rel=0.05)
    assert counted["utilisation"] == pytest.approx(counted["busy_slot_s"] / 2 / counted["wall_s"])
    assert 0.2 < counted["utilisation"] <= 0.5


async def test_a_full_server_answers_by_priority() -> None:
    done: list[int] = []
    async with SimServer(slots=1, token_ms=10) as server:
        engine = await OpenAIEngine.open(model(server))

        async def ask(priority: int) -> None:
            await engine.generate(asked(f"{priority}", priority))
            done.append(priority)

        async with asyncio.TaskGroup() as group:
            group.create_task(ask(0))  # has the slot while the others come
            await asyncio.sleep(0.03)
            for priority in (3, 1, 2):
                group.create_task(ask(priority))
        await engine.close()
    assert done == [0, 1, 2, 3]


async def test_requests_in_pieces_and_back_to_back() -> None:
    """A request that comes byte by byte, with the next one already behind it in the same packet."""
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "é"}], "max_tokens": 5}).encode()
    post = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    async with SimServer(speed=1000) as server:
        port = int(server.base_url.split(":")[2].removesuffix("/v1"))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for at in range(0, len(post), 7):
            writer.write(post[at : at + 7])
            await asyncio.sleep(0)
        writer.write(post + b"GET /health HTTP/1.1\r\n\r\n")
        replies = []
        for _ in range(3):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            length = int(head.lower().split(b"content-length:")[1].split()[0])
            replies.append(json.loads(await reader.readexactly(length)))
        writer.close()
    assert [reply.get("object") for reply in replies] == ["chat.completion", "chat.completion", None]


async def test_a_client_that_says_close_is_hung_up_on() -> None:
    async with SimServer() as server:
        port = int(server.base_url.split(":")[2].removesuffix("/v1"))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n")
        reply = await asyncio.wait_for(reader.read(), 5)
        writer.close()
    assert json.loads(reply.split(b"\r\n\r\n")[1])["data"][0]["id"] == MODEL


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "other", "messages": [{"role": "user", "content": "?"}]}, 404),
        ({"model": MODEL, "messages": []}, 400),
        ({"model": MODEL, "messages": [{"role": "user", "content": "?"}], "stream": True}, 400),
    ],
)
async def test_what_is_not_served_is_refused(body: dict[str, Any], status: int) -> None:
    async with SimServer() as server, aiohttp.ClientSession() as session:
        async with session.post(server.base_url + "/chat/completions", json=body) as reply:
            assert reply.status == status
        assert (await stats(server))["refusals"] == 1
