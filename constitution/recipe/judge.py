"""How judges vote on pairs, and how the votes make labels ([judge])."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from constitution.recipe.base import Count, SamplingSection, Section
from constitution.recipe.models import ModelSection
from constitution.records import Method


class VerdictSection(SamplingSection):
    """How verdicts are written."""

    n: int = Field(default=4, ge=1, le=64)
    """Verdicts of each vote, each with another seed: the probability is their share."""
    max_tokens: Count = 1024


class ScoreSection(Section):
    steps: Literal[9, 20] = 9
    """Grades: the digits 1 to 9, or the letters T to A, each one token to any tokenizer."""


class TournamentSection(Section):
    rounds: Count | None = None
    """In each of them every one of a prompt's n samples meets one that it has not met. None: ceil(log2 n), which
    single out one that never loses, and one more, because judges err."""


Confirm = Literal["votes", "reward", "construction"]


class JudgeSection(Section):
    method: Method = "label"
    """label: the labels' probabilities, at once. rationale: the judge reasons first. score: it gives each answer a
    grade. rubric: it goes through the principle's checklist for each answer. verdict: it writes its choice, several
    times; for judges without log-probabilities."""
    verdict: VerdictSection = VerdictSection()
    """Method verdict: how many, and how they are written."""
    score: ScoreSection = ScoreSection()
    """Method score: how fine the grades are."""
    rationale: SamplingSection = SamplingSection(temperature=0.0)
    """Method rationale: how the reasoning is written; temperature 0 is greedy."""
    clamp: tuple[Annotated[float, Field(ge=0, le=0.5)], Annotated[float, Field(ge=0.5, le=1)]] = (0.4, 0.6)
    """Method rationale: a vote counts as no less and no more than this (arXiv 2212.08073, section 4.1)."""
    repeats: int = Field(default=1, ge=1, le=32)
    """How often each vote is asked for, each time with another seed; verdicts have `judge.verdict.n`."""
    quorum: Count | None = None
    """Judges: a pair is labelled once this many have cast all their votes on it. None: of a jury,
    more than half; a judge alone is waited for."""
    aggregate: Literal["mean", "majority", "dawid-skene"] = "mean"
    """How the order-averaged votes make a label."""
    control: Literal["off", "length", "style"] = "off"
    """What is taken out of the votes before they make a label: the effect of length, or of length and markdown."""
    calibrate: Literal["off", "temperature", "isotonic"] = "off"
    """How labels are fitted to the gold labels that there are, each half of the prompts by the other."""
    votes: Literal["all", "adaptive"] = "all"
    """adaptive: the votes on a pair stop once those that are left will hardly change its label."""
    sure: float = Field(default=0.99, gt=0.5, lt=1)
    """Votes adaptive: how probable it must be that the label stays before they stop."""
    principles: Literal["all"] | Count = "all"
    """Principles that vote on a pair: all that compare, or this many, drawn per pair without replacement."""
    only: tuple[str, ...] = ()
    """Tags or ids to choose from; empty: all that compare."""
    pairs: tuple[
        Literal[
            "first-last", "parent", "given", "contrast", "best-worst", "best-random", "best-low", "all", "tournament"
        ],
        ...,
    ] = ("first-last",)
    """The last six are of samples, best-… by the rewards of the first source (judge/groups.py)."""
    tournament: TournamentSection = TournamentSection()
    """Pairs tournament: how long it is."""
    contrast: tuple[str, str] | None = None
    """Pairs contrast: two samplers, first the one whose answers are meant to be better."""
    confirm: Confirm = "votes"
    """What makes the labels. reward: the gap of the rewards by the first source. construction: pairs contrast, whose
    better answer is known by how it was made. By these two no judge votes (labels/unvoted.py)."""
    margin: float = Field(default=0.0, ge=0, le=0.5)
    """A pair whose p_chosen is under 0.5 + margin is kept in the table and marked dropped."""
    min_label_mass: float = Field(default=0.0, ge=0, le=1)
    """A vote with less probability on the labels counts as missing."""

    @property
    def votes_are_cast(self) -> bool:
        return self.confirm == "votes"

    @model_validator(mode="after")
    def _labels_can_be_made(self) -> Self:
        if ("contrast" in self.pairs) != bool(self.contrast):
            raise ValueError('contrast: names the two samplers of pairs = ["contrast"]; one needs the other')
        if self.contrast and self.contrast[0] == self.contrast[1]:
            raise ValueError("contrast: a sampler is compared with another one, not with itself")
        if self.votes_are_cast:
            return self
        if "tournament" in self.pairs:
            raise ValueError(f"pairs: a tournament goes by votes, and with confirm = {self.confirm!r} there are none")
        if self.confirm == "construction" and set(self.pairs) != {"contrast"}:
            raise ValueError('confirm: only of pairs = ["contrast"] is it known by construction which answer is better')
        fields = type(self).model_fields
        of_votes = [name for name in fields if name not in _OF_PAIRS and getattr(self, name) != fields[name].default]
        if of_votes:
            raise ValueError(f"{of_votes[0]}: is about votes, and with confirm = {self.confirm!r} there are none")
        return self

    def of(self, judge: ModelSection) -> Self:
        """As it is for one judge: by the judge's own method, where it has one."""
        return self.model_copy(update={"method": judge.method}) if judge.method else self


_OF_PAIRS = ("pairs", "contrast", "confirm", "margin")
"""Settings of [judge] that labels without votes have a use of."""
