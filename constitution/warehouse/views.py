"""warehouse.duckdb: views and macros, no data; the same statements serve `constitution sql` in memory.

The views name their files relative to the warehouse, so the folder can be moved. DuckDB resolves such names against the
working directory, or against the variable `root` where it is set: `SET VARIABLE root = '/path/to/warehouse'`.
"""

from __future__ import annotations

import os
from importlib.resources import files as package_files
from pathlib import Path

import duckdb

from constitution.warehouse import files
from constitution.warehouse.schema import TABLES

DATABASE = "warehouse.duckdb"

NO_ROWS = "run_id=_/_schema.parquet"
"""In each table's folder: a file of no rows, because DuckDB refuses a glob that finds nothing, and in a folder like a
run's, because all files of a hive-partitioned table must lie equally deep."""

NO_RUN = "_none.json"
"""In runs/: the same for the runs' files; its content is `{}`."""


def create(connection: duckdb.DuckDBPyConnection) -> None:
    """Makes all views and macros; the files must be findable from here (see the module's text)."""
    for table in TABLES.values():
        connection.execute(
            f"CREATE VIEW {table.name} AS FROM read_parquet("
            f"coalesce(getvariable('root') || '/', '') || '{table.name}/run_id=*/*.parquet', "
            "hive_partitioning = true, hive_types_autocast = false, union_by_name = true)"
        )
        connection.execute(f"COMMENT ON VIEW {table.name} IS '{table.doc.replace(chr(39), chr(39) * 2)}'")
    connection.execute(package_files(__package__).joinpath("views.sql").read_text(encoding="utf-8"))


def set_root(connection: duckdb.DuckDBPyConnection, root: Path) -> None:
    connection.execute("SET VARIABLE root = ?", [str(root.resolve())])


def rebuild(root: Path) -> Path:
    """warehouse.duckdb in `root`, new and in one step; the tables' folders must exist."""
    path = root / DATABASE
    temporary = root / f".{DATABASE}.{os.getpid()}.tmp"
    with files.storing(path):
        temporary.unlink(missing_ok=True)
        with duckdb.connect(str(temporary)) as connection:
            set_root(connection, root)
            create(connection)
            connection.execute("CHECKPOINT")
        temporary.rename(path)
        files.sync_folder(root)
    return path
