"""What generates text, behind one seam (`base`).

async with open_engines(recipe.model) as engines:
    completion = await engines.policy.generate(request)
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from constitution.engines.base import Completion, Engine, Request
from constitution.engines.fake import FakeEngine
from constitution.engines.meter import Metered
from constitution.engines.openai import OpenAIEngine
from constitution.engines.transformers import TransformersEngine
from constitution.engines.vllm import VLLMEngine, open_together
from constitution.recipe import FakeModel, Models, ModelSection, OpenAIModel, VLLMModel

__all__ = ["Completion", "Engine", "Engines", "Metered", "Request", "open_engine", "open_engines"]


@dataclass(frozen=True, slots=True)
class Engines:
    """The engines of a run. `judge` is the same object as `policy` where both sections are equal."""

    policy: Metered
    judge: Metered

    def stats(self) -> dict[str, dict[str, Any]]:
        """Per role what its engine tells of its work; a judge that is the policy is told of once."""
        shared = self.judge is self.policy
        return {"policy": dict(self.policy.stats())} | ({} if shared else {"judge": dict(self.judge.stats())})

    def describe(self) -> dict[str, dict[str, str]]:
        """Per role what determines its model's answers, as `Run.models` keeps it."""
        return {"policy": dict(self.policy.describe()), "judge": dict(self.judge.describe())}

    async def close(self) -> None:
        """Close each engine once, the second also if the first fails."""
        try:
            await self.policy.close()
        finally:
            if self.judge is not self.policy:
                await self.judge.close()


async def open_engine(section: ModelSection) -> Engine:
    """The engine of a recipe's model section. Raises ModelLoadError, RecipeError, EngineUnavailable."""
    if isinstance(section, FakeModel):
        return FakeEngine(section)
    if isinstance(section, OpenAIModel):
        return await OpenAIEngine.open(section)
    if isinstance(section, VLLMModel):
        return await VLLMEngine.open(section)
    return await TransformersEngine.open(section)


@asynccontextmanager
async def open_engines(models: Models) -> AsyncIterator[Engines]:
    """Policy and judge, closed at the end; without a judge's section the policy judges."""
    began = time.monotonic()
    policy, *others = [Metered(engine, began) for engine in await _open(models)]
    engines = Engines(policy, others[0] if others else policy)
    try:
        yield engines
    finally:
        await engines.close()


async def _open(models: Models) -> list[Engine]:
    """The policy's engine, and the judge's where it is another one."""
    if models.judge is None or models.judge.unpriced == models.policy.unpriced:
        return [await open_engine(models.policy)]
    if isinstance(models.policy, VLLMModel) and isinstance(models.judge, VLLMModel):
        return [*await open_together([models.policy, models.judge], models.placement)]
    policy = await open_engine(models.policy)
    try:
        return [policy, await open_engine(models.judge)]
    except BaseException:
        await policy.close()
        raise
