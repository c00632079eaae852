"""What a reward can be made of, as data: a table of sources, and what each one gives.

A further source takes its own module with a function `(RewardSection, Constitution) -> Reads`, a row here, and its name
in `records.RewardSource`. Nothing here loads an engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Literal, NamedTuple

from constitution import templates
from constitution.errors import RecipeError
from constitution.principles.selection import select
from constitution.records import (
    NEGATED,
    Constitution,
    Messages,
    Principle,
    Prompt,
    RewardReason,
    RewardSource,
    Row,
    Score,
)
from constitution.templates import TemplateSet

if TYPE_CHECKING:
    from constitution.recipe import Recipe, RewardSection


class Item(NamedTuple):
    """One thing that a judge reads of an answer, by one call."""

    principle_id: str
    """Empty: it is of no principle."""
    digest: str
    """The principle's; empty: it is of none."""
    number: int | None
    """Place in the principle's criteria, or in the prompt's rubric, from 0; None: it is no criterion."""
    question: str
    good: Literal["yes", "no"] | None
    weight: float
    """Below 0: points that are lost where the reply is yes (`RubricItem.weight`)."""
    essential: bool
    labels: tuple[str, ...]
    messages: Callable[[Messages, str, str, TemplateSet], Messages]
    """Its chat, by the prompt, the answer's text, the nonce of the marks around it, and the templates."""
    upto: int | None = None
    """Characters of the answer that are shown; None: all."""
    rubric_id: str | None = None
    """`RubricItem.id`; None: it is none of a prompt's rubric."""

    @property
    def target(self) -> str:
        """What its readings' ids are made of."""
        return self.rubric_id or self.digest

    @property
    def place(self) -> tuple[int, ...]:
        """What tells its readings of parts of one answer apart; of a whole answer nothing."""
        return () if self.upto is None else (self.upto,)

    @property
    def name(self) -> str:
        """For messages."""
        what = "grade" if self.number is None else f"criterion {self.number + 1}"
        upto = "" if self.upto is None else f", of the answer's first {self.upto:,} characters"
        return f"{what} of {self.principle_id or 'the prompt'}{upto}"


class Part(NamedTuple):
    """What an item, by its mean over judges, or a rule says of an answer."""

    value: float
    """How well it speaks for the answer, from 0 to 1."""
    weight: float = 1.0
    """Below 0: so much is lost where the value is 0, and it is no part of what can be had."""
    essential: bool = False
    said: str | None = None
    """What code read off the answer; None: nothing."""


@dataclass(frozen=True, slots=True)
class Reads:
    """What one source reads of every answer of a run, or of those to one prompt."""

    items: tuple[Item, ...] = ()
    """That each judge is asked."""
    rules: Callable[[str], Sequence[Part] | RewardReason] | None = None
    """What code says of a text, or why it cannot; None: nothing."""
    of_text: Callable[[str], Sequence[Item]] | None = None
    """Further items, of a text's sentences, each with `upto`: the reward is by steps."""
    scale: tuple[float, float] = (0.0, 1.0)
    """Lowest and highest raw reward."""
    of_prompt: Callable[[Prompt, Mapping[str, Row]], Reads | None] | None = None
    """What it reads of the answers to one prompt, by the prompt's rows by id; it gives None while that cannot be said,
    because what it is made from may still come. None: of all prompts the same."""
    reason: RewardReason | None = None
    """Why no answer to the prompt can have a reward; None: they can."""


class Combined(NamedTuple):
    value: float | None
    """None: an essential item was not read, and it may be under the bar."""
    raw: float
    least_essential: float | None


@dataclass(frozen=True, slots=True)
class Source:
    reads: str
    """`module:function` that gives its `Reads`, or raises RecipeError."""
    templates: Callable[[RewardSection], TemplateSet | None]
    """What its requests are rendered with, of the package's own; None: it asks nothing."""


def _grades(section: RewardSection) -> TemplateSet:
    return templates.SCORE if section.steps == len(templates.GRADES) else templates.SCORE_FINE


