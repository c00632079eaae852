"""What generates text, behind one seam (`base`).

async with open_engines(recipe.model) as engines:
    completion = await engines.policy.generate(request)
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from constitution.engines.base import Completion, Engine, Request
from constitution.engines.fake import FakeEngine
from constitution.engines.openai import OpenAIEngine
from constitution.engines.transformers import TransformersEngine
from constitution.recipe import FakeModel, Models, ModelSection, OpenAIModel

__all__ = ["Completion", "Engine", "Engines", "Request", "open_engine", "open_engines"]


@dataclass(frozen=True, slots=True)
class Engines:
    """The engines of a run. `judge` is the same object as `policy` where both sections are equal."""

    policy: Engine
    judge: Engine

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
    return await TransformersEngine.open(section)


@asynccontextmanager
async def open_engines(models: Models) -> AsyncIterator[Engines]:
    """Policy and judge, closed at the end; without a judge's section the policy judges."""
    policy = await open_engine(models.policy)
    try:
        shared = models.judge is None or models.judge == models.policy
        judge = policy if shared or models.judge is None else await open_engine(models.judge)
    except BaseException:
        await policy.close()
        raise
    engines = Engines(policy, judge)
    try:
        yield engines
    finally:
        await engines.close()
