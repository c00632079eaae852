"""The openai engine against a real HTTP server on this machine."""

from __future__ import annotations

import asyncio
import email.utils
import logging
import math
import time
from collections.abc import Sequence
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from constitution.engines.base import Completion, Request
from constitution.engines.fake import FakeEngine
from constitution.engines.openai.engine import OpenAIEngine
from constitution.errors import (
    AccessDenied,
    ConstitutionError,
    ContextTooLong,
    EngineTimeout,
    EngineUnavailable,
    MalformedReply,
    ModelLoadError,
    RateLimited,
    RecipeError,
    RequestRefused,
)
from constitution.recipe import FakeModel, OpenAIModel
from constitution.records import Message, Sampling
from rehearsal.server import FakeServer, Fault

ASK = (Message("user", "How do I light a fire?"),)
VOTE = (Message("user", "(A) yes\n(B) no"), Message("assistant", "The answer is: ("))
CANARY = "sk-canary-5f3a9b"


def section(server: FakeServer, **fields: Any) -> OpenAIModel:
    settings = {"model": "fake", "retries": 2, "base_url": server.base_url, **fields}
    return OpenAIModel(engine="openai", **settings)


async def ask(server: FakeServer, request: Request | None = None, **fields: Any) -> Completion:
    engine = await OpenAIEngine.open(section(server, **fields))
    try:
        return await engine.generate(request or Request(ASK, Sampling(), seed=1))
    finally:
        await engine.close()


async def test_the_server_adds_nothing_to_what_the_engine_behind_it_says() -> None:
    request = Request(ASK, Sampling(temperature=0.7, top_p=0.9, max_tokens=12, stop=("step",)), seed=5)
    vote = Request(VOTE, Sampling(max_tokens=1), seed=6, choices=("A", "B"))
    fake = FakeEngine(FakeModel(engine="fake"))
    async with FakeServer() as server:
        assert await ask(server, request) == await fake.generate(request)
        body = server.requests[-1].body
        assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.7, 0.9, 12)
        assert (body["seed"], body["stop"]) == (5, ["step"])
        assert await ask(server, vote) == await fake.generate(vote)
        body = server.requests[-1].body
        assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
        assert (body["max_tokens"], body["temperature"], body["top_logprobs"]) == (1, 1.0, 20)


async def test_other_servers_get_the_prefix_as_a_message_and_an_echo_is_taken_off() -> None:
    request = Request((*ASK, Message("assistant", "Well, ")), Sampling(), seed=5)
    expected = await FakeEngine(FakeModel(engine="fake")).generate(request)
    async with FakeServer(prefix="echo") as server:
        assert (await ask(server, request)).text == expected.text
        assert "continue_final_message" not in server.requests[-1].body
    async with FakeServer(prefix="continue") as server:
        assert (await ask(server, request)).text == expected.text
        await ask(server, request, dialect="vllm")
        assert server.requests[-1].body["continue_final_message"] is True


async def test_describe_says_what_serves() -> None:
    async with FakeServer() as server:
        engine = await OpenAIEngine.open(section(server))
        facts = engine.describe()
        await engine.close()
    assert facts["server_model"] == "fake"
    assert facts["dialect"] == "vllm"
    assert facts["base_url"].startswith("http://127.0.0.1:")


async def test_retry_after_in_seconds_and_as_a_date_is_waited_for() -> None:
    for dated in (False, True):
        # A date has whole seconds, so 2.5 s ahead is at least 1.5 s.
        value = email.utils.formatdate(time.time() + 2.5, usegmt=True) if dated else "1"
        async with FakeServer(faults=[Fault(status=429, headers={"Retry-After": value})]) as server:
            start = time.monotonic()
            completion = await ask(server)
            assert 1.0 <= time.monotonic() - start < 5.0
            assert completion.text
            assert len(server.requests) == 2


