"""What judges read of single answers, and the rewards that are made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from constitution.records.kinds import RewardReason, StoredSource


class Step(NamedTuple):
    """A sentence of an answer."""

    upto: int
    """Characters of the answer up to its end (measures/sentences.py)."""
    value: float | None
    """How surely nothing up to there breaks a criterion, from 0 to 1: the least of them, a mean over judges. None: a
    reading is missing."""


@dataclass(frozen=True, slots=True)
class Score:
    """What a judge says of one answer by itself: one criterion of one principle, or a grade by one principle; of a
    scorecard, which is asked afterwards, or of the rewards of the run."""

    id: str
    """Digest of run, answer, judge, its model and settings, seed, scorecard, principle (its digest), criterion and
    template; of a reward, of run, answer, judge, source, principle (its digest), criterion and, by sentence, `upto`."""
    run_id: str
    prompt_id: str
    response_id: str
    """`Response.id` or `Counterfactual.id`."""
    judge: str
    scorecard: str
    """name@version of the constitution that asks; empty: it is of a reward of the run."""
    principle_id: str
    """Empty: it is asked by no principle, but by an item of the prompt's rubric."""
    principle_digest: str
    metric: str
    """The principle's first tag: refusal-full, refusal-partial, undesired, helpful; of a reward, its source: rubric,
    grade, model, sentence, prompt-rubric."""
    category: str
    """Its second tag, of `undesired` what it is; empty: none."""
    criterion: int | None
    """Place in the principle's `criteria` or in the prompt's rubric, from 0; None: a grade."""
    question: str
    """The words that were asked: the criterion's, or the principle's comparison question."""
    good: Literal["yes", "no"] | None
    """The reply that speaks for the answer; None: a grade."""
    weight: float
    """The principle's times the criterion's, or the item's (`RubricItem.weight`)."""
    p_yes: float | None
    """P(yes) / (P(yes) + P(no)), as it was read; None: a grade, or a reward model's score."""
    label_mass: float | None
    """Probability that fell on all replies together, before renormalising; None: a reward model has no replies."""
    template_digest: str
    seed: int | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    censored: bool = False
    """True: one of the replies was not read but bounded, as `Judgement.censored`."""
    grades: tuple[float, ...] | None = None
    """Raw probability of each grade, from the lowest; None: a criterion."""
    calls: int = 1
    """Calls to the engine; 0: an answer to the same prompt has the same text, and that was asked."""
    upto: int | None = None
    """Characters of the answer that were shown, from its beginning; None: all."""
    rubric_id: str | None = None
    """`RubricItem.id` of the item that was asked; None: a principle's criterion, or a grade."""
    raw: float | None = None
    """What a reward model says, on its own scale; by last-token, the token's log-probability. None: a judge's
    reading."""

    def counts(self, least: float) -> bool:
        """Whether there is as much probability on its replies, where it has any."""
        return self.label_mass is None or self.label_mass >= least

    @property
    def value(self) -> float:
        """How well it speaks for the answer, from 0 to 1: P(the good reply), or the expected grade between the lowest
        and the highest. A reward model's score is on no such scale."""
        if self.grades is not None:
            expected = sum(place * p for place, p in enumerate(self.grades)) / sum(self.grades)
            return min(expected / (len(self.grades) - 1), 1.0)
        assert self.p_yes is not None
        return self.p_yes if self.good == "yes" else 1 - self.p_yes


@dataclass(frozen=True, slots=True)
class Reward:
    """One number of one answer by one source. Rewards of different sources are not comparable."""

    id: str
    """Digest of run, answer and source."""
    run_id: str
    prompt_id: str
    response_id: str
    source: StoredSource
    value: float | None
    """From 0 to 1; of votes, the mean probability of beating each of the prompt's other samples; of a reward model, the
    place among the prompt's answers (judge/by_model.py). None: `reason` says
    why there is none."""
    raw: float | None
    """Before a veto, on the source's own scale: of grades the expected one, from 1; of votes the log strength, whose
    mean over the prompt's samples is 0; of a prompt's rubric the points over those that can be had, which lost points
    take below 0 (`value` is its place between the least that they allow and 1); of a reward model its score; by
    last-token, what is clipped to make the value; of the others as `value`."""
    readings: int
    """Rows of `scores` that it is made of; 0 for rules, which no judge reads. Of votes: its labelled pairs."""
    missing: int
    """Readings that were asked for and are not among them: failed, or short of label mass. Of votes: its pairs without
    a label."""
    least_essential: float | None
    """The worst of the essential criteria, from 0 to 1, a mean over judges; None: there is none, or it was not read."""
    length_penalty: float | None
    """To be added to `value`, which is without it; 0 or less. None: the recipe has none."""
    judges: tuple[str, ...] = ()
    """Whose readings it is made of."""
    reason: RewardReason | None = None
    """Why there is no value; None: there is one."""
    low: float | None = None
    """Ends of the 95 % interval of `value` by votes (measures/bradley_terry.py); None: other sources."""
    high: float | None = None
    steps: tuple[Step, ...] | None = None
    """By sentence: the sentences in their order, of which `value` is the least. None: other sources, or no text."""
    said: str | None = None
    """By match: what was read off the answer. None: other sources, or nothing could be read."""

    @property
    def total(self) -> float | None:
        """With the length penalty: what answers are ranked by. Rounded, so that sums that are the same number, such as
        0.9 - 0.3 and 0.6, are the same reward."""
        return None if self.value is None else round(self.value + (self.length_penalty or 0.0), 12)
