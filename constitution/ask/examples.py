"""A constitution's own tests: does a judge prefer `better` over `worse` in each principle's examples?

trials = await try_examples(constitution, Panel.of(recipe.model, recipe.judge))
assert all(trial.right for trial in trials)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from constitution.ask.panel import Case, Panel, hear
from constitution.generate.given import given_answers
from constitution.judge.ask import Votes
from constitution.judge.pairs import Pair, pairs
from constitution.labels import Rules, label_pair
from constitution.records import Constitution, Example, Judgement, Principle, Prompt

_RUN = "principles-test"
"""The run that rows name; no such run exists."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What one judge makes of one example of a principle, judged by that principle alone."""

    judge: str
    principle_id: str
    example: int
    """Its place among the principle's examples, from 1."""
    shown_first: float | None
    """Probability that `better` is better, where it was shown first; mean over repeats. None: no such vote."""
    shown_second: float | None
    """The same where it was shown second. None also where answers are looked at one by one (score, rubric)."""
    p: float | None
    """The label that these votes make, as a run's: probability that `better` is better. None: not judged."""
    failure: str = ""
    """Why votes are missing."""

    @property
    def judged(self) -> bool:
        return self.p is not None

    @property
    def right(self) -> bool:
        """A tie is not right."""
        return self.p is not None and self.p > 0.5 + 1e-12

    @property
    def flips(self) -> bool:
        """The judge prefers the same place, whichever answer is shown there."""
        if self.shown_first is None or self.shown_second is None:
            return False
        return (self.shown_first > 0.5) != (self.shown_second > 0.5)


async def try_examples(constitution: Constitution, panel: Panel) -> list[Trial]:
    """All examples before all judges of the panel: by judge, then in the file's order. Principles without examples
    have no trial."""
    examples = [
        (principle, number, example)
        for principle in constitution.principles
        for number, example in enumerate(principle.examples, 1)
    ]
    cases = [_case(principle, example, panel) for principle, _, example in examples]
    rules = Rules.of(panel.section)
    return [
        _trial(judge, principle, number, case.pair, votes, rules)
        for judge, by_case in (await hear(panel, _RUN, cases)).items()
        for (principle, number, _), case, votes in zip(examples, cases, by_case, strict=True)
    ]


def untested(constitution: Constitution) -> list[str]:
    """Ids of the principles that compare and have no example."""
    return [principle.id for principle in constitution.principles if principle.compares and not principle.examples]


def _case(principle: Principle, example: Example, panel: Panel) -> Case:
    """Put to no principle where the method reads criteria and there are none."""
    prompt = Prompt(example.messages, answers=(example.better, example.worse))
    [pair] = pairs(_RUN, prompt, given_answers(_RUN, prompt), ("given",))
    return Case(prompt, pair, () if panel.reads_criteria and not principle.criteria else (principle,))


def _trial(judge: str, principle: Principle, number: int, pair: Pair, votes: Votes, rules: Rules) -> Trial:
    label = label_pair(pair, votes.judgements, votes.expected, {principle.id: 1.0}, rules)
    first, second = _mean(votes.judgements, pair.a.id), _mean(votes.judgements, pair.b.id)
    return Trial(
        judge=judge,
        principle_id=principle.id,
        example=number,
        shown_first=first,
        shown_second=None if second is None else 1 - second,
        p=None if label.p_b is None else 1 - label.p_b,
        failure=_why(votes, label.votes, pair),
    )


def _mean(judgements: Sequence[Judgement], first_id: str) -> float | None:
    """Mean probability that the first is better, over the votes that showed `first_id` first."""
    shown = [vote.p_first for vote in judgements if vote.first_id == first_id]
    return sum(shown) / len(shown) if shown else None


def _why(votes: Votes, counted: int, pair: Pair) -> str:
    if votes.failures:
        return f"{votes.failures[0].error}: {votes.failures[0].message}"
    if not pair.votable:
        return "better and worse are the same text"
    if not votes.expected:
        return "the principle has no criteria"
    return "too little probability on the labels (judge.min_label_mass)" if not counted else ""
