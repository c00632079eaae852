"""Profiles of a constitution: other weights of the same principles, for other people, by which one set of votes has
other labels (labels/profiles.py)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from constitution.principles.change import Change
from constitution.records import Constitution, Principle, Profile, SystemPrompt

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ProfileTable(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, str_strip_whitespace=True)

    id: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    weights: dict[str, Weight] = {}
    system_prompt: str = ""
    description: str = ""
    group: str = ""

    @property
    def record(self) -> Profile:
        weights = tuple(sorted((name, float(weight)) for name, weight in self.weights.items()))
        return Profile(self.id, weights, self.system_prompt, self.description, self.group)


def profile_faults(
    profile: Profile, principles: Collection[Principle], prompts: Collection[SystemPrompt]
) -> Iterator[str]:
    """What a profile names that its constitution does not have, or cannot be labelled by."""
    known = {principle.id: principle for principle in principles}
    for name, _ in profile.weights:
        if name not in known:
            yield f"weights: there is no principle {name}; there are {', '.join(known)}"
        elif not known[name].compares:
            yield f"weights: {name} has no comparison_question, so it has no votes that could count"
    if profile.system_prompt and profile.system_prompt not in {prompt.id for prompt in prompts}:
        yield f"system_prompt: there is no system prompt {profile.system_prompt}; give it in [[system_prompts]]"
    own = dict(profile.weights)
    if not any(own.get(each.id, each.weight) for each in principles if each.compares):
        yield "weights: no principle that compares counts; give one of them a weight above 0"


def profile_changes(a: Constitution, b: Constitution, *, words: bool = True) -> Iterator[Change]:
    """By id. words: their descriptions count too."""
    before, after = ({each.id: _text(each, words) for each in c.profiles} for c in (a, b))
    for id in dict.fromkeys((*before, *after)):
        if before.get(id) != after.get(id):
            yield Change("profiles", None, f"profile {id}", before.get(id, ""), after.get(id, ""))


def _text(profile: Profile, words: bool) -> str:
    """All of it, a line a field."""
    weights = ", ".join(f"{name} {weight!r}" for name, weight in profile.weights)
    fields = {"weights": weights or "those of the principles", "system_prompt": profile.system_prompt}
    fields |= {"group": profile.group, "description": profile.description if words else ""}
    return "\n".join(f"{name}: {value}" for name, value in fields.items() if value)
