"""Replies by chance: a sound one with anything in any place of it. No text, vote or count comes of one that the reply
does not say, and nothing that is not an error of ours."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
from aiohttp import web
from conftest import Torture
from odd_replies import OddServer, reply
from test_odd_replies import ASK, VOTE

from constitution.engines import Metered
from constitution.engines.base import FINISH_REASONS, SLACK, Completion, Request
from constitution.engines.openai import endpoint as _endpoint
from constitution.engines.openai import fleet as _fleet
from constitution.engines.openai.engine import OpenAIEngine
from constitution.engines.openai.reply import FINISHED
from constitution.errors import EngineError, MalformedReply
from constitution.judge.read import read_choices
from constitution.recipe import OpenAIModel

COUNTS: tuple[Any, ...] = (
    0,
    1,
    3,
    100,
    2**23,
    2**24,
    2**63,
    -1,
    -(2**40),
    1.0,
    0.5,
    1e300,
    True,
    False,
    "7",
    None,
    [3],
    {},
)
NUMBERS: tuple[Any, ...] = (0.0, -0.0, -0.1, -0.7, -1.6, -5.0, -9999.0, -1e308, 1e-4, 0.5, 40, math.nan,
           math.inf, -math.inf,
           True, False, "-0.3", None, [-0.3], 10**400, -(10**400))  # fmt: skip
TEXTS: tuple[Any, ...] = ("", " ", "right", "A", "B", " A", "a\0b", "\ud83d", "x\ud83d", "\ufffd", "a \ufffd b",
    "<think>\nhm\n</think>\n\nyes", "hm</think>yes", "<think>hm", "é🙂", "\u2028", "[]", None, 3, True, ["A"], {},
    [{"type": "text", "text": "right"}], [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "yes"}],
    [{"type": "image"}], [None])  # fmt: skip
REASONS = (
    *(word for words in FINISHED.values() for word in words),
    "STOP",
    "MAX_TOKENS",
    None,
    "",
    "abort",
    1,
    ["stop"],
)
ANY = (*COUNTS, *NUMBERS, *TEXTS, [[]], {"a": {"b": []}}, "x" * 10_000)
FIELDS: dict[str, Sequence[Any]] = {
    "prompt_tokens": COUNTS, "completion_tokens": COUNTS, "total_tokens": COUNTS, "cached_tokens": COUNTS,
    "reasoning_tokens": COUNTS, "logprob": NUMBERS, "token": ("A", "B", " A", "w1", "", "\ud83d", None, 1),
    "bytes": ([65], [66], [32, 65], [], None, "A", [65.0], [-1], [[65]]), "content": TEXTS, "refusal": TEXTS,
    "reasoning": TEXTS, "reasoning_content": TEXTS, "finish_reason": REASONS,
    "index": (0, 1, -1, None, False, 0.0, "0", 2**70), "model": ("m", "other", "", None, 3, "m" * 5000, "\ud83d"),
    "prompt_tokens_details": ({"cached_tokens": 7}, {"cached_tokens": 500}, None, [], 3),
    "completion_tokens_details": ({"reasoning_tokens": 1}, {"reasoning_tokens": 9**9}, None, "x"),
    "tool_calls": ([{"id": "1"}], [], None, "x"), "role": ("assistant", "tool", None, 1),
    "error": ("x", {"message": "x"}, {"code": 429}, {"code": 400, "message": "no"}, {"code": "x", "type": []}, None, 0),
    "top_logprobs": ([], None, [None], "x", [{"token": "A", "logprob": 0.0}], [{"token": "A", "logprob": -3.0}]),
    "logprobs": (None, [], {}, {"content": None}, {"content": [{}]}, {"content": "x"}),
    "choices": ([], None, "x", [None], [[]], [{}]), "message": (None, {}, [], "x", {"content": None}),
    "usage": (None, {}, [], "x", 3, {"prompt_tokens": 3}),
    "reasoning_details": ([{"type": "x", "text": "hm"}], [3], {}),
}  # fmt: skip
"""What a field may be, beside anything."""
ROOTS: tuple[Any, ...] = (None, [], "x", 3, {}, {"error": None}, {"choices": [{}]})


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every object or list with a key or number in it."""
    inner = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    return [found for key, each in inner for found in ((value, key), *places(each))]


