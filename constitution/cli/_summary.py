"""A run for the eye: counts, usage per stage, engines, events. `run` shows it at the end, `runs RUN_ID` later."""

from __future__ import annotations

from typing import Literal

from constitution.pipeline.report import USAGE, engines, events, rows, usage_rows
from constitution.records import Run
from constitution.shown import printable


def show(run: Run, status: str) -> None:
    """status: finished, running, …"""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"\n[bold]{run.run_id}[/bold]  {escape(printable(run.constitution))}  {status}")
    counts = Table(show_header=False, box=None, padding=(0, 2))
    counts.add_column()
    counts.add_column(justify="right")
    for name, number in rows(run):
        counts.add_row(name, number)
    console.print(counts)
    if run.usage:
        usage = Table(box=None, padding=(0, 2), header_style="dim")
        for place, name in enumerate(USAGE):
            # In a narrow terminal a model's name continues in the next line, and no number is cut.
            justify: Literal["left", "right"] = "left" if place < 2 else "right"
            least = 12 if place == 1 else None
            usage.add_column(name, justify=justify, overflow="fold", no_wrap=place != 1, min_width=least)
        for row in usage_rows(run):
            usage.add_row(*(escape(printable(cell)) for cell in row))
        console.print()
        console.print(usage)
    told = [*engines(run), *events(run)]
    if told:
        console.print("\n" + "\n".join(f"  {escape(printable(sentence))}" for sentence in told))
