"""The nouns: frozen records that every other module speaks in. Derived values are properties, never stored twice.

What people write (principles, recipes) is validated elsewhere, by pydantic; these are what we make of it. Fields are
documented under their names, with units and what None means; docs/warehouse.md shows them as columns.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from constitution.identity import digest, row_id

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    content: str


Messages = tuple[Message, ...]


def as_dicts(messages: Messages) -> list[dict[str, str]]:
    """Messages in the shape that chat templates and chat APIs take."""
    return [{"role": message.role, "content": message.content} for message in messages]


def _said(value: Any) -> Any:
    """`value` without what is empty, so that a digest stays when a later version knows another optional field."""
    if isinstance(value, dict):
        return {name: _said(content) for name, content in value.items() if content not in ("", (), None)}
    return [_said(content) for content in value] if isinstance(value, tuple) else value


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A worked critique and revision, shown to the model before its own (few-shot)."""

    messages: Messages
    """The conversation, ending with a user turn."""
    response: str
    critique_request: str
    """Empty: the request of the principle it is shown for."""
    critique: str
    revision_request: str
    """Empty: the request of the principle it is shown for."""
    revision: str


@dataclass(frozen=True, slots=True)
class Example:
    """A principle's own unit test: a judge that follows the principle prefers `better`."""

    messages: Messages
    better: str
    worse: str


@dataclass(frozen=True, slots=True)
class Principle:
    id: str
    critique_request: str = ""
    revision_request: str = ""
    """Critique and revision request come together, or both are empty: then the principle only compares."""
    comparison_question: str = ""
    """Asked of two answers; empty: the principle only revises."""
    weight: float = 1.0
    """Relative chance of being drawn, and weight of its votes; > 0."""
    tags: tuple[str, ...] = ()
    source: str = ""
    """Where the principle comes from: a paper, a public vote, a policy document. Empty: written here."""
    exemplars: tuple[Exemplar, ...] = ()
    examples: tuple[Example, ...] = ()

    @property
    def revises(self) -> bool:
        return bool(self.critique_request)

    @property
    def compares(self) -> bool:
        return bool(self.comparison_question)

    @property
    def digest(self) -> str:
        return digest(_said(asdict(self)))


@dataclass(frozen=True, slots=True)
class Constitution:
    name: str
    version: str
    """Semantic version; the file is principles/<name>/<version>.toml."""
    description: str
    principles: tuple[Principle, ...]
    exemplars: tuple[Exemplar, ...] = ()
    """Shared by all principles that have none of their own."""
    source: str = ""
    license: str = ""

    @property
    def digest(self) -> str:
        """Covers every field, so that comments and layout of the file do not matter and every word does."""
        return digest(_said(asdict(self)))

    @property
    def label(self) -> str:
        return f"{self.name}@{self.version}"

    def exemplars_for(self, principle: Principle) -> tuple[Exemplar, ...]:
        return principle.exemplars or self.exemplars


@dataclass(frozen=True, slots=True)
class Prompt:
    messages: Messages
    """The whole conversation, ending with the user turn to be answered."""
    source: str = ""
    """Where it was read: file and row, e.g. `prompts.jsonl#17`."""
    tags: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    """Answers that came with the prompt, to be judged as they are (e.g. a human-labelled pair)."""
    gold: int | None = None
    """Index into `answers` of the one that people prefer; None: not known."""
    repeat: int = 0
    """0 for the first prompt of a source with these messages, 1 for the second, and so on."""

    @property
    def id(self) -> str:
        """Digest of the canonical messages; a repeated conversation is told apart by its `repeat`."""
        messages = [[message.role, message.content] for message in self.messages]
        return row_id(messages, self.repeat) if self.repeat else row_id(messages)


@dataclass(frozen=True, slots=True)
class Sampling:
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 512
    """Tokens of output at the most."""
    stop: tuple[str, ...] = ()
    """Strings that end the output; they are not part of it."""


ResponseKind = Literal["initial", "revision", "sample", "synthesis"]
Outcome = Literal["ok", "cut", "empty", "unchanged", "skipped"]
CritiqueOutcome = Literal["ok", "cut", "empty", "refused"]


