"""A recipe: one TOML file that says all of a run: prompts, models, revise, judge, output.

    recipe = load_recipe(Path("recipes/pocket.toml"), overrides=["revise.rounds=4"])

Unknown fields are refused, with the nearest name. A relative `prompts.path` or `prompts.dataset` is relative to the
recipe's file; one given by --set is relative to the working directory, as in any other command.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from constitution.errors import RecipeError
from constitution.overrides import apply
from constitution.reading import toml_of
from constitution.recipe.base import SamplingSection, Section, Whole
from constitution.recipe.models import (
    FakeModel,
    GivenModel,
    Models,
    ModelSection,
    OpenAIModel,
    Price,
    TransformersModel,
    VLLMModel,
    dated,
    given,
)
from constitution.recipe.sections import (
    BudgetSection,
    JudgeSection,
    OutputSection,
    PerturbSection,
    PromptsSection,
    ReviseSection,
)
from constitution.secrets import key_in

__all__ = [
    "BudgetSection",
    "FakeModel",
    "GivenModel",
    "JudgeSection",
    "ModelSection",
    "Models",
    "OpenAIModel",
    "OutputSection",
    "PerturbSection",
    "Price",
    "PromptsSection",
    "Recipe",
    "ReviseSection",
    "SamplingSection",
    "TransformersModel",
    "VLLMModel",
    "dated",
    "load_recipe",
]


class Recipe(Section):
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    description: str = ""
    seed: Whole = 1
    constitution: str
    """name@version, looked up in the project's principles/ folder."""
    prompts: PromptsSection
    model: Models
    revise: ReviseSection = ReviseSection()
    perturb: PerturbSection | None = None
    """Absent: no answer is spoiled."""
    judge: JudgeSection | None = None
    """Absent: no votes."""
    output: OutputSection = OutputSection()
    budget: BudgetSection | None = None
    """Absent: no limit."""
    _given: frozenset[str] = frozenset()
    _path: Path = Path("recipe.toml")

    @property
    def path(self) -> Path:
        """The file that it was loaded from; principles/ is looked for above it."""
        return self._path

    def with_engines(self, engines: Mapping[str, Any]) -> Self:
        """The recipe with these Engines in place of its models, by role: policy, judge, or a name of the jury. Raises
        RecipeError for another role."""
        models = self.model
        roles = {"policy", *(models.jury or {"judge"})}
        if unknown := sorted(engines.keys() - roles):
            raise RecipeError(
                f"engines: the recipe has no model {unknown[0]}", hint=f"its models are {', '.join(sorted(roles))}"
            )
        sections = {role: given(engine) for role, engine in engines.items()}
        jury = {name: sections.get(name, section) for name, section in models.jury.items()}
        alone = {role: section for role, section in sections.items() if role not in jury}
        return self.model_copy(update={"model": models.model_copy(update={**alone, "jury": jury})})

    def given(self, key: str) -> bool:
        """Whether --set gave `key`, as a.b.c, or a section that it is in: the user's own word."""
        return any(f"{key}.".startswith(f"{each}.") for each in self._given)

    @model_validator(mode="after")
    def _pairs_exist(self) -> Self:
        if self.model.jury and self.model.judge:
            raise ValueError("model: has a judge and a jury; name the judge among the jury")
        if self.judge and (self.judge.quorum or 1) > max(len(self.model.jury), 1):
            raise ValueError("judge.quorum: more than there are judges")
        if self.perturb and not self.judge:
            raise ValueError("perturb: spoiled answers are for judges, and there is no section [judge]")
        if self.judge and not self.judge.pairs and not self.perturb:
            raise ValueError("judge.pairs: there would be nothing to vote on; leave the section [judge] out instead")
        pairs = self.judge.pairs if self.judge else ()
        if self.revise.rounds == 0 and {"first-last", "parent"} & set(pairs):
            raise ValueError("judge.pairs: first-last and parent need revise.rounds of 1 or more")
        if "given" in pairs and len(self.prompts.answers) < 2:
            raise ValueError("judge.pairs: given needs two or more keys in prompts.answers")
        return self

    @model_validator(mode="after")
    def _budget_has_prices(self) -> Self:
        sections = [self.model.policy, self.model.judge, *self.model.jury.values()]
        if self.budget and not any(section and section.price for section in sections):
            raise ValueError("budget: without a price of any model ([model.policy.price]) nothing counts towards it")
        return self


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in `path`, with `overrides` of the form a.b=c (constitution/overrides.py)."""
    path = Path(path)
    data = toml_of(path, str(path), RecipeError)
    apply(data, overrides)
    if place := key_in(data):
        raise RecipeError(
            f"{path}: {place}: a key does not belong in a recipe", hint="name its variable in api_key_env"
        )
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(f"{path}: {_first_fault(error)}") from None
    recipe._path = path
    recipe._given = frozenset(override.partition("=")[0] for override in overrides)
    return recipe


_EXPECTED = {
    "string_type": "text in quotes",
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type"), 'a list, e.g. ["one"]'),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type", "dataclass_type"), "a section or table"),
}
"""pydantic's kind of fault → what a recipe has to have there."""

