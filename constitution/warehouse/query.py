"""Questions to the warehouse in SQL, read-only and shut in.

    answer = ask(connect(Path("warehouse")), "SELECT kind, count(*) FROM responses GROUP BY ALL")
    answer.columns, list(answer.rows)

The connection is in memory, with the same views as warehouse.duckdb: it locks no file, and needs no such file to be
there. It can read the warehouse's folder and nothing else, loads no extensions, its settings are locked, and only
queries pass (`constitution.sandbox`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from constitution import sandbox
from constitution.errors import QueryError, WarehouseError
from constitution.warehouse import layout, views
from constitution.warehouse.remote import mirror

BATCH = 64

FUNCTIONS = sandbox.READING_FUNCTIONS | {
    *("provenance", "run_figures", "compare_prompts", "compare_versions", "compare_principles"),
}
"""Table functions that a query may call: those that read, and the warehouse's own macros."""

_RECORD = re.compile(r'Invalid Input Error: Malformed JSON in file "(.*/(run|shard)s/[^"]+\.json)"')


@dataclass(frozen=True)
class Answer:
    columns: Sequence[str]
    types: Sequence[str]
    """DuckDB's names of the columns' types."""
    rows: Iterator[tuple[Any, ...]]
    """Streamed: to be read before the connection is asked again. Raises QueryError."""


def connect(root: Path, memory_mib: int | None = None, run_id: str | None = None) -> duckdb.DuckDBPyConnection:
    """A connection that can read the warehouse in `root` and do nothing else. WarehouseError if there is none.

    memory_mib: what DuckDB may hold in memory, MiB; sorts and joins that need more use the temporary folder. None,
    and at most: half of the machine's. run_id: it sees this run's rows alone, and opens no other run's files.
    """
    if remote := mirror.of(root):
        remote.bring_all([run_id] if run_id else None)
    if not layout.exists(root):
        raise WarehouseError(
            f"{root}: there is no warehouse here",
            hint="`constitution run` makes one; --warehouse DIR or CONSTITUTION_WAREHOUSE says where it lies",
        )
    layout.check_readable(root, run_id)
    layout.mend(root)
    settings = {**sandbox.limits(memory_mib), "threads": min(os.cpu_count() or 1, 8)}
    connection = sandbox.quiet(duckdb.connect(config=settings))
    try:
        connection.execute("SET TimeZone = 'UTC'")
        # Tables are joined in the order in which a query has them. DuckDB's own order takes run_id for a key, having no
        # statistics of it: of three tables that share it, it may join two by it alone, all rows with all.
        connection.execute("SET disabled_optimizers = 'join_order'")
        # A part never changes under its name, and one of 500 MiB has a thousand row groups to be read about each time.
        connection.execute("SET parquet_metadata_cache = true")
        views.attach(connection, root, run_id)
        sandbox.shut_in(connection, [root])
    except duckdb.Error as error:
        connection.close()
        raise WarehouseError(f"{root}: the views cannot be made: {str(error).splitlines()[0]}") from error
    return connection


T = TypeVar("T")


def asked(connection: duckdb.DuckDBPyConnection, sql: str, use: Callable[[str], T], *, ours: bool = False) -> T:
    """What `use` makes of one query, looked at first: QueryError with DuckDB's message if it is wrong, or no query.
    ours: this package's own query, which is not looked at; whatever it quotes is `quoted`.

    A file may vanish between being listed and being read, when a run has just been compacted: asked again, then.
    """
    if not ours:
        sandbox.check(connection, sql, FUNCTIONS)
        sql = sandbox.files_in(connection, sql)
    for left in reversed(range(views.TRIES)):
        try:
            return use(sql)
        except duckdb.Error as error:
            if not left or not views.vanished(error):
                raise query_error(error) from None
    raise AssertionError("unreachable")


def ask(connection: duckdb.DuckDBPyConnection, sql: str, *, ours: bool = False) -> Answer:
    """The answer to one query. Raises QueryError. ours: as `asked` has it."""

    def use(sql: str) -> Answer:
        result = connection.execute(sql)
        columns = [str(column[0]) for column in result.description or ()]
        types = [str(column[1]) for column in result.description or ()]
        return Answer(columns, types, chain(result.fetchmany(BATCH), _rest(connection)))

    return asked(connection, sql, use, ours=ours)


def ask_arrow(connection: duckdb.DuckDBPyConnection, sql: str, *, ours: bool = False) -> pa.RecordBatchReader:
    """The same as Arrow batches, for writing Parquet."""
    return asked(connection, sql, lambda sql: connection.sql(sql).to_arrow_reader(16_384), ours=ours)


@contextmanager
def reported() -> Iterator[None]:
    """Within it DuckDB's errors are QueryErrors."""
    try:
        yield
    except duckdb.Error as error:
        raise query_error(error) from None


def _rest(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    while True:
        with reported():
            batch = connection.fetchmany(BATCH)
        if not batch:
            return
        yield from batch


def query_error(error: duckdb.Error) -> QueryError:
    """DuckDB's own message, with the line and the caret where it has them."""
    if views.vanished(error):
        return QueryError(str(error).splitlines()[0], hint="the run was being compacted; ask again")
    if record := _RECORD.match(str(error)):
        return QueryError(
            f"{record[1]}: cannot be read as a {record[2]}", hint="`constitution verify --repair` quarantines it"
        )
    if isinstance(error, duckdb.OutOfMemoryException):
        return QueryError(str(error).splitlines()[0], hint="ask for fewer rows or columns at once")
    return QueryError(str(error).rstrip())
