"""OpenAI's batch API: what goes out in waves, what comes back of them, and whole runs beside plain ones."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from batch_servers import ChatBatchServer, Fate, Fault
from pydantic import ValidationError

from constitution.engines import open_engines
from constitution.engines.base import Completion, Request
from constitution.engines.openai.batch.notes import at_places
from constitution.engines.openai.engine import OpenAIEngine
from constitution.errors import (
    AccessDenied,
    EngineError,
    EngineGone,
    EngineUnavailable,
    MalformedReply,
    RecipeError,
    RequestRefused,
)
from constitution.recipe import Models, OpenAIModel
from constitution.records import Message, Sampling

FAST: dict[str, Any] = {"batch": True, "batch_wait_s": 0.02, "batch_poll_s": 0.005, "timeout_s": 5.0}


def section(url: str, **fields: Any) -> OpenAIModel:
    return OpenAIModel(engine="openai", **{"model": "fake", "base_url": url, "dialect": "openai", **FAST, **fields})


def request(number: int, **fields: Any) -> Request:
    turns = (Message("user", f"How do I light fire {number}?"),)
    return Request(turns, Sampling(temperature=0.7, max_tokens=60), number, affinity=f"p{number}", **fields)


BUSY = {"error": {"message": "The server had an error"}}
ASKED = [request(number) for number in range(6)]


async def asked(
    server: ChatBatchServer, notes: Path | None, requests: list[Request] = ASKED, **fields: Any
) -> tuple[list[Completion | BaseException], OpenAIEngine]:
    """What an engine answers to all of them at once."""
    engine = await OpenAIEngine.open(section(server.base_url, **fields), notes)
    try:
        return await asyncio.gather(*map(engine.generate, requests), return_exceptions=True), engine
    finally:
        await engine.close()


async def plain(requests: list[Request] = ASKED, **fields: Any) -> list[Completion | BaseException]:
    async with ChatBatchServer() as server:
        done, _ = await asked(server, None, requests, **{"batch": False, **fields})
        return done


async def test_what_is_asked_at_once_goes_out_as_one_batch_and_every_reply_finds_its_request(tmp_path: Path) -> None:
    async with ChatBatchServer() as server:
        done, engine = await asked(server, tmp_path)
        assert done == await plain()
        assert len(server.batches) == 1
        assert server.calls["POST /v1/chat/completions"] == 0
        assert engine.stats()["batches"] == {
            "sent": 1, "requests": 6, "asked_again": 0, "of_earlier_starts": 0, "alone": 0, "open": [],
        }  # fmt: skip


@pytest.mark.parametrize(
    ("fate", "batches", "told"),
    [
        (Fate("expired", answered=4), 2, "expired; requests that it says it did not answer: 2"),
        (Fate("expired", answered=4, silent=True), 2, "requests without a line: 2"),
        (Fate("expired", answered=0), 2, ""),
        (Fate(lines={0: None}), 2, "requests without a line: 1"),
        (Fate(lines={0: "{half a line"}), 2, "lines that cannot be read: 1"),
        (Fate(lines={1: {"response": {"status_code": 0, "request_id": "", "body": {}}, "error": None}}), 2, ""),
        (Fate(lines={1: {"response": {"status_code": 500, "body": BUSY}, "error": None}}), 2, ""),
        (Fate(lines={1: {"response": {"status_code": 429, "body": BUSY}, "error": None}}), 2, ""),
        (Fate(lines={2: {"response": None, "error": {"code": "request_timeout", "message": "too long"}}}), 2, ""),
        (Fate(twice=True, stray=True), 1, "further lines of requests that have one"),
        (Fate(stray=True), 1, "lines of requests that it was not sent: 1"),
        (Fate("failed", errors=[{"code": "invalid_json_line", "message": "no JSON", "line": 3}]), 2, ""),
    ],
)  # fmt: skip
async def test_what_is_not_answered_goes_out_again_alone(tmp_path: Path, fate: Fate, batches: int, told: str) -> None:
    async with ChatBatchServer(fates=[fate]) as server:
        done, engine = await asked(server, tmp_path)
        refused = [each for each in done if isinstance(each, RequestRefused)]
        assert len(refused) == bool(fate.errors)  # the line that it names
        assert [each for each in done if each not in refused] == [
            each for each, mine in zip(await plain(), done, strict=True) if mine not in refused
        ]
        assert len(server.batches) == batches
        assert set(server.paid.values()) == {1}
        assert any(told in event for event in engine.stats()["events"]) or not told


async def test_a_request_that_no_batch_answers_fails_by_a_passing_error(tmp_path: Path) -> None:
    async with ChatBatchServer(fates=[Fate("expired", answered=0)] * 3) as server:
        done, _ = await asked(server, tmp_path, retries=2)
        assert all(isinstance(each, EngineUnavailable) and each.retryable for each in done)
        assert len(server.batches) == 3
        assert not server.paid


@pytest.mark.parametrize(
    "faults",
    [
        {"POST /v1/files": [Fault(500), Fault(cut=True), Fault(429, headers={"Retry-After": "0"})]},
        {"POST /v1/batches": [Fault(500), Fault(429, headers={"Retry-After": "0"}), Fault(cut=True)]},
        {"POST /v1/batches": [Fault(500, done=True)]},
        {"POST /v1/batches": [Fault(cut=True, done=True)]},
        {"POST /v1/batches": [Fault(200, done=True, body="{")]},
        {
            "POST /v1/batches": [Fault(200, done=True, body='{"object": "batch"}')],
            "GET /v1/batches": [None, Fault(500)],
        },
        {"GET /v1/batches/*": [Fault(500), Fault(cut=True), Fault(200, body="[]"), Fault(529)]},
        {"GET /v1/files/*/content": [Fault(500), Fault(cut=True), Fault(half=True)]},
    ],
)
@pytest.mark.parametrize("metadata", [True, False])
async def test_calls_that_fail_are_made_again_and_no_batch_twice(
    tmp_path: Path, faults: dict[str, list[Fault | None]], metadata: bool
) -> None:
    async with ChatBatchServer(faults=faults, metadata=metadata) as server:
        done, _ = await asked(server, tmp_path)
        assert done == await plain()
        assert len(server.batches) == 1


async def test_a_refusal_of_one_request_is_that_of_a_plain_run_and_what_a_server_does_not_take_is_left_out(
    tmp_path: Path,
) -> None:
    words = "Unsupported parameter: 'seed' is not supported with this model."
    error = {"message": words, "type": "invalid_request_error", "param": "seed", "code": "unsupported_parameter"}
    line = {"response": {"status_code": 400, "request_id": "", "body": {"error": error}}, "error": None}
    async with ChatBatchServer(fates=[Fate(lines=dict.fromkeys(range(6), line))]) as server:
        done, engine = await asked(server, tmp_path)
        assert [each.unsent for each in done if isinstance(each, Completion)] == [("seed",)] * 6
        assert "seed" in engine.describe()["sent"]
        assert len(server.batches) == 2
    flagged = {**error, "message": "Invalid prompt: flagged as violating our usage policy", "code": "invalid_prompt"}
    line = {"response": {"status_code": 400, "request_id": "", "body": {"error": flagged}}, "error": None}
    async with ChatBatchServer(fates=[Fate(lines={3: line})]) as server:
        done, _ = await asked(server, tmp_path / "flagged")
        assert isinstance(done[3], RequestRefused)
        assert done[3].flagged
        assert sum(isinstance(each, Completion) for each in done) == 5


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("model_not_found", "ModelLoadError"),
        ("billing_hard_limit_reached", "AccessDenied"),
        ("invalid_method", "RequestRefused"),
    ],
)
async def test_a_batch_that_is_refused_as_a_whole_is_the_refusal_of_each_request(
    tmp_path: Path, code: str, error: str
) -> None:
    told = {"code": code, "message": f"about {code}", "line": None, "param": None}
    fate = Fate("failed", errors=[told])
    async with ChatBatchServer(fates=[fate]) as server:
        done, _ = await asked(server, tmp_path)
        assert [type(each).__name__ for each in done] == [error] * 6
        assert not os.listdir(tmp_path), "nothing is waited for"


async def test_a_batch_that_someone_cancels_stops_the_run_and_the_next_start_asks_for_the_rest(tmp_path: Path) -> None:
    async with ChatBatchServer(fates=[Fate("cancelled", answered=2)]) as server:
        done, _ = await asked(server, tmp_path)
        assert [isinstance(each, EngineGone) for each in done] == [False] * 2 + [True] * 4
        again, engine = await asked(server, tmp_path)
        assert again == await plain()
        assert set(server.paid.values()) == {1}
        assert engine.stats()["batches"]["of_earlier_starts"] == 2


async def test_where_there_is_no_room_batches_become_smaller_and_go_one_after_the_other(tmp_path: Path) -> None:
    async with ChatBatchServer(most=2) as server:
        done, engine = await asked(server, tmp_path)
        assert done == await plain()
        assert set(server.paid.values()) == {1}
        sizes = [len(each.requests) for each in server.batches.values() if each.state == "completed"]
        assert max(sizes) <= 2
        assert any("no room" in event for event in engine.stats()["events"])


async def test_a_wave_is_closed_at_the_limits_of_the_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from constitution.engines.openai.batch.chat import ChatBatches

    for name, limit in (("most", 4), ("most_bytes", 800)):
        with monkeypatch.context() as patch:
            patch.setattr(ChatBatches, name, limit)
            async with ChatBatchServer() as server:
                done, _ = await asked(server, tmp_path / name)
                assert done == await plain()
                assert sum(len(each.requests) for each in server.batches.values()) == 6
                assert 1 < len(server.batches) < 6


async def test_a_start_that_is_killed_pays_for_nothing_twice(tmp_path: Path) -> None:
    """Killed at any of its calls, before or after it is done; the second start asks for the same and for one more."""
    more = [*ASKED, request(7)]
    wanted = await plain(more)
    for call in ("POST /v1/files", "POST /v1/batches", "GET /v1/batches/*", "GET /v1/files/*/content"):
        for when in ("before", "after"):
            async with ChatBatchServer() as server:
                engine = await OpenAIEngine.open(section(server.base_url), tmp_path / call.replace("/", "_") / when)
                met = server.met(call, when)
                tasks = [asyncio.create_task(engine.generate(each)) for each in ASKED]
                await met.wait()
                for task in tasks:
                    task.cancel()
                await engine.close()
                done, engine = await asked(server, tmp_path / call.replace("/", "_") / when, more)
                assert done == wanted
                assert set(server.paid.values()) == {1}


async def test_equal_requests_are_each_answered_and_one_whose_reply_was_of_no_use_is_asked_again(
    tmp_path: Path,
) -> None:
    twins = [request(1), request(1)]
    async with ChatBatchServer() as server:
        await asked(server, tmp_path, twins)
        assert list(server.paid.values()) == [2]
        await asked(server, tmp_path, twins)
        assert list(server.paid.values()) == [2]
        await asked(server, tmp_path, [request(1, answered=1)])
        assert list(server.paid.values()) == [3]


async def test_without_batch_what_was_sent_in_one_is_waited_for_and_the_rest_is_sent_alone(tmp_path: Path) -> None:
    async with ChatBatchServer() as server:
        made = server.met("GET /v1/batches/*", "before")
        engine = await OpenAIEngine.open(section(server.base_url), tmp_path)
        tasks = [asyncio.create_task(engine.generate(each)) for each in ASKED[:4]]
        await made.wait()
        for task in tasks:
            task.cancel()
        await engine.close()
        done, _ = await asked(server, tmp_path, batch=False)
        assert done == await plain()
        assert set(server.paid.values()) == {1}
        assert (len(server.batches), server.calls["POST /v1/chat/completions"]) == (1, 2)


def move(notes: Path, place: str) -> None:
    """Writes another address into the only note."""
    [note] = notes.glob("*.json")
    note.write_text(json.dumps({**json.loads(note.read_text()), "place": place}))


async def test_another_address_or_account_is_told_and_pays_for_nothing(tmp_path: Path) -> None:
    async with ChatBatchServer() as server, ChatBatchServer() as other:
        done, _ = await asked(server, tmp_path)
        models, both = Models(policy=section(other.base_url)), [section(url) for url in (other.base_url, "http://b/v1")]
        at_places(tmp_path, [server.base_url, other.base_url])
        with pytest.raises(RecipeError, match="6 requests are in batch batch_0"):
            at_places(tmp_path, [each.base_urls[0] for each in both])
        async with open_engines(models, notes=tmp_path) as engines:
            moved = await asyncio.gather(*map(engines.policy.generate, ASKED))
        assert moved == done, "what has come back is there"
        [results] = [name for name in os.listdir(tmp_path) if name.endswith(".jsonl")]
        os.remove(tmp_path / results)
        at_places(tmp_path, [other.base_url])
        with pytest.raises(RecipeError, match="6 requests are in batch batch_0"):
            async with open_engines(Models(policy=section(server.base_url)), notes=tmp_path):
                pass
        move(tmp_path, server.base_url)
        server.batches.clear()
        done, _ = await asked(server, tmp_path)
        assert all(isinstance(each, EngineGone) and "batch_0" in str(each) for each in done)
        assert isinstance(done[0], EngineError)
        assert str(tmp_path) in done[0].hint
        assert set(server.paid.values()) == {1}


async def test_a_server_that_is_silent_about_its_batches_stops_the_run_and_the_next_start_reads_them(
    tmp_path: Path,
) -> None:
    async with ChatBatchServer(faults={"GET /v1/batches/*": [Fault(503)] * 10_000}) as server:
        done, _ = await asked(server, tmp_path, timeout_s=0.2)
        assert all(isinstance(each, EngineGone) and "HTTP 503" in str(each) for each in done)
        server.sound()
        done, _ = await asked(server, tmp_path)
        assert done == await plain()
        assert len(server.batches) == 1


async def test_a_server_without_batches_and_several_addresses_are_refused(tmp_path: Path) -> None:
    missing = Fault(404, body='{"detail": "Not Found"}')
    async with ChatBatchServer(faults={"GET /v1/batches": [missing]}) as server:
        with pytest.raises(RecipeError, match="has no batches"):
            await asked(server, tmp_path)
    with pytest.raises(ValidationError, match="one base_url"):
        section("", base_url=("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"))


# --- the first request of a step

STEP = [replace(each, step="initial") for each in ASKED]


async def test_the_first_request_of_a_step_goes_ahead_alone_and_its_reply_is_kept_too(tmp_path: Path) -> None:
    async with ChatBatchServer() as server:
        done, engine = await asked(server, tmp_path, STEP)
        assert done == await plain()
        assert server.calls["POST /v1/chat/completions"] == engine.stats()["batches"]["alone"] == 1
        assert [len(each.requests) for each in server.batches.values()] == [5]
        again, engine = await asked(server, tmp_path, STEP)
        assert again == done
        assert engine.stats()["batches"]["of_earlier_starts"] == 6
        assert set(server.paid.values()) == {1}
        more = [replace(request(7), step="initial")]
        await asked(server, tmp_path, [*STEP, *more])
        assert [len(each.requests) for each in server.batches.values()] == [5, 1], (
            "an earlier start has proven the step"
        )


async def test_what_a_server_does_not_take_is_found_by_the_first_request(tmp_path: Path) -> None:
    error = {"message": "Unsupported parameter: 'seed'", "param": "seed", "code": "unsupported_parameter"}
    refusal = Fault(400, body=json.dumps({"error": error}))
    async with ChatBatchServer(faults={"POST /v1/chat/completions": [refusal]}) as server:
        done, _ = await asked(server, tmp_path, STEP)
        assert [each.unsent for each in done if isinstance(each, Completion)] == [("seed",)] * 6
        assert server.calls["POST /v1/chat/completions"] == 2
        [batch] = server.batches.values()
        assert not any("seed" in each["body"] for each in batch.requests)
    denied = Fault(401, body='{"error": {"message": "Incorrect API key"}}')
    async with ChatBatchServer(faults={"POST /v1/chat/completions": [denied] * 6}) as server:
        done, _ = await asked(server, tmp_path / "denied", STEP)
        assert all(isinstance(each, AccessDenied) for each in done)
        assert not server.files


async def test_batches_go_out_where_the_server_takes_no_request_alone_now(tmp_path: Path) -> None:
    limited = Fault(429, headers={"Retry-After": "0"}, body='{"error": {"message": "Rate limit reached"}}')
    async with ChatBatchServer(faults={"POST /v1/chat/completions": [limited] * 9}) as server:
        done, _ = await asked(server, tmp_path, STEP, retries=1)
        assert done == await plain()
        assert server.calls["POST /v1/chat/completions"] == 2
        assert sum(len(each.requests) for each in server.batches.values()) == 6


async def test_votes_wait_until_one_came_with_its_log_probabilities(tmp_path: Path) -> None:
    choice = {"index": 0, "message": {"content": "A"}, "finish_reason": "stop"}
    bare = Fault(200, body=json.dumps({"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 1}}))
    votes = [replace(each, step="vote", choices=("A", "B")) for each in ASKED]
    async with ChatBatchServer(faults={"POST /v1/chat/completions": [bare]}) as server:
        done, _ = await asked(server, tmp_path, votes)
        assert isinstance(done[0], MalformedReply)
        assert all(isinstance(each, Completion) and each.choice_logprobs for each in done[1:])
        assert [len(each.requests) for each in server.batches.values()] == [4]


async def test_a_step_that_an_earlier_start_began_waits_for_no_batch_of_it(tmp_path: Path) -> None:
    async with ChatBatchServer(fates=[Fate(looks=10**9)]) as server:
        made = server.met("GET /v1/batches/*", "before")
        engine = await OpenAIEngine.open(section(server.base_url), tmp_path)
        tasks = [asyncio.create_task(engine.generate(each)) for each in STEP[:4]]
        await made.wait()
        for task in tasks:
            task.cancel()
        await engine.close()
        engine = await OpenAIEngine.open(section(server.base_url), tmp_path)
        old = [asyncio.create_task(engine.generate(each)) for each in STEP[1:4]]
        assert len(await asyncio.gather(*map(engine.generate, STEP[4:]))) == 2
        assert not any(task.done() for task in old)
        for task in old:
            task.cancel()
        await engine.close()
