"""Anthropic's Message Batches: what comes back of a batch, how one is found again, and whole runs beside plain ones."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from batch_servers import Fate, Fault, MessageBatchServer
from messages_server import KEY
from run_once import run_once
from test_batch import ASKED, asked, section
from test_batch_runs import STEPS, costs, project, same_rows

from constitution.engines.base import Completion
from constitution.engines.openai.engine import OpenAIEngine
from constitution.errors import ContextTooLong, EngineGone, EngineUnavailable, ModelLoadError, RequestRefused

ABOUT: dict[str, Any] = {"dialect": "anthropic", "api_key_env": "MESSAGES_KEY"}
ONE = ASKED[:1]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESSAGES_KEY", KEY)


async def plain() -> list[Completion | BaseException]:
    async with MessageBatchServer() as server:
        done, _ = await asked(server, None, batch=False, **ABOUT)
        return done


def errored(kind: str, message: str) -> dict[str, Any]:
    return {"result": {"type": "errored", "error": {"type": "error", "error": {"type": kind, "message": message}}}}


@pytest.mark.parametrize(
    ("fate", "batches"),
    [
        (Fate(), 1),
        (Fate("expired", answered=4), 2),
        (Fate("expired", answered=0), 2),
        (Fate(lines={1: errored("overloaded_error", "Overloaded")}), 2),
        (Fate(lines={1: errored("api_error", "Internal server error")}), 2),
        (Fate(lines={1: errored("timeout_error", "Request timed out")}), 2),
        (Fate(lines={1: errored("rate_limit_error", "This request would exceed your limit")}), 2),
        (Fate(lines={1: None, 2: "{half a line"}), 2),
        (Fate(lines={1: {"result": {"type": "of a later version"}}}), 2),
        (Fate(twice=True, stray=True), 1),
    ],
)
async def test_every_reply_finds_its_request_and_what_has_none_goes_out_again(
    tmp_path: Path, fate: Fate, batches: int
) -> None:
    async with MessageBatchServer(fates=[fate]) as server:
        done, _ = await asked(server, tmp_path, **ABOUT)
        assert done == await plain()
        assert len(server.batches) == batches
        assert set(server.paid.values()) == {1}
        assert server.calls["POST /v1/messages"] == 0


@pytest.mark.parametrize(
    ("kind", "message", "error"),
    [
        ("invalid_request_error", "messages: text content blocks must be non-empty", RequestRefused),
        ("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum", ContextTooLong),
        ("request_too_large", "Request exceeds the maximum size", RequestRefused),
        ("not_found_error", "model: fake", ModelLoadError),
    ],
)
async def test_a_refusal_of_one_request_is_that_of_a_plain_run(
    tmp_path: Path, kind: str, message: str, error: type[Exception]
) -> None:
    async with MessageBatchServer(fates=[Fate(lines={0: errored(kind, message)})]) as server:
        done, _ = await asked(server, tmp_path, **ABOUT)
        assert type(done[0]) is error
        assert message in str(done[0])
        assert sum(isinstance(each, Completion) for each in done) == 5


def succeeded(**fields: Any) -> dict[str, Any]:
    message = {"type": "message", "model": "fake", "stop_reason": "end_turn", "content": []}
    usage = {"input_tokens": 9, "output_tokens": 30}
    return {"result": {"type": "succeeded", "message": {**message, "usage": usage, **fields}}}


async def test_refused_answers_and_cut_thoughts_are_read_as_those_of_a_plain_run(tmp_path: Path) -> None:
    thought = {"type": "thinking", "thinking": "Wood first.", "signature": "c2ln"}
    said = [thought, {"type": "text", "text": "No."}]
    lines = {
        0: succeeded(content=said, stop_reason="refusal"),
        1: succeeded(content=[thought], stop_reason="max_tokens"),
        2: succeeded(content=[thought], stop_reason="pause_turn"),
    }
    async with MessageBatchServer(fates=[Fate(lines=lines)]) as server:
        done, _ = await asked(server, tmp_path, **ABOUT)
    refused, cut, paused = done[:3]
    assert isinstance(refused, Completion)
    assert isinstance(cut, Completion)
    assert (refused.text, refused.finish_reason, refused.reasoning) == ("No.", "refusal", "Wood first.")
    assert (cut.text, cut.finish_reason, cut.reasoning) == ("", "length", "Wood first.")
    assert "was paused" in str(paused)


async def test_a_key_that_the_server_repeats_is_in_no_reply_and_in_no_file(tmp_path: Path) -> None:
    lines = {0: succeeded(content=[{"type": "text", "text": f"Your key is {KEY}."}])}
    async with MessageBatchServer(fates=[Fate(lines=lines)]) as server:
        [done, *_], _ = await asked(server, tmp_path, **ABOUT)
    assert isinstance(done, Completion)
    assert done.text == "Your key is ***."
    kept = [(tmp_path / name).read_text() for name in os.listdir(tmp_path)]
    assert len(kept) == 2
    assert not any(KEY in text for text in kept)


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(529), Fault(429, headers={"Retry-After": "0"}), Fault(cut=True)],
        [Fault(500, done=True)],
        [Fault(cut=True, done=True)],
        [Fault(529, done=True)],
    ],
)
async def test_no_batch_is_made_twice_though_another_has_as_many_requests(tmp_path: Path, faults: list[Fault]) -> None:
    async with MessageBatchServer(faults={"POST /v1/messages/batches": faults}) as server:
        others = [{"custom_id": f"another-{number}", "params": {}} for number in range(6)]
        other = server._add({}, others)
        other.state, other.lines = "completed", [{"custom_id": "another-0", "result": {"type": "expired"}}]
        server._publish(other)
        done, _ = await asked(server, tmp_path, **ABOUT)
        assert done == await plain()
        assert len(server.batches) == 2


async def test_a_batch_that_the_server_calls_too_large_is_sent_in_halves(tmp_path: Path) -> None:
    async with MessageBatchServer(largest=3) as server:
        done, _ = await asked(server, tmp_path, **ABOUT)
        assert done == await plain()
        assert sorted(len(each.requests) for each in server.batches.values() if each.state == "completed") == [3, 3]


async def test_a_batch_that_someone_cancels_stops_the_run(tmp_path: Path) -> None:
    async with MessageBatchServer(fates=[Fate("cancelled", answered=2)]) as server:
        done, _ = await asked(server, tmp_path, **ABOUT)
        assert [isinstance(each, EngineGone) for each in done] == [False] * 2 + [True] * 4
        again, _ = await asked(server, tmp_path, **ABOUT)
        assert again == await plain()
        assert set(server.paid.values()) == {1}


async def test_a_start_that_is_killed_while_it_makes_a_batch_finds_it_again(tmp_path: Path) -> None:
    wanted = await plain()
    for when in ("before", "after"):
        async with MessageBatchServer() as server:
            engine = await OpenAIEngine.open(section(server.base_url, **ABOUT), tmp_path / when)
            met = server.met("POST /v1/messages/batches", when)
            tasks = [asyncio.create_task(engine.generate(each)) for each in ASKED]
            await met.wait()
            for task in tasks:
                task.cancel()
            await engine.close()
            done, _ = await asked(server, tmp_path / when, **ABOUT)
            assert done == wanted
            assert len(server.batches) == 1


async def test_results_that_are_gone_are_told(tmp_path: Path) -> None:
    gone = Fault(404, body='{"type": "error", "error": {"type": "not_found_error", "message": "no results"}}')
    async with MessageBatchServer(faults={"GET /v1/messages/batches/*/results": [gone] * 100}) as server:
        [done], _ = await asked(server, tmp_path, ONE, **ABOUT)
        assert isinstance(done, EngineGone)
        assert isinstance(done, EngineUnavailable)
        assert "paid for again" in done.hint


async def test_a_run_in_batches_has_the_rows_of_a_plain_one_at_half_its_cost(tmp_path: Path) -> None:
    about = MessageBatchServer.about
    async with MessageBatchServer() as server:
        path = project(tmp_path / "plain", server.base_url, "", "", about=about, method="verdict")
        run = await run_once(path, tmp_path / "one", [])
        paid = server.paid
    fates = [Fate("expired", answered=5), Fate(lines={0: errored("overloaded_error", "Overloaded")}), Fate(twice=True)]
    async with MessageBatchServer(fates=fates) as server:
        path = project(tmp_path / "batched", server.base_url, about=about, method="verdict")
        made = await run_once(path, tmp_path / "two", [])
        assert server.paid == paid
        assert server.calls["POST /v1/messages"] == STEPS
    assert made.run_id == run.run_id
    same_rows(tmp_path / "two", tmp_path / "one")
    assert [(*each[:4], pytest.approx(each[4] * 2)) for each in costs(tmp_path / "two")] == costs(tmp_path / "one")
