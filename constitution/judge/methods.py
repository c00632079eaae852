"""The ways to take one vote, as data: all that others need to know of a method. The warehouse has it as the view
`methods`.

A further method takes its own module with a coroutine `(Question) -> Verdict`, a row here, and its name in
`records.Method`. Nothing here loads an engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from constitution import templates
from constitution.errors import RecipeError
from constitution.records import Method, Principle
from constitution.templates.wording import Wording

if TYPE_CHECKING:
    from constitution.recipe import JudgeSection, ModelSection, Recipe


@dataclass(frozen=True, slots=True)
class JudgingMethod:
    ask: str
    """`module:coroutine` that takes one vote."""
    templates: templates.TemplateSet
    """What its requests are rendered with, where the recipe names no others."""
    orders: tuple[str, ...] = ("ab", "ba")
    """Which of the pair's answers is shown first. Where each is looked at by itself there is no order to swap."""
    reads: Literal["", "grades", "criteria"] = ""
    """What it reads of each answer by itself (`Judgement.read_first`, `read_second`). grades: the probability of each,
    from the lowest. criteria: P(yes) of each of the principle's. Empty: nothing."""
    clamped: bool = False
    """Its votes count as no less and no more than `judge.clamp`."""
    written: bool = False
    """The judge writes before the vote, so that a repeat with another seed is another vote."""
    sampled: bool = False
    """A vote is a draw: 1, 0 or one half. The probability is the share of `judge.verdict.n` of them in each order."""


_WAYS = "constitution.judge.ways"

METHODS: Mapping[Method, JudgingMethod] = {
    "label": JudgingMethod(f"{_WAYS}:label", templates.JUDGE),
    "rationale": JudgingMethod(f"{_WAYS}:rationale", templates.RATIONALE, clamped=True, written=True),
    "score": JudgingMethod(f"{_WAYS}:score", templates.SCORE, orders=("ab",), reads="grades"),
    "rubric": JudgingMethod(f"{_WAYS}:rubric", templates.RUBRIC, orders=("ab",), reads="criteria"),
    "verdict": JudgingMethod("constitution.judge.verdict:verdict", templates.VERDICT, written=True, sampled=True),
}


LEAST = 3
"""Units of adaptive votes (judge/units.py): of fewer, none is spared."""


def repeats(section: JudgeSection) -> int:
    """How often each vote is asked for in each order."""
    return section.verdict.n if METHODS[section.method].sampled else section.repeats


def apart(sections: Iterable[JudgeSection]) -> int | None:
    """Repeats of each principle that adaptive votes ask for one by one. None: all together, for those of judges with
    more of them are none of all judges, and by majority they outvote the other side together. sections: the judges'."""
    found = {None if section.aggregate == "majority" else repeats(section) for section in sections}
    return found.pop() if len(found) == 1 else None


def templates_of(section: JudgeSection, wording: Wording) -> templates.TemplateSet:
    """What the section's votes are rendered with, in the recipe's words."""
    fine = section.method == "score" and section.score.steps > len(templates.GRADES)
    return wording.of(templates.SCORE_FINE if fine else METHODS[section.method].templates)


def check(recipe: Recipe, principles: Sequence[Principle], constitution: str) -> None:
    """Raises RecipeError where a judge's method needs criteria that one of the `principles` of `constitution`
    (name@version) lacks, and where its votes would be the same over again."""
    section = recipe.judge
    if section is None:
        return
    _check_adaptive(section, [section.of(model) for model in recipe.model.judges.values()], len(principles))
    bare = [principle.id for principle in principles if not principle.criteria]
    for model in recipe.model.judges.values():
        own = section.of(model)
        if METHODS[own.method].reads == "criteria" and bare:
            raise RecipeError(
                f"judge.method: {own.method} needs criteria, and {constitution} has none for {', '.join(bare)}",
                hint="give them criteria in a new version, or leave them out with judge.only",
            )
        _check_logprobs(own, model)
        _check_repeats(own, model)


def _check_adaptive(section: JudgeSection, judges: Sequence[JudgeSection], principles: int) -> None:
    wanted = principles if section.principles == "all" else min(section.principles, principles)
    if section.votes == "adaptive" and wanted * (apart(judges) or 1) < LEAST:
        raise RecipeError(
            f"judge.votes: of the votes by {wanted} principle{'s' * (wanted > 1)} on a pair none can be spared",
            hint="leave it out, or let more principles vote",
        )


def _check_logprobs(section: JudgeSection, model: ModelSection) -> None:
    if model.engine == "openai" and not model.logprobs and not METHODS[section.method].sampled:
        raise RecipeError(
            f"judge.method: {section.method} reads log-probabilities, which the API of {model.model} does not have "
            f"(dialect = {model.dialect!r})",
            hint='set judge.method = "verdict"',
        )


def _check_repeats(section: JudgeSection, model: ModelSection) -> None:
    method, again = METHODS[section.method], "every repeat is the same vote"
    if method.sampled:
        if section.repeats > 1:
            raise RecipeError(f"judge.repeats: verdicts are asked for judge.verdict.n times ({section.verdict.n})")
        if section.verdict.n > 1 and not section.verdict.temperature:
            raise RecipeError("judge.verdict.n: at judge.verdict.temperature 0 every verdict is the same")
    elif section.repeats == 1 or model.engine == "fake":  # its noise is drawn by the seed
        return
    elif not method.written:
        raise RecipeError(
            f"judge.repeats: by method {section.method} {again}, for no seed changes the probabilities that are read",
            hint='leave it out, or set method = "rationale" with a temperature',
        )
    elif not section.rationale.temperature:
        raise RecipeError(f"judge.repeats: at judge.rationale.temperature 0 {again}")
