"""What generates text, behind one seam (`base`).

async with open_engines(recipe.model) as engines:
    completion = await engines.policy.generate(request)
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from constitution.engines.base import Completion, Engine, Request
from constitution.engines.meter import Metered
from constitution.errors import RecipeError
from constitution.recipe import FakeModel, GivenModel, Models, ModelSection, OpenAIModel, VLLMModel

__all__ = ["Completion", "Engine", "Engines", "Metered", "Request", "open_engine", "open_engines"]


@dataclass(frozen=True, slots=True)
class Engines:
    """The engines of a run. Where sections are equal, roles share one of these objects."""

    policy: Metered
    judges: Mapping[str, Metered]
    """By the name that the votes bear: a jury's member's, or of a judge alone its model's."""
    jury: bool = False
    """False: there is a judge alone."""

    @property
    def roles(self) -> dict[str, Metered]:
        """policy, and then judge, or `judge <name>` for each member of a jury."""
        judges = {f"judge {name}" if self.jury else "judge": judge for name, judge in self.judges.items()}
        return {"policy": self.policy, **judges}

    @property
    def distinct(self) -> dict[str, Metered]:
        """Each engine once, under the first of its roles."""
        seen: dict[int, tuple[str, Metered]] = {}
        for role, engine in self.roles.items():
            seen.setdefault(id(engine), (role, engine))
        return dict(seen.values())

    def stats(self) -> dict[str, dict[str, Any]]:
        """Per role what its engine tells of its work; an engine of several roles is told of under the first alone."""
        return {role: dict(engine.stats()) for role, engine in self.distinct.items()}

    def describe(self) -> dict[str, dict[str, str]]:
        """Per role what determines its model's answers, as `Run.models` keeps it."""
        return {role: dict(engine.describe()) for role, engine in self.roles.items()}

    async def close(self) -> None:
        """Close each engine once, the others also if one fails."""
        await _close(list(self.distinct.values()))


async def open_engine(section: ModelSection) -> Engine:
    """The engine of a recipe's model section, whose module is imported only here: its libraries take their time.
    Raises ModelLoadError, RecipeError, EngineUnavailable."""
    if isinstance(section, FakeModel):
        from constitution.engines.fake import FakeEngine

        return FakeEngine(section)
    if isinstance(section, GivenModel):
        if section._engine is None:
            raise RecipeError(f"{section.model} is an engine of a Python program", hint="pass it: run(…, engines=…)")
        engine: Engine = section._engine
        return engine
    if isinstance(section, OpenAIModel):
        from constitution.engines.openai.engine import OpenAIEngine

        return await OpenAIEngine.open(section)
    if isinstance(section, VLLMModel):
        from constitution.engines.vllm import VLLMEngine

        return await VLLMEngine.open(section)
    from constitution.engines.transformers import TransformersEngine

    return await TransformersEngine.open(section)


@asynccontextmanager
async def open_engines(models: Models) -> AsyncIterator[Engines]:
    """Policy and judges, closed at the end; without a judge's section and without a jury the policy judges."""
    began = time.monotonic()
    sections: list[ModelSection] = [models.policy, *(models.jury.values() or [models.judge or models.policy])]
    bare = [section.bare for section in sections]
    distinct = [section for place, section in enumerate(bare) if section not in bare[:place]]
    opened = [Metered(engine, began) for engine in await _open(distinct, models)]
    policy, *judges = [opened[distinct.index(section)] for section in bare]
    names = list(models.jury) or [judges[0].model]
    engines = Engines(policy, dict(zip(names, judges, strict=True)), jury=bool(models.jury))
    try:
        yield engines
    finally:
        await engines.close()


async def _open(sections: Sequence[ModelSection], models: Models) -> list[Engine]:
    """The engines of `sections`, in order; those of vLLM together, for they share an accelerator."""
    opened: dict[int, Engine] = {}
    in_process = [(place, section) for place, section in enumerate(sections) if isinstance(section, VLLMModel)]
    try:
        if in_process:
            from constitution.engines.vllm import open_together

            together = await open_together([section for _, section in in_process], models.placement)
            opened |= {place: engine for (place, _), engine in zip(in_process, together, strict=True)}
        for place, section in enumerate(sections):
            if place not in opened:
                opened[place] = await open_engine(section)
    except BaseException:
        await _close(list(opened.values()))
        raise
    return [opened[place] for place in range(len(sections))]


async def _close(engines: Sequence[Engine]) -> None:
    """All of them; what one of them raises is raised at the end."""
    async with AsyncExitStack() as stack:
        for engine in reversed(engines):
            stack.push_async_callback(engine.close)
