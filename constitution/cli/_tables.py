"""Tables for the eye, cut to the terminal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import IO, Any, Literal

import click

from constitution.shown import printable


def show_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    right: Collection[str] = (),
    file: IO[str] | None = None,
    cut: bool = True,
) -> None:
    """Cells as they are given, cut to the terminal's width; columns in `right` are set to the right.

    Columns that find no room are left out, and named; up to three rows are then shown field by field instead. Without
    `cut`, so is every table that does not fit whole.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = list(rows)
    width = shutil.get_terminal_size((160, 40)).columns
    fit = _fitting(columns, cells, width)
    by_field = fit < len(columns) and len(cells) <= 3 if cut else sum(_widths(columns, cells, 10**9)) + 3 * (
        len(columns) - 1) > width  # fmt: skip
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, show_header=not by_field)
    if by_field:
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for row in cells:
            for name, cell in zip(columns, row, strict=True):
                table.add_row(Text(printable(name)), Text(cell))
            table.add_section()
    else:
        for name, room in zip(columns[:fit], _widths(columns[:fit], cells, width), strict=True):
            side: Literal["left", "right"] = "right" if name in right else "left"
            heading = Text(printable(name))
            table.add_column(heading, justify=side, no_wrap=True, overflow="ellipsis", max_width=room)
        for row in cells:
            table.add_row(*(Text(cell) for cell in row[:fit]))
    Console(file=file, width=width, highlight=False).print(table)
    if fit < len(columns) and not by_field:
        click.echo(f"not shown for want of room: {', '.join(printable(name) for name in columns[fit:])}", file=file)


def _fitting(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> int:
    """How many columns, from the left, have room for 12 characters or all that is in them; at least one."""
    used = 0
    for place, name in enumerate(columns):
        widest = max((len(row[place]) for row in rows), default=0)
        used += min(max(widest, len(name)), 12) + (3 if place else 0)
        if used > width:
            return max(place, 1)
    return len(columns)


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Room for each column: narrow ones get all that they need, the wide ones share the rest."""
    wanted = [max(len(name), *(len(row[place]) for row in rows), 0) for place, name in enumerate(columns)]
    left, rooms = width - 3 * (len(columns) - 1), [0] * len(columns)
    for done, place in enumerate(sorted(range(len(columns)), key=wanted.__getitem__)):
        rooms[place] = max(1, min(wanted[place], left // (len(columns) - done)))
        left -= rooms[place]
    return rooms


def readable(value: Any) -> str:
    """One cell for the eye: one line, at most 200 characters, nothing that a terminal would obey."""
    if value is None:
        return "·"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Decimal):
        return f"{value:,f}"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.1f}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return printable(text if len(text) <= 200 else text[:199] + "…")


def readable_size(size: int) -> str:
    """Bytes for the eye, in binary units."""
    value, units = float(size), ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while value >= 1024 and len(units) > 1:
        value, units = value / 1024, units[1:]
    return f"{value:,.0f} {units[0]}" if units[0] == "B" else f"{value:,.1f} {units[0]}"
