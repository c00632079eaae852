"""What a constitution file may hold, and how it becomes the frozen records.

`parse` validates piece by piece (head, each principle, each shared exemplar), so that one broken principle hides no
fault of the others. Types are strict: a weight written as "2" is a fault, not a number. Space around texts is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from constitution.principles.languages import TAG_PATTERN
from constitution.principles.phrases import phrase, place_of, toml_type
from constitution.principles.profiles import ProfileTable, profile_faults
from constitution.principles.system import PLACEHOLDERS, placeholders
from constitution.records import (
    Constitution,
    Criterion,
    Example,
    Exemplar,
    Message,
    Messages,
    Principle,
    Profile,
    SystemPrompt,
)

NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,63}$"
SEMVER_PATTERN = (
    r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?$"
)
CLAUSE_PATTERN = r"\w[\w.-]*#\w[\w.-]*"
"""`<document>#<clause id>`, as documents' clauses are named."""

PROPOSALS = (
    "holds proposals, which are in no constitution until a person accepts them: `constitution principles accept NAME` "
    "writes a draft"
)

Text = Annotated[str, StringConstraints(min_length=1)]
Slug = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, str_strip_whitespace=True)


T = TypeVar("T", bound=BaseModel)


class _Message(_Table):
    role: Literal["system", "user", "assistant"]
    content: Text


class _Conversation(_Table):
    """Either `prompt`, one user turn, or `messages`, a whole conversation that ends with a user turn."""

    prompt: Text | None = None
    messages: list[_Message] | None = None

    @model_validator(mode="after")
    def _one_conversation(self) -> _Conversation:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt (one user turn) or messages (a conversation), and not both")
        if self.messages is not None:
            _check_turns([message.role for message in self.messages])
        return self

    @property
    def turns(self) -> Messages:
        if self.messages is None:
            return (Message("user", self.prompt or ""),)
        return tuple(Message(message.role, message.content) for message in self.messages)


