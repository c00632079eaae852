"""The audit's report: one HTML file that needs no network and no script.

    text = report(Path("warehouse"), run_id)

Every number in it is an answer of the warehouse: each table and plot shows the query that it was made by, and its
cells bear the raw values (`data-value`), so that one can be held against the other, and in the tests is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files as package_files
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb

from constitution.audit.about_data import EXAMPLES, MISSING, PRINCIPLES, ROUNDS
from constitution.audit.about_judges import JUDGES, PERTURBATIONS, POSITION, STYLE, TRUST
from constitution.audit.about_scorecard import SCORECARD, TABLE, TABLE_UNITS
from constitution.audit.answer import NO_GOLD, answer
from constitution.audit.exhibits import FACTS, HEADLINE, Exhibit, Section
from constitution.audit.words import NO_BREAK, UNITS, Headline, Unit, sentence, unbroken
from constitution.errors import InputError
from constitution.shown import markdown
from constitution.warehouse import ask, connect
from constitution.warehouse.views import quoted

SECTIONS = (TRUST, POSITION, STYLE, PERTURBATIONS, JUDGES, PRINCIPLES, ROUNDS, SCORECARD, EXAMPLES, MISSING)

_NOTES = (
    "SELECT figure, note FROM figures WHERE run_id = {run} AND value IS NULL AND note <> '' GROUP BY ALL ORDER BY ALL"
)


@dataclass(frozen=True)
class Cell:
    kind: str
    """text · long · number · interval · note"""
    values: Sequence[tuple[str, str]]
    """What is shown and the raw value, of an interval three of them: value, low, high."""


@dataclass(frozen=True)
class Column:
    name: str
    kind: str
    hidden: bool = False
    """A note that no row has."""


@dataclass(frozen=True)
class Shown:
    """An exhibit with its answer."""

    exhibit: Exhibit
    sql: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    svgs: Sequence[str]
    why: Sequence[str]
    """What the audit says of an exhibit without rows."""

    @property
    def wide(self) -> bool:
        """Whether it takes the page's whole width, where that is a wide one."""
        if self.svgs:
            return len(self.svgs) > 1
        texts = sum(column.kind in ("text", "long") for column in self.columns)
        return bool(self.rows) and (self.exhibit.shape == "examples" or texts > 2 or len(self.columns) > 6)


def report(root: Path, run_id: str) -> str:
    """The report on a run that has been audited, as HTML. InputError where it has not, or there is no such run."""
    from jinja2 import Environment, StrictUndefined

    with connect(root) as connection:
        told = headlines(connection, run_id)
        facts = _rows(connection, _query(FACTS, run_id))
        if not facts:
            raise InputError(f"{run_id}: there is no such run", hint="`constitution runs` lists them")
        if not _rows(connection, _query("SELECT 1 FROM figures WHERE run_id = {run} LIMIT 1", run_id)):
            raise InputError(f"{run_id}: has not been audited", hint=f"constitution audit {run_id}")
        notes: dict[str, list[str]] = {}
        for row in _rows(connection, _query(_NOTES, run_id)):
            notes.setdefault(row["figure"], []).append(row["note"])
        sections = [(section, _exhibits(connection, section, run_id, notes)) for section in SECTIONS]
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.globals["raw"] = raw
    environment.filters |= {"sentence": sentence, "unbroken": unbroken, "coded": _coded}
    template = environment.from_string(package_files(__package__).joinpath("report.html.j2").read_text("utf-8"))
    return template.render(
        facts=facts[0],
        facts_sql=_query(FACTS, run_id),
        answer=answer(told),
        no_gold=unbroken(NO_GOLD),
        cards=cards(told),
        headline_sql=_query(HEADLINE, run_id),
        sections=sections,
    )


def headlines(connection: duckdb.DuckDBPyConnection, run_id: str) -> list[Headline]:
    """The numbers to begin with, the most telling first; those that the audit could not have are left out."""
    return [Headline(**row) for row in _rows(connection, _query(HEADLINE, run_id))]


@dataclass(frozen=True)
class Scored:
    """One line of the scorecard's table, written."""

    what: str
    judge: str
    round: str
    shown: str
    interval: str
    n: int


