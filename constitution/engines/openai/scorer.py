"""A scalar reward model on a vLLM server, by its /classify: the only API of servers that gives a conversation's raw
number. (/score compares two texts, /pooling gives hidden states or the same number, chat completions none.)

The server renders the conversation and reads the head at its last token. It would put the number through a sigmoid:
`use_activation` turns that off, and older servers ignore the field without a word, so each is tried with both first.
vLLM also loads a checkpoint without a head in silence (0.32), and the head is then what was in memory: numbers that
show it are refused, and others cannot be told from a trained head's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from constitution.engines.base import Completion, Request
from constitution.engines.openai.engine import OpenAIEngine
from constitution.engines.openai.http import CLASSIFY, encoded
from constitution.errors import EngineError, EngineUnavailable, MalformedReply, ModelLoadError, RequestRefused
from constitution.recipe import OpenAIModel
from constitution.records import Message, Messages, as_dicts

_PROBES = tuple(
    (Message("user", asked), Message("assistant", said))
    for asked, said in (("hello", "Hello!"), ("How are you?", "No."), ("What is two and two?", "Two and two is four."))
)
UNLIKELY = 1e6
"""A trained head gives no score of this size."""
_NONE = {404, 405, 501}
"""Statuses of a server that does not have /classify, or not for this model."""


class OpenAIScorer(OpenAIEngine):
    """An `Engine` that scores and writes nothing."""

    @classmethod
    async def open(cls, section: OpenAIModel, notes: Path | None = None) -> OpenAIScorer:
        """As `OpenAIEngine.open`; raises ModelLoadError for servers that give no raw score of one number."""
        engine = await super().open(section)
        assert isinstance(engine, OpenAIScorer)
        try:
            for endpoint in engine._fleet.endpoints:
                await engine._prove(endpoint.transport)
        except BaseException:
            await engine.close()
            raise
        return engine

    def describe(self) -> Mapping[str, str]:
        return {**super().describe(), "scores": CLASSIFY}

    async def generate(self, request: Request) -> Completion:
        raise RequestRefused(f"{self.model}: a reward model scores answers and writes none")

    async def score(self, messages: Messages) -> float:
        """As `Scorer.score`. Raises what `generate` of another server does, ContextTooLong among it."""
        if messages[-1].role != "assistant":
            raise RequestRefused(f"{self.model}: an answer is scored, and the last message is not the assistant's")
        messages = await self._control.broken(messages)
        reply, place = await self._fleet.post(CLASSIFY, encoded(self._asked(messages, raw=True)), 0, "")
        return _number(reply, place)

    def _asked(self, messages: Messages, raw: bool) -> dict[str, Any]:
        return {
            "model": self._section.model,
            "messages": as_dicts(messages),
            "add_generation_prompt": False,
            "add_special_tokens": False,
            "use_activation": not raw,
            **self._template.fields(False),
            **self._section.extra_body,
        }

    async def _prove(self, transport: Any) -> None:
        """Raises ModelLoadError where the server's numbers may be no raw scores."""
        told, scores = False, set()
        for messages in _PROBES:
            pair = []
            for raw in (True, False):
                try:
                    reply = await transport.post(CLASSIFY, encoded(self._asked(messages, raw=raw)))
                    pair.append(_number(reply, transport.place))
                except EngineError as error:
                    lacks = isinstance(error, EngineUnavailable) and error.status in _NONE
                    if error.retryable and not lacks and not isinstance(error, MalformedReply):
                        raise
                    raise ModelLoadError(
                        f"{transport.place}: no score of {self.model} by {CLASSIFY}: {error}",
                        hint="serve a reward model of one label by vLLM 0.13 or newer, or run it in the process",
                    ) from error
            score, squashed = pair
            scores.add(score)
            # Without an activation of the model's own both are the raw number, which no sigmoid may have made.
            told |= math.isclose(_sigmoid(score), squashed, abs_tol=1e-3) or (score == squashed and not 0 <= score <= 1)
        if len(scores) == 1 or max(map(abs, scores)) > UNLIKELY:
            raise ModelLoadError(
                f"{transport.place}: its scores are no trained head's ({', '.join(f'{each:g}' for each in scores)})",
                hint="look whether score.weight is in the checkpoint: vLLM serves one without it",
            )
        if not told:
            raise ModelLoadError(
                f"{transport.place}: its numbers may be probabilities: with and without use_activation they are alike",
                hint="serve the reward model by vLLM 0.13 or newer, or run it in the process",
            )


def _sigmoid(number: float) -> float:
    return 1 / (1 + math.exp(-number)) if number > -700 else 0.0


def _number(reply: Any, place: str) -> float:
    """Raises MalformedReply for what is not one number."""
    try:
        [one] = reply["data"]
        [number] = one["probs"]
        return float(number)
    except (LookupError, TypeError, ValueError):
        raise MalformedReply(f"{place}: {CLASSIFY} gives no single number, as of one label") from None
