"""A recipe: one TOML file that says all of a run: prompts, models, revise, judge, output.

    recipe = load_recipe(Path("recipes/pocket.toml"), overrides=["revise.rounds=4"])

Unknown fields are refused, with the nearest name. A relative `prompts.path` or `prompts.dataset` is relative to the
recipe's file; one given by --set is relative to the working directory, as in any other command.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from constitution.errors import RecipeError
from constitution.overrides import apply
from constitution.reading import toml_of
from constitution.recipe.base import SamplingSection, names
from constitution.recipe.judge import Confirm, JudgeSection
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
)
from constitution.recipe.prompts import PromptsSection
from constitution.recipe.reference import ReferenceSection
from constitution.recipe.reward import LastTokenSection, LengthSection, MatchSection, RewardSection, RulesSection
from constitution.recipe.rubric import RubricSection
from constitution.recipe.sample import SampleSection
from constitution.recipe.sections import (
    BudgetSection,
    OutputSection,
    PerturbSection,
    Recipe,
    ReviseSection,
)
from constitution.secrets import key_in

__all__ = [
    "BudgetSection",
    "Confirm",
    "FakeModel",
    "GivenModel",
    "JudgeSection",
    "LastTokenSection",
    "LengthSection",
    "MatchSection",
    "ModelSection",
    "Models",
    "OpenAIModel",
    "OutputSection",
    "PerturbSection",
    "Price",
    "PromptsSection",
    "Recipe",
    "ReferenceSection",
    "ReviseSection",
    "RewardSection",
    "RubricSection",
    "RulesSection",
    "SampleSection",
    "SamplingSection",
    "TransformersModel",
    "VLLMModel",
    "dated",
    "load_recipe",
]


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
    _ = recipe.wording  # a folder that is not there is reported with the recipe's other faults
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
        engine = 3 if words[1:2] in (["jury"], ["pool"]) else 2
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
    there = _fields_at(fault["loc"][:-1])
    near = [other for other in there if other.startswith(name)][:1] if len(name) > 2 else []
    near = near or difflib.get_close_matches(name, there, n=1)
    return f"{place}: unknown field; " + (f"did you mean {near[0]}?" if near else f"there are {', '.join(there)}")


def _fields_at(loc: tuple[int | str, ...]) -> list[str]:
    """Names of the fields of the section in this place of a recipe, as pydantic writes it."""
    sections: list[type[BaseModel]] = [Recipe]
    for part in map(str, loc):
        fields = [section.model_fields[part] for section in sections if part in section.model_fields]
        engines = [one for one in sections if "engine" in one.model_fields and _engine(one) == part]
        inner = [model for field in fields for model in _models_in(field.annotation)]
        sections = inner or engines or sections
    return list(dict.fromkeys(name for section in sections for name in names(section)))


def _field(loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    return tuple(part for part in loc if not _KIND.fullmatch(str(part)))


def _wrong(fault: ErrorDetails) -> str:
    """What is wrong, in the words of those who write TOML and not of those who write Python."""
    if fault["type"] in _EXPECTED:
        return f"has to be {_EXPECTED[fault['type']]}"
    if fault["type"] == "union_tag_invalid":
        field, known = fault["ctx"]["discriminator"].strip("'"), fault["ctx"]["expected_tags"]
        known = known.removesuffix(", 'given'")  # which a program passes, and no file can
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
    places: dict[str, dict[str, None]] = {}
    for section, at in _sections(Recipe, "the recipe itself"):
        for name in names(section):
            places.setdefault(name, {})[at] = None
    return {name: ", ".join(places[name]) for name in sorted(places)}


def _sections(section: type[BaseModel], at: str) -> Iterator[tuple[type[BaseModel], str]]:
    """The section and those in it, with what they are called."""
    yield section, at
    for name, field in section.model_fields.items():
        for inner in _models_in(field.annotation):
            if "engine" in inner.model_fields:
                yield from _sections(inner, f"a model of engine {_engine(inner)}")
            else:
                yield from _sections(inner, _SHARED.get(inner, f"[{name}]"))


_SHARED = {Price: "price", SamplingSection: "[revise.initial] and its like"}


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)
