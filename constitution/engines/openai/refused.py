"""What a server's error means, whatever its words: which exception, and what of the request it names.

Shapes that are read: OpenAI's `{"error": {"message", "type", "param", "code"}}`, the same in a list (Gemini) or with a
word for the error, vLLM's older `{"object": "error", "message", "code"}`, FastAPI's `{"detail": [{"loc", "msg"}]}`,
also within a message (Mistral), llama.cpp's `n_ctx`, an error in HTTP 200 or in a choice (OpenRouter), HTML pages.
"""

from __future__ import annotations

import email.utils
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from constitution.errors import (
    AccessDenied,
    ContextTooLong,
    EngineError,
    EngineUnavailable,
    ModelLoadError,
    RateLimited,
    RequestRefused,
)

WORDS_MOST = 500
"""Characters of a server's words that are repeated."""

_BUSY = {408, 409, 425}
_NEVER = {501, 505}
"""A 5xx for what the server does not know how to do, and will not the next time (llama.cpp says 501)."""
_CONTEXT = re.compile(
    r"context_length_exceeded|exceed_context_size|maximum context length"
    r"|exceeds? (?:the )?(?:model's )?(?:available |maximum )?context|context (?:length|window|size)"
    r"|longer than the (?:maximum )?model|max_model_len|prompt is too long|input (?:is )?too long|too many tokens"
    r"|max_new_tokens` must be",
    re.IGNORECASE,
)
_CONTEXT_500 = re.compile(
    r"exceed\w* (?:the )?(?:model's )?(?:available |maximum )?context|longer than the (?:model's )?context",
    re.IGNORECASE,
)
"""Some say it with 500; there less is believed, for a server that has no memory left may speak of its context too."""
TURNS = re.compile(
    r"alternat(?:e|ing)|successive|consecutive|in a row|developer instruction"
    r"|(?:unexpected|invalid|unknown) (?:message )?role"
    r"|only (?:the )?['\"`]?user['\"`]? and ['\"`]?assistant|multiple system"
    r"|\bsystem['\"`]? (?:role|message|prompt|instruction|turn)|(?:role|support|roles)\b[^.]{0,24}\bsystem\b",
    re.IGNORECASE,
)
"""What a chat template says that does not take the turns as they are."""
_NO_MONEY = {
    *("insufficient_quota", "insufficient_user_quota", "insufficient_balance", "insufficient_credits"),
    *("billing_hard_limit_reached", "billing_not_active", "access_terminated", "account_deactivated", "arrearage"),
}
"""Codes and types of errors."""
_MONEY = re.compile(
    r"insufficient[ _](?:\w+[ _])?(?:quota|balance|credits?|funds)|exceeded your current quota|billing (?:hard )?limit"
    r"|(?:check|update) your billing|billing details|credit balance is too low|(?:not enough|more|out of) credits"
    r"|account is (?:not active|suspended|overdue|in arrears)|arrearage|payment required",
    re.IGNORECASE,
)
_AGAIN = re.compile(r"(?:try again|retry) (?:in|after) \d", re.IGNORECASE)
"""Gemini says "exceeded your current quota" for a limit by the minute too, and then when to come again."""
_UNKNOWN = re.compile(
    r"unsupported|not support|n't support|un(?:known|recognized|recognised|expected)|extra_forbidden|cannot find field"
    r"|not (?:permitted|allowed|enabled|available)|only (?:the default|be set to)|cannot both|disabled|deprecated"
    r"|no longer",
    re.IGNORECASE,
)
"""What is said of a field that is not taken at all; without such words it is the field's value that is wrong."""


_FLAGGED = re.compile(
    r"content[ _](?:filter|management|policy)|content policies|data_inspection_failed|inappropriate content|moderation"
    r"|\bflagged\b|usage polic|safety (?:filter|system|polic)|prohibited_content|invalid_prompt",
    re.IGNORECASE,
)
"""What is said of a prompt that a filter before the model holds back: Azure, OpenRouter, OpenAI, Alibaba, Gemini."""


