"""Where the reference of each prompt comes from ([reference]): the answer that a rubric or a match is made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from constitution.recipe.base import SamplingSection
from constitution.records import ReferenceSource

if TYPE_CHECKING:
    from constitution.recipe.sections import Recipe


class ReferenceSection(SamplingSection):
    source: ReferenceSource = Field(alias="from")
    """revision: the chain's last whole revision. synthesis: written from the samples (Compute as Teacher, arXiv
    2509.14234). best: the whole sample with the highest reward by the first source. given: with the prompt
    (`prompts.reference`)."""
    model: str = "policy"
    """From synthesis: who writes it: `policy`, a name of [model.pool], or `judge`."""
    sees_prompt: bool = False
    """From synthesis: whether the writer is shown the conversation, which may have it answer for itself."""
    temperature: float = Field(default=0.0, ge=0, le=5)
    principles: tuple[str, ...] = ()
    """Tags or ids of those by whose criteria it is read before anything is made from it; empty: all that have some."""
    bar: float = Field(default=0.5, ge=0, le=1)
    """A reference of which a criterion, other than an optional one, is under it is dropped. 0: it is not read."""
    min_label_mass: float = Field(default=0.0, ge=0, le=1)
    """A reading with less probability on its replies counts as missing."""

    @model_validator(mode="after")
    def _each_has_use(self) -> Self:
        fields = type(self).model_fields
        for name in ("model", "sees_prompt", *SamplingSection.model_fields) if self.source != "synthesis" else ():
            if getattr(self, name) != fields[name].default:
                raise ValueError(f'{name}: is for from = "synthesis"; from {self.source} asks no model')
        for name in ("principles", "min_label_mass") if not self.bar else ():
            if getattr(self, name) != fields[name].default:
                raise ValueError(f"{name}: is about reading it, and with bar = 0 it is not read")
        return self


def check_reference(recipe: Recipe) -> None:
    """Raises ValueError for a reference that there is nothing to make from."""
    section, given = recipe.reference, recipe.prompts.reference
    if section is None:
        if given is not None:
            raise ValueError('prompts.reference: nothing reads it; [reference] with from = "given" does')
        return
    if (section.source == "given") != (given is not None):
        raise ValueError("reference.from: given reads the key that prompts.reference names; one needs the other")
    if section.source == "revision" and not (recipe.chain and recipe.revise.rounds):
        raise ValueError("reference.from: revision needs revise.rounds of 1 or more")
    if section.source in ("synthesis", "best") and recipe.samples < 2:
        raise ValueError(f"reference.from: {section.source} needs two samples or more ([sample.NAME])")
    if section.source == "best" and recipe.reward is None:
        raise ValueError("reference.from: best goes by rewards, and there is no section [reward]")
    if section.source == "best" and _rests_on_reference(recipe):
        raise ValueError(
            "reference.from: best goes by the first of reward.by, which is made from the reference itself or after it"
        )
    if recipe.reference_by == "judge" and recipe.model.jury:
        raise ValueError("reference.model: there are several judges; name one model, of [model.pool]")
    if recipe.reference_by not in (None, "policy", "judge", *recipe.model.pool):
        raise ValueError(f"reference.model: {section.model!r} is neither policy nor judge nor in [model.pool]")


def _rests_on_reference(recipe: Recipe) -> bool:
    """Whether rewards by the first source are made from the reference, or once it is there."""
    first: set[str] = {recipe.reward.by[0]} if recipe.reward else set()
    waits = recipe.rubric is not None and recipe.rubric.of_answers
    return "match" in first or ("prompt-rubric" in first and waits)
