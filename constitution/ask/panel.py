"""Judges asked outside of any run, their rows kept in memory: for principles' own examples, and for what a new version
of a constitution would change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from pydantic import ValidationError

from constitution.ask.questions import opened
from constitution.engines import Engine
from constitution.errors import InputError
from constitution.judge.ask import Judge, Votes, vote
from constitution.judge.methods import METHODS
from constitution.judge.pairs import Pair
from constitution.pipeline.tasks import Window
from constitution.recipe import JudgeSection, Models, ModelSection, Recipe, dated
from constitution.records import Principle, Prompt, Row, Run
from constitution.templates.wording import ENGLISH, Wording, stored_wording

WINDOW = 64
"""Pairs in flight at most."""


@dataclass(frozen=True, slots=True)
class Panel:
    """The judges that are asked, and how."""

    judges: Mapping[str, ModelSection]
    """By the name that their votes bear; empty: the model's own."""
    section: JudgeSection
    """All principles that are put to the judges vote, whatever its `principles` says."""
    seed: int = 1
    wording: Wording = ENGLISH
    through: Callable[[Engine, ModelSection], Engine] | None = None
    """What each engine is asked through, such as one that keeps its replies; None: it is asked itself."""

    @classmethod
    def of(cls, models: Models, section: JudgeSection | None = None, seed: int = 1, wording: Wording = ENGLISH) -> Self:
        """The judges of a recipe: the jury, the judge, or the policy that judges itself."""
        return cls(models.judges, section or JudgeSection(), seed, wording)

    @classmethod
    def of_run(cls, run: Run) -> Self:
        """The run's own judges. InputError where this version cannot read its recipe."""
        recipe = recipe_of(run)
        return cls.of(recipe.model, recipe.judge, recipe.seed, recipe.wording)

    @property
    def reads_criteria(self) -> bool:
        """Whether a vote of any judge depends on its principle's criteria."""
        return any(METHODS[self.section.of(judge).method].reads == "criteria" for judge in self.judges.values())

    @property
    def reads_questions(self) -> bool:
        """Whether a vote of any judge depends on its principle's comparison question."""
        return any(METHODS[self.section.of(judge).method].reads != "criteria" for judge in self.judges.values())

    def on(self, run: Run) -> Self:
        """The same, with the day that `run` took for today in chat templates."""
        return replace(self, judges={name: dated(section, run.day) for name, section in self.judges.items()})


def recipe_of(run: Run) -> Recipe:
    """The recipe that the run was started with last, with the templates that the run has. InputError where this version
    cannot read it."""
    try:
        recipe = Recipe.model_validate(run.recipe)
        return recipe.with_wording(stored_wording(recipe.templates, run.templates)) if recipe.templates else recipe
    except ValidationError as error:
        raise InputError(
            f"run {run.run_id}: its recipe cannot be read by this version: {error.errors(include_url=False)[0]['msg']}",
            hint="use the version of constitution that ran it, or say who judges with --model or --recipe",
        ) from None


@dataclass(frozen=True, slots=True)
class Case:
    """One pair, and the principles that vote on it."""

    prompt: Prompt
    pair: Pair
    principles: tuple[Principle, ...]


async def hear(panel: Panel, run_id: str, cases: Sequence[Case]) -> dict[str, list[Votes]]:
    """Per judge, by name, what became of its votes on each of `cases`.

    One judge after the other, so that one model at a time is in memory. A vote that fails is a Failure in its Votes;
    raises ModelLoadError, RecipeError or EngineUnavailable where an engine does not open.
    """
    heard = {}
    for given, section in panel.judges.items():
        async with opened(section) as engine:
            name = given or engine.model
            own = panel.section.of(section).model_copy(update={"principles": "all"})
            asked = panel.through(engine, section) if panel.through else engine
            heard[name] = await _hear(cases, Judge(run_id, panel.seed, 1, asked, name, (), own, panel.wording))
    return heard


async def _hear(cases: Sequence[Case], judge: Judge) -> list[Votes]:
    tasks, room = [], Window(WINDOW)
    async with asyncio.TaskGroup() as group:
        for case in cases:
            own = replace(judge, principles=case.principles)
            await room.acquire()
            tasks.append(room.start(group, vote(own, case.prompt, case.pair, {}, _discard)))
    return [task.result() for task in tasks]


async def _discard(rows: Sequence[Row]) -> None:
    """Nothing is written: the Votes hold the rows."""