async def test_a_wait_longer_than_a_request_may_take_is_given_back_at_once() -> None:
    async with FakeServer(faults=[Fault(status=429, headers={"Retry-After": "3600"})]) as server:
        with pytest.raises(RateLimited) as caught:
            await ask(server)
        assert caught.value.retry_after == 3600
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(status=429), Fault(status=500)],
        [Fault(status=503), Fault(truncate=True)],
        [Fault(status=408), Fault(status=425)],
    ],
)
async def test_passing_faults_are_retried(faults: Sequence[Fault]) -> None:
    async with FakeServer(faults=faults) as server:
        assert (await ask(server)).text
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(status=500), EngineUnavailable),
        (Fault(status=429), RateLimited),
        (Fault(truncate=True), MalformedReply),
        (Fault(delay_s=5), EngineTimeout),
    ],
)
async def test_lasting_faults_end_as_retryable_errors(fault: Fault, error: type[ConstitutionError]) -> None:
    async with FakeServer(faults=[fault] * 5) as server:
        with pytest.raises(error) as caught:
            await ask(server, retries=1, timeout_s=0.3)
        assert caught.value.retryable
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(status=400), RequestRefused),
        (Fault(status=403), RequestRefused),
        (Fault(status=404), ModelLoadError),
        (Fault(status=302, headers={"Location": "http://127.0.0.1:1/"}), RequestRefused),
        (Fault(status=400, body='{"error": {"message": "x", "code": "context_length_exceeded"}}'), ContextTooLong),
        (Fault(status=400, body='{"message": "maximum context length is 10 tokens"}'), ContextTooLong),
    ],
)
async def test_what_cannot_get_better_is_not_retried(fault: Fault, error: type[ConstitutionError]) -> None:
    async with FakeServer(faults=[fault] * 5) as server:
        with pytest.raises(error) as caught:
            await ask(server, retries=4)
        assert not caught.value.retryable
        assert len(server.requests) == 1


async def test_the_servers_own_context_limit_and_model_name_are_recognised() -> None:
    async with FakeServer(context=100) as server:
        long = Request((Message("user", "word " * 100),), Sampling(max_tokens=16), seed=1)
        with pytest.raises(ContextTooLong, match="maximum context length is 100"):
            await ask(server, long)
        assert len(server.requests) == 1
        with pytest.raises(ModelLoadError, match="nothere"):
            await ask(server, model="nothere")


NO_TOP = {"content": [{"token": "A", "logprob": -0.1, "top_logprobs": []}]}
NAN = {"content": [{"token": "A", "logprob": 0, "top_logprobs": [{"token": "A", "logprob": math.nan}]}]}
POSITIVE = {"content": [{"token": "A", "logprob": 0, "top_logprobs": [{"token": "A", "logprob": 0.5}]}]}


@pytest.mark.parametrize("logprobs", [None, {}, {"content": []}, NO_TOP, NAN, POSITIVE, {"content": [{"x": 1}]}])
async def test_missing_or_broken_log_probabilities_are_errors_and_never_numbers(logprobs: Any) -> None:
    vote = Request(VOTE, Sampling(), seed=6, choices=("A", "B"))
    async with FakeServer(faults=[Fault(changes={"logprobs": logprobs})]) as server:
        with pytest.raises(MalformedReply):
            await ask(server, vote)


async def test_labels_are_matched_exactly_and_absent_ones_are_bounded() -> None:
    tokens = [("a", -0.5), (" A", -1.5), ("A", -3.0)]
    top = [{"token": token, "logprob": value} for token, value in tokens]
    fault = Fault(changes={"logprobs": {"content": [{"token": "a", "logprob": -0.1, "top_logprobs": top}]}})
    async with FakeServer(faults=[fault]) as server:
        completion = await ask(server, Request(VOTE, Sampling(), seed=6, choices=("A", "B")))
    assert completion.choice_logprobs is not None
    assert completion.choice_logprobs == {"A": -3.0}
    assert completion.unseen is not None
    assert completion.unseen.each == pytest.approx(math.exp(-3))


