"""Habits of real servers (vLLM, SGLang, llama.cpp, Ollama, TGI, gateways, vendors), and how a run must end at each."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from odd_server import Body, Odd, Reply, Role, Seen, refusal, sound


def well(votes: int = 6, **outcomes: int) -> Seen:
    return Seen(True, 0, 0, outcomes or {"ok": 6}, votes, {})


def stopped(role: Role, error: str) -> Seen:
    """Nothing is made by the server, and all prompts are open."""
    if role == "policy":
        return Seen(False, 3, 0, {}, 0, {("initial", error, True): 3})
    return Seen(False, 3, 0, {"ok": 6}, 0, {("vote", error, True): 6})


@dataclass(frozen=True)
class Mode:
    """A habit of real servers."""

    odd: Odd
    ends: Callable[[Role], Seen] = lambda role: well()
    told: str = ""
    """In an event; empty: there is none."""
    why: str = ""
    """In `Run.stopped`; empty: it did not stop."""
    sent: Callable[[Body], bool] = lambda body: True
    """Holds of the last request of each step."""
    record: str = ""
    """What the run's record says of the model."""
    roles: Sequence[Role] = ("policy", "judge")

    def role(self, number: int) -> Role:
        """As whom the server is tried: as both at once; where it stops the run, as one or the other by the number."""
        if len(self.roles) == 1:
            return self.roles[0]
        return self.roles[number % 2] if self.why else "both"


def refuses(field: str, words: str, status: int = 400, **more: Any) -> Odd:
    return lambda body, nth: refusal(words, status, **more) if field in body else None


def with_top(most: int, words: str, status: int = 400, **more: Any) -> Odd:
    return lambda body, nth: refusal(words, status, **more) if body.get("top_logprobs", 0) > most else None


def roles_of(body: Body) -> list[str]:
    return [message["role"] for message in body["messages"]]


def merged(body: Body) -> bool:
    roles = roles_of(body)
    return all(role != after for role, after in pairwise(roles))


def folded(body: Body) -> bool:
    return "system" not in roles_of(body) and merged(body)


def context(limit: int, words: str, status: int = 400, **more: Any) -> Odd:
    """words: with {limit}, {prompt}, {asked}, {total}."""

    def odd(body: Body, nth: int) -> Reply | None:
        prompt = sum(len(message["content"]) for message in body["messages"]) // 4 + 8
        asked = body["max_tokens"]
        if prompt + asked <= limit:
            reply = sound(body)
            reply["choices"][0]["finish_reason"] = "length" if asked < 900 and asked > 1 else "stop"
            return Reply(reply)
        said = words.format(limit=limit, prompt=prompt, asked=asked, total=prompt + asked)
        numbers = {name: prompt if value == "prompt" else limit for name, value in more.items()}
        return refusal(said, status, **numbers)

    return odd


def always(reply: Reply) -> Odd:
    return lambda body, nth: reply


def first(reply: Reply) -> Odd:
    """On the first try of each request."""
    return lambda body, nth: reply if nth == 1 else None


def error_200(**error: Any) -> Reply:
    return Reply({"error": error})


def raw(make: Callable[[bytes], bytes], **headers: str) -> Odd:
    shown = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda body, nth: Reply(make(json.dumps(sound(body)).encode()), headers=shown)


def forbidden(field: str) -> dict[str, Any]:
    return {"detail": [{"type": "extra_forbidden", "loc": ["body", field], "msg": "Extra inputs are not permitted"}]}


