"""What the figures of an audit are, as the TOML files of this folder declare them, and the tables that show them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Literal

Unit = Literal["share", "points", "log-odds", "number", "count", "bits"]
Rows = Sequence[Mapping[str, Any]]

Chart = Callable[[Rows], list[str]]
"""Draws a table's rows as SVG."""

ANY = "*"
"""In `summary`: whatever the subject is."""

NO_BREAK = "\N{NO-BREAK SPACE}"

_FORMATS: dict[Unit, tuple[str, float, str]] = {
    "share": (".1f", 100, "%"),
    "points": ("+.1f", 100, "points"),
    "log-odds": ("+.2f", 1, ""),
    "number": (",.2f", 1, ""),
    "count": (",.0f", 1, ""),
    "bits": (".2f", 1, "bits"),
}
"""How each unit is written: the number's format, what it is multiplied by, what follows it."""


def written(value: float | None, unit: Unit, *, bare: bool = False) -> str:
    """A value with its unit, as `57.1 %`; bare: without it."""
    if value is None:
        return "–"
    form, times, suffix = _FORMATS[unit]
    number = f"{value * times:{form}}".replace("-", "−")
    number = re.sub(r"^[+−](?=0(\.0+)?$)", "", number)
    return number if bare or not suffix else number + NO_BREAK + suffix


def interval(low: float | None, high: float | None, unit: Unit) -> str:
    """`97.9 to 100.0 %`; empty where there is none."""
    return "" if low is None or high is None else f"{written(low, unit, bare=True)} to {written(high, unit)}"


@dataclass(frozen=True)
class Reading:
    """What a figure's 95 % interval says in the summary."""

    null: float | None = None
    """The value that the interval is compared with; None: none."""
    above: str = ""
    """Said where the interval lies above `null`."""
    below: str = ""
    around: str = ""
    """Said where the interval holds `null`."""
    alarms: tuple[str, ...] = ()
    """Those of above, below and around that put the labels in doubt: they come first."""
    only: Literal["", "above", "below"] = ""
    """It is in the summary only where its value, whatever its interval, is there."""
    each: bool = False
    """Where there are several judges, each one's row is in the summary, beside that of all."""


@dataclass(frozen=True)
class Kind:
    """One figure of the audit; the head of figures.toml says what each field is."""

    name: str
    title: str
    unit: Unit
    says: str
    n: str
    by: tuple[tuple[str, ...], ...] = (("judge",),)
    """For each level at which it is measured, the columns that tell its rows apart: of judge, principle_id, subject."""
    subject: str = "subject"
    order: tuple[str, ...] = ()
    sql: str = ""
    wilson: bool = False
    takes: str = ""
    stopped: str = ""
    signed: bool = False
    """Its values are in [-1, 1], and so are the ends of its interval."""
    null: float | None = None
    table: str = ""
    summary: Mapping[str, Reading] = field(default_factory=dict)

    @property
    def proportion(self) -> bool:
        """Its values are in [0, 1], and so are the ends of its interval."""
        return self.unit in ("share", "bits")


@dataclass(frozen=True)
class Exhibit:
    """A table of the page: what one query answers. `{run}` in it is the run's id.

    `value`, `low` and `high` side by side become one cell with the 95 % interval; `figure` is shown by its title.
    """

    name: str
    title: str
    sql: str
    says: str = ""
    unit: Unit = "share"
    """The unit of fractions, except in a row that has a `figure`."""
    units: Mapping[str, Unit] = field(default_factory=dict)
    """Per column, where it is another."""
    null: float | None = None
    chart: Chart | None = None
    """The table is then below its drawings."""
    examples: bool = False
    """Its rows are pairs of answers to be read, not numbers to be compared."""


@dataclass(frozen=True)
class Section:
    """Figures that belong together: one part of the page."""

    name: str
    title: str
    kinds: tuple[Kind, ...]
    module: str = ""
    says: str = ""
    wide: Mapping[str, str] = field(default_factory=dict)

    def tables(self, charts: Mapping[str, Chart]) -> Iterator[Exhibit]:
        """One for each table of its kinds. charts: by name of a kind, what draws it instead of a line of intervals."""
        titled: dict[str, list[Kind]] = {}
        for kind in self.kinds:
            if kind.table != "-":
                titled.setdefault(kind.table or kind.title, []).append(kind)
        for title, kinds in titled.items():
            if title in self.wide:
                yield _wide(title, kinds, self.wide[title])
            else:
                levels = {"principle_id" in keys for keys in kinds[0].by}
                for of_principles in sorted(levels):
                    yield _long(title, kinds, of_principles, len(levels) > 1, charts.get(kinds[0].name))


