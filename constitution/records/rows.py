"""What goes through a run, row by row, and what is said of it afterwards."""

from __future__ import annotations

from dataclasses import dataclass

from constitution.measures import refuses
from constitution.records.kinds import (
    CopiedFrom,
    CritiqueOutcome,
    DropReason,
    Method,
    Outcome,
    PairKind,
    Perturbation,
    ResponseKind,
)
from constitution.records.principles import Messages


@dataclass(frozen=True, slots=True)
class Sampling:
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 512
    """Tokens of output, at most."""
    stop: tuple[str, ...] = ()
    """Strings that end the output; they are not part of it."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer to a prompt, with the principle and the critique that led to it."""

    id: str
    run_id: str
    prompt_id: str
    kind: ResponseKind
    """given: it came with the prompt. perturbation: its parent, spoiled on purpose to see what the judges make of it;
    never training data."""
    round: int
    """0 for the initial answer, r for the revision of round r; of a perturbation, its parent's; of a sample, its number
    among those of its sampler, from 0."""
    text: str
    """The answer, without what the model thought before it."""
    outcome: Outcome
    """ok · cut (stopped by max_tokens, maybe before any text, or to call a tool) · empty (no text) · refused (by the
    server; the text is how it says so) · filtered (held back by the server; the text is what came, maybe none) ·
    unchanged (a revision equal to its parent) · skipped (no revision was asked for, because the critique had no text,
    was refused or filtered; the text is the parent's)."""
    model: str
    parent_id: str | None = None
    principle_id: str | None = None
    principle_digest: str | None = None
    critique: str | None = None
    critique_outcome: CritiqueOutcome | None = None
    """refused: by the server, or by how it begins (`measures.refuses`); the rest as of an answer. None: there is no
    critique."""
    critique_seed: int | None = None
    critique_prompt_tokens: int = 0
    critique_cached_tokens: int = 0
    critique_completion_tokens: int = 0
    critique_reasoning: str | None = None
    """What the model thought before the critique; None: nothing that is known."""
    critique_reasoning_tokens: int = 0
    """Part of `critique_completion_tokens`: tokens of the reasoning; 0: none that are known."""
    template_digest: str | None = None
    """Digest of the templates that the critique and the answer were rendered with; None: the prompt's own messages."""
    sampling: Sampling | None = None
    seed: int | None = None
    finish_reason: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Part of `prompt_tokens`: tokens that the engine had in its prefix cache."""
    completion_tokens: int = 0
    reasoning: str | None = None
    """What the model thought before the text; no judge, critique or later turn sees it. None: nothing that is known."""
    reasoning_tokens: int = 0
    """Part of `completion_tokens`: tokens of the reasoning; 0: none that are known."""
    family: str | None = None
    """Family of the model that wrote it, as the recipe names it; None: not known."""
    perturbation: Perturbation | None = None
    """Kind of a perturbation: polished (wrong, but well formed) · terse (right, but curt) · sarcastic."""
    copied_from: CopiedFrom | None = None
    """What the text repeats instead of answering (`measures.copies`): an exemplar, the principle, the template, the
    critique as a whole, a turn of the conversation word for word, or the system prompt. None: nothing that is found."""
    critique_copied_from: CopiedFrom | None = None
    """The same of the critique."""
    sampler: str | None = None
    """The recipe's name of what made the sample: `[sample.NAME]`. None: it is no sample."""
    system_prompt: str | None = None
    """Id of the constitution's system prompt that it was made with and that no export has. None: none."""
    system_prompt_digest: str | None = None
    """Digest of the system prompt's words as they were sent, and of the thought that was put before the answer."""
    seen_ids: tuple[str, ...] = ()
    """Answers that the model was shown when it wrote this one."""
    calls: int = 1
    """Calls to the engine that the text took, whose tokens are added up; the critique's is another. Of an answer that
    came with its prompt, and of a skipped revision: 0."""

    @property
    def refuses(self) -> bool:
        """Whether the text begins like a refusal, by model or server (`measures.refuses`: English, a lower bound)."""
        return refuses(self.text)


