"""`constitution sql`: questions to the warehouse, read-only."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import IO, Literal, get_args

import click
import duckdb

from constitution.cli._formats import data_out, output, plain, write_csv, write_json, write_parquet
from constitution.cli._options import warehouse_option
from constitution.cli._tables import readable, show_table
from constitution.errors import ConstitutionError, QueryError
from constitution.interrupts import ended_by_ctrl_c
from constitution.warehouse import connect, tables
from constitution.warehouse.answers import Kept, keep

Format = Literal["table", "csv", "json", "parquet"]

SHOWN_ROWS = 40
"""Rows of a table for the eye; the other formats give all."""

_NUMBERS = {*("tinyint", "smallint", "integer", "bigint", "hugeint", "utinyint", "usmallint", "uinteger", "ubigint"),
            *("uhugeint", "float", "double", "decimal")}  # fmt: skip
_NESTED = {"list", "array", "struct", "tuple", "map", "blob"}


_SHEET = {"pair_id", "first_id", "second_id", "preferred"}
"""Columns by which an annotation sheet is known; people open it in a spreadsheet."""


@click.command()
@click.argument("query", required=False)
@click.option("--format", "form", type=click.Choice(get_args(Format)), default="table", show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")
@click.option(
    "--spreadsheet-safe/--exact",
    "safe",
    default=None,
    help="csv: whether what would be a formula gets an apostrophe.  [default: in an annotation sheet]",
)
@warehouse_option
def sql(query: str | None, form: Format, out: Path | None, safe: bool | None, warehouse: Path) -> None:
    """Ask the warehouse in SQL, read-only, also while a run is writing.

    Without QUERY it is read from standard input; in a terminal, a prompt asks for one query after another.
    docs/warehouse.md lists tables, views, columns and macros.

    Example:  constitution sql "SELECT kind, kept, count(*) FROM preferences GROUP BY ALL"
    """
    if form == "parquet" and out is None:
        raise QueryError("parquet needs a file to go to", hint="add --out FILE.parquet")
    if safe and form != "csv":
        raise QueryError(f"--spreadsheet-safe with {form}", hint="only csv is read by spreadsheets; add --format csv")
    with connect(warehouse) as connection, ended_by_ctrl_c(connection):
        if query is None and sys.stdin.isatty():
            _converse(connection)
            return
        answer = keep(
            connection,
            _from_stdin() if query is None else _argument(query),
            "parquet" if form == "parquet" else "python",
        )
        if form == "parquet" and out is not None:
            write_parquet(answer, out)
            return
        with output(out) as file:
            if form == "table":
                show_answer(answer, file)
            elif form == "csv":
                write_csv(answer, data_out(file), _SHEET.issubset(answer.columns) if safe is None else safe)
            else:
                write_json(answer, data_out(file))


def _argument(query: str) -> str:
    """As it was typed, where the locale is not UTF-8 and the terminal is."""
    try:
        return os.fsencode(query).decode()
    except UnicodeError:
        return query


def _from_stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise QueryError(f"standard input, byte {error.start}: not UTF-8") from None


def show_answer(answer: Kept, file: IO[str] | None = None) -> None:
    """The first rows as a table, and how many there are. A plan (EXPLAIN) is shown as it is."""
    if list(answer.columns) == ["explain_key", "explain_value"]:
        click.echo("\n".join(str(value) for _, value in answer.rows()), file=file)
        return
    right = {name for name, kind in zip(answer.columns, answer.types, strict=True) if kind.id in _NUMBERS}
    dress = [plain(kind) if kind.id in _NESTED else None for kind in answer.types]
    shown = [
        [readable(value if of is None else of(value)) for value, of in zip(row, dress, strict=True)]
        for row in islice(answer.rows(), SHOWN_ROWS)
    ]
    show_table(answer.columns, shown, right, file=file)
    note = f", {len(shown)} shown; --format csv or json gives all" if answer.count > len(shown) else ""
    click.echo(f"{answer.count:,} row{'' if answer.count == 1 else 's'}{note}", file=file)


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
                show_answer(keep(connection, text))
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
        answer = keep(connection, f'SELECT column_name, column_type FROM (DESCRIBE "{name}")')
        show_table(answer.columns, [[readable(value) for value in row] for row in answer.rows()])
    else:
        raise QueryError(f"{' '.join(words)}: there is no such command", hint=".tables, .schema TABLE, .quit")