def scorecard_rows(root: Path, run_id: str) -> list[Scored]:
    """The scorecard's table, by measure, judge and round; none where none was asked."""
    with connect(root) as connection:
        rows = _rows(connection, _query(TABLE, run_id))
    found = []
    for row in rows:
        value, low, high = (
            _written(row[end], TABLE_UNITS.get(row["what"], "share")) for end in ("value", "low", "high")
        )
        interval = "" if row["low"] is None else f"{low.split(NO_BREAK)[0]} to {high}"
        found.append(Scored(row["what"], row["judge"], row["round"], value, interval, row["n"]))
    return found


def summary(root: Path, run_id: str) -> str:
    """The headline as Markdown."""
    with connect(root) as connection:
        told = headlines(connection, run_id)
    lines = [f"# Audit of {run_id}", "", *(f"- {markdown(each)}" for each in answer(told)), ""]
    lines += ["| | judge | value | 95 % interval | n | |", "|---|---|--:|---|--:|---|"]
    for one in told:
        cells = (one.title, one.judge or "all", one.shown, one.interval, f"{one.n:,}", one.verdict)
        lines.append("| " + " | ".join(map(markdown, cells)) + " |")
    return "\n".join(lines)


def cards(told: Iterable[Headline]) -> list[list[Headline]]:
    """Headlines that differ in the judge alone, together."""
    return [list(card) for _, card in groupby(told, lambda one: (one.figure, one.subject))]


def raw(value: Any) -> str:
    """A value as `data-value` has it: null is empty, and a fraction has all its digits."""
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def _exhibits(
    connection: duckdb.DuckDBPyConnection, section: Section, run_id: str, notes: Mapping[str, Sequence[str]]
) -> list[Shown]:
    """The section's; none where the section says that there is nothing."""
    shown = [_shown(connection, exhibit, run_id, notes) for exhibit in section.exhibits]
    return shown if not section.nothing or any(one.rows for one in shown) else []


def _shown(
    connection: duckdb.DuckDBPyConnection, exhibit: Exhibit, run_id: str, notes: Mapping[str, Sequence[str]]
) -> Shown:
    sql = _query(exhibit.sql, run_id)
    answer = ask(connection, sql)
    names, rows = list(answer.columns), list(answer.rows)
    columns = _columns(names, list(answer.types), rows)
    records = [dict(zip(names, row, strict=True)) for row in rows]
    drawn = exhibit.plot(records) if rows and exhibit.plot else []
    svgs = [_own_ids(svg, f"{exhibit.name}-{place}") for place, svg in enumerate(drawn)]
    why = () if rows else dict.fromkeys(note for name in exhibit.figures for note in notes.get(name, ()))
    return Shown(exhibit, sql, columns, [_cells(exhibit, columns, record) for record in records], svgs, list(why))


def _columns(names: Sequence[str], types: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[Column]:
    """The columns as the page has them: value, low and high are one."""
    columns = []
    for place, (name, kind) in enumerate(zip(names, types, strict=True)):
        if name in ("low", "high"):
            continue
        if name == "value":
            columns.append(Column("value (95 % interval)", "interval"))
        elif name == "note":
            columns.append(Column(name, "note", hidden=not any(row[place] for row in rows)))
        else:
            longest = max((len(row[place] or "") for row in rows), default=0) if kind == "VARCHAR" else 0
            columns.append(Column(name, "number" if kind != "VARCHAR" else "text" if longest <= 28 else "long"))
    return columns


def _cells(exhibit: Exhibit, columns: Sequence[Column], row: Mapping[str, Any]) -> list[Cell]:
    unit = exhibit.units.get(str(row.get("what", "")), exhibit.unit)
    cells = []
    for column in columns:
        if column.kind == "interval":
            values = [(_written(row[name], unit), raw(row[name])) for name in ("value", "low", "high")]
        else:
            value = row[column.name]
            shown = "all" if value == "" and column.name in ("judge", "principle", "which") else value
            shown = sentence(shown or "") if column.kind == "note" else shown
            values = [(_written(shown, exhibit.units.get(column.name, unit)), raw(value))]
        cells.append(Cell(column.kind, values))
    return cells


def _written(value: Any, unit: Unit) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return UNITS[unit](value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def _coded(text: str) -> Any:
    """HTML of a text, with what stands in backticks as code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _own_ids(svg: str, name: str) -> str:
    """No two drawings of a page share an id."""
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)


def _rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    answer = ask(connection, sql)
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]


def _query(sql: str, run_id: str) -> str:
    return sql.replace("{run}", quoted(run_id))
