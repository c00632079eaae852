"""`constitution sql`: questions to the warehouse, read-only."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import date, datetime, time
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal, cast, get_args

import click
import duckdb

from constitution.cli._options import warehouse_option
from constitution.errors import ConstitutionError, QueryError
from constitution.sandbox import ended_by_ctrl_c
from constitution.shown import printable, printable_lines, spreadsheet
from constitution.warehouse import Answer, ask, connect, tables
from constitution.warehouse.query import ask_arrow
from constitution.writing import beside

Format = Literal["table", "csv", "json", "parquet"]

SHOWN_ROWS = 40
"""Rows of a table for the eye; the other formats give all."""

_NUMBERS = ("INT", "DOUBLE", "FLOAT", "DECIMAL")


@click.command()
@click.argument("query", required=False)
@click.option("--format", "form", type=click.Choice(get_args(Format)), default="table", show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")
@warehouse_option
def sql(query: str | None, form: Format, out: Path | None, warehouse: Path) -> None:
    """Ask the warehouse in SQL, read-only, also while a run is writing.

    Without QUERY it is read from standard input; in a terminal, a prompt asks for one query after another.
    docs/warehouse.md lists tables, views, columns and macros.

    Example:  constitution sql "SELECT kind, kept, count(*) FROM preferences GROUP BY ALL"
    """
    if form == "parquet" and out is None:
        raise QueryError("parquet needs a file to go to", hint="add --out FILE.parquet")
    with connect(warehouse) as connection, ended_by_ctrl_c(connection):
        if query is None and sys.stdin.isatty():
            _converse(connection)
            return
        text = sys.stdin.read() if query is None else query
        if form == "parquet" and out is not None:
            _write_parquet(connection, text, out)
        elif form == "table":
            with output(out) as file:
                show_answer(ask(connection, text), file)
        else:
            answer = ask(connection, text)
            with output(out) as file:
                shown = cast(IO[str], _Terminal(file)) if file.isatty() else file
                (_write_csv if form == "csv" else _write_json)(answer, shown)


def show_answer(answer: Answer, file: IO[str] | None = None) -> None:
    """The first rows as a table, and how many there are. A plan (EXPLAIN) is shown as it is."""
    if list(answer.columns) == ["explain_key", "explain_value"]:
        click.echo("\n".join(str(value) for _, value in answer.rows), file=file)
        return
    shown = list(islice(answer.rows, SHOWN_ROWS))
    more = sum(1 for _ in answer.rows)
    kinds = zip(answer.columns, answer.types, strict=True)
    right = {name for name, kind in kinds if any(word in kind for word in _NUMBERS) and not kind.endswith(("]", ")"))}
    show_table(answer.columns, [[readable(value) for value in row] for row in shown], right, file=file)
    total = len(shown) + more
    note = f", {len(shown)} shown; --format csv or json gives all" if more else ""
    click.echo(f"{total:,} row{'' if total == 1 else 's'}{note}", file=file)


def show_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    right: Collection[str] = (),
    whole: Collection[str] = (),
    file: IO[str] | None = None,
) -> None:
    """Cells as they are given, cut to the terminal's width; columns in `right` are set to the right, and those in
    `whole` are not cut.

    Columns that find no room are left out, and counted; up to three rows are then shown field by field instead.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = list(rows)
    width = shutil.get_terminal_size((160, 40)).columns
    fit = _fitting(columns, cells, width)
    by_field = fit < len(columns) and len(cells) <= 3
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, show_header=not by_field)
    if by_field:
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for row in cells:
            for name, cell in zip(columns, row, strict=True):
                table.add_row(Text(printable(name)), Text(cell))
            table.add_section()
    else:
        for name, room in zip(columns[:fit], _widths(columns[:fit], cells, width, whole), strict=True):
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


def _widths(
    columns: Sequence[str], rows: Sequence[Sequence[str]], width: int, whole: Collection[str] = ()
) -> list[int]:
    """Room for each column: those in `whole` and narrow ones get all that they need, the wide ones share the rest."""
    wanted = [max(len(name), *(len(row[place]) for row in rows), 0) for place, name in enumerate(columns)]
    left, rooms = width - 3 * (len(columns) - 1), [0] * len(columns)
    order = sorted(range(len(columns)), key=lambda place: (columns[place] not in whole, wanted[place]))
    for done, place in enumerate(order):
        share = left if columns[place] in whole else left // (len(columns) - done)
        rooms[place] = max(1, min(wanted[place], share))
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
    if isinstance(value, float | Decimal):
        number = float(value)
        return f"{number:,.4g}" if abs(number) < 1000 else f"{number:,.1f}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    text = value if isinstance(value, str) else json.dumps(_plain(value), ensure_ascii=False)
    return printable(text if len(text) <= 200 else text[:199] + "…")


