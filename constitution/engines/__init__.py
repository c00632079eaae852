"""What generates text, behind one seam (`base`).

async with open_engines(recipe.model) as engines:
    completion = await engines.policy.generate(request)
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from constitution.engines.base import Completion, Engine, Request, Scorer, Unasked
from constitution.engines.meter import Metered
from constitution.engines.openai.batch.notes import at_places
from constitution.errors import RecipeError
from constitution.recipe import GivenModel, Models, ModelSection, OpenAIModel, VLLMModel

__all__ = ["KINDS", "Completion", "Engine", "Engines", "Metered", "Request", "open_engine", "open_engines"]

KINDS = {
    "fake": "constitution.engines.fake:FakeEngine",
    "openai": "constitution.engines.openai.engine:OpenAIEngine",
    "transformers": "constitution.engines.transformers:TransformersEngine",
    "vllm": "constitution.engines.vllm:VLLMEngine",
}
"""The class of each engine, by the name that recipes have for it; imported when it is opened. `open(section)` opens
one; where sections of a kind share something, such as an accelerator, `open_together(sections)` opens all of them."""
SCORERS = {
    "fake": KINDS["fake"],
    "openai": "constitution.engines.openai.scorer:OpenAIScorer",
    "transformers": "constitution.engines.scalar:TransformersScorer",
    "vllm": "constitution.engines.vllm_scalar:VLLMScorer",
}
"""The class that opens [model.reward_model], by the name of its engine."""


@dataclass(frozen=True, slots=True)
class Engines:
    """The engines of a run. Where sections are equal, roles share one of these objects."""

    policy: Metered
    """Where nothing asks it there is none, and this is another's."""
    judges: Mapping[str, Metered]
    """By the name that the votes bear: a jury's member's, or of a judge alone its model's."""
    jury: bool = False
    """False: there is a judge alone."""
    answers: bool = True
    """False: no policy was opened."""
    pool: Mapping[str, Metered] = field(default_factory=dict)
    """Further models that samplers ask, by name."""
    scorer: Metered | None = None
    """The scalar reward model; None: the recipe has none."""

    @property
    def roles(self) -> dict[str, Metered]:
        """policy, if there is one, `pool <name>` for each of the pool, then judge, or `judge <name>` for each member of
        a jury, and reward model."""
        judges = {f"judge {name}" if self.jury else "judge": judge for name, judge in self.judges.items()}
        others = {f"pool {name}": engine for name, engine in self.pool.items()} | judges
        others |= {"reward model": self.scorer} if self.scorer else {}
        return {"policy": self.policy, **others} if self.answers else others

    @property
    def distinct(self) -> dict[str, Metered]:
        """Each engine once, under the first of its roles."""
        seen: dict[int, tuple[str, Metered]] = {}
        for role, engine in self.roles.items():
            seen.setdefault(id(engine), (role, engine))
        return dict(seen.values())

    def stats(self) -> dict[str, dict[str, Any]]:
        """Per role what its engine reports of its work; an engine of several roles is listed under the first alone."""
        return {role: dict(engine.stats()) for role, engine in self.distinct.items()}

    def describe(self) -> dict[str, dict[str, str]]:
        """Per role what determines its model's answers, as `Run.models` keeps it."""
        return {role: dict(engine.describe()) for role, engine in self.roles.items()}

    async def close(self) -> None:
        """Close each engine once, the others also if one fails."""
        await _close(list(self.distinct.values()))


async def open_engine(section: ModelSection, notes: Path | None = None) -> Engine:
    """The engine of a recipe's model section. notes: the folder, which need not exist, in which one that is asked in
    batches notes them; None: there are none. Raises ModelLoadError, RecipeError, EngineUnavailable."""
    if isinstance(section, GivenModel):
        if section._engine is None:
            raise RecipeError(f"{section.model} is an engine of a Python program", hint="pass it: run(…, engines=…)")
        given: Engine = section._engine
        return given
    kind = _kind(KINDS[section.engine])
    engine: Engine = await (kind.open(section, notes) if isinstance(section, OpenAIModel) else kind.open(section))
    return engine


