"""Where the reference of each prompt comes from ([reference]): the answer that a rubric or a match is made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from constitution.recipe.base import Section

if TYPE_CHECKING:
    from constitution.recipe.sections import Recipe


class ReferenceSection(Section):
    source: Literal["revision"] = Field(alias="from")
    """revision: the chain's last whole revision."""
    principles: tuple[str, ...] = ()
    """Tags or ids of those by whose criteria it is read before anything is made from it; empty: all that have some."""
    bar: float = Field(default=0.5, ge=0, le=1)
    """A reference of which a criterion, other than an optional one, is under it is dropped. 0: it is not read."""
    min_label_mass: float = Field(default=0.0, ge=0, le=1)
    """A reading with less probability on its replies counts as missing."""

    @model_validator(mode="after")
    def _each_has_use(self) -> Self:
        fields = type(self).model_fields
        for name in ("principles", "min_label_mass") if not self.bar else ():
            if getattr(self, name) != fields[name].default:
                raise ValueError(f"{name}: is about reading it, and with bar = 0 it is not read")
        return self


def check_reference(recipe: Recipe) -> None:
    """Raises ValueError for a reference that there is nothing to make from."""
    section = recipe.reference
    if section is not None and not (recipe.chain and recipe.revise.rounds):
        raise ValueError("reference.from: revision needs revise.rounds of 1 or more")
