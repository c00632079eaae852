"""What a table is made of: columns with an Arrow type, one line of what each says, and how Parquet stores it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

ROW_GROUP_ROWS = 10_240
COMPRESSION = "zstd"
COMPRESSION_LEVEL = 3


@dataclass(frozen=True)
class Column:
    name: str
    type: pa.DataType
    doc: str
    null: bool = False
    few: tuple[str, ...] = ()
    """Parquet paths with few distinct values, which are dictionary-encoded; the column's own name for a flat one."""
    sought: bool = False
    """Rows are looked for by a value of it, which few row groups have: Bloom filters say which."""
    older: int | str | tuple[()] | None = None
    """What it says of rows that were written before there was such a column. None: null."""

    @property
    def older_sql(self) -> str:
        """The same as a literal of SQL."""
        if self.older is None:
            return "NULL"
        return "[]" if self.older == () else repr(self.older)

    @property
    def field(self) -> pa.Field:
        return pa.field(self.name, self.type, nullable=self.null, metadata={"doc": self.doc})


@dataclass(frozen=True)
class Table:
    name: str
    doc: str
    columns: tuple[Column, ...]

    @cached_property
    def schema(self) -> pa.Schema:
        return pa.schema([column.field for column in self.columns], metadata={"table": self.name, "doc": self.doc})

    def conform(self, data: pa.Table) -> pa.Table:
        """`data`, which an older version may have written, with this version's columns in their order."""
        arrays = [
            data.column(column.name)
            if column.name in data.column_names
            else pa.array([column.older] * data.num_rows, column.type)
            for column in self.columns
        ]
        return pa.Table.from_arrays(arrays, self.schema.names).cast(self.schema)

    def select(self, source: str, *more: str) -> str:
        """SQL: the rows of `source`, a table expression over files that older versions may have written, with this
        version's columns in their order and with its types. more: further columns that `source` has."""
        empty = ", ".join(f"NULL::{sql_type(c.type)} AS {c.name}" for c in self.columns)
        own = [c.name if c.older is None else f"coalesce({c.name}, {c.older_sql}) AS {c.name}" for c in self.columns]
        columns = ", ".join([*own, *more])
        # The first arm has no rows: it is there for its columns.
        return f"SELECT {columns} FROM (SELECT {empty} WHERE false UNION ALL BY NAME FROM {source})"

    @cached_property
    def dictionary_paths(self) -> list[str]:
        return [path for column in self.columns for path in column.few]

    @cached_property
    def bloom_filters(self) -> dict[str, dict[str, float]]:
        """As pyarrow wants them; some 1.2 bytes a row."""
        return {column.name: {"ndv": ROW_GROUP_ROWS, "fpp": 0.01} for column in self.columns if column.sought}


def few(name: str, doc: str, *, null: bool = False, older: str | None = None) -> Column:
    return Column(name, pa.string(), doc, null, (name,), older=older)


def text(name: str, doc: str, *, null: bool = False, sought: bool = False) -> Column:
    return Column(name, pa.string(), doc, null, sought=sought)


def integer(name: str, doc: str, *, null: bool = False, older: int | None = None) -> Column:
    return Column(name, pa.int32(), doc, null, older=older)


def real(name: str, doc: str, *, null: bool = False) -> Column:
    return Column(name, pa.float64(), doc, null)


def flag(name: str, doc: str, *, older: bool) -> Column:
    return Column(name, pa.bool_(), doc, older=older)


def sql_type(kind: pa.DataType) -> str:
    """The type's name in DuckDB."""
    if pa.types.is_list(kind):
        return f"{sql_type(kind.value_type)}[]"
    if pa.types.is_struct(kind):
        inner = ", ".join(f"{kind.field(i).name} {sql_type(kind.field(i).type)}" for i in range(kind.num_fields))
        return f"struct({inner})"
    if pa.types.is_timestamp(kind):
        return "timestamptz"
    return {"string": "varchar", "int32": "integer", "int64": "bigint", "double": "double", "bool": "boolean"}[
        str(kind)
    ]