class _Terminal:
    """What steers a terminal is written as escapes."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(printable_lines(text))


@contextmanager
def output(out: Path | None) -> Iterator[IO[str]]:
    """The file `out`, or standard output."""
    if out is None:
        yield sys.stdout
        return
    with _replacing(out) as path, path.open("w", encoding="utf-8", newline="") as file:
        yield file


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """A path to write that becomes `out` if all goes well; `out` itself where that is no plain file (a pipe)."""
    plain = out.is_file() or not out.exists()
    path = beside(out) if plain else out
    try:
        yield path
        if plain:
            path.replace(out)
    except OSError as error:
        raise ConstitutionError(f"{out}: cannot be written: {error.strerror}", hint="give another --out") from None
    finally:
        if plain:
            path.unlink(missing_ok=True)


def _write_csv(answer: Answer, file: IO[str]) -> None:
    """Texts that a spreadsheet would run as a formula get an apostrophe before them; the other formats are exact."""
    file.write(_csv_line(map(spreadsheet, answer.columns)))
    for row in answer.rows:
        file.write(_csv_line(map(_csv_cell, row)))


def _csv_line(cells: Iterable[Any]) -> str:
    line = io.StringIO()
    # The module quotes a carriage return only where its own lines end in one; to a spreadsheet it ends a row.
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue().removesuffix("\r\n") + "\n"


def _csv_cell(value: Any) -> Any:
    plain = _plain(value)
    if isinstance(plain, dict | list | bool):
        return json.dumps(plain, ensure_ascii=False)
    return spreadsheet(plain) if isinstance(plain, str) else plain


def _write_json(answer: Answer, file: IO[str]) -> None:
    """A list of objects, one a line. A column name that comes twice gets a number."""
    names: list[str] = []
    for name in answer.columns:
        count = 2
        unique = name
        while unique in names:
            unique, count = f"{name}_{count}", count + 1
        names.append(unique)
    is_json = [kind == "JSON" for kind in answer.types]
    file.write("[")
    for number, row in enumerate(answer.rows):
        values = [
            json.loads(value) if parse and value is not None else _plain(value)
            for value, parse in zip(row, is_json, strict=True)
        ]
        file.write(",\n " if number else "\n ")
        file.write(json.dumps(dict(zip(names, values, strict=True)), ensure_ascii=False, allow_nan=False))
    file.write("\n]\n")


def _write_parquet(connection: duckdb.DuckDBPyConnection, query: str, out: Path) -> None:
    import pyarrow.parquet as pq

    reader = ask_arrow(connection, query)
    with _replacing(out) as path, pq.ParquetWriter(path, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)


def _plain(value: Any) -> Any:
    """What JSON can say: not-a-number and infinity are null, times are ISO 8601, bytes are base64."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return str(value)


def _converse(connection: duckdb.DuckDBPyConnection) -> None:
    """One query after another, ending with `;` or an empty line; errors do not end it."""
    with suppress(ImportError):
        import readline  # noqa: F401  (gives input() its history and line editing)
    click.echo("SQL, ended by ; or an empty line.  .tables  .schema TABLE  .quit")
    while (text := _read_query()) is not None:
        try:
            if text.startswith("."):
                if text.split()[0] in (".quit", ".exit"):
                    return
                _command(connection, text.split())
            elif text:
                show_answer(ask(connection, text))
        except ConstitutionError as error:
            click.echo(f"{error}" + (f" ({error.hint})" if error.hint else ""), err=True)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)


def _read_query() -> str | None:
    """The next query or command; None at the end of the input."""
    lines: list[str] = []
    while True:
        try:
            line = input("... " if lines else "sql> ")
        except EOFError:
            click.echo()
            return None
        except KeyboardInterrupt:
            click.echo()
            return ""
        lines.append(line)
        done = not line.strip() or line.rstrip().endswith(";") or (len(lines) == 1 and line.startswith("."))
        if done:
            return "\n".join(lines).strip()


def _command(connection: duckdb.DuckDBPyConnection, words: Sequence[str]) -> None:
    if words[0] == ".tables":
        show_table(("name", "columns", "what"), [(name, str(count), what) for name, count, what in tables(connection)])
    elif words[0] == ".schema" and len(words) == 2:
        name = words[1].replace('"', '""')
        answer = ask(connection, f'SELECT column_name, column_type FROM (DESCRIBE "{name}")')
        show_table(answer.columns, [[readable(value) for value in row] for row in answer.rows])
    else:
        raise QueryError(f"{' '.join(words)}: there is no such command", hint=".tables, .schema TABLE, .quit")