@dataclass(frozen=True, slots=True)
class Said:
    """What the body of an error says."""

    words: str
    """On one line."""
    codes: frozenset[str] = frozenset()
    """Its `code`, `type` and `status` where they are words, in small letters."""
    fields: frozenset[str] = frozenset()
    """The field of the request's body at fault: `param`, and what FastAPI's `loc` names."""
    status: int | None = None
    """HTTP status that the body names."""

    @property
    def meant(self) -> int:
        """The status that an error within HTTP 200 would have had."""
        if self.status is not None:
            return self.status
        if self.codes & _NO_MONEY:
            return 402
        if any("rate_limit" in code or code == "resource_exhausted" for code in self.codes):
            return 429
        if _context(self) or any("invalid" in code or "unsupported" in code for code in self.codes):
            return 400
        return 500


def said(text: str) -> Said:
    """The message of an error's body."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return Said(_line(_plain(text)))
    words = text
    if "\\" in text:
        words = json.dumps(body, ensure_ascii=False)  # the key is not to be hidden from us in escapes
    return _of(body, words)


def error_within(body: Any) -> Said | None:
    """The error that a reply with HTTP 200 carries in place of an answer; None: it carries none."""
    if not isinstance(body, dict):
        return None
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    if first.get("error"):
        return _of(first, json.dumps(first["error"], ensure_ascii=False))
    # What is beside an error is a part of an answer at best.
    if body.get("error") or (not first and body.get("object") == "error"):
        return _of(body, json.dumps(body, ensure_ascii=False))
    return None


def error_of(place: str, status: int, reply: Said, wait: float | None = None, location: str = "") -> EngineError:
    """The exception for a reply that is no answer. wait: what `Retry-After` says; location: where a redirect leads.
    No text may have the key in it any more."""
    message = f"{place}: HTTP {status}: {reply.words[:WORDS_MOST]}"
    if _no_money(status, wait, reply):
        return AccessDenied(message)
    if (status in (400, 413, 422) and _context(reply)) or (status == 500 and _CONTEXT_500.search(reply.words)):
        return _refused(ContextTooLong(message), status, reply)
    # llama.cpp says 500 for turns that its template does not take.
    failed = status >= 500 and status not in _NEVER and not (status == 500 and TURNS.search(reply.words))
    if status in (402, 429) or status in _BUSY or failed:
        # A gateway says 402 with a time to wait for money that other requests hold back (OpenRouter).
        limited = status == 429 or wait is not None
        error = RateLimited(message, retry_after=wait) if limited else EngineUnavailable(message)
        error.status = status
        return error
    if status == 401:
        return AccessDenied(message)
    if status in (404, 405):
        return ModelLoadError(message, hint="check `model` and `base_url`; GET /v1/models lists what is served")
    hint = None
    if status == 403:
        hint = "check what the key in the variable that api_key_env names may be used for"
    elif 300 <= status < 400:
        hint = f"the server redirects: set base_url to {location}"
    return _refused(RequestRefused(message, hint=hint), status, reply)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks us to wait: `Retry-After` as a number or an HTTP date (RFC 9110, 10.2.3)."""
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
    return max(0.0, seconds) if seconds < float("inf") else None


def _refused(error: RequestRefused, status: int, reply: Said) -> RequestRefused:
    error.status, error.words, error.fields = status, reply.words, reply.fields
    whole = " ".join([*reply.codes, reply.words])
    error.unknown, error.flagged = bool(_UNKNOWN.search(whole)), bool(_FLAGGED.search(whole))
    return error


def _context(reply: Said) -> bool:
    return bool(_CONTEXT.search(" ".join([*reply.codes, reply.words])))


def _no_money(status: int, wait: float | None, reply: Said) -> bool:
    if status == 402:
        return wait is None
    if status not in (400, 403, 429):
        return False
    if reply.codes & _NO_MONEY:
        return True
    if _FLAGGED.search(" ".join([*reply.codes, reply.words])):
        return False  # a filter that repeats the words of a prompt, which may speak of money
    return bool(_MONEY.search(reply.words)) and wait is None and not _AGAIN.search(reply.words)


def _of(body: Any, text: str) -> Said:
    """text: said where the body has no message."""
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, dict):
        return Said(_line(text))
    error = body.get("error") or body
    if not isinstance(error, dict):
        return Said(_line(str(error)))
    message = error.get("message", error.get("detail", text))
    if isinstance(message, str) and message.startswith("{"):
        message = _json(message)  # Mistral hands on its own server's error as text
    words = message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)
    values = [error.get(name) for name in ("code", "type", "status")]
    number = next((value for value in values if isinstance(value, int) and 400 <= value < 600), None)
    numbers = [f"{name} {error[name]}" for name in ("n_prompt_tokens", "n_ctx") if isinstance(error.get(name), int)]
    return Said(
        _line(" ".join([words, *(f"({number})" for number in numbers if number.split()[1] not in words)])),
        frozenset(value.lower() for value in values if isinstance(value, str)),
        frozenset(_fields(error)),
        number
        or next((int(value) for value in values if isinstance(value, str) and re.fullmatch(r"[45]\d\d", value)), None),
    )


