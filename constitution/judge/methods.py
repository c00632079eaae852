"""The ways to take one vote, as data: all that others need to know of a method. The warehouse has it as the view
`methods`.

A further method takes its own module with a coroutine `(Question) -> Verdict`, a row here, and its name in
`records.Method`. Nothing here loads an engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from constitution import templates
from constitution.errors import RecipeError
from constitution.records import Method, Principle

if TYPE_CHECKING:
    from constitution.recipe import Recipe


@dataclass(frozen=True, slots=True)
class JudgingMethod:
    ask: str
    """`module:coroutine` that takes one vote."""
    templates: templates.TemplateSet
    """What its requests are rendered with."""
    orders: tuple[str, ...] = ("ab", "ba")
    """Which of the pair's answers is shown first. Where each is looked at by itself there is no order to swap."""
    reads: Literal["", "grades", "criteria"] = ""
    """What it reads of each answer by itself (`Judgement.read_first`, `read_second`). grades: the probability of each,
    from the lowest. criteria: P(yes) of each of the principle's. Empty: nothing."""
    clamped: bool = False
    """Its votes count as no less and no more than `judge.clamp`."""
    written: bool = False
    """The judge writes before the vote, so that a repeat with another seed is another vote."""


_WAYS = "constitution.judge.ways"

METHODS: Mapping[Method, JudgingMethod] = {
    "label": JudgingMethod(f"{_WAYS}:label", templates.JUDGE),
    "rationale": JudgingMethod(f"{_WAYS}:rationale", templates.RATIONALE, clamped=True, written=True),
    "score": JudgingMethod(f"{_WAYS}:score", templates.SCORE, orders=("ab",), reads="grades"),
    "rubric": JudgingMethod(f"{_WAYS}:rubric", templates.RUBRIC, orders=("ab",), reads="criteria"),
}


def check(recipe: Recipe, principles: Sequence[Principle], constitution: str) -> None:
    """Raises RecipeError where the recipe's method needs criteria that one of the `principles` of `constitution`
    (name@version) lacks, and where its repeats would be the same vote over again."""
    section = recipe.judge
    if section is None:
        return
    method, bare = METHODS[section.method], [principle.id for principle in principles if not principle.criteria]
    if method.reads == "criteria" and bare:
        raise RecipeError(
            f"judge.method: {section.method} needs criteria, and {constitution} has none for {', '.join(bare)}",
            hint="give them criteria in a new version, or leave them out with judge.only",
        )
    judges = recipe.model.jury.values() or [recipe.model.judge or recipe.model.policy]
    if section.repeats == 1 or all(judge.engine == "fake" for judge in judges):  # its noise is drawn by the seed
        return
    if not method.written:
        raise RecipeError(
            f"judge.repeats: by method {section.method} every repeat is the same vote, for no seed changes the "
            "probabilities that are read",
            hint='leave it out, or set method = "rationale" with a temperature',
        )
    if not section.rationale.temperature:
        raise RecipeError("judge.repeats: at judge.rationale.temperature 0 every repeat is the same vote")
