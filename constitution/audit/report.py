"""The audit's report: one HTML file that needs no network and no script.

    text = report(Path("warehouse"), run_id)

Every number in it is an answer of the warehouse: each table shows the query that it was made by, and its cells have the
raw values (`data-value`), so that one can be held against the other, and in the tests is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import duckdb

from constitution.audit import charts
from constitution.audit.figures import tables
from constitution.audit.kinds import KINDS, SECTIONS, Exhibit, Rows, Section, Unit, interval, written
from constitution.audit.summary import QUERY, headlines
from constitution.errors import InputError
from constitution.warehouse import ask, connect
from constitution.warehouse.views import quoted

_FACTS = """SELECT r.run_id AS run, r.constitution, r.recipe_name AS recipe, r.status,
  strftime(r.started_at, '%Y-%m-%d %H:%M UTC') AS started,
  (SELECT string_agg(m.key || ': ' || (m.value ->> '$.name'), ' · ' ORDER BY m.key)
   FROM runs s, json_each(s.models) m WHERE s.run_id = {run} AND NOT contains(m.key, ' until ')) AS models,
  (SELECT count(*) FROM prompts WHERE run_id = {run}) AS prompts,
  (SELECT count(*) FROM training_pairs WHERE run_id = {run}) AS pairs,
  (SELECT count(*) FROM judgements WHERE run_id = {run}) AS votes
FROM runs r WHERE r.run_id = {run}"""

_MISSING = """SELECT string_agg(DISTINCT figure, ', ' ORDER BY figure) AS figures, note
FROM figures WHERE run_id = {run} AND value IS NULL
GROUP BY note ORDER BY figures, note"""


@dataclass(frozen=True)
class Cell:
    kind: str
    """text · long · number · interval · note"""
    values: Sequence[tuple[str, str]]
    """What is shown and the raw value; of an interval three of them: value, low, high."""
    drawing: str = ""
    """The interval as SVG."""


@dataclass(frozen=True)
class Column:
    name: str
    kind: str
    hidden: bool = False
    """No row has anything in it."""


@dataclass(frozen=True)
class Shown:
    """An exhibit with its answer."""

    exhibit: Exhibit
    sql: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    drawings: Sequence[str]
    axis: str
    """The ends of the intervals' drawings; empty: it has none."""


def report(root: Path, run_id: str) -> str:
    """The report on a run that has been audited, as HTML. InputError where it has not, or there is no such run."""
    from jinja2 import Environment, StrictUndefined

    with connect(root) as connection:
        facts = _rows(connection, _FACTS, run_id)
        if not facts:
            raise InputError(f"{run_id}: there is no such run", hint="`constitution runs` lists them")
        if not _rows(connection, "SELECT 1 FROM figures WHERE run_id = {run} LIMIT 1", run_id):
            raise InputError(f"{run_id}: has not been audited", hint=f"constitution audit {run_id}")
        rows = headlines(connection, run_id)
        sections = [(section, _shown_of(connection, section, run_id)) for section in SECTIONS]
        missing = _rows(connection, _MISSING, run_id)
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.globals |= {"raw": raw, "titles": _titles}
    environment.filters["coded"] = _coded
    template = environment.from_string(package_files(__package__).joinpath("report.html.j2").read_text("utf-8"))
    return template.render(
        facts=facts[0],
        facts_sql=_query(_FACTS, run_id),
        headlines=rows,
        headline_sql=_query(QUERY, run_id),
        sections=[(section, shown) for section, shown in sections if shown],
        missing=missing,
        missing_sql=_query(_MISSING, run_id),
    )


def raw(value: Any) -> str:
    """A value as `data-value` has it: null is empty, and a fraction has all its digits."""
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def _shown_of(connection: duckdb.DuckDBPyConnection, section: Section, run_id: str) -> list[Shown]:
    """The section's tables that have rows."""
    shown = []
    for exhibit in tables(section):
        answer = ask(connection, _query(exhibit.sql, run_id), ours=True)
        if rows := [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]:
            shown.append(_shown(exhibit, dict(zip(answer.columns, answer.types, strict=True)), rows, run_id))
    return shown


def _shown(exhibit: Exhibit, types: Mapping[str, str], rows: Rows, run_id: str) -> Shown:
    """types: DuckDB's, of the columns."""
    columns = [
        _column(name, kind, [row[name] for row in rows]) for name, kind in types.items() if name not in ("low", "high")
    ]
    ends = charts.scale(rows, exhibit.null) if "value" in types and not exhibit.chart else None
    drawings = exhibit.chart(rows) if exhibit.chart else []
    cells = [[_cell(exhibit, column, row, ends) for column in columns] for row in rows]
    axis = charts.axis(ends, exhibit.unit) if ends else ""
    return Shown(exhibit, _query(exhibit.sql, run_id), columns, cells, drawings, axis)


def _column(name: str, kind: str, values: Sequence[Any]) -> Column:
    if name == "value":
        return Column("value (95 % interval)", "interval")
    empty = all(value in (None, "") for value in values)
    if name == "note":
        return Column(name, "note", empty)
    longest = max((len(value or "") for value in values), default=0) if kind == "VARCHAR" else 0
    return Column(name, "number" if kind != "VARCHAR" else "text" if longest <= 28 else "long", empty)


def _cell(exhibit: Exhibit, column: Column, row: Mapping[str, Any], ends: tuple[float, float] | None) -> Cell:
    unit = KINDS[row["figure"]].unit if row.get("figure") in KINDS else exhibit.unit
    if column.kind == "interval":
        values = [(_written(row["value"], unit), raw(row["value"]))]
        shown = interval(row["low"], row["high"], unit)
        values += [(shown, raw(row["low"])), ("", raw(row["high"]))]
        return Cell("interval", values, charts.line(row, ends, exhibit.null) if ends else "")
    value = row[column.name]
    shown = "all" if value == "" and column.kind != "note" else value
    if column.name == "figure":
        shown = _titles(value)
    return Cell(column.kind, [(_written(shown, exhibit.units.get(column.name, unit)), raw(value))])


def _written(value: Any, unit: Unit) -> str:
    if value is None or isinstance(value, float):
        return written(value, unit)
    return f"{value:,}" if isinstance(value, int) else str(value)


def _titles(figures: str) -> str:
    """The titles of figures that are listed by name."""
    return "; ".join(dict.fromkeys(KINDS[name].title if name in KINDS else name for name in figures.split(", ")))


def _coded(text: str) -> Any:
    """HTML of a text; what is in backticks is code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _rows(connection: duckdb.DuckDBPyConnection, sql: str, run_id: str) -> list[dict[str, Any]]:
    answer = ask(connection, _query(sql, run_id), ours=True)
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]


def _query(sql: str, run_id: str) -> str:
    return sql.replace("{run}", quoted(run_id))