def _check_turns(roles: list[str]) -> None:
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    if not spoken or spoken[-1] != "user":
        raise ValueError("messages must end with a user turn, the one that is answered")
    if spoken != ["user", "assistant"] * (len(spoken) // 2) + ["user"]:
        raise ValueError("messages must alternate user and assistant, after one optional system message")


class ExemplarTable(_Conversation):
    response: Text
    critique_request: Text | None = None
    critique: Text
    revision_request: Text | None = None
    revision: Text

    @model_validator(mode="after")
    def _requests_together(self) -> ExemplarTable:
        if (self.critique_request is None) != (self.revision_request is None):
            raise ValueError(
                "critique_request and revision_request come together, or neither (the principle's are used)"
            )
        return self

    @property
    def record(self) -> Exemplar:
        requests = (self.critique_request or "", self.revision_request or "")
        return Exemplar(self.turns, self.response, requests[0], self.critique, requests[1], self.revision)


class ExampleTable(_Conversation):
    better: Text
    worse: Text

    @property
    def record(self) -> Example:
        return Example(self.turns, self.better, self.worse)


class CriterionTable(_Table):
    question: Text
    good: Literal["yes", "no"] = "yes"
    weight: float = Field(1.0, gt=0, allow_inf_nan=False)
    kind: Literal["", "essential", "important", "optional", "pitfall"] = ""

    @model_validator(mode="after")
    def _pitfall(self) -> CriterionTable:
        if self.kind == "pitfall" and self.good == "yes":
            raise ValueError('kind: a pitfall is asked about as it is, so that its good reply is no: good = "no"')
        return self

    @property
    def record(self) -> Criterion:
        return Criterion(self.question, self.good, self.weight, self.kind)


class PrincipleTable(_Table):
    id: Slug
    critique_request: Text | None = None
    revision_request: Text | None = None
    comparison_question: Text | None = None
    weight: float = Field(1.0, gt=0, allow_inf_nan=False)
    tags: list[Slug] = []
    source: str = ""
    exemplars: list[ExemplarTable] = []
    examples: list[ExampleTable] = []
    criteria: list[CriterionTable] = []
    aim: Text | None = None
    against: Text | None = None
    why: str = ""
    quote: str = ""
    clauses: list[str] = []

    @model_validator(mode="after")
    def _uses(self) -> PrincipleTable:
        if (self.critique_request is None) != (self.revision_request is None):
            missing = "critique_request" if self.critique_request is None else "revision_request"
            raise ValueError(f"{missing}: missing field; critique_request and revision_request come together")
        if self.critique_request is None and self.comparison_question is None and self.aim is None:
            raise ValueError(
                "missing field: give critique_request and revision_request, comparison_question, or all three; or aim"
            )
        if self.against and not self.aim:
            raise ValueError("against is the opposite of aim, and this principle has no aim")
        if self.exemplars and self.critique_request is None:
            raise ValueError("exemplars show a critique, and this principle has no critique_request")
        if self.examples and self.comparison_question is None:
            raise ValueError("examples are put to the judge, and this principle has no comparison_question")
        if self.criteria and self.comparison_question is None:
            raise ValueError("criteria are put to the judge, and this principle has no comparison_question")
        if len(set(self.tags)) < len(self.tags):
            raise ValueError("tags: the same tag is there twice")
        for number, clause in enumerate(self.clauses, 1):
            if not re.fullmatch(CLAUSE_PATTERN, clause):
                raise ValueError(
                    f"clauses #{number}: {clause!r} names no clause; write <document>#<clause>, such as charter#3.2"
                )
        if len(set(self.clauses)) < len(self.clauses):
            raise ValueError("clauses: the same clause is there twice")
        return self

    @property
    def record(self) -> Principle:
        return Principle(
            id=self.id,
            critique_request=self.critique_request or "",
            revision_request=self.revision_request or "",
            comparison_question=self.comparison_question or "",
            weight=self.weight,
            tags=tuple(self.tags),
            source=self.source,
            exemplars=tuple(exemplar.record for exemplar in self.exemplars),
            examples=tuple(example.record for example in self.examples),
            criteria=tuple(criterion.record for criterion in self.criteria),
            aim=self.aim or "",
            against=self.against or "",
            why=self.why,
            quote=self.quote,
            clauses=tuple(self.clauses),
        )


class SystemPromptTable(_Table):
    id: Slug
    text: Text
    thought: str = ""

    @model_validator(mode="after")
    def _placeholders(self) -> SystemPromptTable:
        for name in sorted(placeholders(self.text) | placeholders(self.thought)):
            if name not in PLACEHOLDERS:
                raise ValueError(f"{{{{{name}}}}} is no placeholder; there are {', '.join(PLACEHOLDERS)}")
        if "answers" in placeholders(self.thought):
            raise ValueError("thought: {{answers}} belongs into the text, where it is marked as others' words")
        return self

    @property
    def record(self) -> SystemPrompt:
        return SystemPrompt(self.id, self.text, self.thought)


class _Head(_Table):
    name: Slug
    version: Text
    description: Text
    source: str = ""
    license: str = ""
    language: str = ""
    translation_of: str = ""

    @model_validator(mode="after")
    def _tags(self) -> _Head:
        if self.language and not re.fullmatch(TAG_PATTERN, self.language):
            raise ValueError(f"language: {self.language!r} is no language tag (BCP 47), such as de or zh-Hant")
        name, _, version = self.translation_of.partition("@")
        if self.translation_of and not (re.fullmatch(NAME_PATTERN, name) and re.fullmatch(SEMVER_PATTERN, version)):
            raise ValueError(f"translation_of: {self.translation_of!r} is no name@version, such as general@1.2.0")
        return self


@dataclass(frozen=True, slots=True)
class Fault:
    principle: str | None
    """Id of the principle, or `#3` where the third one has none; None: the file as a whole."""
    message: str


@dataclass(slots=True)
class Parsed:
    """What of a file could be read, and what is wrong with the rest."""

    faults: list[Fault] = field(default_factory=list)
    head: _Head | None = None
    principles: list[tuple[str, Principle]] = field(default_factory=list)
    """With the label that faults carry."""
    exemplars: list[tuple[int, Exemplar]] = field(default_factory=list)
    """Shared ones, with their place in the file, from 1."""
    system_prompts: list[SystemPrompt] = field(default_factory=list)
    profiles: list[Profile] = field(default_factory=list)

    def constitution(self) -> Constitution:
        """The whole; only to be asked for when there are no faults."""
        assert self.head is not None
        return Constitution(
            name=self.head.name,
            version=self.head.version,
            description=self.head.description,
            principles=tuple(principle for _, principle in self.principles),
            exemplars=tuple(exemplar for _, exemplar in self.exemplars),
            source=self.head.source,
            license=self.head.license,
            language=self.head.language,
            translation_of=self.head.translation_of,
            system_prompts=tuple(self.system_prompts),
            profiles=tuple(self.profiles),
        )


def parse(raw: Mapping[str, Any]) -> Parsed:
    """`raw` is the file as TOML read it. All structural faults, duplicate ids among them, are in the result."""
    parsed = Parsed()
    if "proposals" in raw:  # whatever else is in it
        parsed.faults.append(Fault(None, PROPOSALS))
        return parsed
    head = {key: value for key, value in raw.items() if key not in _LISTS}
    parsed.head = _table(_Head, head, parsed.faults, None, _LISTS)
    if "principles" not in raw or raw["principles"] == []:
        parsed.faults.append(Fault(None, "principles: missing field; a constitution has one [[principles]] or more"))
    for number, table in _tables(raw, "principles", parsed.faults):
        label = _label(table, number)
        principle = _table(PrincipleTable, table, parsed.faults, label)
        if principle is not None:
            parsed.principles.append((label, principle.record))
    for number, table in _tables(raw, "exemplars", parsed.faults):
        exemplar = _table(ExemplarTable, table, parsed.faults, None, place=f"exemplars #{number}")
        if exemplar is not None:
            parsed.exemplars.append((number, exemplar.record))
    for number, table in _tables(raw, "system_prompts", parsed.faults):
        prompt = _table(SystemPromptTable, table, parsed.faults, None, place=f"system_prompts #{number}")
        if prompt is not None and any(prompt.id == other.id for other in parsed.system_prompts):
            parsed.faults.append(Fault(None, f"system_prompts #{number}: the id {prompt.id} is there before"))
        elif prompt is not None:
            parsed.system_prompts.append(prompt.record)
    for number, table in _tables(raw, "profiles", parsed.faults):
        if profile := _table(ProfileTable, table, parsed.faults, None, place=f"profiles #{number}"):
            _add_profile(parsed, f"profiles #{number}", profile.record)
    parsed.faults.extend(_duplicate_ids(raw))
    return parsed


def _add_profile(parsed: Parsed, place: str, profile: Profile) -> None:
    if any(profile.id == other.id for other in parsed.profiles):
        parsed.faults.append(Fault(None, f"{place}: the id {profile.id} is there before"))
        return
    parsed.profiles.append(profile)
    if not parsed.faults:  # else a principle that could not be read would seem to be missing
        principles = [principle for _, principle in parsed.principles]
        faults = profile_faults(profile, principles, parsed.system_prompts)
        parsed.faults.extend(Fault(None, f"{place} ({profile.id}), {fault}") for fault in faults)


_LISTS = ("principles", "exemplars", "system_prompts", "profiles")
"""Lists of tables in a constitution file."""


def _tables(raw: Mapping[str, Any], key: str, faults: list[Fault]) -> list[tuple[int, Any]]:
    value = raw.get(key, [])
    if isinstance(value, list):
        return list(enumerate(value, start=1))
    faults.append(Fault(None, f"{key}: expected a list of tables, written as [[{key}]], found {toml_type(value)}"))
    return []


def _label(table: Any, number: int) -> str:
    identifier = table.get("id") if isinstance(table, dict) else None
    return identifier if isinstance(identifier, str) and identifier.strip() else f"#{number}"


def _duplicate_ids(raw: Mapping[str, Any]) -> list[Fault]:
    tables = raw.get("principles", [])
    ids = [_label(table, number) for number, table in enumerate(tables, start=1)] if isinstance(tables, list) else []
    repeated = sorted({identifier for identifier in ids if ids.count(identifier) > 1})
    return [
        Fault(identifier, f"the id is there {ids.count(identifier)} times; ids are unique") for identifier in repeated
    ]


def _table(
    model: type[T],
    value: Any,
    faults: list[Fault],
    principle: str | None,
    more_fields: tuple[str, ...] = (),
    *,
    place: str = "",
) -> T | None:
    """`value` as a `model`; None, with its faults added, where it is not one."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        for fault in error.errors(include_url=False):
            where = ", ".join(filter(None, [place, place_of(fault["loc"])]))
            message = phrase(dict(fault), _known_fields(model, fault["loc"]) + list(more_fields))
            faults.append(Fault(principle, f"{where}: {message}" if where else message))
        return None


def _known_fields(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    nested: dict[str, type[BaseModel]] = {
        "exemplars": ExemplarTable,
        "examples": ExampleTable,
        "criteria": CriterionTable,
        "messages": _Message,
    }
    for part in loc[:-1]:
        model = nested.get(str(part), model)
    return list(model.model_fields)
