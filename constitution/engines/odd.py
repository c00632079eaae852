"""What engines say, held against what can be so: counts of tokens, texts; and what is odd and fails nothing, counted.

A budget ends by the counts, so a missing one is not 0: of input and output it is estimated from the texts. Of cached
and reasoning tokens, which are parts of them, nothing is then known (0): all is paid at the full price.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from constitution.engines.base import Completion, Request
from constitution.errors import MalformedReply

MISSING = "{n} replies do not say how many tokens they took: estimated, a token for every four bytes of text"
UNREADABLE = "{n} replies give a count of tokens that cannot be one (negative, no whole number, text, or far too large)"
CACHED = "{n} replies say that more tokens were cached than the prompt has: none are counted as cached"
REASONING = "{n} replies say that the reasoning took more tokens than the answer with it: not counted apart"
TOO_MANY = "{n} replies say that they have more tokens of output than were asked for: counted as they say"
TOTAL = "{n} replies give a total that is not the sum of their tokens of input and output: the two are counted"
FULL = "{n} replies took all of max_tokens and say that they ended by themselves: if they are many, they may be cut"
SEVERAL = "{n} replies have several choices, though one was asked for: the one of index 0 is taken"
RUN_ON = "{n} replies have a stop string, which the server ignores or does not take: they are cut where it begins"
REPLACED = "{n} answers hold U+FFFD, which is put for bytes that are no text: they are stored as they came"
HALF = "{n} answers were cut within a character: what there was of it is dropped"
SHORTENED = (
    "{n} requests had fewer tokens left in the context than max_tokens, and got what there was: what then ends by "
    "length is marked cut"
)
SPELLED = "{n} texts spelled control tokens of the chat template, which were read with a blank in them"
SENT_APART = "{n} messages spelled control tokens of chat templates, which were sent with a blank in them"

Note = Callable[[str], object]
"""Takes one of the sentences above."""


class Oddities:
    """Counts sentences with {n}, each the kind that it speaks of, for the run's record."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, kind: str) -> None:
        self._counts[kind] += 1

    def events(self) -> list[str]:
        """A sentence a kind, once there is something to tell."""
        return [kind.format(n=f"{count:,}") for kind, count in self._counts.items()]


# --- tokens

MOST = 2**24
"""Tokens that no single call takes; sums of smaller counts fit every column."""
BYTES = 4
"""Bytes of text for each token, where tokens are estimated."""


class Usage(NamedTuple):
    """Tokens; None: not said."""

    prompt: Any
    completion: Any
    cached: Any = None
    reasoning: Any = None


def read_usage(given: Any, request: Request, written: str, most: int | None, note: Note) -> Usage:
    """The counts of a reply's `usage`, as they can be. written: text and reasoning of the answer. most: tokens of
    output that were asked for; None: not known."""
    usage = given if isinstance(given, Mapping) else {}
    inputs, outputs = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    prompt: Any = usage.get("prompt_tokens")
    completion: Any = usage.get("completion_tokens")
    cached = inputs.get("cached_tokens") if isinstance(inputs, Mapping) else None
    reasoning = outputs.get("reasoning_tokens") if isinstance(outputs, Mapping) else None
    total = usage.get("total_tokens")
    whole = Usage(prompt, completion, 0 if cached is None else cached, 0 if reasoning is None else reasoning)
    if _can_be(whole) and _is_count(total) and total == prompt + completion and prompt and (completion or not written):
        if most is not None and completion > most + 1:
            note(TOO_MANY)
        return whole
    total = _count(total, note)
    if total is not None and _is_count(prompt) and _is_count(completion) and prompt and (completion or not written):
        # Some gateways leave the reasoning's tokens out of those of output, as their total says.
        if _is_count(reasoning) and reasoning and total == prompt + completion + reasoning:
            completion += reasoning
        if total != prompt + completion:
            note(TOTAL)
    if most is not None and _is_count(completion) and completion > most + 1:
        note(TOO_MANY)
    return _held(Usage(prompt, completion, cached, reasoning), request, written, note)


def sound(done: Completion, request: Request, note: Note) -> Completion:
    """A completion of any engine, also of one that the user brings, with counts that can be so."""
    usage = Usage(done.prompt_tokens, done.completion_tokens, done.cached_tokens, done.reasoning_tokens)
    if _can_be(usage):
        return done
    usage = _held(usage, request, done.text, note)
    return replace(
        done,
        prompt_tokens=usage.prompt,
        completion_tokens=usage.completion,
        cached_tokens=usage.cached,
        reasoning_tokens=usage.reasoning,
    )


def _can_be(usage: Usage) -> bool:
    """Whether nothing of it is odd by itself, as in most replies."""
    prompt, completion, cached, reasoning = usage
    return all(map(_is_count, usage)) and prompt >= cached and completion >= reasoning


def _held(usage: Usage, request: Request, written: str, note: Note) -> Usage:
    prompt, completion, cached, reasoning = (_count(value, note) for value in usage)
    # No prompt has no tokens, nor has a text: some gateways write 0 for what they do not know.
    if not prompt or completion is None or (written and not completion):
        note(MISSING)
    if not prompt:
        prompt = _estimate("".join(message.content for message in request.messages))
    if completion is None or (written and not completion):
        completion = _estimate(written)
    if cached and cached > prompt:
        note(CACHED)
        cached = 0
    if reasoning and reasoning > completion:
        note(REASONING)
        reasoning = 0
    return Usage(prompt, completion, cached or 0, reasoning or 0)


def _count(value: Any, note: Note) -> int | None:
    """None: not given, or not to be believed."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is not None and not _is_count(value):
        note(UNREADABLE)
        return None
    count: int | None = value
    return count


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < MOST


def _estimate(text: str) -> int:
    return -(-len(text.encode("utf-8", "replace")) // BYTES)


# --- texts

_CUT = re.compile("[\ufffd\ud800-\udfff]{1,3}$")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(text: str, cut: bool, model: str, note: Note) -> str:
    """`text`, of which a last character that is not whole is dropped if it was cut by max_tokens. Raises MalformedReply
    for NUL and halves of surrogate pairs, which no table can hold as they are: to replace them would be to write what
    the model did not."""
    if text.isascii() and "\0" not in text:
        return text
    if cut and _CUT.search(text):
        note(HALF)
        text = _CUT.sub("", text)
    if found := _UNSTORABLE.search(text):
        what = "a NUL" if found[0] == "\0" else "half of a surrogate pair"
        raise MalformedReply(
            f"{model}: character {found.start() + 1} of the answer is {what}, which is no text",
            hint="the server decodes the model's tokens wrongly; a newer version may not",
        )
    if "\ufffd" in text:
        note(REPLACED)
    return text
