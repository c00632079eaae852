"""How a chat template is spoken to: the turns, its variables, the day that it takes for today, whether to think."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time
from itertools import groupby
from typing import Any, Literal

from constitution.engines.reasoning import switches
from constitution.recipe import OpenAIModel, TransformersModel, VLLMModel
from constitution.records import Message, Messages


def today() -> date:
    """In UTC, as all times of a run's record."""
    return datetime.now(UTC).date()


@dataclass(frozen=True, slots=True)
class Spoken:
    reasoning: Literal["auto", "keep", "off"] = "auto"
    variables: Mapping[str, Any] = field(default_factory=dict)
    date: date = field(default_factory=today)
    asked: list[str] = field(default_factory=list, compare=False)
    """Formats that the template wanted the date in."""
    switched: bool = False
    """Whether the template has a variable that turns reasoning off, and it was."""

    @classmethod
    def of(cls, section: TransformersModel | VLLMModel | OpenAIModel) -> Spoken:
        """As the recipe says; without a date, today's."""
        return cls(section.reasoning, dict(section.chat_template_kwargs), section.template_date or today())

    def to(self, template: str) -> Spoken:
        """The same with the variables by which this template's reasoning is turned off, if it is to be."""
        if self.reasoning != "off":
            return replace(self, asked=[])
        variables = switches(template, self.variables)
        return replace(self, variables=variables, asked=[], switched=variables != self.variables)

    def now(self, format: str) -> str:
        """What templates know as strftime_now: midnight of the run's day."""
        if format not in self.asked:
            self.asked.append(format)
        return datetime.combine(self.date, time()).strftime(format)

    def facts(self) -> dict[str, str]:
        """`template_date`, of a template that has asked for it."""
        return {"template_date": self.date.isoformat()} if self.asked else {}


def normal(messages: Messages, *, system: bool, late_system: bool) -> Messages:
    """Neighbours of one role merged, joined by a blank line; a system turn put into the user's where none is taken:
    `system` of those before the first other turn, `late_system` of those after it."""
    spoken = next((place for place, turn in enumerate(messages) if turn.role != "system"), len(messages))
    taken = [system] * spoken + [late_system] * (len(messages) - spoken)
    messages = tuple(
        turn if turn.role != "system" or takes else Message("user", turn.content)
        for turn, takes in zip(messages, taken, strict=True)
    )
    turns = ((role, [turn.content for turn in same]) for role, same in groupby(messages, lambda turn: turn.role))
    return tuple(Message(role, "\n\n".join(contents)) for role, contents in turns)