def mutate(draw: random.Random, sound: dict[str, Any]) -> Any:
    """Another reply, which may be as sound."""
    if draw.random() < 0.03:
        return draw.choice(ROOTS)
    for _ in range(draw.choice((0, 1, 1, 1, 2, 2, 3))):
        found = places(sound)
        # The lists of tokens are long: they would have nearly all of it.
        rare = [place for place in found if not (isinstance(place[0], dict) and "logprob" in place[0])]
        if not (found := draw.choice((found, rare))):
            break
        holder, key = draw.choice(found)
        how = draw.random()
        if how < 0.55:
            holder[key] = draw.choice(FIELDS.get(key, ANY) if draw.random() < 0.8 else ANY)
        elif how < 0.65:
            del holder[key]
        elif how < 0.75 and isinstance(holder, list):
            holder.insert(draw.randint(0, len(holder)), json.loads(json.dumps(holder[key])))
        elif isinstance(holder, dict):
            name = draw.choice(list(FIELDS))
            holder[name] = draw.choice(FIELDS[name])
    return sound


def spoil(draw: random.Random, data: bytes) -> bytes:
    """A few bytes that are others."""
    made = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(made))
        how = draw.random()
        made[at : at + draw.choice((0, 1, 1, 20))] = draw.choice((b"\xff", b"\xc3", b"\xed\xa0\x80", b"\0", b'"', b"9"))
        if how < 0.1:
            del made[at:]
        if not made:
            break
    return bytes(made)


class Chance(OddServer):
    """The n-th reply is changed as the seed and n say; `told` are their bytes in the order in which they were sent."""

    def __init__(self, seed: str, share: float = 1.0) -> None:
        super().__init__()
        self._seed, self.share = seed, share
        self.told: list[bytes] = []

    async def _chat(self, request: web.Request) -> web.Response:
        draw = random.Random(f"{self._seed}/{len(self.told)}")
        body = await request.json()
        told: Any = reply(f"right {len(self.told)}", bool(body.get("logprobs")))
        if draw.random() < self.share:
            told = mutate(draw, told)
        data = json.dumps(told).encode()
        if draw.random() < 0.1 * self.share:
            data = spoil(draw, data)
        self.told.append(data)
        return web.Response(body=data, content_type="application/json")


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fleet, "BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(_fleet, "PROBE_MOST", 0.01)
    monkeypatch.setattr(_endpoint, "FIRST_PROBE_SECONDS", 0.001)


def first(told: Any) -> dict[str, Any]:
    """The choice that counts, by the rules of docs/reliability.md and no code of ours."""
    choices = told["choices"]
    if len(choices) == 1 and choices[0].get("index") is None:
        return dict(choices[0])
    [only] = [each for each in choices if type(each["index"]) is int and each["index"] == 0]
    return dict(only)


def texts_of(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for key, each in value.items() if key != "type" for text in texts_of(each)]
    inner = value if isinstance(value, list) else ()
    return [text for each in inner for text in texts_of(each)]


