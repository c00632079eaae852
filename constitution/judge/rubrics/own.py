"""The rubric of one prompt: made once, before any answer is rewarded by it, and found again in the prompt's rows.

    failures = await rubrics.make(prompt, have, emit)
    rubric_of(prompt.id, have)                          # None: not yet; (): it has none

All its items are written together, dropped ones with their reason: there is a whole rubric or none. A prompt of which
too few are left has none, and a row says so (a failure NoRubric).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from constitution.generate.base import Emit
from constitution.generate.failures import failure_id
from constitution.identity import row_id
from constitution.recipe import Recipe, RubricSection
from constitution.records import NO_RUBRIC, Failure, Prompt, Row, RubricItem, Run

STEP = "rubric"
"""That failures name; of what a model was asked for, with the source behind it."""


@dataclass(frozen=True, slots=True)
class Rubrics:
    """What the rubrics of one start of a run have in common."""

    run_id: str
    section: RubricSection

    async def make(self, prompt: Prompt, have: Mapping[str, Row], emit: Emit) -> tuple[Failure, ...]:
        """The rows of the prompt's rubric that `have` lacks. Returns why it has none."""
        rows: Sequence[RubricItem] = stored(prompt.id, have)
        if not rows:
            rows = self._given(prompt)
        failures = self._lacks(prompt, rows)
        made: list[Row] = [*rows, *failures]
        await emit([row for row in made if row.id not in have])
        return failures

    def _given(self, prompt: Prompt) -> list[RubricItem]:
        return [
            RubricItem(
                row_id(self.run_id, prompt.id, STEP, "given", number), self.run_id, prompt.id, "given", number,
                len(prompt.rubric), each.question, each.good, each.weight, each.kind, (), "given",
                "over-limit" if number >= self.section.at_most else None,
            )
            for number, each in enumerate(prompt.rubric)
        ]  # fmt: skip

    def _lacks(self, prompt: Prompt, rows: Sequence[RubricItem]) -> tuple[Failure, ...]:
        """The failure of a prompt that has no rubric."""
        left = [row for row in rows if row.drop_reason is None]
        if len(left) >= self.section.at_least and any(row.weight > 0 for row in left):
            return ()
        message = f"{len(left)} of {len(rows)} items are left, and at least {self.section.at_least} must be"
        if len(left) >= self.section.at_least:
            message = f"no point can be had: the weights of all {len(left)} items that are left are below 0"
        id = failure_id(self.run_id, prompt.id, STEP, prompt.id)
        return (Failure(id, self.run_id, prompt.id, STEP, NO_RUBRIC, message, retryable=False),)


def rubrics(recipe: Recipe, run: Run) -> Rubrics | None:
    """For this start of the run; None where the recipe has none."""
    return Rubrics(run.run_id, recipe.rubric) if recipe.rubric else None


def rubric_of(prompt_id: str, have: Mapping[str, Row]) -> tuple[RubricItem, ...] | None:
    """The items that are asked, by a prompt's rows by id; empty: the prompt has no rubric, for good. None: that cannot
    be said yet."""
    failures = [row for row in have.values() if isinstance(row, Failure) and row.prompt_id == prompt_id]
    if any(row.step.partition("-")[0] == STEP and not row.retryable for row in failures):
        return ()
    return tuple(row for row in stored(prompt_id, have) if row.drop_reason is None) or None


def stored(prompt_id: str, have: Mapping[str, Row]) -> tuple[RubricItem, ...]:
    """All its items, in their order; empty: none are there, or not all."""
    rows = [row for row in have.values() if isinstance(row, RubricItem) and row.prompt_id == prompt_id]
    return tuple(sorted(rows, key=lambda row: row.number)) if rows and len(rows) == rows[0].items else ()