def _long(title: str, kinds: Sequence[Kind], of_principles: bool, both: bool, chart: Chart | None) -> Exhibit:
    """A row for each figure with a value; both: the other level, without or with principles, has a table too."""
    keys = {key for kind in kinds for level in kind.by for key in level}
    columns = ["figure"] * (len(kinds) > 1) + ["judge"] * ("judge" in keys)
    columns += ["principle_id AS principle"] * of_principles
    columns += [f'subject AS "{kinds[0].subject}"'] * ("subject" in keys)
    level = f"\n  AND principle_id {'<>' if of_principles else '='} ''" if both else ""
    order = [f"list_position([{_listed(kind.name for kind in kinds)}], figure)"] if len(kinds) > 1 else []
    order += ["judge = ''", "judge", "principle_id"]
    order += [f"list_position([{_listed(kinds[0].order)}], subject)"] if kinds[0].order else []
    order += ["try_cast(list_last(string_split(subject, '/')) AS INTEGER)", "subject"]
    sql = (
        f"SELECT {', '.join([*columns, 'value', 'low', 'high', 'n', 'note'])}\nFROM figures\n"
        f"WHERE run_id = {{run}} AND figure IN ({_listed(kind.name for kind in kinds)}){level}\n"
        f"  AND value IS NOT NULL\nORDER BY {', '.join(order)}"
    )
    says = " ".join(f"{kind.says}." if len(kinds) == 1 else f"{kind.title}: {kind.says}." for kind in kinds)
    by_principle = both and of_principles
    name = kinds[0].name.replace("_", "-") + ("-by-principle" if by_principle else "")
    heading = f"{title}, by principle" if by_principle else title
    return Exhibit(name, heading, sql, says, kinds[0].unit, null=kinds[0].null, chart=chart)


def _wide(title: str, kinds: Sequence[Kind], key: str) -> Exhibit:
    """A row for each judge, principle or subject, and a column for each figure."""
    cells = [
        f"  max(value) FILTER (figure = '{kind.name}'){'::BIGINT' if kind.unit == 'count' else ''} AS \"{kind.title}\""
        for kind in kinds
    ]
    none = " AND ".join(f"{other} = ''" for other in ("judge", "principle_id", "subject") if other != key)
    named = f'"{kinds[0].subject}"' if key == "subject" else key.removesuffix("_id")
    sql = (
        f"SELECT {key} AS {named},\n" + ",\n".join(cells) + "\nFROM figures\n"
        f"WHERE run_id = {{run}} AND figure IN ({_listed(kind.name for kind in kinds)})\n"
        f"  AND {none} AND value IS NOT NULL\nGROUP BY {key}\nORDER BY {key}"
    )
    says = " ".join(f"{kind.title}: {kind.says}." for kind in kinds)
    units = {kind.title: kind.unit for kind in kinds}
    return Exhibit(kinds[0].name.replace("_", "-"), title, sql, says, units=units)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _sections(file: str) -> Iterator[Section]:
    for name, section in tomllib.loads(files(__package__).joinpath(file).read_text("utf-8")).items():
        defaults, figures = section.pop("defaults", {}), section.pop("figures", {})
        kinds = tuple(_kind(figure, {**defaults, **given}) for figure, given in figures.items())
        yield Section(name, **section, kinds=kinds)


def _kind(name: str, given: dict[str, Any]) -> Kind:
    for text in ("says", "takes", "stopped"):
        given[text] = " ".join(given.get(text, "").split())
    given["by"] = tuple(tuple(filter(None, level.split(", "))) for level in given.get("by", ["judge"]))
    given["order"] = tuple(given.get("order", ()))
    given["summary"] = {subject: Reading(**reading) for subject, reading in given.get("summary", {}).items()}
    return Kind(name, **given)


_FILES = ("figures.toml", "groups.toml", "criteria.toml", "scorecard.toml", "coverage.toml")
SECTIONS = tuple(section for file in _FILES for section in _sections(file))
"""In the page's order."""
KINDS = {kind.name: kind for section in SECTIONS for kind in section.kinds}
