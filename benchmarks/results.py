"""What every benchmark writes: a results file (JSON), and from it a section of docs/RESULTS.md.

    python -m benchmarks.results docs/RESULTS.md     every section again, from the files in benchmarks/results

A results file holds date, machine, tables, verdicts and notes. In the page a section is what is between `<!-- NAME` and
`<!-- /NAME -->`, where NAME is the file's name.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

FOLDER = Path(__file__).parent / "results"

ROWS = 3
"""Rows of a table that the page shows."""
TABLES = 1
"""Tables of a section that the page shows."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A promise, kept or not."""

    what: str
    measured: float
    bound: float
    at_most: bool = True
    """False: at least."""

    @property
    def passes(self) -> bool:
        return self.measured <= self.bound if self.at_most else self.measured >= self.bound

    def __str__(self) -> str:
        side = "at most" if self.at_most else "at least"
        return f"{'PASS' if self.passes else 'FAIL'}  {self.what}: {self.measured:,.3f} ({side} {self.bound:,g})"


@dataclass(frozen=True, slots=True)
class Table:
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    """A cell for each column, formatted."""
    title: str = ""
    detail: bool = False
    """True: in the results file alone."""


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--out and --page, for a benchmark's click command."""
    command = click.option("--page", type=click.Path(path_type=Path), help="Put the tables into this page too.")(
        command
    )
    return click.option("--out", type=click.Path(path_type=Path), help="Write the figures here, as JSON.")(command)


def finish(
    out: Path | None,
    page: Path | None,
    tables: Sequence[Table],
    verdicts: Sequence[Verdict],
    notes: Sequence[str] = (),
) -> None:
    """Shows the figures, writes them to `out` and from there into `page`; exits with 1 where a promise is broken."""
    figures = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "tables": [asdict(table) for table in tables],
        "verdicts": [asdict(verdict) for verdict in verdicts],
        "notes": list(notes),
    }
    figures = json.loads(json.dumps(figures), parse_float=lambda number: round(float(number), 4))
    click.echo(section(figures))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if page is not None:
            page.write_text(
                put_into(page.read_text(encoding="utf-8"), out.stem, section(figures, ROWS)), encoding="utf-8"
            )
    if not all(verdict.passes for verdict in verdicts):
        sys.exit(1)


def section(figures: dict[str, Any], rows: int | None = None) -> str:
    """A results file as Markdown. rows: of a page, where longer tables are shown to that row, and tables of detail,
    those after the first TABLES and promises that were kept are counted."""
    blocks = [f"Measured {figures['date']} on {figures['machine']}."]
    tables = figures["tables"]
    shown_tables = [table for table in tables if rows is None or not table.get("detail")][: rows and TABLES]
    details = [table for table in tables if table not in shown_tables]
    for table in shown_tables:
        lines = [f"**{table['title']}**", ""] if table["title"] else []
        lines += [_row(table["columns"]), "|---|" + "--:|" * (len(table["columns"]) - 1)]
        lines += [_row(cells) for cells in table["rows"][:rows]]
        more = len(table["rows"][rows:]) if rows is not None else 0
        blocks.append("\n".join(lines) + (f"\n\n({more} more rows in the results file.)" if more else ""))
    if details:
        blocks.append(
            "In the results file: " + "; ".join(f"{t['title']} ({len(t['rows'])} rows)" for t in details) + "."
        )
    blocks += figures["notes"]
    verdicts = [Verdict(**verdict) for verdict in figures["verdicts"]]
    shown = [verdict for verdict in verdicts if rows is None or not verdict.passes]
    if verdicts:
        kept = sum(verdict.passes for verdict in verdicts)
        blocks.append("\n".join([f"{kept} of {len(verdicts)} promises kept.", *(f"- {verdict}" for verdict in shown)]))
    return "\n\n".join(blocks)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def put_into(page: str, name: str, text: str) -> str:
    """`page` with `text` between the marks of that name; at its end, with marks, where it has none."""
    begin, end = f"<!-- {name}", f"<!-- /{name} -->"
    before, opening, rest = page.partition(begin)
    mark, _, old = rest.partition("\n")
    _, closing, after = old.partition(end)
    if not (opening and closing):
        return f"{page.rstrip()}\n\n{begin} -->\n{text.strip()}\n{end}\n"
    return f"{before}{begin}{mark}\n{text.strip()}\n{end}{after}"


def machine() -> str:
    """In words, without names."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores, model = len(os.sched_getaffinity(0)), next(iter(models), platform.machine())
    return f"{cores} cores, {model}, {platform.system()}, Python {platform.python_version()}"


@click.command(help=__doc__)
@click.argument("page", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for path in sorted(FOLDER.glob("*.json")):
        text = put_into(text, path.stem, section(json.loads(path.read_text(encoding="utf-8")), ROWS))
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
