"""Messages, and what a constitution is made of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from constitution.identity import digest
from constitution.records.kinds import CriterionKind

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
class Criterion:
    """One line of a principle's checklist: a yes/no question about one answer (as in arXiv 2507.17746)."""

    question: str
    good: Literal["yes", "no"] = "yes"
    """Which reply speaks for the answer: a pitfall is asked about as it is, and `no` is good."""
    weight: float = 1.0
    """Share of the checklist's sum; > 0. Of a prompt's rubric it may be below 0: points lost (`RubricItem`)."""
    kind: CriterionKind = ""
    """essential: where rewards are combined by veto, an answer that fails it has none, whatever else speaks for it."""


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
    criteria: tuple[Criterion, ...] = ()
    """The checklist that `judge.method = "rubric"` reads; empty: the principle has none."""
    aim: str = ""
    """An instruction to answer as the principle wants, for system prompts; empty: it has none."""
    against: str = ""
    """Its opposite, of equal length and form, for contrast (RLCD, arXiv 2307.12950); empty: it has none."""
    why: str = ""
    """The reason for `aim`; empty: none is given."""
    quote: str = ""
    """The words of a document that it follows from, as they are there; empty: none are given."""
    clauses: tuple[str, ...] = ()
    """The clauses of documents that it follows from, each `<document>#<clause id>` (`charter#3.2`)."""

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
class SystemPrompt:
    """Words put before a conversation while answers are made, and never exported."""

    id: str
    text: str
    """With placeholders (`templates.system`): `{{principles}}`, `{{reasons}}`, `{{principle}}`, `{{aim}}`,
    `{{against}}`, `{{answers}}`."""
    thought: str = ""
    """What the model is given as its own thought before it answers; the same placeholders but `{{answers}}`. Empty: it
    thinks as it does."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Other weights of the same principles: what other people would have the votes count."""

    id: str
    weights: tuple[tuple[str, float], ...] = ()
    """Principle id and weight, >= 0, by id; 0: its votes do not count. Principles that are not named keep theirs."""
    system_prompt: str = ""
    """Id of a system prompt to answer these people with, for samplers; empty: none."""
    description: str = ""
    group: str = ""
    """The group of raters (`Annotation.rater_groups`) whose gold its labels are compared with; empty: none."""


@dataclass(frozen=True, slots=True)
class Constitution:
    name: str
    version: str
    """Semantic version; the file is principles/<name>/<version>.toml."""
    description: str
    principles: tuple[Principle, ...]
    exemplars: tuple[Exemplar, ...] = ()
    """Shared by all principles without their own."""
    source: str = ""
    license: str = ""
    language: str = ""
    """The language of its words, as BCP 47 has it (`de`, `zh-Hant`); empty: not declared."""
    translation_of: str = ""
    """name@version of the constitution that it says in another language; empty: of none."""
    system_prompts: tuple[SystemPrompt, ...] = ()
    """For samplers (`sample.NAME.system_prompt`)."""
    profiles: tuple[Profile, ...] = ()
    """One set of votes has labels by each (labels/profiles.py)."""

    @property
    def digest(self) -> str:
        """Covers every field, so that comments and layout of the file do not matter and every word does."""
        return digest(_said(asdict(self)))

    @property
    def label(self) -> str:
        return f"{self.name}@{self.version}"

    def weights(self, profile: Profile | None = None) -> dict[str, float]:
        """What votes count, by the id of their principle; none with 0. None: by the principles' own weights."""
        own = dict(profile.weights) if profile else {}
        weights = {each.id: own.get(each.id, each.weight) for each in self.principles}
        return {id: weight for id, weight in weights.items() if weight}

    def exemplars_for(self, principle: Principle) -> tuple[Exemplar, ...]:
        return principle.exemplars or self.exemplars
