"""An engine without a model, for trying recipes out and for tests: deterministic text and votes, in microseconds.

It invents answers of careful and careless sentences, critiques the careless ones, and mends most of them when it
revises. As a judge it sees how many of each an answer has, with noise and, if asked for, a position bias. What it does
follows from the request's content and seed alone.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from constitution.engines.base import Completion, Request
from constitution.errors import EngineUnavailable, RequestRefused
from constitution.identity import digest
from constitution.recipe import FakeModel
from constitution.records import Messages

SENTENCES = (
    ("Check the label before you begin.", "Nobody reads labels, just begin."),
    ("Ask someone who knows if you are unsure.", "Only a fool would ask for help."),
    ("I may be wrong about the details.", "I am never wrong about this."),
    ("Take your time and go step by step.", "Skip the boring steps."),
)
"""(careful, careless): each answer holds one of each pair."""

STEEPNESS = 1.5
"""Logits for each sentence that one answer has in its favour."""
NOISE = 1.0
"""Half the width, in logits, of a vote's uniform noise."""

_REVISE = re.compile(r"\b(rewrite|revise|revision|critique finds|improve)\b", re.IGNORECASE)
_CRITIQUE = re.compile(r"\b(critique|criticism|identify|point out)\b", re.IGNORECASE)
_END = re.compile(r"\n\s*\[/?\s*end\b|\n\s*</", re.IGNORECASE)


class FakeEngine:
    """An `Engine`. `failure_rate` of the requests raise EngineUnavailable: which ones follows from their content, and
    from how often this very object has failed them, so that asking again may succeed; a new process meets the same
    failures again, like an outage that lasts."""

    def __init__(self, section: FakeModel) -> None:
        self._section = section
        self._failed: dict[str, int] = {}

    @property
    def model(self) -> str:
        return self._section.model

    def describe(self) -> Mapping[str, str]:
        settings = self._section.model_dump()
        return {
            "name": self.model,
            "engine": "fake",
            "digest": digest([SENTENCES, STEEPNESS, NOISE, settings["position_bias"]]),
        }

    async def generate(self, request: Request) -> Completion:
        if self._section.latency_s:
            await asyncio.sleep(self._section.latency_s)
        seed = request.seed if request.sampling.temperature or request.choices else 0
        bits = digest([[(turn.role, turn.content) for turn in request.messages], request.choices, seed])
        self._fail(bits)
        prompt_tokens = sum(len(turn.content.split()) for turn in request.messages)
        if request.choices:
            logprobs = vote(request.messages, request.choices, bits, self._section.position_bias)
            best = max(logprobs, key=lambda label: logprobs[label])
            return Completion(best, "length", prompt_tokens, 1, 0, logprobs)
        text, reason = _limit(write(request.messages, bits), request)
        return Completion(text, reason, prompt_tokens, max(1, len(text.split())))

    def stats(self) -> Mapping[str, Any]:
        return {}

    async def close(self) -> None:
        """Nothing to close."""

    def _fail(self, bits: str) -> None:
        if not self._section.failure_rate:
            return
        before = self._failed.get(bits, 0)
        if _unit(digest(["failure", before, bits])) < self._section.failure_rate:
            self._failed[bits] = before + 1
            raise EngineUnavailable(
                f"{self.model}: this failure is made up (failure_rate = {self._section.failure_rate:g})",
                hint="set failure_rate to 0",
            )


def write(messages: Messages, bits: str) -> str:
    """An answer, critique or revision; which of them is wanted is guessed from the words of the last user turn."""
    asked = next((turn.content for turn in reversed(messages) if turn.role == "user"), "")
    said = [turn.content for turn in messages if turn.role == "assistant"]
    if len(said) >= 2 and _REVISE.search(asked):
        return _revise(said[-2], bits)
    if said and _CRITIQUE.search(asked):
        return _critique(said[-1])
    topic = " ".join(asked.split()[:8])
    chosen = (pair[int(bits[place], 16) % 2] for place, pair in enumerate(SENTENCES))
    return " ".join([f"About “{topic}”:", *chosen])


