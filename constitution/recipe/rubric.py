"""Where the rubric of each prompt comes from ([rubric])."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from constitution.recipe.base import Count, Section

if TYPE_CHECKING:
    from constitution.recipe.sections import Recipe


class RubricSection(Section):
    """The questions that the reward source `prompt-rubric` asks of the answers to a prompt."""

    sources: tuple[Literal["given"], ...] = Field(alias="from", min_length=1)
    """given: with the prompt (`prompts.rubric`)."""
    at_least: Count = 1
    """Items that must be left: a prompt with fewer has no rubric, and its answers no reward by one."""
    at_most: Count = 50
    """Further items are dropped, from the last."""

    @model_validator(mode="after")
    def _can_be_had(self) -> Self:
        if len(set(self.sources)) < len(self.sources):
            raise ValueError("from: a source is there twice")
        if self.at_least > self.at_most:
            raise ValueError("at_least: is more than at_most")
        return self


def check_rubric(recipe: Recipe) -> None:
    """Raises ValueError for a rubric that nothing asks or that is made from what is not there."""
    section, asked = recipe.rubric, recipe.reward is not None and "prompt-rubric" in recipe.reward.by
    if section is None:
        if asked:
            raise ValueError("reward.by: prompt-rubric reads a prompt's rubric, and there is no section [rubric]")
        return
    if not asked:
        raise ValueError('rubric: nothing asks it; name "prompt-rubric" in reward.by')
    if ("given" in section.sources) != (recipe.prompts.rubric is not None):
        raise ValueError("rubric.from: given reads the key that prompts.rubric names; one needs the other")
