"""A prompt's reference, read by the constitution before anything is made from it.

    failures = await check.made(prompt, have, emit)
    found = reference_of(prompt.id, have)       # None: not yet; a text: why there is none; or the Response

What a model says more often than not may break a principle more often than not: where 78 % of single answers broke one,
so did 75 % of the groups' commonest, and rubrics made from these rewarded those who did. So each criterion of the
principles is asked of the reference as of an answer, and one that breaks any is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from constitution import templates
from constitution.engines.base import Engine
from constitution.errors import RecipeError
from constitution.generate.base import Emit
from constitution.generate.reference import reference_of as reference_of
from constitution.generate.reference import whole
from constitution.identity import row_id
from constitution.judge.agreement import WORDS, Agreement, agreement
from constitution.judge.by_rubric import criteria_of
from constitution.judge.extract import Extract, extract_of
from constitution.judge.reward import Reading, Rewarder
from constitution.judge.sources import Item
from constitution.principles.selection import select
from constitution.recipe import Recipe, ReferenceSection, RewardSection
from constitution.records import (
    HELD_BACK,
    REPEATS,
    Constitution,
    CriterionKind,
    Failure,
    Prompt,
    ReferenceCheck,
    ReferenceDrop,
    Response,
    Row,
    Run,
    Score,
)

METRIC = "reference"
"""The metric of its rows of `scores`."""
_UNASKED: tuple[CriterionKind, ...] = ("optional",)
Read = tuple[Reading, Score | Failure | None]


@dataclass(frozen=True, slots=True)
class Check:
    """What the checks of one start of a run have in common."""

    run_id: str
    section: ReferenceSection
    items: tuple[Item, ...]
    """The criteria; none: it is not read."""
    readers: Rewarder
    """By what they are asked."""
    extract: Extract = WORDS
    """How what an answer comes to is read off its text."""

    async def made(self, prompt: Prompt, have: Mapping[str, Row], emit: Emit) -> tuple[Failure, ...]:
        """The row of the prompt's reference, made once: not while a reading may still come. Returns the failures that
        left it out, or without a reading."""
        reference = next((row for row in have.values() if isinstance(row, Response) and row.kind == "reference"), None)
        if reference is None:
            return ()
        id = row_id(self.run_id, reference.id, "check")
        unfit = _unfit(reference, have)
        known = isinstance(have.get(id), ReferenceCheck)
        found = [] if unfit else await self._readings(prompt, reference, have, emit, known)
        failures = tuple(row for _, row in found if isinstance(row, Failure))
        if not known and not any(failure.retryable for failure in failures):
            await emit([self._row(id, reference, unfit, found, have)])
        return failures

    def readings(self) -> list[Reading]:
        """All of one reference."""
        judges = self.readers.judges.items()
        return [Reading(METRIC, name, engine, item) for name, engine in judges for item in self.items]

    async def _readings(
        self, prompt: Prompt, reference: Response, have: Mapping[str, Row], emit: Emit, known: bool
    ) -> list[Read]:
        async with asyncio.TaskGroup() as group:
            tasks = [
                (each, group.create_task(self.readers.reading(prompt, [reference], each, have, emit, known)))
                for each in self.readings()
            ]
        return [(each, task.result()) for each, task in tasks]

    def _row(
        self,
        id: str,
        reference: Response,
        unfit: ReferenceDrop | None,
        found: Sequence[Read],
        have: Mapping[str, Row],
    ) -> ReferenceCheck:
        least = self.section.min_label_mass
        there = [(each.item, row) for each, row in found if isinstance(row, Score) and row.counts(least)]
        worst = _worst(there)
        missing = len(found) - len(there)
        reason = unfit
        if reason is None:
            breaks = worst is not None and worst[0] < self.section.bar
            reason = "breaks" if breaks else "readings-missing" if missing else None
        said = self._agreement(reference, have) if reference.text else Agreement()
        return ReferenceCheck(
            id=id,
            run_id=self.run_id,
            prompt_id=reference.prompt_id,
            response_id=reference.id,
            source=self.section.source,
            agrees=said.agrees,
            majority=said.majority,
            readings=len(there),
            missing=missing,
            least=worst[0] if worst else None,
            principle_id=worst[1].principle_id if worst else None,
            drop_reason=reason,
        )

    def _agreement(self, reference: Response, have: Mapping[str, Row]) -> Agreement:
        samples = [row for row in have.values() if isinstance(row, Response) and row.kind == "sample"]
        texts = [answer.text for answer in whole(samples)]
        return agreement(reference.text, texts, self.extract, given=self.section.source == "given")


def _unfit(reference: Response, have: Mapping[str, Row]) -> ReferenceDrop | None:
    """Why it is not even read: what became of its text where it was written; None: it is."""
    written: Row | None = reference
    while isinstance(written, Response) and written.outcome in REPEATS:
        written = have.get(written.parent_id or "")
    if not isinstance(written, Response):
        return None
    if written.copied_from is not None:
        return "copied"
    if written.outcome in HELD_BACK or written.outcome == "cut":
        return "cut" if written.outcome == "cut" else "refused" if written.outcome == "refused" else "filtered"
    return None if written.text else "empty"


def _worst(there: Sequence[tuple[Item, Score]]) -> tuple[float, Item] | None:
    """The least of the criteria, each by its mean over judges; of equal ones the first."""
    values: dict[int, list[float]] = {}
    items = {id(item): item for item, _ in there}
    for item, row in there:
        values.setdefault(id(item), []).append(row.value)
    means = [(sum(each) / len(each), items[key]) for key, each in values.items()]
    return min(means, key=lambda each: each[0], default=None)


def reading_references(recipe: Recipe, constitution: Constitution) -> tuple[Item, ...]:
    """The criteria that references are read by; none where they are not read. Raises RecipeError for what cannot be."""
    section = recipe.reference
    if section is None or not section.bar:
        return ()
    for model in recipe.model.judges.values():
        if model.engine == "openai" and not model.logprobs:
            raise RecipeError(
                f"reference: it is read by log-probabilities, which the API of {model.model} does not have "
                f"(dialect = {model.dialect!r})",
                hint="name judges that give them, or set reference.bar = 0, which takes it as it is",
            )
    with_criteria = [each for each in constitution.principles if each.criteria]
    if not with_criteria:
        raise RecipeError(
            f"reference: no principle of {constitution.label} has criteria, which references are read by",
            hint="give principles some in a new version, or set reference.bar = 0, which takes the reference as it is",
        )
    those = select(with_criteria, section.principles, f"reference.principles ({constitution.label}, with criteria)")
    # What lacks an optional one breaks nothing.
    return criteria_of(those, without=_UNASKED)


def check_texts(recipe: Recipe) -> Mapping[str, templates.TemplateSet]:
    """What its requests are rendered with, by their metric; nothing where none are made."""
    section = recipe.reference
    return {METRIC: recipe.wording.of(templates.RUBRIC)} if section and section.bar else {}


def check_of(recipe: Recipe, constitution: Constitution, run: Run, judges: Mapping[str, Engine]) -> Check | None:
    """For this start of the run; None where the recipe has no references."""
    section = recipe.reference
    if section is None:
        return None
    items = reading_references(recipe, constitution)
    readers = Rewarder(run.run_id, recipe.seed, run.starts, RewardSection(), judges, {}, check_texts(recipe))
    match = recipe.reward.match if recipe.reward else None
    return Check(run.run_id, section, items, readers, extract_of(match) if match else WORDS)