_KIND = re.compile(r"[a-z_-]+\[.*\]|constrained-[a-z]+|int|str|float|bool")
"""In a fault's place, what is the name of a kind and not of a field."""


def _first_fault(error: ValidationError) -> str:
    """One fault as a phrase: place, what is wrong, and for an unknown name the nearest known one. Unknown names come
    first: a missing field is often one that was misspelt."""
    faults = error.errors(include_url=False)
    fault = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    words = [str(part) for part in fault["loc"]]
    if words[:1] == ["model"]:
        # After the section's name pydantic says the engine's, which is no part of the way to the field.
        engine = 3 if words[1:2] == ["jury"] else 2
        del words[engine : engine + 1]
    # Of a field that takes one of several kinds pydantic names the kind too, and has a fault for each.
    words = [word for word in words if not _KIND.fullmatch(word)]
    place = ".".join(words)
    if fault["type"] != "extra_forbidden":
        rivals = [other for other in faults if _field(other["loc"]) == _field(fault["loc"])]
        message = ", or ".join(dict.fromkeys(_wrong(rival) for rival in rivals)).replace(", or has to be ", " or ")
        return (f"{place}: " if place else "") + message
    name, known = str(fault["loc"][-1]), _known_fields()
    if name in known:
        return f"{place}: unknown field; there is one of this name in {known[name]}"
    near = [other for other in known if other.startswith(name)][:1] if len(name) > 2 else []
    near = near or difflib.get_close_matches(name, known, n=1)
    return f"{place}: unknown field" + (f"; did you mean {near[0]}?" if near else "")


def _field(loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    return tuple(part for part in loc if not _KIND.fullmatch(str(part)))


def _wrong(fault: ErrorDetails) -> str:
    """What is wrong, in the words of those who write TOML and not of those who write Python."""
    if fault["type"] in _EXPECTED:
        return f"has to be {_EXPECTED[fault['type']]}"
    if fault["type"] == "union_tag_invalid":
        field, known = fault["ctx"]["discriminator"].strip("'"), fault["ctx"]["expected_tags"]
        return f"{field}: {fault['ctx']['tag']!r} is none of {known}"
    if fault["type"] == "missing":
        return "is missing"
    if fault["type"] == "string_pattern_mismatch":
        return f"does not match {fault['ctx']['pattern']}"  # the value may be a key
    if fault["type"] == "union_tag_not_found":
        return f"{fault['ctx']['discriminator'].strip(chr(39))} is missing"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"].endswith(("too_long", "too_short")):
        message = message.replace("Tuple", "the list").replace(" after validation", "")
    return (message[0].lower() + message[1:]).replace("input should be", "has to be")


def _engine(section: type[BaseModel]) -> str:
    return str(*get_args(section.model_fields["engine"].annotation))


def _known_fields() -> dict[str, str]:
    """Every field's name, with the sections that have it."""
    sections: dict[type[BaseModel], str] = {Recipe: "the recipe itself", Models: "[model]", PromptsSection: "[prompts]"}
    sections |= {
        ReviseSection: "[revise]",
        JudgeSection: "[judge]",
        OutputSection: "[output]",
        BudgetSection: "[budget]",
    }
    sections |= {PerturbSection: "[perturb]", SamplingSection: "[revise.initial] and its like"}
    sections |= {Price: "price"} | {
        each: f"a model of engine {_engine(each)}" for each in get_args(get_args(ModelSection)[0])
    }
    names = {name for section in sections for name in section.model_fields}
    return {name: ", ".join(at for each, at in sections.items() if name in each.model_fields) for name in sorted(names)}
