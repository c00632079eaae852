"""warehouse.duckdb: views and macros, no data; the same statements serve `constitution sql` in memory.

The views name their files relative to the warehouse, so the folder can be moved. DuckDB resolves such names against the
working directory, or against the variable `root` where it is set: `SET VARIABLE root = '/path/to/warehouse'`. Where the
variable `run` is set, the tables have the rows of that run alone.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from importlib.resources import files as package_files
from pathlib import Path

import duckdb
import pyarrow as pa

from constitution.errors import WarehouseError
from constitution.judge.methods import METHODS
from constitution.measures import refuses_sql
from constitution.records import REPEATS, UNSAID
from constitution.sandbox import as_pattern as as_pattern
from constitution.sandbox import quoted as quoted
from constitution.warehouse import files
from constitution.warehouse.dictionary import dictionary
from constitution.warehouse.schema import TABLES
from constitution.writing import beside, cache

DATABASE = "warehouse.duckdb"

NO_RUN_ID = "none"
NO_ROWS = f"{NO_RUN_ID}/none.parquet"
"""In each table's folder: a file of no rows, because DuckDB refuses a glob that finds nothing, and because a table
without rows has columns for pandas too: Arrow passes over names that begin with _ or a dot."""

NO_RUN = "_none.json"
"""In runs/: the same for the runs' files; its content is `{}`."""

NO_SHARD = f"{NO_RUN_ID}/{NO_RUN}"
"""In shards/: the same for the records of shards."""

_RUN_OF_FILE = "regexp_extract(filename, '([^/]*)/[^/]*$', 1)"
"""The run, by the name of the file's folder: a filter on it opens the run's files alone. Not Hive's `run_id=…`, which
DuckDB, pandas and polars take for a column: it wins over the file's, or is refused beside it."""

_OURS = "/[A-Za-z0-9][A-Za-z0-9._-]*/(part-([0-9]+of[0-9]+-)?[0-9]+|[a-z]+-[0-9a-f]{12}|none)[.]parquet$"
"""Names of the tables' files. Others lie there too: a file manager's copies, those of a tool that synchronises."""

_METHODS = "FROM (VALUES {}) AS m(method, orders, reads, clamped, sampled)".format(
    ", ".join(
        f"('{name}', {len(each.orders)}, '{each.reads}', {each.clamped}, {each.sampled})"
        for name, each in METHODS.items()
    )
)
"""The ways to take a vote, one row each."""

NOTHING = "(SELECT 1 WHERE false)"
"""What a table without files is read from."""

TRIES = 5
"""How often something is asked again because a file vanished between being listed and being read."""


def vanished(error: duckdb.Error) -> bool:
    """Whether a listed file was gone when it was to be read: its run has just been compacted."""
    return isinstance(error, duckdb.IOException) and "No such file" in str(error)


_open: dict[frozenset[str], int] = {}
"""Descriptors of files in memory that hold the views, by the tables that are without files."""

_STORAGE = "v1.1.0"
"""The format of the files that hold views: one that DuckDB 1 opens; the views themselves need 1.4 (json_each)."""

_CACHED = 16
"""Databases of views that stay in the user's cache, half a MiB each; the newest."""


def attach(connection: duckdb.DuckDBPyConnection, root: Path, run_id: str | None = None) -> None:
    """Gives the connection the views and macros over the warehouse in `root`, as the database `warehouse`; what it
    makes itself is in the database `memory`. run_id: the tables have the rows of that run alone.

    Making the views takes DuckDB a third of a second: a process has them in a file in memory, out of the user's cache.
    """
    without = _without_files(root, run_id)
    if not _attach_file(connection, _in_memory(root, without)):
        connection.execute("ATTACH ':memory:' AS warehouse")
        connection.execute("USE warehouse")
        create(connection, root, without)
    look(connection, root, run_id)


def _attach_file(connection: duckdb.DuckDBPyConnection, path: str | None) -> bool:
    """False: there is none, or DuckDB does not open it: 2.0.1 takes a file in memory for one that was deleted."""
    try:
        if path is not None:
            connection.execute(f"ATTACH {quoted(path)} AS warehouse (READ_ONLY)")
    except duckdb.Error:
        return False
    return path is not None


