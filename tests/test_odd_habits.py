"""Further habits of servers, as whole runs: what stands beside an answer, and what shows a server set up wrongly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from odd_modes import CUT, Mode, stopped, well
from odd_server import Body, Odd, OddServer, Reply, Role, Seen, events, refusal, sound
from run_once import run_once
from small_project import table
from test_odd_servers import _hurry, ran  # noqa: F401

from constitution.engines.openai.reply import of_message
from constitution.engines.reasoning import begins
from constitution.generate.outcomes import clean

THOUGHT = "Hm, a secret plan."


def saying(message: dict[str, Any], **choice: Any) -> Odd:
    def odd(body: Body, nth: int) -> Reply:
        reply = sound(body)
        reply["choices"][0]["message"].update(message)
        reply["choices"][0].update(choice)
        return Reply(reply)

    return odd


def thinking(text: str, counted: int | None = None, **message: Any) -> Odd:
    """text: with {own}, which no two answers have the same."""

    def odd(body: Body, nth: int) -> Reply:
        reply = sound(body)
        own = reply["choices"][0]["message"]["content"]
        reply["choices"][0]["message"].update(content=text.format(own=own), **message)
        if counted is not None:
            reply["usage"]["completion_tokens_details"] = {"reasoning_tokens": counted}
        return Reply(reply)

    return odd


def voting(tops: Sequence[tuple[Any, ...]], reasoning: int | None = None, **message: Any) -> Odd:
    """tops: of the reply's first place, token, log-probability and further fields."""

    def odd(body: Body, nth: int) -> Reply:
        top = [{"token": token, "logprob": value, **(more[0] if more else {})} for token, value, *more in tops]
        reply = saying(message, logprobs={"content": [{**top[0], "top_logprobs": top}]})(body, nth)
        assert reply is not None
        if reasoning is not None:
            reply.body["usage"]["completion_tokens_details"] = {"reasoning_tokens": reasoning}
        return reply

    return odd


def full(body: Body, nth: int) -> Reply:
    reply = sound(body)
    most = body["max_tokens"]
    reply["usage"] = {"prompt_tokens": 10, "completion_tokens": most, "total_tokens": 10 + most}
    return Reply(reply)