SOURCES: Mapping[RewardSource, Source] = {
    "rubric": Source("constitution.judge.by_rubric:reads", lambda section: templates.RUBRIC),
    "grade": Source("constitution.judge.by_grade:reads", _grades),
    "rule": Source("constitution.judge.by_rule:reads", lambda section: None),
    "last-token": Source("constitution.judge.by_last_token:reads", lambda section: None),
    "model": Source("constitution.judge.by_model:reads", lambda section: None),
    "sentence": Source("constitution.judge.by_sentence:reads", lambda section: templates.RUBRIC),
    "match": Source("constitution.judge.by_match:reads", lambda section: None),
    "prompt-rubric": Source("constitution.judge.by_prompt_rubric:reads", lambda section: templates.RUBRIC),
}


def reads_of(source: RewardSource, section: RewardSection, constitution: Constitution) -> Reads:
    """Raises RecipeError for what the section asks of it in vain."""
    module, _, name = SOURCES[source].reads.partition(":")
    found: Reads = getattr(import_module(module), name)(section, constitution)
    return found


def texts_of(recipe: Recipe) -> Mapping[str, TemplateSet]:
    """What the requests of each source that asks any are rendered with, in the recipe's words, and those that ask a
    second time."""
    section = recipe.reward
    found: dict[str, TemplateSet | None] = {}
    for source in section.by if section else ():
        assert section is not None
        found[source] = SOURCES[source].templates(section)
        if section.negated and source in NEGATED:
            found[NEGATED[source]] = templates.RUBRIC_NEGATED
    return {source: recipe.wording.of(texts) for source, texts in found.items() if texts is not None}


def able(section: RewardSection, constitution: Constitution, those: Sequence[Principle], what: str) -> list[Principle]:
    """Those of the principles that the source can use which the section asks for. what: of the source, that they need.
    Raises RecipeError where there are none."""
    if not those:
        raise RecipeError(
            f"reward.by: no principle of {constitution.label} has {what}",
            hint="give principles some in a new version, or name another source",
        )
    return list(select(those, section.principles, f"reward.principles ({constitution.label}, with {what})"))


def means(found: Sequence[tuple[Item, Score]]) -> list[Part]:
    """What each item that was read comes to, over the judges."""
    values: dict[int, list[float]] = {}
    items: dict[int, Item] = {}
    for item, row in found:
        values.setdefault(id(item), []).append(row.value)
        items[id(item)] = item
    return [Part(sum(each) / len(each), items[key].weight, items[key].essential) for key, each in values.items()]


def combine(section: RewardSection, parts: Sequence[Part], essential: int, scale: tuple[float, float]) -> Combined:
    """The mean by weight, and 0 where it is vetoed. parts: at least one. essential: essential items that were to be
    read. scale: of the raw reward.

    Points lost are taken off the mean, which is the raw reward and may be under 0. The value is its place between the
    least that these parts can come to and 1, so that no two means have one value. Without a part that can be had there
    is no mean."""
    most = math.fsum(part.weight for part in parts if part.weight > 0)
    if not most:
        return Combined(None, 0.0, None)
    got = (part.weight * (part.value if part.weight > 0 else 1 - part.value) for part in parts)
    mean = math.fsum(got) / most
    found = [part.value for part in parts if part.essential]
    least = min(found, default=None)
    worst = math.fsum(part.weight for part in parts if part.weight < 0) / most
    value: float | None = min(max((mean - worst) / (1 - worst), 0.0), 1.0)  # rounding alone is cut
    if section.combine == "veto":
        vetoed = least is not None and least < section.bar
        value = 0.0 if vetoed else value if len(found) == essential else None
    low, high = scale
    return Combined(value, low + mean * (high - low), least)


def length_penalty(section: RewardSection, words: int) -> float | None:
    """0 or less (recipe/reward.py); None: the recipe has none."""
    length = section.length
    if length is None:
        return None
    if words > length.limit:
        return -length.penalty
    over = words - (length.limit - length.ramp)
    return -length.penalty * over / length.ramp if over > 0 else 0.0
