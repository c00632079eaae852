"""What answers are rewarded by ([reward])."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, StrictBool, model_validator

from constitution.recipe.base import Count, Section, Whole
from constitution.records import NEGATED, Extraction, RewardSource

if TYPE_CHECKING:
    from constitution.recipe.sections import Recipe


class LengthSection(Section):
    """What an answer that is too long loses: `penalty` over `limit`, and from `limit - ramp` on a part that grows with
    each word (DAPO's soft overlong punishment, arXiv 2503.14476, equation 13; without a ramp CaT's step, -1 over 750
    tokens, arXiv 2509.14234). They count tokens; words are counted here, which do not depend on a tokenizer."""

    limit: Count
    """Words (`measures.words`)."""
    penalty: float = Field(default=1.0, gt=0, le=10)
    ramp: Whole = 0

    @model_validator(mode="after")
    def _within(self) -> Self:
        if self.ramp >= self.limit:
            raise ValueError("ramp: is to be shorter than limit, or the shortest answer would lose something")
        return self


class RulesSection(Section):
    """Source rule: what code looks at. Each that is set is one rule; an answer keeps it or breaks it."""

    words: tuple[Whole, Count] | None = None
    """At least and at most this number of words (`measures.words`)."""
    refusal: Literal["wanted", "unwanted"] | None = None
    """What answers are that begin like a refusal (`measures.refuses`, English)."""
    wanted: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Regular expressions (RE2's), each of which is to be found in the answer."""
    unwanted: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Those that are not."""

    @property
    def count(self) -> int:
        return (self.words is not None) + (self.refusal is not None) + len(self.wanted) + len(self.unwanted)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.words and self.words[0] > self.words[1]:
            raise ValueError("words: [least, most], and the least is more than the most")
        return self


class MatchSection(Section):
    """Source match: what is read off an answer and off the prompt's reference (judge/extract), to be the same."""

    how: Extraction
    """number: the last number, or what `####` names. boxed: what the last \\boxed holds. choice: the letter that it
    says is its answer. json: a field of the object that it is, or that its last fenced block holds. exact: the whole
    text, but for white space and how Unicode composes characters."""
    letters: str = Field(default="ABCD", pattern=r"^[A-Z]{2,26}$")
    """How choice: those there are."""
    key: str = Field(default="answer", min_length=1)
    """How json: the field; `a.b` is b in a."""
    unread: Literal["missing", "wrong"] = "missing"
    """What an answer is off which it cannot be read: without a reward, or 0."""

    @model_validator(mode="after")
    def _each_has_use(self) -> Self:
        for name, how in (("letters", "choice"), ("key", "json")):
            if self.how != how and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name}: is for how = {how!r}")
        return self


class LastTokenSection(Section):
    """Source last-token: how a model that was trained for it rewards its answers (LaSeR, arXiv 2510.14943)."""

    token: str = Field(min_length=1)
    """A token of the policy's vocabulary, by its name: a reserved one."""
    c_ref: float = Field(le=0)
    """Its log-probability before the training, a mean: of the model and its chat template."""
    beta: float = Field(default=0.1, gt=0)
    anyway: StrictBool = False
    """The policy may be a model whose files do not say that it was trained so, or trained by other settings."""


class RewardSection(Section):
    by: tuple[RewardSource, ...] = Field(default=("rubric",), min_length=1)
    """rubric: the principles' criteria, a call each. grade: a grade by each principle, a call each. rule: code. model:
    the score of [model.reward_model], by its place among the prompt's answers. sentence: after each sentence, the
    criteria whose good reply is no, a call each (judge/by_sentence.py). prompt-rubric: the items of the prompt's own
    rubric ([rubric]), a call each. match: whether it comes to the same as the prompt's reference ([reference]).
    last-token: the token after the answer, by the policy itself. Each makes a separate reward."""
    principles: tuple[str, ...] = ()
    """Tags or ids of those that are read by; empty: all that can be."""
    steps: Literal[9, 20] = 9
    """Source grade: the digits 1 to 9, or the letters T to A."""
    combine: Literal["mean", "veto"] = "mean"
    """mean: by the weights of principles and criteria. veto: the same, but 0 where an essential criterion, or a rule,
    is under `bar` (Rubric Anchors, arXiv 2508.12790)."""
    bar: float = Field(default=0.5, gt=0, le=1)
    length: LengthSection | None = None
    """Absent: no answer loses by its length."""
    rules: RulesSection = RulesSection()
    match: MatchSection | None = None
    last_token: LastTokenSection | None = None
    quorum: float = Field(default=1.0, gt=0, le=1)
    """Share of the readings of an answer that have to be there for it to have a reward."""
    min_label_mass: float = Field(default=0.0, ge=0, le=1)
    """A reading with less probability on its replies counts as missing."""
    perturbed: bool = False
    """Answers that were spoiled on purpose ([perturb]) are read too, and no reward is made of them: the audit says how
    often they count as no worse."""
    negated: bool = False
    """Sources rubric and prompt-rubric: what is asked of an answer is asked a second time, whether the reply to it is
    no, and no reward is made of that: the audit says how often a judge contradicts itself."""

    @property
    def asks(self) -> bool:
        """Whether judges are asked."""
        return bool(set(self.by) - {"rule", "model", "match", "last-token"})

    @model_validator(mode="after")
    def _each_has_use(self) -> Self:
        if len(set(self.by)) < len(self.by):
            raise ValueError("by: a source is there twice")
        if ("rule" in self.by) != bool(self.rules.count):
            raise ValueError('rules and "rule" in `by` come together')
        if ("match" in self.by) != bool(self.match):
            raise ValueError('match and "match" in `by` come together')
        if ("last-token" in self.by) != bool(self.last_token):
            raise ValueError('last_token and "last-token" in `by` come together')
        if self.combine == "veto" and set(self.by) <= {"grade", "model", "sentence", "match", "last-token"}:
            raise ValueError("combine: veto is for rubric and rule; by the other sources nothing is essential")
        if self.negated and not set(self.by) & set(NEGATED):
            raise ValueError("negated: criteria are asked a second time, and `by` has neither rubric nor prompt-rubric")
        if self.perturbed and set(self.by) <= {"rule", "match", "sentence"}:
            raise ValueError("perturbed: spoiled answers are for models to read, and none of `by` has them read whole")
        return self


def check_match(recipe: Recipe) -> None:
    """Raises ValueError for rewards by match without anything to match, or before it is there."""
    if recipe.reward is not None and recipe.reward.match is not None and recipe.reference is None:
        raise ValueError("reward.by: match holds answers against the reference, and there is no section [reference]")
    if recipe.start_by == "match":
        raise ValueError(
            "revise.start: best goes by a match with a reference that is only made once the chain is there"
        )
