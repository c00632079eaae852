"""`constitution audit`: how far a run's labels can be trusted, as a table here and as a page."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from constitution.audit import AUDITED
from constitution.audit import audit as measure
from constitution.audit.kinds import KINDS, SECTIONS
from constitution.audit.report import report
from constitution.audit.summary import Headline, cells_of, headlines, scorecard_lines
from constitution.cli._formats import output
from constitution.cli._options import json_option, run_ids, show_json, suggest, warehouse_option
from constitution.cli._scorecard import ask, asks, scorecard_options, tags_of
from constitution.cli._telemetry import mlflow_option
from constitution.shown import printable
from constitution.telemetry import log
from constitution.warehouse import Warehouse, connect


@click.command()
@click.argument("run", required=False, shell_complete=run_ids)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="The report's file.",
)
@click.option(
    "--replicates",
    type=click.IntRange(min=100),
    default=1000,
    show_default=True,
    help="Replicates of each bootstrap; fewer are faster, with coarser intervals.",
)
@click.option("--figures", "listed", is_flag=True, help="List all figures, what they are and their n; measure nothing.")
@scorecard_options
@mlflow_option
@json_option
@warehouse_option
@click.pass_context
def audit(
    context: click.Context,
    /,
    run: str | None,
    out: Path,
    replicates: int,
    listed: bool,
    as_json: bool,
    warehouse: Path,
    **asked: Any,
) -> None:
    """Measure how far the labels of RUN (or how its id begins) can be trusted: agreement with gold, calibration,
    position, length and style, perturbations, the judges' agreement, the principles' health.

    Without RUN it is the newest that has preferences. Every number goes into the table `figures`; the report is one
    HTML file that opens anywhere and shows the query behind each of its tables and plots. A run that is not finished
    is audited as far as it is.

    With --scorecard the run's judges, or those that --model or --recipe names, are asked yes/no questions about each
    answer by itself: refusals, undesired content, helpfulness (docs/judging.md). What was asked before is not asked
    again, and later audits include it without this option.

    \b
    Examples:
      constitution audit
      constitution audit --figures
      constitution audit hh-harmless-0a7d1f --out hh.html
      constitution audit --scorecard --sample 500
      constitution audit hh-harmless-0a7d1f --scorecard scorecard@1.0.0 --recipe recipes/jury.toml --swaps
    """  # fmt: skip
    if listed:
        _list(as_json)
        return
    wanted, tags = asks(context), tags_of(asked["tag"])
    with connect(warehouse):  # tells where there is no warehouse
        pass
    found = Warehouse(warehouse).find_run(run, AUDITED)
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        scorecard = asyncio.run(ask(warehouse, found, **asked)) if wanted else ""
    figures = measure(warehouse, found.run_id, replicates=replicates, scorecard=scorecard, tags=tags)
    with output(out) as file:
        file.write(report(warehouse, found.run_id))
    log(warehouse, found.run_id)
    if as_json:
        rows = [asdict(figure) | {"unit": KINDS[figure.figure].unit} for figure in figures]
        rows = [{name: value for name, value in row.items() if name != "run_id"} for row in rows]
        finished = found.finished_at is not None
        show_json({"run_id": found.run_id, "finished": finished, "report": str(out), "figures": rows})
        return
    with connect(warehouse) as connection:
        click.echo(printable(found.run_id))
        _show("", headlines(connection, found.run_id))
        _show("scorecard", scorecard_lines(connection, found.run_id))
    if found.finished_at is None:
        click.echo("The run is not finished: these are figures of what there is so far.")
    missing = sum(figure.value is None for figure in figures)
    click.echo(f"Report: {out} ({len(figures) - missing:,} figures, {missing:,} could not be measured)")
    click.echo("Next:")
    suggest(warehouse, f"SELECT * EXCLUDE (run_id, created_at) FROM figures WHERE run_id = '{found.run_id}'")


def _list(as_json: bool) -> None:
    """What each figure is, by section of the page."""
    if as_json:
        names = ("title", "unit", "says", "n", "by", "subject", "takes")
        show_json({name: {each: getattr(kind, each) for each in names} for name, kind in KINDS.items()})
        return
    for section in SECTIONS:
        if section.kinds:
            click.echo(f"{section.title}\n" + "=" * len(section.title))
        for kind in section.kinds:
            by = " or ".join(", ".join(level).replace("subject", kind.subject) or "the run" for level in kind.by)
            click.echo(f"{kind.name} ({kind.unit} by {by}; n: {kind.n})\n    {kind.says}.\n")


def _show(title: str, rows: Sequence[Headline]) -> None:
    """Figures as a table; nothing where there are none."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(title)
    table.add_column("judge", overflow="fold")
    for name in ("value", "95 % interval", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in cells_of(row)))
    if rows:
        Console(highlight=False).print(table)
