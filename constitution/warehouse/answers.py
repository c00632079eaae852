"""The answer to a query, kept by DuckDB and handed over in pages that are bounded in bytes, with exact values.

    kept = keep(connection, "FROM responses")
    for row in kept.rows(): …

DuckDB hands over 2,048 rows at a time, whatever is in them, and writes out the long text that a join repeats once for
each row: 256 MiB that it was allowed became 5,006. So the answer becomes a temporary table first, which it holds within
its limit (what is more lies among the temporary files), with the bytes of each row beside it; pages follow from these.

Python and Parquet have no value for some of what SQL has, or another one: infinity as a date, months, nanoseconds, the
zone of a time, numbers of 39 digits. DuckDB itself makes a text of those.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import duckdb
import pyarrow as pa

from constitution import sandbox
from constitution.errors import QueryError
from constitution.warehouse.query import asked, reported

PAGE = 16 * 2**20
"""Bytes of a page; a longer row is a page by itself."""
SHORT = 4096
"""Bytes of a row. Where none is longer, the answer is one page, which is streamed."""
BATCH = 16_384
"""Rows of a page in memory at once, where it is streamed."""

_TABLE = "kept_answer"
_NO_PYTHON = {
    *("date", "time", "time_ns", "time with time zone", "timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns"),
    *("timestamp with time zone", "timestamptz_ns", "interval", "bit", "bignum", "geometry", "type", "null"),
}
"""Types with values that Python's do not hold."""
_NO_PARQUET = {"time with time zone", "interval", "bit", "bignum", "geometry", "type", "null"}
_LONG = {"varchar", "blob", "bit", "bignum", "geometry", "union", "variant"}
"""Types of values that may be long, by themselves."""

Use = Literal["python", "parquet"]


@dataclass(frozen=True)
class Kept:
    """An answer, until the connection is asked again."""

    connection: duckdb.DuckDBPyConnection
    columns: Sequence[str]
    """Each name once: a second `a` is `a_1`."""
    types: Sequence[Any]
    """DuckDB's types of the columns, as the query gave them."""
    count: int
    pages: Sequence[tuple[int, int]]
    """First row of each page, and the row after its last."""

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Texts, numbers, bytes, lists, tuples, dicts and None; dates, times and what Python lacks as DuckDB's texts.
        One page is in memory. Raises QueryError."""
        for query in self._queries():
            with reported():
                result = self.connection.execute(query)
                while batch := result.fetchmany(BATCH // 64):
                    yield from batch

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The same as Arrow, at least one; what Parquet lacks as texts."""
        for query in self._queries() or [self._query(0, 0)]:
            with reported():
                reader = self.connection.sql(query).to_arrow_reader(BATCH)
                if not self.pages:
                    yield pa.RecordBatch.from_pylist([], schema=reader.schema)
                yield from reader

    def _queries(self) -> list[str]:
        return [self._query(start, end) for start, end in self.pages]

    def _query(self, start: int, end: int) -> str:
        columns = ", ".join(f"c{place}" for place in range(len(self.columns)))
        return f"SELECT {columns} FROM {_TABLE} WHERE rowid >= {start} AND rowid < {end}"


def keep(connection: duckdb.DuckDBPyConnection, sql: str, use: Use = "python") -> Kept:
    """The answer to one query. QueryError with DuckDB's message if it is wrong, or if it is not a query."""
    try:
        return asked(connection, sql, lambda sql: _keep(connection, sql, use))
    except QueryError as error:
        raise _shown(error) from None


def _keep(connection: duckdb.DuckDBPyConnection, sql: str, use: Use) -> Kept:
    connection.execute(f"DROP TABLE IF EXISTS {_TABLE}")
    (statement,) = connection.extract_statements(sql)
    if statement.type == duckdb.StatementType.EXPLAIN:  # which cannot be a table; its two columns are short
        result = connection.execute(sql)
        columns, rows = [str(column[0]) for column in result.description or ()], result.fetchall()
        types = [connection.sqltype("VARCHAR")] * len(columns)
        source = f"(SELECT {', '.join('unnest(?::VARCHAR[])' for _ in columns)})"
        values = [list(column) for column in zip(*rows, strict=True)]
    else:
        source, values = f"(\n{sandbox.statement(sql)}\n)", []
        about = connection.execute(f"FROM {source} LIMIT 0").description or ()
        columns, types = [str(column[0]) for column in about], [column[1] for column in about]
    inner = [f"c{place}" for place in range(len(columns))]
    pairs = list(zip(inner, types, strict=True))
    chosen = [name if exact(kind, use) == str(kind) else f"CAST({name} AS {exact(kind, use)})" for name, kind in pairs]
    size = " + ".join([str(16 * len(columns)), *(_size(name, kind) for name, kind in pairs)])
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {_TABLE} AS FROM {source} AS answer({', '.join(inner)}) "
        f"SELECT {', '.join(f'{made} AS {name}' for made, name in zip(chosen, inner, strict=True))}, {size} AS bytes",
        values,
    ).fetchall()
    return Kept(connection, columns, types, *_pages(connection))