ROLES = 'roles must alternate between "user" and "assistant", but found multiple "user" roles in a row'
UNKNOWN_SEED = 'Invalid JSON payload received. Unknown name "seed": Cannot find field.'
CUT = Seen(True, 0, 0, {"cut": 6}, 6, {})
MODES: dict[str, Mode] = {
    # --- fields
    "o-series: temperature": Mode(
        lambda body, nth: refusal(
            "Unsupported value: 'temperature' does not support 0.7 with this model. Only the default (1) value is "
            "supported.",
            param="temperature",
            code="unsupported_value",
        )
        if body.get("temperature", 1) != 1
        else None,
        told="temperature is not sent: the server's own is used",
        sent=lambda body: "temperature" not in body,
        record="temperature is not sent: the server's own is used, which rows give as 1",
        roles=("policy",),
    ),
    "o-series: max_tokens": Mode(
        refuses(
            "max_tokens",
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'.",
            param="max_tokens",
            code="unsupported_parameter",
        ),
        told="max_completion_tokens is sent for max_tokens",
        sent=lambda body: "max_completion_tokens" in body and "max_tokens" not in body,
        record="max_completion_tokens is sent for max_tokens",
    ),
    "gemini: seed": Mode(
        lambda body, nth: Reply(
            [{"error": {"code": 400, "message": UNKNOWN_SEED, "status": "INVALID_ARGUMENT"}}], 400
        )
        if "seed" in body
        else None,
        told="seed is not sent, so that no answer can be made again by its seed",
        sent=lambda body: "seed" not in body,
        record="seed is not sent, so that no answer can be made again by its seed, and rows have none",
    ),
    "mistral: seed, 422": Mode(
        lambda body, nth: Reply({"object": "error", "message": forbidden("seed")}, 422) if "seed" in body else None,
        told="seed is not sent",
        sent=lambda body: "seed" not in body,
        record="seed is not sent, so that no answer can be made again by its seed, and rows have none",
    ),
    "fastapi: two fields, one after the other": Mode(
        lambda body, nth: Reply(forbidden("seed"), 422)
        if "seed" in body
        else Reply(forbidden("max_tokens"), 422)
        if "max_tokens" in body
        else None,
        told="max_completion_tokens is sent for max_tokens",
        sent=lambda body: "seed" not in body and "max_completion_tokens" in body,
        record="seed is not sent, so that no answer can be made again by its seed, and rows have none; "
        "max_completion_tokens is sent for max_tokens",
    ),
    "anthropic: temperature and top_p": Mode(
        lambda body, nth: refusal(
            "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
        )
        if {"temperature", "top_p"} <= body.keys()
        else None,
        told="top_p is not sent: the server's own is used",
        sent=lambda body: "top_p" not in body and "temperature" in body,
        record="top_p is not sent: the server's own is used, which rows give as 1",
    ),
    "o-series: stop": Mode(
        lambda body, nth: refusal("Unsupported parameter: 'stop' is not supported with this model.", param="stop")
        if "stop" in body
        else Reply(sound(body, content=f"Text {body['seed']}. zzz and more")),
        told="stop is not sent, and texts are cut where it would have ended them",
        record="stop is not sent, and texts are cut where it would have ended them",
        roles=("policy",),
    ),
    "vllm: top_logprobs": Mode(
        with_top(3, "Requested sample logprobs of 20, which is greater than max allowed: 3"),
        told="top_logprobs is at most 3",
        sent=lambda body: body["top_logprobs"] == 3,
        record="top_logprobs is at most 3",
        roles=("judge",),
    ),
    "pydantic: top_logprobs": Mode(
        with_top(5, "Input should be less than or equal to 5", 422, param="top_logprobs"),
        told="top_logprobs is at most 5",
        sent=lambda body: body["top_logprobs"] == 5,
        record="top_logprobs is at most 5",
        roles=("judge",),
    ),
    "gemini: logprobs": Mode(
        lambda body, nth: refusal("Logprobs is not enabled for models/gemini-2.5-pro") if "logprobs" in body else None,
        lambda role: stopped(role, "RequestRefused"),
        why="servers: judge refused the step vote to all it was asked for (3 prompts): ",
        roles=("judge",),
    ),
    "deepseek: max_tokens has a greatest value": Mode(
        lambda body, nth: refusal("Invalid max_tokens value, the valid range of max_tokens is [1, 512]")
        if body["max_tokens"] > 512
        else None,
        told="max_tokens is at most 512",
        sent=lambda body: body["max_tokens"] == 512,
        record="max_tokens is at most 512",
        roles=("policy",),
    ),
    "a value that is wrong": Mode(
        lambda body, nth: refusal("temperature must be between 0 and 0.5") if body["temperature"] > 0.5 else None,
        lambda role: stopped(role, "RequestRefused"),
        why="HTTP 400: temperature must be between 0 and 0.5",
    ),
    # --- turns
    "anthropic: neighbours": Mode(
        lambda body, nth: None if merged(body) else refusal(f"messages: {ROLES}"),
        told="neighbouring turns of one role are merged, ",
        sent=merged,
        record="neighbouring turns of one role are merged",
        roles=("policy",),
    ),
    "gemma: system": Mode(
        lambda body, nth: None if folded(body) else refusal("System role not supported"),
        told="system turns put into the user's",
        sent=folded,
        record="neighbouring turns of one role are merged, and system turns put into the user's",
        roles=("policy",),
    ),
    "o1: system": Mode(
        lambda body, nth: refusal(
            "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
            param="messages[0].role",
            code="unsupported_value",
        )
        if "system" in roles_of(body)
        else None,
        told="system turns put into the user's",
        sent=folded,
        record="neighbouring turns of one role are merged, and system turns put into the user's",
        roles=("policy",),
    ),
    "llama.cpp: turns, 500": Mode(
        lambda body, nth: None
        if folded(body)
        else Reply(
            {"error": {"code": 500, "message": "Jinja Exception: Conversation roles must alternate user/assistant/…",
                       "type": "server_error"}},
            500,
        ),
        told="system turns put into the user's",
        sent=folded,
        record="neighbouring turns of one role are merged, and system turns put into the user's",
        roles=("policy",),
    ),
    # --- context
    "vllm: room": Mode(
        context(800, "'max_tokens' or 'max_completion_tokens' is too large: {asked}. This model's maximum context "
                     "length is {limit} tokens and your request has {prompt} input tokens."),
        lambda role: CUT,
        told="requests had fewer tokens left in the context than max_tokens",
        roles=("policy",),
    ),
    "sglang: room": Mode(
        context(800, "Requested token count exceeds the model's maximum context length of {limit} tokens. You "
                     "requested a total of {total} tokens: {prompt} tokens from the input messages and {asked} tokens "
                     "for the completion."),
        lambda role: CUT,
        told="requests had fewer tokens left in the context than max_tokens",
        roles=("policy",),
    ),
    "tgi: room, 422": Mode(
        context(800, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= {limit}. Given: {prompt} "
                     "`inputs` tokens and {asked} `max_new_tokens`", 422),
        lambda role: CUT,
        told="requests had fewer tokens left in the context than max_tokens",
        roles=("policy",),
    ),
    "llama.cpp: no room": Mode(
        context(10, "the request exceeds the available context size, try increasing it",
                type="exceed", n_prompt_tokens="prompt", n_ctx="limit"),
        lambda role: stopped(role, "ContextTooLong"),
        why="servers: ",
    ),
    "ollama: no room, 500": Mode(
        context(20, "the input length exceeds the context length", 500),
        lambda role: stopped(role, "ContextTooLong"),
        why="HTTP 500: the input length exceeds the context length",
    ),
    "nginx: 413": Mode(
        always(Reply(b"<html><head><title>413 Request Entity Too Large</title></head></html>", 413)),
        lambda role: stopped(role, "RequestRefused"),
        why="HTTP 413: 413 Request Entity Too Large",
    ),
    # --- errors in HTTP 200
    "openrouter: error in a choice": Mode(
        lambda body, nth: Reply(
            {"choices": [{"error": {"code": 502, "message": "Provider disconnected"}, "finish_reason": "error",
                          "message": {"role": "assistant", "content": "Half of a"}}]}
        )
        if nth == 1
        else None,
    ),
    "error in 200, a code of text": Mode(first(error_200(message="Slow down", code="rate_limit_exceeded")),
                                         told="overloaded at"),
    "error in 200, no code": Mode(first(Reply({"error": "upstream went away"}))),
    "error in 200, refused": Mode(
        always(error_200(message="tools are not supported", type="invalid_request_error", code=400)),
        lambda role: stopped(role, "RequestRefused"),
        why="HTTP 400: tools are not supported",
    ),
    "vllm, older: error in 200": Mode(
        always(Reply({"object": "error", "message": "no chat template", "type": "BadRequestError", "code": 400})),
        lambda role: stopped(role, "RequestRefused"),
        why="HTTP 400: no chat template",
    ),
    # --- money
    "openai: billing_not_active, 429": Mode(
        always(refusal("Your account is not active, please check your billing details on our website.", 429,
                       code="billing_not_active")),
        lambda role: stopped(role, "AccessDenied"),
        why="engines: ",
    ),
    "openai: billing_hard_limit_reached, 400": Mode(
        always(refusal("Billing hard limit has been reached", code="billing_hard_limit_reached")),
        lambda role: stopped(role, "AccessDenied"),
        why="HTTP 400: Billing hard limit has been reached",
    ),
    "anthropic: credit, 400": Mode(
        always(refusal("Your credit balance is too low to access the Anthropic API.")),
        lambda role: stopped(role, "AccessDenied"),
        why="engines: ",
    ),
    "one-api: quota, 403": Mode(
        always(refusal("user quota is not enough", 403, code="insufficient_user_quota")),
        lambda role: stopped(role, "AccessDenied"),
        why="engines: ",
    ),
    "openrouter: 402 for now": Mode(
        first(Reply({"error": {"code": 402, "message": "in-flight budget"}}, 402, {"Retry-After": "0.05"})),
        told="overloaded at",
    ),
    "gemini: the quota of a minute": Mode(
        first(Reply([{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "You exceeded your current "
                      "quota, please check your plan and billing details. Please retry in 0.1s."}}], 429)),
        told="overloaded at",
    ),
    "anthropic: 529": Mode(first(Reply({"error": {"type": "overloaded_error", "message": "Overloaded"}}, 529)),
                           told="overloaded at"),
    # --- other
    "403 for all": Mode(
        always(refusal("Project does not have access to model m", 403)),
        lambda role: stopped(role, "RequestRefused"),
        why="servers: ",
    ),
    "404 for all": Mode(
        always(refusal("The model `m` does not exist", 404, code="model_not_found")),
        lambda role: stopped(role, "ModelLoadError"),
        why="servers: ",
    ),
    "llama.cpp: 501": Mode(
        always(Reply({"error": {"code": 501, "message": "This server does not do that"}}, 501)),
        lambda role: stopped(role, "RequestRefused"),
        why="HTTP 501: This server does not do that",
    ),
    "a redirect": Mode(
        always(Reply(b"", 308, {"Location": "https://elsewhere.example/v1/chat/completions"})),
        lambda role: stopped(role, "RequestRefused"),
        why="servers: ",
    ),
    "azure: content filter for all": Mode(
        always(refusal("The prompt triggered Azure OpenAI's content management policy.", code="content_filter")),
        lambda role: Seen(True, 0, 3, {}, 0, {("initial", "RequestRefused", False): 3}),
        roles=("policy",),
    ),
    "no log-probabilities": Mode(
        lambda body, nth: Reply({**sound(body), "choices": [{**sound(body)["choices"][0], "logprobs": None}]}),
        lambda role: stopped(role, "MalformedReply"),
        why='set judge.method = "verdict"',
        roles=("judge",),
    ),
    "no choices": Mode(
        always(Reply({"choices": []})),
        lambda role: stopped(role, "MalformedReply"),
        why="servers: ",
    ),
    "openrouter: lines before the JSON": Mode(raw(lambda reply: b": OPENROUTER PROCESSING\n\n: and more\n\n" + reply)),
    "deepseek: blank lines before the JSON": Mode(raw(lambda reply: b"\n\n\n" + reply)),
    "gzip, though identity was asked": Mode(raw(gzip.compress, Content_Encoding="gzip")),
}  # fmt: skip
