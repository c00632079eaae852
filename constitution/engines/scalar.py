"""Scalar reward models in this process, by `transformers`: a conversation in, the raw number of the head out.

    engine = await TransformersScorer.open(TransformersModel(engine="transformers", model="rewards"))
    await engine.score((Message("user", "Hello?"), Message("assistant", "Hello.")))

Reward models are read as their trainers (TRL's RewardTrainer) and model cards (Skywork-Reward-V2) read them: the whole
conversation by the model's own chat template, closed, each beginning token once, and the head at the last token that is
no padding. Unlike them nothing is cut to a length, and no padding token is put where config.json names none: it would
decide at which token the head is read.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from constitution.engines.base import Completion, Engine, Request
from constitution.engines.scalar_weights import ScalarModel, load_scalar
from constitution.engines.weights import first_line
from constitution.errors import EngineError, EngineGone, EngineUnavailable, RequestRefused
from constitution.recipe import TransformersModel
from constitution.records import Messages

ALIKE = 1e-4
"""A conversation's score in a batch and alone differ by no more than this part of the scores' spread in float32 on a
CPU (measured: tests/test_engine_scalar.py); in bfloat16 by about a hundredth."""


class _Asked(NamedTuple):
    tokens: list[int]
    score: asyncio.Future[float]


class TransformersScorer(Engine):
    """An `Engine` that scores and writes nothing. What comes together is read together, the longest first."""

    def __init__(self, model: ScalarModel, max_batch: int) -> None:
        self._model = model
        # Without a padding token in its settings the model itself takes one conversation at a time.
        self._most = max_batch if model.pad is not None else 1
        self._waiting: list[_Asked] = []
        self._work: asyncio.Task[None] | None = None
        self._closed = False
        self._lost = ""

    @classmethod
    async def open(cls, section: TransformersModel) -> TransformersScorer:
        """Raises ModelLoadError."""
        return cls(await asyncio.to_thread(load_scalar, section), section.max_batch)

    @property
    def model(self) -> str:
        return self._model.name

    def describe(self) -> Mapping[str, str]:
        return dict(self._model.facts)

    async def generate(self, request: Request) -> Completion:
        raise RequestRefused(f"{self.model}: a reward model scores answers and writes none")

    async def score(self, messages: Messages) -> float:
        """As `Scorer.score`; raises EngineGone once the accelerator has failed."""
        tokens = self._model.chat.encode(messages)
        if self._lost or self._closed:
            raise EngineGone(self._lost) if self._lost else EngineUnavailable(f"{self.model}: the engine is closed")
        asked = _Asked(tokens, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._answer_all(), name=f"scores of {self.model}")
        return await asked.score

    async def _answer_all(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # all that was asked at once is there
            self._waiting = [each for each in self._waiting if not each.score.done()]
            self._waiting.sort(key=lambda each: -len(each.tokens))
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            for asked, outcome in zip(batch, await asyncio.to_thread(self._read, batch), strict=True):
                if asked.score.done():
                    continue  # its caller was cancelled
                if isinstance(outcome, EngineError):
                    asked.score.set_exception(outcome)
                else:
                    asked.score.set_result(outcome)

    def _read(self, batch: Sequence[_Asked]) -> list[float | EngineError]:
        """In a thread. If it fails, each of the batch alone, so that one costs its neighbours nothing."""
        import torch

        if not batch:
            return []
        try:
            scores = scores_of(self._model, [asked.tokens for asked in batch])
        except Exception as error:
            lost = isinstance(error, torch.AcceleratorError)
            said = f"{self.model}: {type(error).__name__} while computing: {first_line(error)}"
            if lost:
                self._lost = said
            if lost or len(batch) == 1:
                return [(EngineGone if lost else EngineError)(said) for _ in batch]
            return [outcome for asked in batch for outcome in self._read([asked])]
        return [score if math.isfinite(score) else self._no_number() for score in scores]

    def _no_number(self) -> EngineError:
        return EngineError(f"{self.model}: its score is not a number", hint='try dtype = "float32"')

    def stats(self) -> Mapping[str, Any]:
        events = list(self._model.chat.events)
        if self._model.pad is None:
            events.append("config.json names no padding token: conversations are scored one at a time")
        return {"events": events} if events else {}

    async def close(self) -> None:
        self._closed = True
        waiting, self._waiting = self._waiting, []
        for asked in waiting:
            if not asked.score.done():
                asked.score.set_exception(EngineUnavailable(f"{self.model}: the engine is closed", hint=""))
        if self._work is not None:
            await self._work


def scores_of(model: ScalarModel, rows: Sequence[list[int]]) -> list[float]:
    """The raw score of each conversation's tokens. Padding is on the right, where no token before it sees it."""
    import torch

    longest, device, pad = max(map(len, rows)), model.module.device, model.pad or 0
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device)
    with torch.inference_mode():
        logits = model.module(input_ids=ids, attention_mask=mask).logits
    scores: list[float] = logits.float().reshape(len(rows), -1)[:, 0].tolist()
    return scores