def _shown(error: QueryError) -> QueryError:
    """DuckDB's message, of the query as it was written: in ours it begins a line later."""
    if "DECIMAL(38,0)" in str(error) and "HUGEINT" not in str(error):
        return QueryError("a number of 39 digits, and Parquet holds 38", hint="cast it to VARCHAR or DOUBLE")
    text = re.sub(r"^LINE (\d+):", lambda line: f"LINE {max(int(line[1]) - 1, 1)}:", str(error), flags=re.MULTILINE)
    return QueryError(text, hint=error.hint)


def _pages(connection: duckdb.DuckDBPyConnection) -> tuple[int, list[tuple[int, int]]]:
    """The number of rows, and the pages."""
    [(count, longest)] = connection.execute(f"SELECT count(*), coalesce(max(bytes), 0) FROM {_TABLE}").fetchall()
    if longest <= SHORT:
        return count, [(0, count)] if count else []
    ends = connection.execute(
        "SELECT max(row) + 1 FROM (SELECT rowid AS row, sum(bytes) OVER (ORDER BY rowid) // ? AS page "
        f"FROM {_TABLE}) GROUP BY page ORDER BY 1",
        [PAGE],
    ).fetchall()
    return count, list(pairwise([0, *(int(end) for (end,) in ends)]))


def exact(kind: Any, use: Use) -> str:
    """The type, as SQL writes it, that holds every value of DuckDB's type `kind` and that `use` has too."""
    if kind.id in (_NO_PYTHON if use == "python" else _NO_PARQUET):
        return "VARCHAR"
    if kind.id in ("union", "variant"):
        return "JSON"
    if kind.id in ("hugeint", "uhugeint") and use == "parquet":
        return "DECIMAL(38, 0)"  # a number of 39 digits is refused, not cut
    if kind.id not in ("list", "array", "struct", "tuple", "map"):
        return str(kind)
    if not kind.children:  # {}, which SQL has no name for
        return str(kind) if use == "python" else "VARCHAR"
    children = dict(kind.children) if kind.id == "array" else None
    if children is not None:
        return f"{exact(children['child'], use)}[{children['size']}]"
    inner = [(name, exact(child, use)) for name, child in kind.children]
    if kind.id == "list":
        return f"{inner[0][1]}[]"
    if kind.id == "map":
        key = "VARCHAR" if use == "python" else inner[0][1]  # a dict has no lists, dicts or nulls as keys
        return f"MAP({key}, {inner[1][1]})"
    if kind.id == "tuple":
        return f"TUPLE({', '.join(of for _, of in inner)})"
    return f"STRUCT({', '.join(f'{_name(name)} {of}' for name, of in inner)})"


def _size(value: str, kind: Any, depth: int = 0) -> str:
    """SQL for the bytes of `value`, near enough: no text is copied to count it."""
    if kind.id == "blob":
        return f"coalesce(octet_length({value}), 0)"
    if kind.id in _LONG:
        text = value if str(kind) == "VARCHAR" else f"CAST({value} AS VARCHAR)"
        return f"coalesce(strlen({text}), 0)"
    if kind.id in ("struct", "tuple"):
        if not kind.children:
            return "0"
        fields = [(f"struct_extract({value}, {place if kind.id == 'tuple' else sandbox.quoted(name)})", child)
                  for place, (name, child) in enumerate(kind.children, 1)]  # fmt: skip
        return f"({' + '.join(_size(field, child, depth) for field, child in fields)})"
    if kind.id == "map":
        (_, key), (_, inner) = kind.children
        lists = ((f"map_keys({value})", key), (f"map_values({value})", inner))
        return f"({' + '.join(_all_sizes(of, child, depth) for of, child in lists)})"
    if kind.id in ("list", "array"):
        return _all_sizes(value, dict(kind.children)["child"], depth)
    return "16"


def _all_sizes(values: str, kind: Any, depth: int) -> str:
    each = _size(f"x{depth}", kind, depth + 1)
    return f"coalesce(list_sum(list_transform({values}, lambda x{depth}: {each}))::BIGINT, 0)"


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
