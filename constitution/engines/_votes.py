"""Log-probabilities of labels over HTTP: of exactly their tokens where the server is vLLM, else from the likeliest 20.

vLLM returns the raw log-probabilities of the tokens named in `logprob_token_ids`. It ignores fields that it does not
know without a word, so a reply counts as exact only if all of these tokens are in it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from constitution.errors import MalformedReply, ModelLoadError, RequestRefused

TOP_LOGPROBS = 20
"""As many as OpenAI and, by default, vLLM give."""
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
        """The label's tokens as it stands after `tail`; by itself where the border between them lies in a token."""
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


def read(
    labels: Sequence[str], ids: Sequence[int], choice: Mapping[str, Any], place: str
) -> tuple[dict[str, float], bool]:
    """Per label its log-probability, −∞ for one that is not in the reply; and whether all of `ids` were in it.

    Raises MalformedReply for a reply without log-probabilities, or with numbers that are none.
    """
    content = (choice.get("logprobs") or {}).get("content")
    if not content or not content[0].get("top_logprobs"):
        raise MalformedReply(
            f"{place}: the reply has no log-probabilities, though they were asked for",
            hint="the judge needs a server and a model that return top_logprobs",
        )
    names = {label: label for label in labels}
    named = {f"token_id:{number}": label for number, label in zip(ids, labels, strict=False)}
    found = dict.fromkeys(labels, -math.inf)
    told = set()
    for entry in content[0]["top_logprobs"]:
        token, value = entry["token"], float(entry["logprob"])
        if math.isnan(value) or value > 1e-3:
            raise MalformedReply(f"{place}: {value} stands for the log-probability of {token!r}")
        label = named.get(token) or names.get(token)
        if label is not None:
            told.add(token)
            # Two tokens may spell the same text; their probabilities add up.
            found[label] = _log_add(found[label], min(value, 0.0))
    return found, bool(named) and told.issuperset(named)


def _log_add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))"""
    high, low = max(a, b), min(a, b)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))
