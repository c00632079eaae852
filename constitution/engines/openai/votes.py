"""Log-probabilities of labels over HTTP: of exactly their tokens where the server is vLLM, else from the likeliest 20.

vLLM returns the raw log-probabilities of the tokens named in `logprob_token_ids`. It ignores fields that it does not
know without a word, so a reply counts as exact only if all of these tokens are in it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from constitution.engines.base import SLACK, Unseen
from constitution.errors import MalformedReply, ModelLoadError, RequestRefused

TOP_LOGPROBS = 20
"""As many as OpenAI and, by default, vLLM give."""
UNLIKELY = -9999.0
"""The log-probability that OpenAI and vLLM give to what has none, or none that they tell."""
ROUNDING = 1e-6
"""What tokens leave of 1 is not known better than this."""
KEPT = 1_000
"""Pairs of text and label whose tokens are remembered."""

Tokenize = Callable[[str], Awaitable[Sequence[int]]]
"""The token ids of a text, without special tokens."""


class LabelTokens:
    """The one token of each label, asked of the server once per label and the text before it."""

    def __init__(self, tokenize: Tokenize, note: Callable[[str], object]) -> None:
        """`note` is told once why votes are not exact."""
        self._tokenize = tokenize
        self._note = note
        self._known: dict[tuple[str, tuple[str, ...]], tuple[int, ...]] = {}
        self._asking = asyncio.Lock()
        self._noted: set[str] = set()
        self.able = True
        """False once it is known that the server cannot tell."""

    async def of(self, tail: str, labels: tuple[str, ...]) -> tuple[int, ...]:
        """Token ids in the order of `labels`, which follow the text `tail`; empty where one is not a single token or
        the server does not tell."""
        known = self._known.get((tail, labels))
        if known is not None or not self.able:
            return known or ()
        async with self._asking:
            known = self._known.get((tail, labels))
            if known is None and self.able:
                known = await self._ask(tail, labels)
                if len(self._known) >= KEPT:
                    self._known.clear()
                self._known[tail, labels] = known
        return known or ()

    async def _ask(self, tail: str, labels: tuple[str, ...]) -> tuple[int, ...]:
        try:
            before = list(await self._tokenize(tail)) if tail else []
            ids = [await self._alone(tail, before, label) for label in labels]
        except (ModelLoadError, RequestRefused, MalformedReply) as error:
            self.refused(f"the server does not tell a label's tokens ({error})")
            return ()
        single = [tokens[0] for tokens in ids if len(tokens) == 1]
        if len(single) < len(labels) or len(set(single)) < len(labels):
            self.note(f"the labels {', '.join(map(repr, labels))} are not one token each")
            return ()
        return tuple(single)

    async def _alone(self, tail: str, before: list[int], label: str) -> list[int]:
        """The label's tokens as it is read after `tail`; by itself where the border between them lies in a token."""
        if before:
            both = list(await self._tokenize(tail + label))
            if both[: len(before)] == before:
                return both[len(before) :]
        return list(await self._tokenize(label))

    def refused(self, why: str) -> None:
        """From now on no server is asked for exact votes."""
        self.able = False
        self._known.clear()
        self.note(why)

    def note(self, why: str) -> None:
        """An event, once per reason."""
        if why not in self._noted and len(self._noted) < KEPT:
            self._noted.add(why)
            self._note(f"votes are read from the {TOP_LOGPROBS} likeliest tokens: {why}")


def wanted(ids: Sequence[int]) -> dict[str, Any]:
    """The fields of a request's body that ask for log-probabilities, of the tokens `ids` where there are any."""
    # At temperature 1 and top_p 1 raw and processed log-probabilities are the same, whatever a server returns.
    fields: dict[str, Any] = {
        "temperature": 1.0,
        "top_p": 1.0,
        "max_tokens": 1,
        "logprobs": True,
        "top_logprobs": TOP_LOGPROBS,
    }
    if ids:
        # Names of tokens and not their text: a label's token is not the only one with its text.
        fields |= {"logprob_token_ids": list(ids), "return_tokens_as_token_ids": True}
    return fields


