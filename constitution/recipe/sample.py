"""Samplers: where further answers come from, of the recipe's models or of a Python program (generate/own.py)."""

from __future__ import annotations

import json
from typing import Any, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from constitution.errors import RecipeError
from constitution.identity import canonical_json
from constitution.recipe.base import JsonOnly, SamplingSection


class SampleSection(SamplingSection):
    """A sampler: where further answers come from, each with the seed of its place."""

    model: str = "policy"
    """`policy`, or a name of `[model.pool.NAME]`."""
    n: int = Field(default=1, ge=1, le=256)
    """Answers to each prompt."""
    system_prompt: str = ""
    """Id of a system prompt of the constitution; empty: the conversation alone."""
    principles: tuple[str, ...] = ()
    """Tags or ids of those that fill the system prompt's placeholders; empty: all."""
    sees: Literal["nothing", "others"] = "nothing"
    """others: it is asked once the samplers that see nothing have answered, and its system prompt shows
    `{{answers}}`."""
    about: dict[str, JsonOnly] = Field(default={})
    """What a sampler that a Python program passes says determines its answers (`Recipe.with_samplers`)."""
    _own: Any = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if self.n > 1 and self.temperature == 0:
            raise ValueError("n: greedy answers (temperature 0) are all the same; set a temperature, or n = 1")
        if self.principles and not self.system_prompt:
            raise ValueError("principles: they fill a system prompt, and none is named; set system_prompt")
        return self

    @property
    def own(self) -> Any:
        """The program's Sampler; None: the model is asked."""
        return self._own

    def by(self, own: Any) -> Self:
        """The same, whose answers this Sampler of a Python program makes. Raises RecipeError as `about`."""
        given = self.model_copy(update={"about": about(own)})
        given._own = own
        return given


def about(own: Any) -> dict[str, Any]:
    """What determines the answers of a Sampler of a Python program, by its `describe`. Raises RecipeError where that is
    no JSON, and for one without a version."""
    name = type(own).__qualname__
    if not (isinstance(getattr(own, "version", None), str) and own.version):
        raise RecipeError(f"{name}: it has no version", hint='say version = "1", and change it with its answers')
    described = dict(own.describe())
    try:
        found: dict[str, Any] = json.loads(canonical_json(described))
    except (TypeError, ValueError) as error:
        raise RecipeError(
            f"{name}: what describe() gives is not JSON: {error}",
            hint="begin the names of attributes that do not decide its answers with an underscore",
        ) from None
    return found
