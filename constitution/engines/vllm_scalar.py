"""Scalar reward models in vLLM, in processes that this one starts: for throughput.

Conversations are made into tokens here, exactly as for the transformers engine. vLLM reads the head at the last token
and would put the score through a sigmoid: the raw number is asked for, and padding tokens that end a conversation
(where a model is padded with its end token) are taken off, since transformers, and so its trainers, read before them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from constitution.engines import vllm_start
from constitution.engines.base import Completion, Engine, Request
from constitution.engines.scalar_weights import ScoreTokenizer, check_head, check_weights, pad_of
from constitution.engines.spoken import Spoken
from constitution.engines.vllm import Core
from constitution.engines.weights import find, load_tokenizer
from constitution.errors import EngineError, RecipeError, RequestRefused
from constitution.recipe import VLLMModel
from constitution.records import Messages


class VLLMScorer(Engine):
    """An `Engine` that scores and writes nothing."""

    def __init__(self, core: Core, chat: ScoreTokenizer, pad: int | None) -> None:
        with vllm_start.parts():
            from vllm.pooling_params import PoolingParams
        self._core, self._chat, self._pad = core, chat, pad
        self._params = PoolingParams(task="classify", use_activation=False)

    @classmethod
    async def open(cls, section: VLLMModel) -> VLLMScorer:
        """Start vLLM. Raises RecipeError for arguments that it does not take, ModelLoadError."""
        what = f"model {section.model}"
        if section.adapter:
            raise RecipeError(
                f"{what}: a reward model's adapter is to be merged", hint="name the merged model's folder"
            )
        if "pooler_config" in section.vllm:
            raise RecipeError(f"{what}: vllm.pooler_config: how a score is read is set by the engine")
        folder = await asyncio.to_thread(find, section)
        await asyncio.to_thread(_check, folder, what)
        core = await Core.open(section, [], None, scores=True)
        try:
            tokenizer = await asyncio.to_thread(load_tokenizer, section, folder)
            chat = await asyncio.to_thread(ScoreTokenizer, tokenizer, core.name, Spoken.of(section), core.context)
            return cls(core, chat, pad_of(folder))
        except BaseException:
            await core.close()
            raise

    @property
    def model(self) -> str:
        return self._core.name

    def describe(self) -> Mapping[str, str]:
        return {**self._core.facts, **self._chat.facts}

    async def generate(self, request: Request) -> Completion:
        raise RequestRefused(f"{self.model}: a reward model scores answers and writes none")

    async def score(self, messages: Messages) -> float:
        """As `Scorer.score`; raises EngineGone once vLLM's engine is dead."""
        tokens = self._chat.encode(messages)
        while len(tokens) > 1 and tokens[-1] == self._pad:
            tokens.pop()
        out = await self._core.pooled(tokens, self._params)
        found = out.outputs.data.float().flatten().tolist()
        if len(found) != 1:
            raise EngineError(f"{self.model}: vLLM gave {len(found)} numbers, and a score is one")
        return float(found[0])

    def stats(self) -> Mapping[str, Any]:
        events = self._chat.events
        return {**self._core.gauges.stats(self._core.in_flight), **({"events": events} if events else {})}

    async def close(self) -> None:
        await self._core.close()


def _check(folder: Path, what: str) -> None:
    """Raises ModelLoadError for what is no reward model. vLLM 0.32 loads one without a head in silence: its scores are
    what was in memory."""
    check_head(folder, what)
    check_weights(folder, what)
