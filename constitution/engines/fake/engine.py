"""An engine without a model, for trying recipes out and for tests: deterministic text and votes, in microseconds.

It invents answers of careful and careless sentences, critiques the careless ones, and mends most of them when it
revises; before each it thinks, and at times it gives its system prompt away, where its section says so. As a judge it
sees how many of each an answer has, with noise and the faults that its section plants: a liking for the first, the
longer, the better formatted answer, or blindness to what is better. What it does follows from the request's content and
seed alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from constitution.engines.base import Completion, Request
from constitution.engines.fake import echo, judge, world
from constitution.engines.fake.checklist import checklist
from constitution.engines.fake.drafts import drafts
from constitution.engines.fake.wordings import values, wordings
from constitution.errors import EngineUnavailable
from constitution.identity import digest
from constitution.recipe import FakeModel
from constitution.records import Messages

BEHAVIOUR = {
    *("position_bias", "length_bias", "style_bias", "noise", "accuracy"),
    *("verbosity", "echo", "thoughts", "reasoning"),
}
"""Fields of the section that what it writes and votes depends on."""


class FakeEngine:
    """An `Engine`. `failure_rate` of the requests raise EngineUnavailable: which ones follows from their content, and
    from how often this very object has failed them, so that asking again may succeed; a new process meets the same
    failures again, like an outage that lasts."""

    def __init__(self, section: FakeModel) -> None:
        self._section = section
        self._failed: dict[str, int] = {}

    @classmethod
    async def open(cls, section: FakeModel) -> FakeEngine:
        return cls(section)

    @property
    def model(self) -> str:
        return self._section.model

    def describe(self) -> Mapping[str, str]:
        settings = self._section.model_dump(include=BEHAVIOUR, exclude_defaults=True)
        parts = [world.SENTENCES, world.NEUTRAL, judge.STEEPNESS]
        return {"name": self.model, "engine": "fake", "digest": digest([*parts, settings])}

    async def generate(self, request: Request) -> Completion:
        if self._section.latency_s:
            await asyncio.sleep(self._section.latency_s)
        seed = request.seed if request.sampling.temperature or request.choices else 0
        bits = digest(
            [
                [(turn.role, turn.content) for turn in request.messages],
                request.choices,
                seed,
                *filter(None, [request.thought, request.closed]),
            ]
        )
        self._fail(bits)
        prompt_tokens = sum(len(turn.content.split()) for turn in request.messages)
        if request.closed:
            logprobs = dict.fromkeys(request.choices, judge.read_out(request.messages[-1].content, bits, self._section))
            return Completion("", "stop", prompt_tokens, 1, 0, logprobs)
        if request.choices:
            logprobs = judge.choose(request.messages, request.choices, bits, self._section)
            best = max(logprobs, key=lambda label: logprobs[label])
            return Completion(best, "length", prompt_tokens, 1, 0, logprobs)
        thought = world.think(bits, self._section.thoughts) if self._section.reasoning != "off" else ""
        said = checklist(request.messages, bits) or drafts(request.messages, bits)
        said = said or wordings(request.messages, bits) or values(request.messages, bits)
        said = said or judge.reason(request.messages, bits, self._section, request.sampling.temperature)
        said = said or world.write(request.messages, bits, self._section.verbosity)
        if self._section.echo and echo.echoes(bits, self._section.echo):
            thought, said = echo.repeated(request, bits, thought, said)
        return _limited(thought, said, request, prompt_tokens, apart=self._section.reasoning != "keep")

    async def score(self, messages: Messages) -> float:
        """As if it were a reward model: logits in favour of the last message alone, with its section's faults."""
        if self._section.latency_s:
            await asyncio.sleep(self._section.latency_s)
        bits = digest(["score", [(turn.role, turn.content) for turn in messages]])
        self._fail(bits)
        return judge.scored(messages[-1].content, bits, self._section)

    def stats(self) -> Mapping[str, Any]:
        return {}

    async def close(self) -> None:
        """Nothing to close."""

    def _fail(self, bits: str) -> None:
        if not self._section.failure_rate:
            return
        before = self._failed.get(bits, 0)
        if world.unit(digest(["failure", before, bits])) < self._section.failure_rate:
            self._failed[bits] = before + 1
            raise EngineUnavailable(
                f"{self.model}: this failure is made up (failure_rate = {self._section.failure_rate:g})",
                hint="set failure_rate to 0",
            )


def _limited(thought: str, text: str, request: Request, prompt_tokens: int, *, apart: bool) -> Completion:
    """Thought and then text, the text up to the first stop string and both up to max_tokens words."""
    for stop in request.sampling.stop:
        text = text.split(stop, 1)[0] if stop else text
    thoughts, words, most = thought.split(), text.split(), request.sampling.max_tokens
    reason = "length" if len(thoughts) + len(words) > most else "stop"
    if len(thoughts) > most:
        thought, text, thoughts, words = " ".join(thoughts[:most]), "", thoughts[:most], []
    elif len(thoughts) + len(words) > most:
        words = words[: most - len(thoughts)]
        text = " ".join(words)
    written = max(1, len(thoughts) + len(words))
    if thought and not apart:
        text, thought = f"<think>\n{thought}" + (f"\n</think>\n\n{text}" if text or reason == "stop" else ""), ""
    return Completion(
        text,
        reason,
        prompt_tokens,
        written,
        reasoning=thought or None,
        reasoning_tokens=len(thoughts) if thought else 0,
    )