@pytest.mark.parametrize(
    "changes",
    [
        {"message": None},
        {"message": {"content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}},
        {"message": "x"},
        {"finish_reason": None},
    ],
)
async def test_replies_without_text_or_reason_are_malformed(changes: dict[str, Any]) -> None:
    async with FakeServer(faults=[Fault(changes=changes)]) as server:
        with pytest.raises(MalformedReply):
            await ask(server)


async def test_the_key_reaches_the_server_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TEST_KEY", CANARY)
    caplog.set_level(logging.DEBUG)
    leaky = [
        Fault(status=401, body=f'{{"error": {{"message": "Incorrect API key: {CANARY}"}}}}'),
        Fault(status=500, body=CANARY),
        Fault(status=302, headers={"Location": f"http://127.0.0.1:1/?key={CANARY}"}),
    ]
    async with FakeServer(faults=[None, *leaky]) as server:
        engine = await OpenAIEngine.open(section(server, api_key_env="TEST_KEY", retries=0))
        await engine.generate(Request(ASK, Sampling(), seed=1))
        assert server.requests[-1].headers["Authorization"] == f"Bearer {CANARY}"
        said = [repr(engine), str(engine.describe()), repr(vars(engine))]
        for _ in leaky:
            with pytest.raises(ConstitutionError) as caught:
                await engine.generate(Request(ASK, Sampling(), seed=1))
            error: BaseException | None = caught.value
            while error is not None:
                said += [str(error), repr(error), getattr(error, "hint", "")]
                error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        await engine.close()
    assert all(CANARY[4:] not in text for text in [*said, caplog.text])


async def test_settings_that_cannot_work_are_named_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    async with FakeServer() as server:
        with pytest.raises(RecipeError, match="NO_SUCH_KEY"):
            await ask(server, api_key_env="NO_SUCH_KEY")
        gone = server.base_url
    with pytest.raises(EngineUnavailable, match=r"127\.0\.0\.1"):
        await OpenAIEngine.open(OpenAIModel(engine="openai", model="fake", base_url=gone, retries=0))


async def test_a_quoted_tail_of_a_reply_holds_no_half_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handle(request: web.Request) -> web.Response:
        return web.Response(text=f"proxy error, your key was {CANARY}{'y' * 52}")

    monkeypatch.setenv("TEST_KEY", CANARY)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    async with TestServer(app) as server:
        url = str(server.make_url("/v1"))
        engine = await OpenAIEngine.open(
            OpenAIModel(engine="openai", model="fake", base_url=url, retries=0, api_key_env="TEST_KEY")
        )
        with pytest.raises(MalformedReply, match="yyy") as caught:
            await engine.generate(Request(ASK, Sampling(), seed=1))
        await engine.close()
    assert CANARY[-5:] not in str(caught.value)


@pytest.mark.parametrize("status", [401, 402])
async def test_a_key_that_is_not_taken_is_asked_for_once_and_again_by_the_next_start(status: int) -> None:
    async with FakeServer(faults=[Fault(status=status)] * 3) as server:
        with pytest.raises(AccessDenied) as caught:
            await ask(server, retries=2)
        assert caught.value.retryable
        assert len(server.requests) == 1


async def test_a_closed_engine_says_so() -> None:
    async with FakeServer() as server:
        engine = await OpenAIEngine.open(section(server))
        await engine.close()
        with pytest.raises(EngineUnavailable, match="closed"):
            await engine.generate(Request(ASK, Sampling(), seed=1))


async def test_urgent_requests_overtake_those_that_wait() -> None:
    fake = FakeEngine(FakeModel(engine="fake", latency_s=0.02))
    order: list[int] = []
    async with FakeServer(fake) as server:
        engine = await OpenAIEngine.open(section(server, concurrency=1))

        async def one(priority: int) -> None:
            await engine.generate(Request(ASK, Sampling(), seed=priority, priority=priority))
            order.append(priority)

        blocked = [asyncio.create_task(one(priority)) for priority in (9, 5, 1, 3)]
        await asyncio.sleep(0.01)
        blocked[2].cancel()
        await asyncio.gather(*blocked, return_exceptions=True)
        assert order == [9, 3, 5]
        await one(7)
        await engine.close()


async def test_concurrency_is_a_limit() -> None:
    class Counting(FakeEngine):
        now = most = 0

        async def generate(self, request: Request) -> Completion:
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                return await super().generate(request)
            finally:
                self.now -= 1

    counting = Counting(FakeModel(engine="fake", latency_s=0.01))
    async with FakeServer(counting) as server:
        engine = await OpenAIEngine.open(section(server, concurrency=4))
        requests = [Request(ASK, Sampling(), seed=seed) for seed in range(24)]
        completions = await asyncio.gather(*map(engine.generate, requests))
        await engine.close()
    assert counting.most == 4
    assert len({completion.text for completion in completions}) > 4
