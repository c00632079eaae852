"""Anthropic's Messages API: what is sent, what is read, and a whole run beside one over chat completions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from messages_server import KEY, LIMITED, OVERLOADED, TOO_LARGE, MessagesServer
from pydantic import ValidationError
from run_once import run_once
from small_project import small_project, table

from constitution.engines.base import Completion, Request
from constitution.engines.openai.engine import OpenAIEngine
from constitution.errors import AccessDenied, MalformedReply, RecipeError, RequestRefused
from constitution.recipe import OpenAIModel
from constitution.records import Message, Sampling
from rehearsal.server import FakeServer

USER = Message("user", "How do I light a fire?")
TALK = (Message("system", "Be brief."), Message("user", "Hello."), Message("assistant", "Hello to you."), USER)
SAMPLING = Sampling(temperature=0.7, max_tokens=60)
ASK = Request((USER,), SAMPLING, seed=1)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESSAGES_KEY", KEY)


def section(url: str, **fields: Any) -> OpenAIModel:
    settings = {"model": "fake", "base_url": url, "dialect": "anthropic", "api_key_env": "MESSAGES_KEY", **fields}
    return OpenAIModel(engine="openai", **{"retries": 3, **settings})


async def ask(server: MessagesServer, *requests: Request, **fields: Any) -> tuple[list[Completion], OpenAIEngine]:
    engine = await OpenAIEngine.open(section(server.base_url, **fields))
    try:
        return [await engine.generate(request) for request in requests or (ASK,)], engine
    finally:
        await engine.close()


async def replied(**reply: Any) -> tuple[Completion, OpenAIEngine]:
    """What is read of a reply with these fields."""
    async with MessagesServer(faults=[reply]) as server:
        [done], engine = await ask(server)
    return done, engine


async def test_the_system_prompt_goes_apart_and_what_requests_share_is_marked_for_the_cache() -> None:
    sampling = Sampling(temperature=0.7, top_p=0.9, max_tokens=60, stop=("zzz", "\n\n\n"))
    async with MessagesServer() as server:
        [done], engine = await ask(server, Request(TALK, sampling, seed=1))
        [body] = server.bodies
    mark = {"cache_control": {"type": "ephemeral"}}
    assert body == {
        "model": "fake",
        "max_tokens": 60,
        "temperature": 0.7,
        "top_p": 0.9,
        "stop_sequences": ["zzz"],
        "system": [{"type": "text", "text": "Be brief.", **mark}],
        "messages": [
            {"role": "user", "content": "Hello."},
            {"role": "assistant", "content": [{"type": "text", "text": "Hello to you.", **mark}]},
            {"role": "user", "content": "How do I light a fire?"},
        ],
    }
    assert done.text
    assert done.finish_reason == "stop"
    assert done.unsent == ("seed",)
    assert "seed is not sent" in engine.describe()["sent"]


async def test_top_p_1_is_sent_where_leaving_it_out_could_mean_something_else() -> None:
    for owner, sent in (("", False), ("vllm", True)):
        async with MessagesServer(owner=owner) as server:
            await ask(server)
            assert ("top_p" in server.bodies[0]) is sent


async def test_what_is_read_from_the_cache_and_written_to_it_are_tokens_of_the_prompt() -> None:
    async with MessagesServer() as server:
        dones, _ = await ask(server, Request(TALK, SAMPLING, 1), Request(TALK, SAMPLING, 2))
        plain, _ = await ask(server, Request(TALK, SAMPLING, 1), omit=("cache_control",))
        assert "cache_control" not in json.dumps(server.bodies[-1])
    assert [done.cached_tokens for done in dones] == [0, 6]
    assert {done.prompt_tokens for done in (*dones, *plain)} == {dones[0].prompt_tokens}


@pytest.mark.parametrize(
    ("told", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "refusal"),
    ],
)
async def test_its_reasons_to_stop_are_ours(told: str, ours: str) -> None:
    done, _ = await replied(stop_reason=told)
    assert done.finish_reason == ours


async def test_a_paused_turn_an_unknown_reason_and_blocks_of_tools_are_no_answers() -> None:
    for reply in (
        {"stop_reason": "pause_turn"},
        {"stop_reason": "later"},
        {"stop_reason": None},
        {"content": [{"type": "server_tool_use", "id": "1", "name": "web_search", "input": {}}]},
        {"content": [{"type": "text", "text": None}]},
        {"content": "text"},
        {"content": None},
    ):
        with pytest.raises(MalformedReply):
            await replied(**reply)


async def test_thinking_is_reasoning_and_what_max_tokens_cut_has_no_text() -> None:
    thought = [{"type": "thinking", "thinking": "Wood first.", "signature": "c2ln"}]
    usage = {"input_tokens": 9, "output_tokens": 30, "output_tokens_details": {"thinking_tokens": 12}}
    done, _ = await replied(content=[*thought, {"type": "text", "text": "Use dry wood."}], usage=usage)
    assert (done.text, done.reasoning, done.reasoning_tokens, done.completion_tokens) == (
        *("Use dry wood.", "Wood first.", 12, 30),
    )
    done, _ = await replied(content=thought, usage=usage, stop_reason="max_tokens")
    assert (done.text, done.reasoning, done.finish_reason) == ("", "Wood first.", "length")
    hidden = [
        {"type": "redacted_thinking", "data": "ZGF0YQ"},
        {"type": "text", "text": "Use "},
        {"type": "text", "text": "wood."},
    ]
    done, engine = await replied(content=hidden, usage=usage)
    assert (done.text, done.reasoning, done.reasoning_tokens) == ("Use wood.", None, 12)
    assert any("keeps to itself" in event for event in engine.stats()["events"])


async def test_a_refusal_keeps_its_words_and_its_category_is_counted() -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": None}
    done, engine = await replied(stop_reason="refusal", content=[], stop_details=details)
    assert (done.text, done.finish_reason) == ("", "refusal")
    assert any("category cyber" in event for event in engine.stats()["events"])


async def test_counts_that_cannot_be_are_estimated_with_an_event() -> None:
    for usage in (None, {"output_tokens": 5}, {"input_tokens": -4, "output_tokens": 5}, {"input_tokens": "9"}):
        done, engine = await replied(usage=usage)
        assert done.prompt_tokens > 0
        assert engine.stats()["events"]


async def test_overload_and_limits_are_retried_and_what_is_too_large_is_not() -> None:
    async with MessagesServer(faults=[LIMITED, OVERLOADED]) as server:
        [done], _ = await ask(server)
        assert done.text
        assert len(server.bodies) == 3
        server.faults = [TOO_LARGE]
        with pytest.raises(RequestRefused, match="maximum size"):
            await ask(server)
        assert len(server.bodies) == 4


async def test_a_wrong_key_is_access_denied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESSAGES_KEY", "wrong-key")
    async with MessagesServer() as server:
        with pytest.raises(AccessDenied) as raised:
            await ask(server)
    assert "wrong-key" not in str(raised.value)


async def test_a_prefix_is_continued_and_a_model_without_prefill_says_so() -> None:
    prefixed = Request((USER, Message("assistant", "Well,")), SAMPLING, seed=1)
    async with MessagesServer() as server:
        [done], _ = await ask(server, prefixed)
        assert done.text
        assert server.bodies[-1]["messages"][-1] == {"role": "assistant", "content": "Well,"}
    async with MessagesServer(strict=True) as server:
        with pytest.raises(RequestRefused, match="does not support assistant message prefill"):
            await ask(server, prefixed)


async def test_what_must_not_go_together_is_left_out_once_and_told() -> None:
    both = Request((USER,), Sampling(temperature=0.5, top_p=0.9, max_tokens=5000), seed=1)
    async with MessagesServer(strict=True) as server:
        dones, engine = await ask(server, both, both)
        assert [done.unsent for done in dones] == [("seed", "top_p")] * 2
        assert server.bodies[-1]["max_tokens"] == 4096
        assert sum(server.refusals.values()) == 2
        assert "top_p is not sent" in engine.describe()["sent"]
        thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
        [done], _ = await ask(server, ASK, extra_body=thinking)
        assert done.unsent == ("seed", "temperature")
        await ask(server, ASK, reasoning="off")
        assert server.bodies[-1]["thinking"] == {"type": "disabled"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"chat_template_kwargs": {"enable_thinking": False}}, "extra_body.thinking"),
        ({"cache_salt": "x"}, "cache_salt"),
        ({"omit": ("max_tokens",)}, "max_tokens"),
        ({"extra_body": {"seed": 1}}, "extra_body.seed"),
        ({"reasoning": "off", "extra_body": {"thinking": {"type": "enabled"}}}, "keep one"),
    ],
)
def test_settings_that_the_api_lacks_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        section("http://127.0.0.1:1/v1", **fields)


async def test_labels_are_not_asked_of_it() -> None:
    async with MessagesServer() as server:
        with pytest.raises(RequestRefused, match="no log-probabilities") as raised:
            await ask(server, Request((USER,), SAMPLING, seed=1, choices=("A", "B")))
        assert raised.value.no_logprobs
        assert not server.bodies


RECIPE = """
name = "messages"
constitution = "general@1.0.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "openai"
model = "fake"
base_url = "{url}"
{more}
[revise]
rounds = 1
exemplars = 2
[judge]
principles = 1
method = "{method}"
[output]
window = 8
flush_seconds = 0.05
"""


def project(folder: Path, url: str, more: str, method: str = "verdict") -> Path:
    return small_project(folder, 6, RECIPE.format(url=url, more=more, method=method))


async def rows(path: Path) -> list[list[Any]]:
    run = await run_once(path, path.parent / "warehouse", [])
    assert run.counts["open"] == 0
    answers = "SELECT prompt_id, parent_id IS NULL, text, critique, reasoning, outcome FROM responses ORDER BY ALL"
    votes = "SELECT prompt_id, principle_id, repeat, read_first, p_first, rationale FROM judgements ORDER BY ALL"
    return [table(path.parent / "warehouse", query) for query in (answers, votes)]


async def test_a_run_has_the_rows_of_one_over_chat_completions(tmp_path: Path) -> None:
    async with FakeServer() as server:
        plain = await rows(project(tmp_path / "chat", server.base_url, 'omit = ["seed"]\ndialect = "openai"'))
    faults = [OVERLOADED, LIMITED, OVERLOADED]
    more = 'dialect = "anthropic"\napi_key_env = "MESSAGES_KEY"'
    async with MessagesServer(faults=faults) as server:
        assert await rows(project(tmp_path / "messages", server.base_url, more)) == plain
        assert all(plain)
        assert not server.faults


async def test_a_judge_by_labels_is_refused_at_the_start_with_the_setting_to_change(tmp_path: Path) -> None:
    more = 'dialect = "anthropic"\napi_key_env = "MESSAGES_KEY"'
    async with MessagesServer() as server:
        path = project(tmp_path / "labels", server.base_url, more, method="label")
        with pytest.raises(RecipeError, match="reads log-probabilities") as raised:
            await run_once(path, tmp_path / "warehouse", [])
        assert raised.value.hint == 'set judge.method = "verdict"'
        assert not server.bodies