@dataclass(frozen=True, slots=True)
class Judgement:
    """One vote: one judge, one principle, one order, one repeat."""

    id: str
    run_id: str
    prompt_id: str
    pair_id: str
    first_id: str
    """The response that was shown first, as (A)."""
    second_id: str
    judge: str
    """Name of the jury's member; of a judge alone, its model's."""
    principle_id: str
    principle_digest: str
    method: Method
    """label (probabilities of A and B) · rationale (the same, after reasoning) · score (a grade for each answer) ·
    rubric (a checklist for each answer; these two look at one answer at a time and have one order, ab) · verdict (what
    the judge writes at a temperature, once a row)."""
    p_first: float
    """Probability that the first is better, as it was read: neither clamped nor corrected. label, rationale: P(A) /
    (P(A) + P(B)). score: P(first's grade is higher) + P(equal) / 2. rubric: 1/2 + (first's sum − second's) / 2.
    verdict: 1, 0, or of a tie 1/2; the probability is the share over `repeat`."""
    label_mass: float
    """Probability that fell on the labels together, before renormalising; 1 − label_mass is missing. Of a vote of
    several readings, the smallest; of a verdict, which is written and not read, 1."""
    template_digest: str
    rationale: str | None = None
    """What the judge wrote before its vote; of a verdict, all that it wrote. None: nothing was asked for."""
    seed: int | None = None
    prompt_tokens: int = 0
    """Sum over all its calls, as the other three."""
    cached_tokens: int = 0
    completion_tokens: int = 0
    rationale_reasoning: str | None = None
    """What the judge thought before its rationale, which the label is not read after. None: nothing that is known."""
    reasoning_tokens: int = 0
    """Part of `completion_tokens`: tokens of the reasoning; 0: none that are known."""
    repeat: int = 0
    """0 for the first vote of its kind, 1 for the second with another seed, and so on; of method verdict, the number of
    the verdict."""
    wave: int = 0
    """0: it was asked for whatever other votes said. 1, 2 …: because those of the waves before it had not decided the
    pair (judge.votes adaptive)."""
    calls: int = 1
    """Calls to the engine that it took."""
    read_first: tuple[float, ...] | None = None
    """What was read of the first answer. score: raw probability of each grade, from the lowest. rubric: P(yes) /
    (P(yes) + P(no)) of each criterion, in the principle's order. None: the others."""
    read_second: tuple[float, ...] | None = None
    censored: bool = False
    """True: a label at least was outside the likeliest tokens that the server returns. It was not read: it is no
    likelier than the least of these, and the middle between that and 0 was taken."""


@dataclass(frozen=True, slots=True)
class Preference:
    """One pair and what the votes made of it. `id` is the pair's id, which its judgements name."""

    id: str
    run_id: str
    prompt_id: str
    kind: PairKind
    """first-last · parent (a round against its parent) · given (answers that came with the prompt) · contrast,
    best-worst, best-random, best-low, all, tournament (of samples: judge/groups.py) · perturbation (an answer against
    its perturbation)."""
    a_id: str
    """The earlier response of the pair; of a contrast, that of the sampler named second."""
    b_id: str
    """The later one; of a contrast, the one that is meant to be better."""
    p_b: float | None
    """Soft label: probability that b is better, as `label_by` says; None without votes, or what else makes it."""
    votes: int
    """Votes that made the label: those whose other order was cast as well."""
    votes_missing: int
    """Votes that were asked for, less `votes`."""
    consistency: float | None
    """Share of (judge, principle) that prefer the same response in both orders; None without votes in both."""
    agreement: float | None
    """Share of (judge, principle), order-averaged, that prefer what the pair's label prefers; None without votes."""
    label_mass: float | None
    """Mean over all votes cast, those that did not count among them; None without any."""
    drop_reason: DropReason | None
    gold_id: str | None = None
    """The response that people prefer; None: not known."""
    p_mean: float | None = None
    """The label that the plain mean makes: averaged over orders and repeats and then over principles and judges by
    weight. Where `p_b` is on its other side, the recipe's further settings changed the label. None without votes."""
    label_by: str = "mean"
    """mean · majority · dawid-skene, and then, each after a comma and a space, the methods of its votes but label, and
    `style` or `length` (controlled) and `temperature` or `isotonic` (calibrated), where they were applied. Of labels
    without votes, reward · construction (labels/unvoted.py)."""
    ties: int = 0
    """Order-averaged votes (judge, principle) that prefer neither."""
    dissent: tuple[str, ...] = ()
    """`judge/principle` of the votes that prefer the answer that the label does not, in order."""
    p_low: float | None = None
    """Ends of the 95 % interval of `p_mean` that so few written verdicts leave (`labels.votes.interval`). None: no vote
    is one."""
    p_high: float | None = None
    votes_spared: int = 0
    """Votes that were not asked for, because the others had decided the pair (judge.votes adaptive)."""
    reward_a: float | None = None
    """Reward of a by the first source of the recipe's [reward], with the length penalty: up to 1, and under 0 where the
    penalty is more. None: it has none."""
    reward_b: float | None = None

    @property
    def kept(self) -> bool:
        return self.drop_reason is None

    @property
    def chosen_id(self) -> str:
        """The preferred one; of a tie or an unjudged pair, b."""
        return self.a_id if self.p_b is not None and self.p_b < 0.5 else self.b_id

    @property
    def rejected_id(self) -> str:
        return self.b_id if self.chosen_id == self.a_id else self.a_id

    @property
    def p_chosen(self) -> float | None:
        return None if self.p_b is None else max(self.p_b, 1.0 - self.p_b)


