"""`constitution sql`: questions to the warehouse, read-only."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import IO, Literal, get_args

import click
from duckdb import DuckDBPyConnection

from constitution.cli._formats import data_out, output, plain, write_csv, write_json, write_parquet
from constitution.cli._options import warehouse_option
from constitution.cli._tables import readable, show_table
from constitution.errors import QueryError
from constitution.warehouse import connect
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
@click.option(
    "--format", "form", type=click.Choice(get_args(Format)), default="table", show_default=True,
    help=f"table shows the first {SHOWN_ROWS} rows; the others give all.",
)  # fmt: skip
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")
@click.option(
    "--spreadsheet-safe/--exact",
    "safe",
    default=None,
    help="csv: whether a text that a spreadsheet would run as a formula gets an apostrophe before it.  [default: in an "
    "annotation sheet]",
)
@warehouse_option
def sql(query: str | None, form: Format, out: Path | None, safe: bool | None, warehouse: Path) -> None:
    """Ask the warehouse in SQL, read-only, also while a run is writing.

    Without QUERY it is read from standard input. docs/warehouse.md lists tables, views, columns and macros; SHOW TABLES
    lists their names, DESCRIBE responses the columns of one.

    \b
    Examples:
      constitution sql "SELECT kind, kept, count(*) FROM preferences GROUP BY ALL"
      constitution sql --format csv --out pairs.csv "FROM pairs"
      constitution sql < query.sql
    """
    if form == "parquet" and out is None:
        raise QueryError("parquet needs a file to go to", hint="add --out FILE.parquet")
    if safe and form != "csv":
        raise QueryError(f"--spreadsheet-safe with {form}", hint="only csv is read by spreadsheets; add --format csv")
    if query is None and sys.stdin.isatty():
        raise click.UsageError('there is no query, for example: constitution sql "SHOW TABLES"')
    text = _from_stdin() if query is None else _argument(query)
    with connect(warehouse) as connection:
        _in_a_thread(connection, lambda: write_answer(connection, text, form, out, safe))


def write_answer(connection: DuckDBPyConnection, query: str, form: Format, out: Path | None, safe: bool | None) -> None:
    answer = keep(connection, query, "parquet" if form == "parquet" else "python")
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


def _in_a_thread(connection: DuckDBPyConnection, work: Callable[[], None]) -> None:
    """Ctrl-C ends the query at once: DuckDB by itself looks for signals only between two pieces of its work."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            future.result()
        except KeyboardInterrupt:
            while not future.done():
                connection.interrupt()
                time.sleep(0.05)
            raise


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
