"""A chat completion's JSON, read: text, finish reason, log-probabilities of labels, tokens used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from constitution.engines._votes import read
from constitution.engines.base import Completion, Request
from constitution.errors import MalformedReply, RequestRefused


def read_reply(request: Request, ids: Sequence[int], reply: Any, place: str) -> tuple[Completion, bool]:
    """The completion, and whether all of the tokens `ids` had their log-probability in the reply.

    Raises MalformedReply for what is no chat completion or lacks what was asked for, RequestRefused for an answer that
    the server held back.
    """
    try:
        return _completion(request, ids, reply, place)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise MalformedReply(f"{place}: the reply is not a chat completion ({type(error).__name__} {error})") from None


def _completion(request: Request, ids: Sequence[int], reply: Any, place: str) -> tuple[Completion, bool]:
    choice = reply["choices"][0]
    text, reason = choice["message"].get("content"), choice.get("finish_reason")
    if reason == "content_filter":
        error = RequestRefused(f"{place}: the server's content filter held the answer back")
        error.flagged = True
        raise error
    if reason not in ("stop", "length"):
        raise MalformedReply(f"{place}: finish_reason is {reason!r}, expected stop or length")
    logprobs, exact = read(request.choices, ids, choice, place) if request.choices else (None, False)
    if text is None and logprobs is None:
        raise MalformedReply(
            f"{place}: the reply has no text (message.content is null)",
            hint="a reasoning model may have used up max_tokens before its answer",
        )
    text = text or ""
    if not isinstance(text, str):
        raise MalformedReply(
            f"{place}: message.content is no text but a {type(text).__name__}",
            hint="have the server give plain text, e.g. without its reasoning in parts",
        )
    if request.continues:
        # A server that repeats the prefix gives it back exactly; an answer that does so by itself is a rarity.
        text = text.removeprefix(request.messages[-1].content)
    usage = reply.get("usage") or {}
    details = usage.get("prompt_tokens_details") or {}
    completion = Completion(
        text=text,
        finish_reason=reason,
        prompt_tokens=_tokens(usage.get("prompt_tokens")),
        completion_tokens=_tokens(usage.get("completion_tokens")),
        cached_tokens=_tokens(details.get("cached_tokens")),
        choice_logprobs=logprobs,
        reasoning_tokens=_tokens((usage.get("completion_tokens_details") or {}).get("reasoning_tokens")),
    )
    return completion, exact


def _tokens(count: Any) -> int:
    """A count of tokens, 0 where the server does not say. Raises ValueError for what no table could hold."""
    number = int(count or 0)
    if not 0 <= number < 2**24:  # many are added up in a row
        raise ValueError(f"{count} tokens")
    return number