def look(cursor: duckdb.DuckDBPyConnection, root: Path, run_id: str | None = None) -> None:
    """For a cursor of a connection that has the views: of that, it has neither the variables nor the search path."""
    set_root(cursor, root)
    if run_id is not None:
        cursor.execute("SET VARIABLE run = ?", [run_id])
    cursor.execute("SET search_path = 'memory.main,warehouse.main'")


def shadow(connection: duckdb.DuckDBPyConnection, table: str, rows: pa.Table) -> None:
    """For this connection alone, `rows` in place of the table `rewards`, and of its views."""
    connection.register("shadowing", rows)
    connection.execute(f"CREATE TABLE memory.main.{table} AS FROM shadowing")
    connection.unregister("shadowing")
    connection.execute(_text(f"{table}.sql"))


def _without_files(root: Path, run_id: str | None = None) -> frozenset[str]:
    """Tables, and `shards`, that a view over files cannot be made of: a warehouse may be from before there was such a
    table, and a run need not have rows in each."""
    without = {
        name
        for name in TABLES
        if not (root / name / NO_ROWS).exists()
        or (run_id is not None and not any((root / name / run_id).glob("*.parquet")))
    }
    return frozenset(without if (root / "shards" / NO_SHARD).exists() else {*without, "shards"})


def _in_memory(root: Path, without: frozenset[str]) -> str | None:
    """The name of a file that holds the views; None where the system has no such files, or no room to make one.

    The views name no folder: they are the same for every warehouse that has the same tables.
    """
    if without not in _open:
        try:
            descriptor = os.memfd_create(DATABASE)
            with open(descriptor, "wb", closefd=False) as file:
                file.write(_database(root, without))
        except (AttributeError, OSError, duckdb.IOException):
            return None
        _open[without] = descriptor
    path = Path(f"/proc/self/fd/{_open[without]}")
    return str(path) if path.exists() else None


def _database(root: Path, without: frozenset[str]) -> bytes:
    """Content of a DuckDB file that holds the views. It is kept in the user's cache, under a digest of all that it is
    made of: another version, of DuckDB too, makes its own."""
    recipe = "\0".join((duckdb.__version__, _STORAGE, *_statements(without)))
    path = cache() / f"views-{sha256(recipe.encode()).hexdigest()}"
    with suppress(OSError):
        data = path.read_bytes()
        if path.stat().st_uid == os.geteuid() and data[:32] == sha256(data[32:]).digest():
            return data[32:]
    with tempfile.TemporaryDirectory(prefix="constitution-") as folder:
        database = Path(folder) / DATABASE
        with _new(database) as connection:
            create(connection, root, without)
        data = database.read_bytes()
    with suppress(OSError):  # without a home that can be written, each process makes the views
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = beside(path)
        temporary.write_bytes(sha256(data).digest() + data)
        temporary.rename(path)
        for old in sorted(path.parent.glob("views-*"), key=lambda each: each.stat().st_mtime)[:-_CACHED]:
            old.unlink()
    return data


def _new(path: Path) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(str(path), config={"storage_compatibility_version": _STORAGE})


def create(connection: duckdb.DuckDBPyConnection, root: Path, without: Collection[str] | None = None) -> None:
    """Makes all views and macros over the warehouse in `root`, in the connection's own database. without: the tables
    that have no files; None: those that the warehouse has none of."""
    set_root(connection, root)
    without = _without_files(root) if without is None else without
    for last in (False,) * (TRIES - 1) + (True,):
        connection.begin()
        try:
            for statement in _statements(without):
                connection.execute(statement)
            connection.commit()
        except duckdb.Error as error:
            with suppress(duckdb.TransactionException):  # a commit that failed has ended it
                connection.rollback()
            if last or not vanished(error):
                raise
        else:
            return


