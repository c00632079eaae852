"""The words of servers: which error they are, what of the request they name, and how much room they leave."""

from __future__ import annotations

import json
from typing import Any

import pytest

from constitution.engines.openai.refused import error_of, error_within, most, room, said
from constitution.errors import (
    AccessDenied,
    ContextTooLong,
    EngineError,
    EngineUnavailable,
    ModelLoadError,
    RateLimited,
    RequestRefused,
)


def error(status: int, body: Any, wait: float | None = None) -> EngineError:
    return error_of("here", status, said(body if isinstance(body, str) else json.dumps(body)), wait)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": {"message": "x", "code": "context_length_exceeded"}}, ContextTooLong),
        (400, {"error": {"message": "prompt is too long: 210000 tokens > 200000 maximum"}}, ContextTooLong),
        (400, {"message": "Requested tokens (600) exceed context window of 512"}, ContextTooLong),
        (422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8"}, ContextTooLong),
        (500, {"error": {"message": "the input length exceeds the context length"}}, ContextTooLong),
        (500, {"error": {"message": "failed to allocate a KV cache for context size 4096"}}, EngineUnavailable),
        (500, {"error": {"message": "Jinja Exception: System role not supported"}}, RequestRefused),
        (500, "<html>Internal Server Error</html>", EngineUnavailable),
        (501, {"error": {"message": "not implemented"}}, RequestRefused),
        (429, {"error": {"message": "slow down"}}, RateLimited),
        (429, {"error": {"message": "x", "type": "insufficient_quota"}}, AccessDenied),
        (429, {"error": {"message": "You exceeded your current quota, please check your plan"}}, AccessDenied),
        (429, [{"error": {"message": "You exceeded your current quota. Please retry in 37.5s."}}], RateLimited),
        (429, {"error": {"message": "Rate limit reached. Add a payment method at /account/billing"}}, RateLimited),
        (402, {"error": {"message": "Insufficient Balance"}}, AccessDenied),
        (403, {"error": {"message": "insufficient credits"}}, AccessDenied),
        (403, {"error": {"message": "your input was flagged"}}, RequestRefused),
        (404, {"detail": "Not Found"}, ModelLoadError),
        (529, {"error": {"type": "overloaded_error", "message": "Overloaded"}}, EngineUnavailable),
    ],
)
def test_which_error_it_is(status: int, body: Any, kind: type[EngineError]) -> None:
    assert type(error(status, body)) is kind
    assert str(error(status, body)).startswith(f"here: HTTP {status}: ")


def test_money_that_is_held_back_for_a_while_is_waited_for() -> None:
    assert type(error(402, {"error": {"message": "in-flight budget"}}, 5.0)) is RateLimited
    assert type(error(429, {"error": {"message": "exceeded your current quota"}}, 5.0)) is RateLimited
    assert type(error(429, {"error": {"message": "x", "code": "insufficient_quota"}}, 5.0)) is AccessDenied


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"error": {"message": "no", "param": "messages[0].role"}}, {"messages"}),
        (
            {"detail": [{"loc": ["body", "seed"], "msg": "Extra"}, {"loc": ["body", "stop"], "msg": "x"}]},
            {"seed", "stop"},
        ),
        ({"object": "error", "message": {"detail": [{"loc": ["body", "seed"], "msg": "Extra"}]}}, {"seed"}),
        ({"message": json.dumps({"detail": [{"loc": ["body", "seed"], "msg": "Extra"}]})}, {"seed"}),
        ({"error": "no"}, set()),
        ("no JSON", set()),
    ],
)
def test_which_fields_it_names(body: Any, fields: set[str]) -> None:
    assert said(body if isinstance(body, str) else json.dumps(body)).fields == fields


def test_errors_within_http_200() -> None:
    sound = {"choices": [{"message": {"content": '{"error": 1}'}}]}
    assert error_within(sound) is None
    assert error_within({**sound, "error": None}) is None
    assert error_within([]) is None
    for body, status in (
        ({"error": {"message": "x", "code": 429}}, 429),
        ({"error": {"message": "x", "code": "503"}}, 503),
        ({"error": {"message": "x", "code": "rate_limit_exceeded"}}, 429),
        ({"error": {"message": "x", "code": "insufficient_quota"}}, 402),
        ({"error": {"message": "x", "type": "invalid_request_error"}}, 400),
        ({"error": "gone"}, 500),
        ({"object": "error", "message": "x", "code": 404}, 404),
        ({"choices": [{"error": {"code": 502, "message": "x"}, "message": {"content": "half"}}]}, 502),
    ):
        found = error_within(body)
        assert found is not None
        assert found.meant == status, body


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ("This model's maximum context length is 4097 tokens. However, you requested 4203 tokens (3703 in the "
         "messages, 500 in the completion).", 394),
        ("This model's maximum context length is 300 tokens. However, you requested 500 output tokens and your prompt "
         "contains at least 200 input tokens.", 100),
        ("'max_tokens' or 'max_completion_tokens' is too large: 500. This model's maximum context length is 1000 "
         "tokens and your request has 700 input tokens (500 > 1000 - 700).", 300),
        ("You requested a total of 1200 tokens: 700 tokens from the input messages and 500 tokens for the completion, "
         "and the model's maximum context length of 1000 tokens", 300),
        ("`inputs` tokens + `max_new_tokens` must be <= 2048. Given: 1900 `inputs` tokens and 500 `max_new", 148),
        ("input length and `max_tokens` exceed context limit: 199,900 + 500 > 200,000, decrease input length", 100),
        ("This endpoint's maximum context length is 1,000 tokens. However, you requested about 1,200 tokens (700 of "
         "text input, 500 in the output).", 300),
        ("Requested tokens (600) exceed context window of 512", 412),
        ("This model's maximum context length is 100 tokens. However, you requested 700 tokens.", None),
        ("request (4476 tokens) exceeds the available context size (4096 tokens)", None),
        ("request (4000 tokens) exceeds the available context size (4096 tokens)", 96),
        ("prompt is too long: 210000 tokens > 200000 maximum", None),
        ("the input length exceeds the context length", None),
    ],
)  # fmt: skip
def test_the_room_that_they_say_there_is(words: str, left: int | None) -> None:
    assert room(words, 500) == left


@pytest.mark.parametrize(
    ("words", "sent", "value"),
    [
        ("top_logprobs must be at most 5", 20, 5),
        ("Input should be less than or equal to 5", 20, 5),
        ("the valid range of max_tokens is [1, 8192]", 9000, 8192),
        ("max_tokens is too large: 100000. This model supports at most 16384 completion tokens", 100000, 16384),
        ("max_tokens: 100000 > 8192, which is the maximum allowed number of output tokens", 100000, 8192),
        ("top_logprobs is not supported", 20, None),
    ],
)
def test_the_greatest_value_that_they_name(words: str, sent: int, value: int | None) -> None:
    assert most(words, sent) == value
