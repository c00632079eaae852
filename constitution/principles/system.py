"""System prompts of a constitution: what their placeholders mean, and which principles can fill them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from constitution.errors import RecipeError
from constitution.principles.selection import select
from constitution.records import Constitution, Principle, SystemPrompt

PLACEHOLDERS = ("principles", "reasons", "principle", "aim", "against", "answers")
"""`{{principles}}`: the aims of all principles, a line each; `{{reasons}}`: each with its reason. `{{principle}}`: aim
and reason of one that is drawn for each answer; `{{aim}}`, `{{against}}`: its aim alone, and the opposite.
`{{answers}}`: answers of other samplers, marked as theirs."""
DRAWN = frozenset({"principle", "aim", "against"})
LISTED = frozenset({"principles", "reasons"})
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")


def placeholders(text: str) -> set[str]:
    """Names in `{{…}}`."""
    return set(_PLACEHOLDER.findall(text))


def used_by(prompt: SystemPrompt) -> set[str]:
    return placeholders(prompt.text) | placeholders(prompt.thought)


def system_prompt_of(constitution: Constitution, id: str, where: str) -> SystemPrompt:
    """Raises RecipeError for an id that the constitution does not have; `where` is the recipe's field."""
    known = {prompt.id: prompt for prompt in constitution.system_prompts}
    if id not in known:
        there = ", ".join(known) or "none: give it [[system_prompts]] in a new version"
        raise RecipeError(f"{where}: {constitution.label} has no system prompt {id!r}", hint=f"it has {there}")
    return known[id]


def fillers(
    constitution: Constitution, prompt: SystemPrompt, names: Sequence[str], where: str
) -> tuple[Principle, ...]:
    """The principles that fill the prompt's placeholders, chosen by id or tag; none where it has no such placeholder.

    Raises RecipeError for principles that are asked for in vain, and for one without the text that is needed.
    """
    used = used_by(prompt)
    if not used & {*DRAWN, *LISTED}:
        if names:
            raise RecipeError(f"{where}: system prompt {prompt.id} has no place for a principle", hint="leave it out")
        return ()
    chosen = select(constitution.principles, names, f"{where} ({constitution.label})")
    for field in ("aim", *(["against"] if "against" in used else [])):
        if without := [principle.id for principle in chosen if not getattr(principle, field)]:
            raise RecipeError(
                f"{where}: system prompt {prompt.id} needs `{field}`, which {without[0]} of {constitution.label} lacks",
                hint=f"give it one in a new version, or name principles that have `{field}`",
            )
    return chosen