def _fields(error: Any) -> Iterator[str]:
    """Names of the request's fields in OpenAI's `param` and in every `loc` of FastAPI's lists, however deep."""
    if isinstance(error, dict):
        if isinstance(error.get("param"), str):
            yield re.split(r"[.\[]", error["param"])[0]
        loc = error.get("loc")
        if isinstance(loc, list) and len(loc) == 2 and loc[0] == "body":
            yield str(loc[1])
        for value in error.values():
            yield from _fields(_json(value) if isinstance(value, str) and value.startswith("{") else value)
    elif isinstance(error, list):
        for each in error:
            yield from _fields(each)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _plain(text: str) -> str:
    """What a person would read of an HTML page."""
    if not text.lstrip().startswith("<"):
        return text
    return re.sub(r"<[^>]*>", " ", re.sub(r"(?is)<(script|style)\b.*?</\1>", " ", text))


def _line(text: str) -> str:
    return " ".join(text.split())


# --- numbers in a server's words

_NUMBER = r"(\d[\d,]*)"
_LIMITS = (
    re.compile(rf"\d \+ \d[\d,]* > {_NUMBER}"),
    re.compile(rf"must be <= {_NUMBER}"),
    re.compile(rf"(?:context (?:length|size|window|limit)|max_model_len|n_ctx)\D{{0,24}}?{_NUMBER}", re.IGNORECASE),
)
"""Where servers say how long the context is: Anthropic; TGI and Together; vLLM, OpenAI, SGLang, DeepSeek, llama.cpp."""
_PROMPTS = (
    re.compile(rf"{_NUMBER} \+ \d[\d,]* > \d"),
    re.compile(
        rf"{_NUMBER} (?:tokens )?"
        r"(?:of text input|(?:in|from) (?:the|your) (?:input|messages|prompt)|input tokens|`inputs`)"
    ),
    re.compile(rf"(?:prompt|input|request) (?:contains|has)(?: at least)? {_NUMBER}", re.IGNORECASE),
    re.compile(rf"request \({_NUMBER} tokens\)"),
    re.compile(rf"n_prompt_tokens\D{{0,3}}{_NUMBER}"),
)
"""Where they say how long the prompt is."""
_TOTAL = re.compile(rf"requested (?:a total of |about |tokens \()?{_NUMBER}", re.IGNORECASE)
"""Prompt and `max_tokens` together, where only that is said."""
_MOST = (
    re.compile(
        rf"at most {_NUMBER}|less than or equal to [`'\"]?{_NUMBER}|\[\d+, ?{_NUMBER}\]|between \d+ and {_NUMBER}"
    ),
    re.compile(
        rf"max(?:imum)? (?:allowed|value)?\D{{0,24}}?{_NUMBER}|\d > {_NUMBER}|must be <=? ?{_NUMBER}", re.IGNORECASE
    ),
)
"""Where they say the greatest value of a field."""


def room(words: str, max_tokens: int) -> int | None:
    """The tokens that are left for the answer, where a server that refused a request with `max_tokens` says both the
    length of its context and of the prompt; None where it does not, or where they are not fewer."""
    limit = _first(_LIMITS, words)
    prompt = _first(_PROMPTS, words)
    if prompt is None and (total := _first((_TOTAL,), words)) is not None and total > max_tokens:
        prompt = total - max_tokens
    if limit is None or prompt is None:
        return None
    left = limit - prompt
    return left if 1 <= left < max_tokens else None


def most(words: str, sent: int) -> int | None:
    """The greatest value of a field that a server takes, by its refusal of `sent`; None where it does not say."""
    found = _first(_MOST, words)
    return found if found is not None and 1 <= found < sent else None


def _first(patterns: tuple[re.Pattern[str], ...], words: str) -> int | None:
    for pattern in patterns:
        if match := pattern.search(words):
            return int(next(group for group in match.groups() if group).replace(",", ""))
    return None
