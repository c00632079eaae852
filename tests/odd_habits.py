"""Further habits of servers: what stands beside an answer, and what shows that a server is set up wrongly."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from odd_modes import CUT, Mode, stopped
from odd_server import Body, Odd, Reply, Seen, refusal, sound


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
HABITS: dict[str, Mode] = {
    "o-series: no log-probabilities": Mode(
        lambda body, nth: refusal(
            "Unsupported parameter: 'logprobs' is not supported with this model.",
            param="logprobs", code="unsupported_parameter",
        ) if body.get("logprobs") else None,
        lambda role: stopped(role, "RequestRefused"),
        why='set judge.method = "verdict"',
        roles=("judge",),
    ),
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
