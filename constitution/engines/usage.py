"""Tokens that a reply says it took, each count held against the others; what cannot be so is not believed.

A budget ends by these counts, so a missing one is not 0: of input and output it is estimated from the texts. Of cached
and reasoning tokens, which are parts of them, nothing is then known (0): all is paid at the full price.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from constitution.engines.base import Completion, Request

MOST = 2**24
"""Tokens that no single call takes; sums of smaller counts fit every column."""
BYTES = 4
"""Of text for each token, where tokens are estimated."""

MISSING = "{n} replies do not say how many tokens they took: estimated, a token for every four bytes of text"
UNREADABLE = "{n} replies give a count of tokens that cannot be one (negative, no whole number, text, or far too large)"
CACHED = "{n} replies say that more tokens were cached than the prompt has: none are counted as cached"
REASONING = "{n} replies say that the reasoning took more tokens than the answer with it: not counted apart"
TOO_MANY = "{n} replies say that they have more tokens of output than were asked for: counted as they say"
TOTAL = "{n} replies give a total that is not the sum of their tokens of input and output: the two are counted"

FULL = "{n} replies took all of max_tokens and say that they ended by themselves: if they are many, they may be cut"

Note = Callable[[str], object]
"""Takes one of the sentences above."""


class Usage(NamedTuple):
    prompt: int
    completion: int
    cached: int = 0
    reasoning: int = 0


def read_usage(given: Any, request: Request, written: str, most: int | None, note: Note) -> Usage:
    """The counts of a reply's `usage`. written: text and reasoning of the answer. most: tokens of output that were
    asked for; None: not known."""
    usage = given if isinstance(given, Mapping) else {}
    inputs, outputs = (_part(usage, name) for name in ("prompt_tokens_details", "completion_tokens_details"))
    prompt, completion = _count(usage, "prompt_tokens", note), _count(usage, "completion_tokens", note)
    cached, reasoning = _count(inputs, "cached_tokens", note), _count(outputs, "reasoning_tokens", note)
    total = _count(usage, "total_tokens", note)
    # No prompt has no tokens, nor has a text: some gateways write 0 for what they do not know.
    if not prompt or completion is None or (written and not completion):
        note(MISSING)
    elif total is not None and total != prompt + completion:
        note(TOTAL)
    prompt = prompt or _estimate("".join(message.content for message in request.messages))
    if completion is None or (written and not completion):
        completion = _estimate(written)
    elif most is not None and completion > most + 1:
        note(TOO_MANY)
    return held(Usage(prompt, completion, cached or 0, reasoning or 0), note)


def held(usage: Usage, note: Note) -> Usage:
    """`usage` without parts that are more than their whole."""
    if usage.cached > usage.prompt:
        note(CACHED)
        usage = usage._replace(cached=0)
    if usage.reasoning > usage.completion:
        note(REASONING)
        usage = usage._replace(reasoning=0)
    return usage


def sound(done: Completion, request: Request, note: Note) -> Completion:
    """A completion of any engine, also of one that the user brings, with counts that can be so."""
    usage = Usage(done.prompt_tokens, done.completion_tokens, done.cached_tokens, done.reasoning_tokens)
    if _all_counts(usage) and usage.prompt >= usage.cached and usage.completion >= usage.reasoning:
        return done
    if not _all_counts(usage):
        note(UNREADABLE)
        estimates = (_estimate("".join(m.content for m in request.messages)), _estimate(done.text), 0, 0)
        usage = Usage(*(n if _is_count(n) else estimate for n, estimate in zip(usage, estimates, strict=True)))
    usage = held(usage, note)
    return replace(
        done,
        prompt_tokens=usage.prompt,
        completion_tokens=usage.completion,
        cached_tokens=usage.cached,
        reasoning_tokens=usage.reasoning,
    )


def _part(usage: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = usage.get(name)
    return part if isinstance(part, Mapping) else {}


def _count(usage: Mapping[str, Any], name: str, note: Note) -> int | None:
    """None: not given, or not to be believed."""
    value = usage.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None or _is_count(value):
        return value
    note(UNREADABLE)
    return None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST


def _all_counts(usage: Usage) -> bool:
    return all(map(_is_count, usage))


def _estimate(text: str) -> int:
    return -(-len(text.encode("utf-8", "replace")) // BYTES)