def quality(text: str) -> float:
    """What the fake judge sees in an answer: careful minus careless sentences, and a little of its own."""
    careful = sum(good in text for good, _ in SENTENCES)
    careless = sum(bad in text for _, bad in SENTENCES)
    return careful - careless + 0.5 * _unit(digest(text)) - 0.25


def vote(messages: Messages, labels: Sequence[str], bits: str, position_bias: float) -> dict[str, float]:
    """Log-probabilities of `labels`; together they have 0.90 to 0.99 of the mass, as with a real model.

    Two labels whose answers can be found in the last user turn get a logit from their quality; `position_bias` is added
    to the first's. Other labels get numbers drawn from `bits`.
    """
    if not all(labels):
        raise RequestRefused("fake: an empty label has no probability")
    asked = next((turn.content for turn in reversed(messages) if turn.role == "user"), "")
    logits = [4 * _unit(digest([label, bits])) - 2 for label in labels]
    pair = candidates(asked, labels[0], labels[1]) if len(labels) == 2 else None
    if pair is not None:
        noise = NOISE * (2 * _unit(bits[8:]) - 1)
        logits = [STEEPNESS * (quality(pair[0]) - quality(pair[1])) + position_bias + noise, 0.0]
    top = max(logits)
    total = top + math.log(sum(math.exp(logit - top) for logit in logits))
    mass = math.log(0.90 + 0.09 * _unit(bits[24:]))
    return {label: logit - total + mass for label, logit in zip(labels, logits, strict=True)}


def candidates(text: str, first: str, second: str) -> tuple[str, str] | None:
    """The two answers in a judge's prompt, marked like `[answer A …]`, `Response A:` or `(A) …`; None: not found."""
    for pattern in _marks(first, second):
        opening = pattern[0].search(text)
        middle = pattern[1].search(text, opening.end()) if opening else None
        if opening and middle:
            one = _END.split(text[opening.end() : middle.start()], maxsplit=1)[0]
            two = _END.split(text[middle.end() :], maxsplit=1)
            # Without an end mark the second answer is one paragraph: what follows it is the question.
            return one.strip(), (two[0] if len(two) > 1 else two[0].strip().split("\n\n")[0]).strip()
    return None


@lru_cache(maxsize=64)
def _marks(first: str, second: str) -> list[tuple[re.Pattern[str], re.Pattern[str]]]:
    named = r"(?im)^\W*(?:answer|response|option) +\(?{}\b[^\n]*\n"
    short = r"(?m)^\(?{}[):]"
    return [
        (re.compile(shape.format(re.escape(first))), re.compile(shape.format(re.escape(second))))
        for shape in (named, short)
    ]


def _critique(answer: str) -> str:
    faults = [bad for _, bad in SENTENCES if bad in answer]
    if not faults:
        return "I find no fault with this answer."
    return " ".join(f"“{fault}” is careless advice." for fault in faults)


def _revise(answer: str, bits: str) -> str:
    """Three of four careless sentences are mended, on average; an answer without any stays as it is."""
    for place, (good, bad) in enumerate(SENTENCES):
        if int(bits[place], 16) % 4:
            answer = answer.replace(bad, good)
    return answer


def _limit(text: str, request: Request) -> tuple[str, str]:
    """`text` up to the first stop string and to max_tokens words, and the finish reason."""
    for stop in request.sampling.stop:
        text = text.split(stop, 1)[0] if stop else text
    words = text.split()
    if len(words) > request.sampling.max_tokens:
        return " ".join(words[: request.sampling.max_tokens]), "length"
    return text, "stop"


def _unit(bits: str) -> float:
    """A number in [0, 1) from hexadecimal digits."""
    return int(bits[:13], 16) / 16**13