@dataclass(frozen=True, slots=True)
class Failure:
    """What did not work. Data, never a crash and never a default score."""

    id: str
    run_id: str
    prompt_id: str
    step: str
    """The step of the chain: initial, critique-1, revision-1, vote, reward-rubric, …; turn-2, …: that later turn is not
    asked."""
    error: str
    """Class name in `constitution.errors`, or one of UNSAID."""
    message: str
    retryable: bool
    """True: a restarted run tries again."""
    judge: str | None = None
    """Whose vote or reading it was, as `Judgement.judge`; None: neither."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """What a person says of a pair or of a response: gold to hold the judges against."""

    id: str
    """Digest of run, rater, target and principle: a rater has one word on each, the last."""
    run_id: str
    prompt_id: str
    rater: str
    value: float
    """For a pair: 0 prefers a, 1 prefers b, 0.5 neither. Of a response: any number, more is better."""
    source: str
    """The file that it came from."""
    pair_id: str | None = None
    """`Preference.id`; None: it is about a response."""
    response_id: str | None = None
    """`Response.id`; None: it is about a pair."""
    principle_id: str | None = None
    """The principle that it is about; None: about the whole."""
    rater_groups: tuple[str, ...] = ()
    """Groups that the rater belongs to: `parents`, or `country: Chile` of a column `country`; of one column, one in a
    run."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of an audit."""

    run_id: str
    figure: str
    """What was measured, e.g. position_bias; docs/judging.md lists them."""
    value: float | None
    """None: there is nothing to measure it on, and `note` says why."""
    n: int
    """How many things it was measured on: pairs, order-averaged votes, responses, as docs/judging.md says."""
    low: float | None = None
    """Ends of the 95 % interval; None: it has none."""
    high: float | None = None
    judge: str = ""
    """Empty: all judges."""
    principle_id: str = ""
    """Empty: all principles."""
    subject: str = ""
    """What else it is about: a feature, a kind of pair, a round, a bin, another principle."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """A prompt of the run with one term swapped for another, and what the run's policy answers to it."""

    id: str
    run_id: str
    prompt_id: str
    """`Prompt.id` of the prompt as it was."""
    response_id: str
    """`Response.id` of the answer to the prompt as it was, which this one is held against."""
    terms: str
    """Name of the group of terms that were swapped, e.g. gender."""
    swap: str
    """What became what, e.g. `he → she`."""
    messages: Messages
    """The prompt with the swap."""
    text: str
    """The answer."""
    model: str
    seed: int | None = None
    finish_reason: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning: str | None = None
    """What the model thought before the answer; None: nothing that is known."""
    reasoning_tokens: int = 0