class Read(NamedTuple):
    """What a reply says of the labels."""

    logprobs: dict[str, float]
    """Probability of the labels that are in it."""
    unseen: Unseen | None
    """Probability of the others; None: there are none."""
    exact: bool
    """Whether all of the tokens that were asked for by id are in it."""


def read(labels: Sequence[str], ids: Sequence[int], choice: Mapping[str, Any], place: str) -> Read:
    """The labels' log-probabilities, as they follow the prompt: of the reply's first token.

    A label that is not in the reply is no likelier than the least likely token that is, nor than what these leave of 1.
    Raises MalformedReply for a reply without log-probabilities, and for numbers that no distribution can have.
    """
    told = _told(choice, place)
    names = {label: label for label in labels}
    named = {f"token_id:{number}": label for number, label in zip(ids, labels, strict=False)}
    found: dict[str, float] = {}
    for token in told:
        label = named.get(token.text) or names.get(token.text)
        # A label is its own bytes: some servers show ` A`, another token, as `A`.
        if label is None or (token.text in names and token.bytes not in (None, tuple(label.encode()))):
            continue
        if label in found:
            raise MalformedReply(
                f"{place}: the reply gives {label!r} two log-probabilities, {found[label]:g} and {token.logprob:g}"
            )
        found[label] = token.logprob
    exact = bool(named) and {token.text for token in told}.issuperset(named)
    if not exact:
        # In a list of the likeliest, this value says "very unlikely" and no more.
        found = {label: value for label, value in found.items() if value > UNLIKELY}
    missing = len(found) < len(labels)
    return Read(found, _unseen(told, place) if missing else None, exact)


class _Token(NamedTuple):
    text: str
    bytes: tuple[int, ...] | None
    """None: the server does not say."""
    logprob: float
    """−∞ for what the server has no number for."""


def _told(choice: Mapping[str, Any], place: str) -> list[_Token]:
    """The likeliest tokens of the reply's first place, each once."""
    content = (choice.get("logprobs") or {}).get("content")
    if not content or not content[0].get("top_logprobs"):
        error = MalformedReply(
            f"{place}: the reply has no log-probabilities, though they were asked for",
            hint='the judge needs a server and a model that return top_logprobs, or judge.method = "verdict"',
        )
        error.no_logprobs = True
        raise error
    told = list(dict.fromkeys(_token(entry, place) for entry in content[0]["top_logprobs"]))
    total = math.fsum(math.exp(token.logprob) for token in told)
    if total > 1 + SLACK:
        raise MalformedReply(f"{place}: the probabilities of the reply's {len(told)} tokens add up to {total:.4g}")
    return told


def _token(entry: Any, place: str) -> _Token:
    if not isinstance(entry, dict) or not isinstance(entry.get("token"), str):
        raise MalformedReply(f"{place}: top_logprobs holds something that names no token")
    text, value, spelled = entry["token"], entry.get("logprob"), entry.get("bytes")
    if isinstance(value, bool) or not isinstance(value, int | float) or not value <= SLACK:
        raise MalformedReply(f"{place}: {value!r} is given as the log-probability of {text!r}")
    value = min(float(value), 0.0)
    return _Token(
        text,
        tuple(spelled) if spelled and isinstance(spelled, list) else None,
        value if value > UNLIKELY else -math.inf,
    )


def _unseen(told: Sequence[_Token], place: str) -> Unseen:
    found = [math.exp(token.logprob) for token in told if token.logprob > UNLIKELY]
    if len(found) < 2 and sum(found) <= 0.5:
        # It may be the token that was drawn, and not the likeliest.
        raise MalformedReply(
            f"{place}: the reply has the log-probability of one token alone, where {TOP_LOGPROBS} were asked for",
            hint="the judge needs a server and a model that return top_logprobs",
        )
    together = max(1 - math.fsum(found), ROUNDING)
    return Unseen(min(*found, together), together)
