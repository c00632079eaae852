"""OpenAI's batch API: what goes out in waves, what comes back of them, and whole runs beside plain ones."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from batch_servers import ABOUT, ChatBatchServer, Fate, Fault
from pydantic import ValidationError
from run_once import run_once
from small_project import small_project, table

from constitution.engines.base import Completion, Request
from constitution.engines.openai.engine import OpenAIEngine
from constitution.errors import EngineError, EngineGone, EngineUnavailable, RecipeError, RequestRefused
from constitution.pipeline.plan import batch_steps, small_window
from constitution.recipe import OpenAIModel, load_recipe
from constitution.records import Message, Sampling
from constitution.trial import Trial, try_recipe
from constitution.warehouse import Warehouse

FAST: dict[str, Any] = {"batch": True, "batch_wait_s": 0.02, "batch_poll_s": 0.005, "timeout_s": 5.0}


def section(url: str, **fields: Any) -> OpenAIModel:
    return OpenAIModel(engine="openai", **{"model": "fake", "base_url": url, "dialect": "openai", **FAST, **fields})


def request(number: int, **fields: Any) -> Request:
    turns = (Message("user", f"How do I light fire {number}?"),)
    return Request(
        turns, Sampling(temperature=0.7, max_tokens=60), number, affinity=f"p{number}", step="initial", **fields
    )


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
            "sent": 1, "requests": 6, "asked_again": 0, "of_earlier_starts": 0, "open": [],
        }  # fmt: skip


@pytest.mark.parametrize(
    ("fate", "batches", "told"),
    [
        (Fate("expired", answered=4), 2, "expired, has 2 requests that it says it did not answer"),
        (Fate("expired", answered=4, silent=True), 2, "2 requests without a line"),
        (Fate("expired", answered=0), 2, ""),
        (Fate(lines={0: None}), 2, "1 requests without a line"),
        (Fate(lines={0: "{half a line"}), 2, "1 lines that cannot be read"),
        (Fate(lines={1: {"response": {"status_code": 0, "request_id": "", "body": {}}, "error": None}}), 2, ""),
        (Fate(lines={1: {"response": {"status_code": 500, "body": BUSY}, "error": None}}), 2, ""),
        (Fate(lines={1: {"response": {"status_code": 429, "body": BUSY}, "error": None}}), 2, ""),
        (Fate(lines={2: {"response": None, "error": {"code": "request_timeout", "message": "too long"}}}), 2, ""),
        (Fate(twice=True, stray=True), 1, "1 second lines of requests"),
        (Fate(stray=True), 1, "1 lines of requests that it was not sent"),
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
        {"GET /v1/files/*/content": [Fault(500), Fault(cut=True)]},
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
        await asked(server, tmp_path, [*twins, request(1, answered=1)])
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


async def test_another_address_or_account_is_told_and_pays_for_nothing(tmp_path: Path) -> None:
    async with ChatBatchServer() as server, ChatBatchServer() as other:
        done, _ = await asked(server, tmp_path)
        assert (await asked(other, tmp_path))[0] == done, "what has come back is there"
        [results] = [name for name in os.listdir(tmp_path) if name.endswith(".jsonl")]
        os.remove(tmp_path / results)
        with pytest.raises(RecipeError, match="6 requests are in batch batch_0"):
            await asked(other, tmp_path)
        server.batches.clear()
        done, _ = await asked(server, tmp_path)
        assert all(isinstance(each, EngineGone) and "batch_0" in str(each) for each in done)
        assert isinstance(done[0], EngineError)
        assert str(tmp_path) in done[0].hint
        assert set(server.paid.values()) == {1}


async def test_a_server_without_batches_and_several_addresses_are_refused(tmp_path: Path) -> None:
    missing = Fault(404, body='{"detail": "Not Found"}')
    async with ChatBatchServer(faults={"GET /v1/batches": [missing]}) as server:
        with pytest.raises(RecipeError, match="has no batches"):
            await asked(server, tmp_path)
    with pytest.raises(ValidationError, match="one base_url"):
        section("", base_url=("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"))


# --- whole runs

RECIPE = """
name = "batched"
constitution = "general@1.1.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "openai"
model = "fake"
base_url = "{url}"
{about}
price = {{ input = 1.0, cached = 0.1, output = 4.0 }}
{policy}
[model.judge]
engine = "openai"
model = "fake"
base_url = "{url}"
{about}
concurrency = 64
price = {{ input = 2.0, output = 8.0 }}
{judge}
[revise]
rounds = 1
[judge]
principles = 2
method = "{method}"
[output]
window = {window}
flush_seconds = 0.05
"""
BATCH = "\n".join(f"{name} = {json.dumps(value)}" for name, value in FAST.items())


def project(
    folder: Path,
    url: str,
    policy: str = BATCH,
    judge: str = BATCH,
    window: int = 12,
    about: str = ABOUT,
    method: str = "label",
) -> Path:
    """about: what the section of a model has for this kind of server."""
    recipe = RECIPE.format(url=url, policy=policy, judge=judge, window=window, about=about, method=method)
    return small_project(folder, 12, recipe)


def rows(warehouse: Path) -> list[list[tuple[Any, ...]]]:
    """All rows of the run but for when they were made, and its cost by stage."""
    tables = ("prompts", "responses", "judgements", "preferences")
    stored = [table(warehouse, f"SELECT * EXCLUDE (created_at) FROM {name} ORDER BY id") for name in tables]
    assert all(stored)
    return stored


def costs(warehouse: Path) -> list[tuple[Any, ...]]:
    return table(warehouse, "SELECT run_id, stage, model, calls, cost FROM usage ORDER BY ALL")


async def test_a_run_in_batches_has_the_rows_of_a_plain_one_at_half_its_cost(tmp_path: Path) -> None:
    async with ChatBatchServer() as server:
        run = await run_once(project(tmp_path / "plain", server.base_url, "", ""), tmp_path / "one", [])
        paid = server.paid
    fates = [Fate("expired", answered=5), Fate(), Fate(twice=True, stray=True), Fate(lines={0: None})]
    faults: dict[str, list[Fault | None]] = {"POST /v1/batches": [None, Fault(500, done=True)]}
    async with ChatBatchServer(fates=fates, faults=faults) as server:
        path = project(tmp_path / "batched", server.base_url)
        made = await run_once(path, tmp_path / "two", [])
        assert server.paid == paid
        assert server.calls["POST /v1/chat/completions"] == 0
    assert made.run_id == run.run_id
    assert rows(tmp_path / "two") == rows(tmp_path / "one")
    assert made.cost
    assert run.cost
    assert made.cost == pytest.approx(run.cost / 2, rel=1e-3)
    assert costs(tmp_path / "two") == [(*each[:-1], pytest.approx(each[-1] / 2)) for each in costs(tmp_path / "one")]
    assert [used.cost for used in made.usage] == [pytest.approx((used.cost or 0) / 2) for used in run.usage]
    assert not (tmp_path / "two" / "batches").exists(), "a run that is finished keeps no notes"
    assert Warehouse(tmp_path / "two").verify(made.run_id) == []


async def test_a_window_that_makes_small_batches_is_told(tmp_path: Path) -> None:
    recipe = load_recipe(project(tmp_path / "small", "http://127.0.0.1:1/v1", window=5))
    assert batch_steps(recipe) == 4
    assert "about 3 × 4 of them follow on each other" in small_window(recipe, 12)
    assert small_window(recipe, 5) == ""
    assert small_window(load_recipe(recipe.path, ["model.policy.batch=false", "model.judge.batch=false"]), 12) == ""


async def test_a_trial_waits_for_no_batch_and_foresees_half_the_cost_and_no_time(tmp_path: Path) -> None:
    found: dict[str, Trial] = {}
    async with ChatBatchServer() as server:
        for name, batch in (("alone", ""), ("batched", BATCH)):
            path = project(tmp_path / name, server.base_url, batch, batch, window=5)
            found[name] = await try_recipe(load_recipe(path), path, tmp_path / name / "warehouse", 4)
        assert not server.batches
    alone, batched = found["alone"], found["batched"]
    assert (batched.forecast["cost"].value or 0) == pytest.approx((alone.forecast["cost"].value or 0) / 2)
    assert batched.run.cost == alone.run.cost, "the trial itself pays the whole price"
    assert alone.forecast["hours"].value
    assert batched.forecast["hours"].value is None
    assert [each.setting for each in batched.findings if "output.window" in each.what] == ["output.window = 12"]
    assert not [each for each in alone.findings if "output.window" in each.what]