@dataclass(frozen=True, slots=True)
class Response:
    """An answer to a prompt, with the principle and the critique that led to it."""

    id: str
    run_id: str
    prompt_id: str
    kind: ResponseKind
    """`sample` is also the kind of an answer that came with the prompt (model `given`)."""
    round: int
    """0 for the initial answer, r for the revision of round r."""
    text: str
    outcome: Outcome
    """ok · cut (stopped by max_tokens) · empty (no text) · unchanged (a revision equal to its parent) · skipped (no
    revision was asked for, because the critique was empty or refused; the text is the parent's)."""
    model: str
    parent_id: str | None = None
    principle_id: str | None = None
    principle_digest: str | None = None
    critique: str | None = None
    critique_outcome: CritiqueOutcome | None = None
    critique_seed: int | None = None
    critique_prompt_tokens: int = 0
    critique_cached_tokens: int = 0
    critique_completion_tokens: int = 0
    template_digest: str | None = None
    """Digest of the templates that the critique and the answer were rendered with; None: the prompt's own messages."""
    sampling: Sampling | None = None
    seed: int | None = None
    finish_reason: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Of `prompt_tokens`, those that the engine had in its prefix cache."""
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Judgement:
    """One vote: one judge, one principle, one order."""

    id: str
    run_id: str
    prompt_id: str
    pair_id: str
    first_id: str
    """The response that was shown first, as (A)."""
    second_id: str
    judge: str
    principle_id: str
    principle_digest: str
    method: str
    p_first: float
    """Probability that the first is better, renormalised over the two labels."""
    label_mass: float
    """Probability that fell on the two labels together, before renormalising; 1 − label_mass is missing."""
    template_digest: str
    rationale: str | None = None
    seed: int | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


DropReason = Literal["tie", "margin", "identical", "empty", "cut", "votes-missing"]


@dataclass(frozen=True, slots=True)
class Preference:
    """One pair and what the votes made of it. `id` is the pair's id, which its judgements name."""

    id: str
    run_id: str
    prompt_id: str
    kind: str
    """first-last · parent (a round against its parent) · given (answers that came with the prompt)."""
    a_id: str
    """The earlier response of the pair."""
    b_id: str
    """The later one."""
    p_b: float | None
    """Soft label: probability that b is better, averaged over orders and then over principles and judges by weight;
    None without votes."""
    votes: int
    """Votes that made the label: those whose other order was cast as well."""
    votes_missing: int
    """Votes that should have been cast, less `votes`."""
    consistency: float | None
    """Share of (judge, principle) that prefer the same response in both orders; None without such a couple."""
    agreement: float | None
    """Share of (judge, principle), order-averaged, that prefer what the pair's label prefers; None without votes."""
    label_mass: float | None
    """Mean over all votes cast, those that did not count among them; None without any."""
    drop_reason: DropReason | None
    gold_id: str | None = None
    """The response that people prefer; None: not known."""

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
    """The step of the chain: initial, critique-1, revision-1, vote, …"""
    error: str
    """Class name in `constitution.errors`, or EmptyOutput, CritiqueRefused for what a model did not say."""
    message: str
    retryable: bool
    """True: a restarted run tries again."""


Row = Response | Judgement | Preference | Failure


@dataclass(frozen=True, slots=True)
class Usage:
    """What a run's calls of one stage to one model took in and put out: the calls whose replies are in its rows."""

    stage: str
    """initial · critique · revision · vote"""
    model: str
    calls: int
    prompt_tokens: int
    cached_tokens: int
    """Of `prompt_tokens`, those that the engine had in its prefix cache."""
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Run:
    """What was run, with what, and how it went. Stored as runs/<run_id>.json; while it works, rewritten every ten
    seconds."""

    run_id: str
    recipe: dict[str, Any]
    """The recipe as it was run last, --set included; what decides the rows is the same in all starts."""
    constitution: str
    """name@version"""
    constitution_digest: str
    templates: dict[str, dict[str, str]]
    """Digest of a template set → its files' texts: what a row's `template_digest` leads to."""
    models: dict[str, dict[str, str]]
    """Per role (policy, judge): what the engine says of its model: name, engine, digest or revision. Where it said
    something else before a restart, that stands under `<role> until start <n>`."""
    code_version: str
    hardware: dict[str, str]
    started_at: str
    """UTC, ISO 8601; of the first start."""
    finished_at: str | None = None
    """None: not finished."""
    starts: int = 1
    """How often it was started; more than 1: it was resumed."""
    seconds: float = 0.0
    """Wall time over all starts, without loading models; of a start that was killed up to its last ten seconds."""
    counts: dict[str, int] = field(default_factory=dict)
    """Rows per table, and tokens."""
    usage: tuple[Usage, ...] = ()
    """Calls and tokens per stage and model, over all starts."""
    engines: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Per role (policy, judge; a judge that is the policy is not told of twice) what its engine tells of its work.
    Calls, failures, busy_seconds and open_seconds are sums over all starts, events are those of all starts, and
    anything else is of the last one. Calls are more than in `usage` where replies were lost or refused."""
    cost: float | None = None
    """Tokens and accelerator hours at the prices of the last start's recipe; None: it has no prices."""
    stopped: str = ""
    """Why the last start ended before the run did, e.g. `budget: 9.98 of 10.00 USD spent`; empty: by itself, by a
    signal, or not yet."""
