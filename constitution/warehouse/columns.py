"""What a table is made of: columns with an Arrow type, one line of what each says, and how Parquet stores it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

FORMAT = "2"
"""Version of the tables: another where a column's name, type or meaning changes. Warehouses of another are refused."""
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

    @property
    def field(self) -> pa.Field:
        return pa.field(self.name, self.type, nullable=self.null, metadata={"doc": self.doc})


class TableWriter:
    """Rows into an open file, which is whole when the block ends. No row group is without rows: `datasets` takes the
    size of the first for that of its batches, and fails."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer = writer

    def write_table(self, data: pa.Table, row_group_size: int | None = None) -> None:
        if data.num_rows:
            self._writer.write_table(data, row_group_size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()


@dataclass(frozen=True)
class Table:
    name: str
    doc: str
    columns: tuple[Column, ...]

    @cached_property
    def schema(self) -> pa.Schema:
        about = {"table": self.name, "doc": self.doc, "format": FORMAT}
        return pa.schema([column.field for column in self.columns], metadata=about)

    def conform(self, data: pa.Table) -> pa.Table:
        """`data` with this table's columns, in their order and of their types; those that may be null and that a part
        of before does not have are null."""
        for column in self.columns:
            if column.null and column.name not in data.column_names:
                data = data.append_column(column.field, pa.nulls(data.num_rows, column.type))
        return data.select(self.schema.names).cast(self.schema)

    def select(self, source: str, *more: str) -> str:
        """SQL: the rows of `source`, a table expression that may have no columns, with this table's in their order and
        of their types. more: further columns that `source` has."""
        empty = ", ".join(f"NULL::{sql_type(c.type)} AS {c.name}" for c in self.columns)
        columns = ", ".join([*self.schema.names, *more])
        # The first arm has no rows: it is there for its columns.
        return f"SELECT {columns} FROM (SELECT {empty} WHERE false UNION ALL BY NAME FROM {source})"

    def writer(self, file: object) -> TableWriter:
        """Into an open file."""
        writer = pq.ParquetWriter(
            file,
            self.schema,
            compression=COMPRESSION,
            compression_level=COMPRESSION_LEVEL,
            use_dictionary=[path for column in self.columns for path in column.few],
            # Some 1.2 bytes a row.
            bloom_filter_options={c.name: {"ndv": ROW_GROUP_ROWS, "fpp": 0.01} for c in self.columns if c.sought},
        )
        return TableWriter(writer)

    def write(self, data: pa.Table, file: object) -> None:
        """`data` as Parquet into an open file."""
        with self.writer(file) as writer:
            writer.write_table(data, ROW_GROUP_ROWS)


def few(name: str, doc: str, *, null: bool = False) -> Column:
    return Column(name, pa.string(), doc, null, (name,))


def text(name: str, doc: str, *, null: bool = False, sought: bool = False) -> Column:
    return Column(name, pa.string(), doc, null, sought=sought)


def integer(name: str, doc: str, *, null: bool = False) -> Column:
    return Column(name, pa.int32(), doc, null)


def real(name: str, doc: str, *, null: bool = False) -> Column:
    return Column(name, pa.float64(), doc, null)


def flag(name: str, doc: str, *, null: bool = False) -> Column:
    return Column(name, pa.bool_(), doc, null)


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


MESSAGE = pa.struct([pa.field("role", pa.string(), nullable=False), pa.field("content", pa.string(), nullable=False)])
MESSAGES = pa.list_(MESSAGE)
IDS = pa.list_(pa.string())
READINGS = pa.list_(pa.float64())
STEPS = pa.list_(pa.struct([pa.field("upto", pa.int32(), nullable=False), pa.field("value", pa.float64())]))
RUN_ID = few("run_id", "The run that the row belongs to; also the name of its folder, so a filter on it skips files.")
PROMPT_ID = text("prompt_id", "`prompts.id`.")
AUTHOR = few(
    "author", "Who wrote the row, and on which machine, as ann@gpu-7; null: from before that was kept.", null=True
)
CREATED_AT = Column("created_at", pa.timestamp("us", tz="UTC"), "When the row was written.", few=("created_at",))
