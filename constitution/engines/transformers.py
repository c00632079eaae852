"""A model in this process, by `transformers`: for small models, tests, and machines without a server.

    engine = await TransformersEngine.open(TransformersModel(engine="transformers", model="pocket"))

x. Sampling is temperature, top-p and greedy, exactly as
asked: the defaults in a model's generation settings (top-k, repetition penalty) are left out on purpose; only its end
tokens are used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from constitution.engines.base import Completion, Request
from constitution.engines.local import Job, Worker
from constitution.engines.weights import LocalModel, load
from constitution.errors import EngineError
from constitution.recipe import TransformersModel


class TransformersEngine:
    """An `Engine` over one model in memory. A request's text depends on its content and seed, not on its neighbours
    (up to float rounding: a different batch shape may round the last bit of a logit differently)."""

    def __init__(self, model: LocalModel, max_batch: int) -> None:
        self._model = model
        self._worker = Worker(model, max_batch)

    @classmethod
    async def open(cls, section: TransformersModel) -> TransformersEngine:
        """Load the model in its own thread. Raises ModelLoadError."""
        return cls(await asyncio.to_thread(load, section), section.max_batch)

    @property
    def model(self) -> str:
        return self._model.name

    def describe(self) -> Mapping[str, str]:
        return dict(self._model.facts)

    async def generate(self, request: Request) -> Completion:
        """As `ChatTokenizer.prepared`; raises EngineGone once the model's thread has died."""
        prompt, labels, max_tokens = self._model.chat.prepared(request, self._model.context)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Completion] = loop.create_future()

        def set_outcome(outcome: Completion | EngineError) -> None:
            if answer.done():
                return
            if isinstance(outcome, EngineError):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)

        def done(outcome: Completion | EngineError) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(set_outcome, outcome)

        job = Job(request, prompt, max_tokens, labels, done)
        self._worker.submit(job)
        try:
            return await answer
        except asyncio.CancelledError:
            job.cancelled = True
            raise

    def stats(self) -> Mapping[str, Any]:
        events = self._model.chat.events()
        return {"events": events} if events else {}

    async def close(self) -> None:
        await asyncio.to_thread(self._worker.close)