async def open_scorer(section: ModelSection) -> Engine:
    """The engine of [model.reward_model]. Raises ModelLoadError, RecipeError."""
    if isinstance(section, GivenModel):
        engine = await open_engine(section)
        if not isinstance(engine, Scorer):
            raise RecipeError(f"engines: the reward model is a {type(engine).__name__}, which has no score(messages)")
        return engine
    opened: Engine = await _kind(SCORERS[section.engine]).open(section)
    return opened


def _share_out(sections: Sequence[ModelSection]) -> None:
    """Raises RecipeError where a reward model, the last, is to be loaded by vLLM beside others, with which it does not
    share vLLM's engine, and it is not said what part of the accelerator's memory each takes."""
    *_, scorer = sections
    vllm = [each for each in sections if isinstance(each, VLLMModel)]
    unsaid = any("gpu_memory_utilization" not in each.vllm for each in vllm)
    if isinstance(scorer, VLLMModel) and len(vllm) > 1 and unsaid:
        raise RecipeError(
            "vllm.gpu_memory_utilization: a reward model is loaded beside other models; say the share of each"
        )


@asynccontextmanager
async def open_engines(
    models: Models, answers: bool = True, notes: Path | None = None, *, votes: bool = True
) -> AsyncIterator[Engines]:
    """Policy, pool, judges and reward model, closed at the end; without a judge's section and without a jury the policy
    judges. answers: False opens no policy that does not judge. notes: a run's folder, which need not exist, for notes
    of its batches. votes: False opens no judges."""
    began = time.monotonic()
    voters = list(models.judges.values()) if votes else []
    others = [*models.pool.values(), *voters]
    sections = [*([models.policy] if answers else others[:1]), *others]
    bare = [section.bare for section in sections]
    distinct = [section for place, section in enumerate(bare) if section not in bare[:place]]
    if notes:
        urls = [url for section in sections if isinstance(section, OpenAIModel) for url in section.base_urls]
        at_places(notes, {url.rstrip("/") for url in urls})
    if models.reward_model:
        _share_out([*distinct, models.reward_model])
    opened = [Metered(engine, began) for engine in await _open(distinct, notes)]
    scorer = None
    if models.reward_model:
        try:
            scorer = Metered(await open_scorer(models.reward_model), began)
        except BaseException:
            await _close(opened)
            raise
    policy, *rest = [opened[distinct.index(section)] for section in bare] or [Metered(Unasked(), began)]
    pool, judges = rest[: len(models.pool)], rest[len(models.pool) :]
    names = list(models.jury) if models.jury and votes else [judge.model for judge in judges]
    engines = Engines(
        policy,
        dict(zip(names, judges, strict=True)),
        jury=bool(models.jury),
        answers=answers,
        pool=dict(zip(models.pool, pool, strict=True)),
        scorer=scorer,
    )
    try:
        yield engines
    finally:
        await engines.close()


def _kind(name: str) -> Any:
    """The class that `module:name` says."""
    module, _, kind = name.partition(":")
    return getattr(import_module(module), kind)


async def _open(sections: Sequence[ModelSection], notes: Path | None) -> list[Engine]:
    """The engines of `sections`, in order."""
    opened: dict[int, Engine] = {}
    try:
        for name in dict.fromkeys(section.engine for section in sections):
            places = [place for place, section in enumerate(sections) if section.engine == name]
            if name in KINDS and (together := getattr(_kind(KINDS[name]), "open_together", None)):
                opened |= zip(places, await together([sections[place] for place in places]), strict=True)
                continue
            for place in places:
                opened[place] = await open_engine(sections[place], notes)
    except BaseException:
        await _close(list(opened.values()))
        raise
    return [opened[place] for place in range(len(sections))]


async def _close(engines: Sequence[Engine]) -> None:
    """All of them; what one of them raises is raised at the end."""
    async with AsyncExitStack() as stack:
        for engine in reversed(engines):
            stack.push_async_callback(engine.close)
