"""The chief figures of an audit, and what each says: for the head of the page, the terminal and the data card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from constitution.audit.kinds import ANY, KINDS, Kind, Reading, interval, written
from constitution.shown import markdown
from constitution.warehouse import ask, connect
from constitution.warehouse.views import quoted

_READ = {(kind.name, subject): rule for kind in KINDS.values() for subject, rule in kind.summary.items()}
_IN_ORDER = [
    f"figure = '{name}' AND value {'<=' if rule.only == 'above' else '>='} {rule.null}"
    for (name, _), rule in _READ.items()
    if rule.only
]
_ANY = [name for name, subject in _READ if subject == ANY]
_EACH = [name for (name, _), rule in _READ.items() if rule.each]
QUERY = (
    "SELECT figure, judge, subject, value, low, high, n, note\nFROM figures\n"
    "WHERE run_id = {run} AND principle_id = '' AND (value IS NOT NULL OR figure = 'alignment')\n"
    f"  AND ((figure, subject) IN ({', '.join(map(str, [*_READ, ('alignment', '')]))})\n"
    f"    OR figure IN ({', '.join(map(repr, _ANY))}))\n"
    f"  AND NOT ({' OR '.join(_IN_ORDER)})\n"
    "QUALIFY judge = '' OR NOT bool_or(judge = '') OVER (PARTITION BY figure, subject)\n"
    f"  OR (list_contains({_EACH}, figure)\n"
    "    AND (SELECT count(*) > 1 FROM figures WHERE run_id = {run} AND figure = 'votes_cast'))\n"
    f"ORDER BY list_position([{', '.join(repr(name) for name in dict.fromkeys(name for name, _ in _READ))}], figure),\n"
    f"  list_position([{', '.join(repr(' '.join(each)) for each in _READ)}], figure || ' ' || subject), judge, subject"
)
"""Where all judges together have a figure, those of each are left out, or of some figures those of a judge alone;
agreement with gold is there without a value too."""


@dataclass(frozen=True)
class Headline:
    """One row of `figures` that is in the summary."""

    figure: str
    judge: str
    subject: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    note: str

    @property
    def kind(self) -> Kind:
        return KINDS[self.figure]

    @property
    def title(self) -> str:
        return f"{self.kind.title}, {self.subject}" if self.subject else self.kind.title

    @property
    def shown(self) -> str:
        return written(self.value, self.kind.unit)

    @property
    def interval(self) -> str:
        return interval(self.low, self.high, self.kind.unit)

    @property
    def reading(self) -> str:
        """What can be concluded from the interval and the note."""
        if self.value is None:
            return f"not measured: {self.note}"
        said = {"above": self._rule.above, "below": self._rule.below, "around": self._rule.around}
        text = said.get(self._side, "")
        return self.note if text in self.note else "; ".join(filter(None, (text, self.note)))

    @property
    def alarming(self) -> bool:
        """Whether it puts the labels in doubt."""
        return self.value is not None and self._side in self._rule.alarms

    @property
    def line(self) -> str:
        """All of it in one line."""
        number = f"{self.shown} ({self.interval})" if self.interval else self.shown
        by = f", {self.judge}" if self.judge else ""
        measured = [] if self.value is None else [f"{number}, n = {self.n:,}"]
        return ": ".join([self.title + by, *measured, *filter(None, [self.reading])])

    @property
    def _rule(self) -> Reading:
        return self.kind.summary.get(self.subject) or self.kind.summary.get(ANY) or Reading()

    @property
    def _side(self) -> str:
        """Where the figure is to the value that it is held against; empty: nowhere that can be known."""
        low, high = (self.value, self.value) if self._rule.only else (self.low, self.high)
        if self._rule.null is None or low is None or high is None:
            return ""
        return "above" if low > self._rule.null else "below" if high < self._rule.null else "around"


def headlines(connection: duckdb.DuckDBPyConnection, run_id: str) -> list[Headline]:
    """The chief figures, those that put the labels in doubt first."""
    rows = ask(connection, QUERY.replace("{run}", quoted(run_id)), ours=True).rows
    return sorted((Headline(*row) for row in rows), key=lambda row: not row.alarming)


def scorecard_lines(connection: duckdb.DuckDBPyConnection, run_id: str) -> list[Headline]:
    """The scorecard's figures of the initial answers, the last revisions, each sampler's and those that came with the
    prompts."""
    names = [kind.name for kind in KINDS.values() if kind.name.startswith("scorecard_") and "round" in kind.subject]
    listed = ", ".join(map(quoted, names))
    query = (
        "SELECT figure, judge, subject, value, low, high, n, note, list_last(string_split(subject, '/')) AS round\n"
        f"FROM figures WHERE run_id = {quoted(run_id)} AND figure IN ({listed}) AND value IS NOT NULL\n"
        "QUALIFY round IN ('0', 'given') OR starts_with(round, 'sampler ')\n"
        "  OR round = max(try_cast(round AS INTEGER)) OVER ()::VARCHAR\n"
        f"ORDER BY list_position([{listed}], figure), judge, subject"
    )
    return [Headline(*row[:-1]) for row in ask(connection, query, ours=True).rows]


def summary(root: Path, run_id: str) -> str:
    """The chief figures as Markdown."""
    with connect(root) as connection:
        rows = headlines(connection, run_id)
    lines = [
        f"# Audit of {run_id}",
        "",
        "| figure | judge | value | 95 % interval | n | |",
        "|---|---|--:|---|--:|---|",
    ]
    lines += ["| " + " | ".join(map(markdown, cells)) + " |" for cells in map(cells_of, rows)]
    return "\n".join(lines)


def cells_of(row: Headline) -> Sequence[str]:
    """As the summary's table has them."""
    return (row.title, row.judge or "all", row.shown, row.interval, f"{row.n:,}", row.reading or "")