def is_count(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < 2**24 and value == int(value)


def check_counts(told: Any, done: Completion, request: Request) -> None:
    """Each count is the reply's, where that can be one, or an estimate by the texts."""
    usage = told.get("usage") if isinstance(told.get("usage"), dict) else {}
    asked = -(-sum(len(message.content.encode()) for message in request.messages) // 4)
    prompt = usage.get("prompt_tokens")
    assert done.prompt_tokens == (prompt if is_count(prompt) and prompt else asked)
    said: Any = usage.get("completion_tokens")
    details = usage.get("completion_tokens_details")
    thought: Any = details.get("reasoning_tokens") if isinstance(details, dict) else 0
    allowed = {said} if is_count(said) else set()
    if is_count(said) and is_count(thought):
        allowed.add(said + thought)  # by gateways that leave the reasoning out
    whole = len((done.text + (done.reasoning or "")).encode(errors="replace"))
    assert done.completion_tokens in allowed or done.completion_tokens <= whole // 4 + 2
    cached = usage.get("prompt_tokens_details")
    cached = cached.get("cached_tokens") if isinstance(cached, dict) else 0
    assert done.cached_tokens in ((0, cached) if is_count(cached) else (0,))
    assert 0 <= done.cached_tokens <= done.prompt_tokens
    assert 0 <= done.reasoning_tokens <= done.completion_tokens


def check_text(told: Any, done: Completion) -> None:
    message = first(told)["message"]
    assert done.finish_reason in FINISH_REASONS
    reason = first(told)["finish_reason"].casefold()
    spoke = {"refusal": message.get("refusal"), "tool_calls": message.get("tool_calls")}.get(done.finish_reason)
    assert spoke or reason in FINISHED[done.finish_reason]
    if done.choice_logprobs is None:  # of a vote no text is kept
        assert "\0" not in done.text + (done.reasoning or "")
        (done.text + (done.reasoning or "")).encode()
    spoken = texts_of(message.get("content")) + texts_of(message.get("refusal"))
    assert not done.text or any(done.text in text for text in (*spoken, "".join(spoken)))
    assert not done.reasoning or any(part.strip() in text for text in texts_of(message)
                                     for part in done.reasoning.split("\n\n"))  # fmt: skip


def check_vote(told: Any, done: Completion) -> None:
    """A vote is read from numbers that a distribution can have, each of them the reply's own."""
    assert done.choice_logprobs is not None
    listed = first(told)["logprobs"]["content"][0]["top_logprobs"]
    assert all(type(entry["logprob"]) in (int, float) and entry["logprob"] <= SLACK for entry in listed)
    for label, value in done.choice_logprobs.items():
        assert value in [min(entry["logprob"], 0.0) for entry in listed if entry["token"] == label]
    distinct = {
        (entry["token"], str(entry["bytes"]) if isinstance(entry.get("bytes"), list) else "", min(entry["logprob"], 0))
        for entry in listed
    }
    assert math.fsum(math.exp(value) for *_, value in distinct) <= 1 + 2 * SLACK
    try:
        reading = read_choices(done, ("A", "B"))
    except MalformedReply:
        return
    assert all(0 <= p <= 1 for p in reading.found)
    assert 0 < reading.mass <= 1
    assert reading.censored == (len(done.choice_logprobs) < 2)


@pytest.mark.parametrize("request_", [ASK, VOTE], ids=["answer", "vote"])
async def test_a_reply_with_anything_in_it(request_: Request, torture: Torture) -> None:
    server = Chance(f"{torture.seed}/replies/{bool(request_.choices)}")
    read = 0
    async with server:
        section = OpenAIModel(engine="openai", model="m", base_url=server.base_url, retries=0, timeout_s=0.5)
        engine = Metered(await OpenAIEngine.open(section))
        for _ in range(3_000 if torture.full else 200):
            told = len(server.told)
            try:
                done = await engine.generate(request_)
            except EngineError:  # any other ends the test
                continue
            assert len(server.told) == told + 1
            said = json.loads(server.told[-1])
            check_text(said, done)
            check_counts(said, done, request_)
            if request_.choices:
                check_vote(said, done)
            read += 1
        stats = dict(engine.stats())
        await engine.close()
    assert 0.2 < read / len(server.told) < 0.95  # else these are not what they should be
    assert all(isinstance(event, str) for event in stats["events"])
    assert sum(stats["served_models"].values()) <= len(server.told)
    torture.count("replies by chance", len(server.told))
