"""The formats, as formats.toml has them: columns, settings, and what the card says."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from constitution.records import RewardSource, Run

Unit = Literal["pair", "answer", "prompt"]
UNITS = get_args(Unit)


class Field(NamedTuple):
    """A column of a format."""

    name: str
    type: str
    """A key of `write.TYPES`."""
    doc: str
    sql: str
    """Over a row `t` of `write.ROWS`. Empty: the same in all rows."""

    @property
    def thinks(self) -> bool:
        """Whether it holds an answer's message, which can have `reasoning_content`."""
        return any(name in self.sql for name in ("{answer}", "{won}", "{lost}"))

    @property
    def holds_text(self) -> bool:
        """Whether it holds the conversation or an answer."""
        return self.thinks or "t.messages" in self.sql


@dataclass(frozen=True)
class Format:
    title: str
    """What the rows are, for the card."""
    unit: Unit
    """What a row is: its id is that of a preference, of an answer, or of a prompt."""
    trainer: str
    """TRL's: DPO is DPOTrainer."""
    tags: list[str]
    """Fields of the hub's header, besides the common ones."""
    fields: tuple[Field, ...]
    limits: list[str]
    """What the card warns of; of pairs besides what it warns of by their labels."""
    intro: str = ""
    """The card's first paragraph; of pairs, empty: by their labels."""
    usage: str = ""
    """What the card says below the lines that load the data."""
    usage_of_votes: str = ""
    """The same, of labels by votes alone."""
    settings: tuple[str, ...] = ()
    """Those of the settings that mean something to some formats only which this one takes."""
    scored: bool = False
    """Each answer needs a score by itself: candidates are those that judges looked at one by one."""
    shards: bool = False
    """Rows are sorted into configs by the noise of their labels."""
    source: RewardSource | None = None
    """Its rows are made of rewards by this source and no other."""
    needs_reward: bool = False
    """The trainer takes a reward function."""

    def of_run(self, run: Run) -> Format:
        """With the columns that this run's recipe makes possible, and what the card says of its labels."""
        more = (field for place, of in OF_RUN.items() if _has(run.recipe, place) for field in of.get(self.unit, ()))
        spec = replace(self, fields=(*self.fields, *more))
        if self.unit != "pair":
            return spec
        by = confirm_of(run.recipe)
        usage = spec.usage_of_votes if by == "votes" else ""
        about = LABELS[by]
        return replace(
            spec,
            intro=spec.intro or about["intro"],
            limits=[*about["limits"], *spec.limits],
            usage=spec.usage or usage,
        )

    @property
    def table(self) -> str:
        """The table that a run must have rows in."""
        tables = {"pair": "preferences", "answer": "responses", "prompt": "prompts"}
        return "judgements" if self.scored else tables[self.unit]


def confirm_of(recipe: Mapping[str, Any]) -> str:
    """What makes the labels of its runs: votes, reward or construction."""
    return str((recipe.get("judge") or {}).get("confirm", "votes"))


def _has(recipe: Mapping[str, Any], place: str) -> bool:
    section, _, field = place.partition(".")
    found = recipe.get(section)
    return bool(found.get(field) if found and field else found)


def _formats() -> tuple[dict[str, Format], dict[str, dict[str, tuple[Field, ...]]], dict[str, Any]]:
    sections = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    shared = sections.pop("columns")
    of_run = {
        place: {
            unit: tuple(Field(name, *shared[name]) for name in names)
            for unit in UNITS
            if (names := units.get(unit, units.get("all")))
        }
        for place, units in sections.pop("of_run").items()
    }
    labels = sections.pop("labels")
    formats = {}
    for name, section in sections.items():
        known = shared | section.pop("column", {})
        fields = tuple(Field(column, *known[column]) for column in section.pop("columns"))
        formats[name] = Format(fields=fields, **section)
    return formats, of_run, labels


FORMATS, OF_RUN, LABELS = _formats()
"""By the name that `--format` takes; by a section or field of the recipe the columns that it makes, by unit; by what
labels are made by what the card says of them."""