def _statements(without: Collection[str]) -> Iterator[str]:
    # Making a view binds its query, and those of the views that it names: over empty tables of the same columns that
    # takes half the time that it takes over files.
    for table in TABLES.values():
        yield f"CREATE TABLE {table.name} AS {table.select(NOTHING)}"
    yield f"CREATE VIEW dictionary AS {dictionary()}"
    yield f"CREATE MACRO refuses(txt) AS {refuses_sql('txt')}"
    yield f"CREATE MACRO unsaid(error) AS error IN {UNSAID}"
    yield f"CREATE MACRO repeats(outcome) AS outcome IN {REPEATS}"
    # Nowhere if(): DuckDB 1 has it by its grammar alone, and a view that DuckDB 2 stored calls a function.
    became = "CASE WHEN copied_from IS NULL OR outcome <> 'ok' THEN outcome ELSE 'copied' END"
    yield f"CREATE MACRO became(outcome, copied_from) AS {became}"
    yield f"CREATE VIEW methods AS {_METHODS}"
    yield _text("views.sql")
    yield _text("rewards.sql")
    yield _text("shards.sql").replace("{files}", f"runs/{NO_RUN}" if "shards" in without else "shards/[!.]*/*.json")
    yield f"CREATE VIEW usage AS WITH used AS ({usage_query()}), {_text('prices.sql')}"
    yield package_files("constitution").joinpath("labels", "votes.sql").read_text(encoding="utf-8")
    yield _text("judging.sql")
    yield _text("clauses.sql")
    # The tables' own views bind to the files of no rows alone, or each would open all files.
    yield f"SET VARIABLE run = '{NO_RUN_ID}'"
    for table in TABLES.values():
        pattern = (
            f"coalesce(getvariable('root') || '/', '') || '{table.name}/' || coalesce(getvariable('run'), '[!.]*') "
            "|| '/[!.]*.parquet'"
        )
        parts = f"read_parquet({pattern}, hive_partitioning = false, union_by_name = true, filename = true)"
        rows = f"(SELECT * REPLACE ({_RUN_OF_FILE} AS run_id) FROM {parts} WHERE regexp_matches(filename, '{_OURS}'))"
        select = table.select(NOTHING if table.name in without else rows)
        yield f"DROP TABLE {table.name}"
        yield f"CREATE VIEW {table.name} AS {select}"
        yield f"COMMENT ON VIEW {table.name} IS '{table.doc.replace(chr(39), chr(39) * 2)}'"
    yield "RESET VARIABLE run"


def usage_query() -> str:
    """What the view `usage` asks of `responses` and `judgements`: all of it but the cost."""
    return _text("usage.sql")


def _text(name: str) -> str:
    return package_files(__package__).joinpath(name).read_text(encoding="utf-8")


def set_root(connection: duckdb.DuckDBPyConnection, root: Path) -> None:
    """For this connection, wherever it works."""
    connection.execute("SET VARIABLE root = ?", [as_pattern(root)])


def rebuild(root: Path) -> Path:
    """warehouse.duckdb in `root`, new and in one step; the tables' folders must exist."""
    path = root / DATABASE
    temporary = beside(path)
    with files.storing(path), in_turn(root) as alone:
        # Of processes that were killed here, with DuckDB's own.
        for leftover in root.glob(f".{DATABASE}.*.tmp*") if alone else ():
            leftover.unlink(missing_ok=True)
        try:
            made = _in_memory(root, _without_files(root))
            if made is not None:
                shutil.copyfile(made, temporary)
            else:
                with _new(temporary) as connection:
                    create(connection, root)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        except duckdb.Error as error:
            temporary.unlink(missing_ok=True)
            raise WarehouseError(
                f"{path}: cannot be made: {str(error).splitlines()[0]}",
                hint="check that the warehouse is where it was, free space and permissions; it holds no data, and any "
                "command makes it again",
            ) from error
        temporary.rename(path)
        files.sync_folder(root)
    return path


@contextmanager
def in_turn(root: Path) -> Iterator[bool]:
    """One process at a time, by a lock on the folder itself, which leaves no file behind; False: the file system has no
    such lock (NFS), and another may be in the block too."""
    with files.storing(root):
        descriptor = os.open(root, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