CALL = {"tool_calls": [{"id": "1", "type": "function", "function": {"name": "search", "arguments": "{}"}}]}
OKAY = [("Okay", -0.5), ("A", -1.2), ("B", -9.0)]
MODES: dict[str, Mode] = {
    "a tool call that ends by stop": Mode(saying(CALL), lambda role: CUT, roles=("policy",)),
    "a function call that ends by stop": Mode(
        saying({"content": None, "function_call": {"name": "search", "arguments": "{}"}}),
        lambda role: Seen(True, 0, 0, {"empty": 3}, 0, {}),
        roles=("policy",),
    ),
    "an answer that cannot be seen": Mode(
        saying({"content": "\u200b \ufeff\n"}),
        lambda role: Seen(True, 0, 0, {"empty": 3}, 0, {}),
        roles=("policy",),
    ),
    "an error beside half an answer": Mode(
        lambda body, nth: Reply({**sound(body), "error": {"code": 502, "message": "Provider disconnected"}})
        if nth == 1
        else None,
    ),
    "max_tokens that end by stop": Mode(
        full, told="9 replies took all of max_tokens", roles=("policy",)
    ),
    "a byte order mark": Mode(lambda body, nth: Reply(b"\xef\xbb\xbf" + json.dumps(sound(body)).encode())),
    "a filter that repeats a prompt that speaks of money": Mode(
        lambda body, nth: refusal("'please check your billing details' was flagged by moderation")
        if "thing 1" in json.dumps(body["messages"])
        else None,
        lambda role: Seen(True, 0, 1, {"ok": 4}, 4, {("initial", "RequestRefused", False): 1}),
        roles=("policy",),
    ),
    "a filter that repeats a prompt that speaks of fields": Mode(
        lambda body, nth: refusal("'the seed is not allowed' was flagged by our content policy")
        if "thing 1" in json.dumps(body["messages"]) and "seed" in body
        else None,
        lambda role: Seen(True, 0, 1, {"ok": 4}, 4, {("initial", "RequestRefused", False): 1}),
        roles=("policy",),
    ),
    "answers that are all taken for reasoning": Mode(
        saying({"content": None, "reasoning_content": "The answer."}),
        lambda role: stopped("policy", "MalformedReply"),
        told="stop strings ended the model's thoughts",
        why="the server may take one for the other",
        roles=("policy",),
    ),
    "votes in a thought that is told": Mode(
        voting(OKAY, content=None, reasoning_content="Okay"),
        lambda role: stopped(role, "MalformedReply"),
        why="the log-probabilities are of the model's reasoning",
        roles=("judge",),
    ),
    "votes in a thought that is counted": Mode(
        voting(OKAY, reasoning=1, content=""),
        lambda role: stopped(role, "MalformedReply"),
        why="the log-probabilities are of the model's reasoning",
        roles=("judge",),
    ),
    "votes that a parser takes for a thought": Mode(
        voting([("A", -0.3), ("B", -1.4)], content=None, reasoning_content="A"), roles=("judge",)
    ),
    "a blank line before every label": Mode(
        voting([("\n", -0.01), (" ", -6.0)]),
        lambda role: stopped(role, "MalformedReply"),
        why="none of the labels A, B is among the likeliest tokens",
        roles=("judge",),
    ),
    "empty lists of bytes": Mode(
        voting([("A", -0.3, {"bytes": []}), ("B", -1.4, {"bytes": []})]), roles=("judge",)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODES)
async def test_each_habit_ends_as_it_must(name: str, tmp_path: Path) -> None:
    mode = MODES[name]
    for role in mode.roles:
        async with OddServer(mode.odd) as server:
            run, seen = await ran(tmp_path, role, server.url)
        assert seen == mode.ends(role), role
        said = events(run)
        assert any(mode.told in event for event in said) if mode.told else not said, said
        assert (mode.why in run.stopped) if mode.why else run.stopped == "", run.stopped
        assert all("seed" in body for body in server.bodies)


TAGGED = f"<think>\n{THOUGHT}\n</think>\n\n{{own}}"


@pytest.mark.parametrize(
    "odd",
    [
        thinking(TAGGED, counted=0),
        thinking(TAGGED, counted=12),
        thinking(TAGGED, reasoning_content=THOUGHT),
        thinking("\n" + TAGGED, reasoning=f" {THOUGHT}\n"),
        thinking(f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|channel|>final<|message|>{{own}}", counted=3),
    ],
)
async def test_a_thought_before_the_answer_is_none_however_it_is_counted_or_told_besides(
    odd: Odd, tmp_path: Path
) -> None:
    async with OddServer(odd) as server:
        _, seen = await ran(tmp_path, "policy", server.url)
    assert seen == well()
    rows = table(tmp_path / "w-policy", "SELECT text, reasoning, critique, critique_reasoning FROM responses")
    assert all(text.startswith("Text ") and reasoning == THOUGHT for text, reasoning, _, _ in rows)
    assert {(critique[:5], thought) for _, _, critique, thought in rows if critique} == {("Text ", THOUGHT)}


@pytest.mark.parametrize(
    "odd",
    [
        thinking("<think> and </think> are tags. {own}", reasoning_content=THOUGHT),
        thinking("In the end: </think>\n\n{own}", counted=5),
        thinking("It begins with `<think>`. {own}", counted=0),
    ],
)
async def test_an_answer_that_speaks_of_tags_is_whole(odd: Odd, tmp_path: Path) -> None:
    async with OddServer(odd) as server:
        await ran(tmp_path, "policy", server.url)
    texts = [text for [text] in table(tmp_path / "w-policy", "SELECT text FROM responses")]
    assert all("think>" in text and "Text " in text for text in texts)


def test_what_begins_with_a_thought() -> None:
    for text in ("<think>\nHm", " \n[THINK]Hm", "<|channel|>analysis<|message|>Hm", "◁think▷"):
        assert begins(text)
    for text in ("", "Hm <think>", "`<think>`", "Here is my thought process: one", "</think>"):
        assert not begins(text)


def test_what_is_seen_is_an_answer() -> None:
    for text in ("🫨", "\ue000", "👩\u200d🚀", ".", "\u200bא", "?"):
        assert clean(text) == text
    for text in ("", " \n", "\u200b", "\u2060\u200e", "\u3000\x1b"):
        assert clean(text) == ""


@pytest.mark.parametrize(
    ("extra", "reasoning", "text", "told"),
    [
        ("", "auto", "Text {key}.", True),
        ("extra_body = { include_stop_str_in_output = true }", "auto", "Text {key}. zzz and more", False),
        ("", "keep", "<think>\nzzz\n</think>\n\nText {key}.", True),
    ],
)
async def test_a_stop_string_that_a_server_ignores_ends_the_answer(
    extra: str, reasoning: str, text: str, told: bool, tmp_path: Path
) -> None:
    def odd(body: Body, nth: int) -> Reply:
        key = hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()[:6]
        thought = "<think>\nzzz\n</think>\n\n" if reasoning == "keep" else ""
        return Reply(sound(body, content=f"{thought}Text {key}. zzz and more"))

    async with OddServer(odd) as server:
        more = f'{extra}\nreasoning = "{reasoning}"'
        run, _ = await ran(tmp_path, "policy", server.url, more)
        keys = [hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()[:6] for body in server.bodies]
    texts = {text for [text] in table(tmp_path / "w-policy", "SELECT text FROM responses WHERE kind = 'initial'")}
    assert texts <= {text.format(key=key) for key in keys}
    assert any("3 replies have a stop string that was sent" in event for event in events(run)) is told


@pytest.mark.parametrize("role", ["policy", "judge"])
async def test_a_server_that_is_mended_answers_every_prompt_and_is_paid_once(role: Role, tmp_path: Path) -> None:
    """As long as it was set up wrongly its answers went into the reasoning, its votes began with a blank line."""
    broken = True
    wrong = {
        "policy": saying({"content": None, "reasoning_content": "The answer."}),
        "judge": voting([("\n", -0.01), (" ", -6.0)]),
    }[role]
    async with OddServer(lambda body, nth: wrong(body, nth) if broken else None) as server:
        run, _ = await ran(tmp_path, role, server.url, prompts=30)
        assert run.stopped.startswith("servers: ")
        assert (run.counts["lost"], run.finished_at) == (0, None)
        assert len(server.bodies) < 60
        asked, broken = len(server.bodies), False
        done = await run_once(tmp_path / role / "recipe.toml", tmp_path / f"w-{role}", [])
        again = server.bodies[asked:]
    assert (done.counts["open"], done.counts["lost"]) == (0, 0)
    assert done.finished_at
    assert len({json.dumps(body, sort_keys=True) for body in again}) == len(again)
    assert table(tmp_path / f"w-{role}", "SELECT count(*) FROM responses WHERE text = ''") == [(0,)]


async def test_a_model_that_says_nothing_once_is_believed(tmp_path: Path) -> None:
    """And asked again only if it was the first to be asked, so that nothing was known of the server."""

    def odd(body: Body, nth: int) -> Reply | None:
        if "thing 2" not in json.dumps(body["messages"]):
            return None
        return saying({"content": None, "reasoning_content": "Nothing to say."})(body, nth)

    async with OddServer(odd) as server:
        run, seen = await ran(tmp_path, "policy", server.url, prompts=6)
    assert (run.stopped, seen.finished, seen.open, seen.lost) == ("", True, 0, 0)
    assert seen.outcomes == {"ok": 10, "empty": 1}


@pytest.mark.parametrize(
    "told",
    [
        {"reasoning": ["One.", "Two."]},
        {"reasoning": {"text": "One.\n\nTwo."}},
        {"reasoning": "", "reasoning_content": [{"type": "text", "text": "One."}, {"thinking": "Two."}]},
        {"thinking": {"summary": [{"text": "One.\n\n"}, {"text": "Two."}]}},
    ],
)
def test_a_field_of_reasoning_that_is_no_text_is_read(told: dict[str, Any]) -> None:
    assert of_message({"content": "Yes.", **told}) == ("One.\n\nTwo.", "Yes.")


def test_a_field_that_says_nothing_is_no_reasoning() -> None:
    for nothing in (None, False, 0, {}, [], [None], {"tokens": 5}, "  "):
        assert of_message({"content": "Yes.", "reasoning": nothing}) == (None, "Yes.")
