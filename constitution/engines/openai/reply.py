"""A chat completion's JSON, read: which choice, its text, why it ended, log-probabilities of labels, tokens used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from constitution.engines.base import Completion, Request
from constitution.engines.oddities import Oddities
from constitution.engines.openai.votes import read
from constitution.engines.usage import FULL, Usage, read_usage
from constitution.errors import MalformedReply, RequestRefused

FINISHED = {
    "stop": ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "stop_token", "end", "complete", "completed"),
    "length": ("length", "max_tokens", "max_output_tokens", "max_completion_tokens", "max_length"),
    "content_filter": ("content_filter", "content_filtered", "safety", "recitation", "blocklist", "prohibited_content"),
    "tool_calls": ("tool_calls", "tool_call", "tool_use", "function_call"),
    "refusal": ("refusal", "refused"),
}
"""Ours → the words of servers and of gateways to other protocols (Anthropic's, Google's, Hugging Face's)."""
_OURS = {theirs: ours for ours, words in FINISHED.items() for theirs in words}

SEVERAL = "{n} replies have several choices, though one was asked for: the one of index 0 is taken"


def read_reply(
    request: Request,
    ids: Sequence[int],
    reply: Any,
    place: str,
    odd: Oddities,
    *,
    most: int | None = None,
    thought: str | None = None,
) -> tuple[Completion, bool]:
    """The completion, and whether all of the tokens `ids` had their log-probability in the reply.

    most: tokens of output that were asked for; None: not known. thought: the model's reasoning, which the reply's
    message holds no more. Raises MalformedReply for what is no chat completion or lacks what was asked for, and
    RequestRefused for a vote that a filter held back.
    """
    try:
        choice = _choice(reply["choices"], place, odd)
        done, exact = _completion(request, ids, choice, place)
        usage = read_usage(reply.get("usage"), request, done.text + (thought or ""), most, odd.add)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise MalformedReply(f"{place}: the reply is not a chat completion ({type(error).__name__} {error})") from None
    if request.choices:
        _answers(done, usage, thought, place)
    elif done.finish_reason == "stop" and usage.completion == most:
        odd.add(FULL)
    done = replace(done, prompt_tokens=usage.prompt, completion_tokens=usage.completion, cached_tokens=usage.cached)
    return replace(done, reasoning=thought, reasoning_tokens=usage.reasoning), exact


def _completion(request: Request, ids: Sequence[int], choice: Mapping[str, Any], place: str) -> tuple[Completion, bool]:
    """Without its tokens."""
    message = choice["message"]
    reason = _reason(choice.get("finish_reason"), place)
    text = _text(message, "content", place)
    if reason == "stop" and (message.get("tool_calls") or message.get("function_call")):
        reason = "tool_calls"  # some servers call that a stop
    if refusal := _text(message, "refusal", place):
        reason, text = "refusal", text or refusal
    if reason == "content_filter" and request.choices and not choice.get("logprobs"):
        error = RequestRefused(f"{place}: the server's content filter held the vote back")
        error.flagged = True
        raise error
    told = read(request.choices, ids, choice, place) if request.choices else None
    if request.continues:
        # A server that repeats the prefix gives it back exactly; an answer that does so by itself is a rarity.
        text = text.removeprefix(request.messages[-1].content)
    completion = Completion(text, reason, 0, 0, 0, told and told.logprobs, unseen=told and told.unseen)
    return completion, bool(told and told.exact)


def _answers(done: Completion, usage: Usage, thought: str | None, place: str) -> None:
    """Raises MalformedReply for a vote whose log-probabilities are of the first word of a thought. A parser may take a
    label for a thought, and is known by it: the labels are likely then."""
    mass = sum(map(math.exp, (done.choice_logprobs or {}).values()))
    if (thought or usage.reasoning) and not done.text and mass < 0.5:
        raise MalformedReply(
            f"{place}: the log-probabilities are of the model's reasoning and not of its answer",
            hint='have the judge answer without reasoning: `reasoning = "off"`, or what the server has for it',
        )


def _choice(choices: Any, place: str, odd: Oddities) -> Mapping[str, Any]:
    """The choice of index 0, whatever its place; one alone needs not say its index."""
    if not isinstance(choices, list) or not choices:
        raise MalformedReply(f"{place}: the reply has no choices")
    numbers = [choice.get("index") for choice in choices]
    if numbers == [None]:
        numbers = [0]
    first: list[Mapping[str, Any]] = [
        choice for choice, number in zip(choices, numbers, strict=True) if number == 0 and type(number) is int
    ]
    if len(first) != 1:
        listed = ", ".join(map(repr, numbers[:5]))
        raise MalformedReply(
            f"{place}: of the reply's choices {len(first)} have the index 0; their indices are {listed}"
        )
    if len(choices) > 1:
        odd.add(SEVERAL)
    return first[0]


def _reason(said: Any, place: str) -> str:
    reason = _OURS.get(said.casefold()) if isinstance(said, str) else None
    if reason is None:
        raise MalformedReply(
            f"{place}: finish_reason is {str(said)[:100]!r}, so it is not known whether the answer is whole",
            hint="have the server say one of: " + ", ".join(FINISHED),
        )
    return reason


def _text(message: Mapping[str, Any], field: str, place: str) -> str:
    """Empty for null."""
    text = message.get(field)
    if text is not None and not isinstance(text, str):
        raise MalformedReply(
            f"{place}: message.{field} is no text but a {type(text).__name__}",
            hint="have the server give plain text, e.g. without its reasoning in parts",
        )
    return text or ""
