"""The folders of a warehouse, and the files in them that hold no data: made, and mended where they are damaged.

Readers need them: DuckDB refuses a glob that finds nothing. Every command that opens the warehouse mends them, so that
a lost or broken one shuts no reader out. They also say of which version the warehouse is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from constitution.errors import WarehouseError
from constitution.warehouse import files, views
from constitution.warehouse.checksums import aside
from constitution.warehouse.columns import FORMAT, Table
from constitution.warehouse.schema import TABLES
from constitution.writing import local

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def is_run_id(name: str) -> bool:
    return _RUN_ID.fullmatch(name) is not None and name != views.NO_RUN_ID


class Place:
    """Where a warehouse is: a folder that is the same one from first to last. Where it was renamed or deleted, or
    another is in its place, everything raises WarehouseError, and nothing makes it again. So it is where a warehouse is
    of another version, before anything is written."""

    def __init__(self, root: Path) -> None:
        self._root = local(root)
        self._identity: tuple[int, int] | None = None
        """Device and inode of the folder; None: it was not there yet."""
        self._made = False

    def check(self) -> None:
        try:
            stat = self._root.stat()
            found = (stat.st_dev, stat.st_ino)
        except (FileNotFoundError, NotADirectoryError):
            found = None
        if self._identity is None:
            if found is not None:
                check_version(self._root)
            self._identity = found
        elif found != self._identity:
            raise WarehouseError(
                f"{self._root}: the warehouse is gone, or another is in its place: it was renamed or deleted meanwhile",
                hint="put it back where it was; the same command resumes from what it holds",
            )

    def make_root(self) -> None:
        """The folder, empty, where it was never there."""
        self.check()
        if self._identity is None:
            with files.storing(self._root):
                files.make_root(self._root)
            self.check()

    def make(self) -> None:
        """The folder and those in it. Once: a table that is deleted meanwhile is missed, and not made again."""
        self.make_root()
        if not self._made:
            make(self._root, self.check)
            self._made = True

    def require(self) -> None:
        """As `make`, but the warehouse must be there."""
        self.check()
        if self._identity is None:
            raise WarehouseError(f"{self._root}: there is no warehouse here", hint="`constitution run` makes one")
        self.make()


_EMPTY = b"{}"
"""Content of NO_RUN and NO_SHARD."""


def exists(root: Path) -> bool:
    """Whether `root` is a warehouse, however damaged."""
    local(root)
    ours = (views.NO_ROWS, "*/part-[0-9]*.parquet")
    return (root / "runs" / views.NO_RUN).exists() or any(
        any((root / name).glob(each)) for name in TABLES for each in ours
    )


def make(root: Path, check: Callable[[], None] = lambda: None) -> None:
    """The folders, each with a file of no rows; sound ones stay as they are. `root` must exist. check: asked before
    each folder whether `root` is still the one that it was."""
    with views.in_turn(root) as alone:
        for table in TABLES.values():
            check()
            path = root / table.name / views.NO_ROWS
            with files.storing(path):
                files.make_folder(path.parent.parent)
                files.make_folder(path.parent)
                if alone:
                    files.sweep(path.parent)
            if not _sound(table, path):
                with files.replacing(path) as file:
                    table.write(table.schema.empty_table(), file)
        check()
        for path in _empty_records(root):
            with files.storing(path):
                for folder in reversed(path.relative_to(root).parents[:-1]):
                    files.make_folder(root / folder)
            if not _is_empty_record(path):
                with files.replacing(path) as file:
                    file.write(_EMPTY)


def _empty_records(root: Path) -> tuple[Path, Path]:
    return root / "runs" / views.NO_RUN, root / "shards" / views.NO_SHARD


def check_version(root: Path) -> None:
    """Raises WarehouseError for a warehouse of another version; one named a run's folder run_id=…"""
    if any(any((root / name).glob("run_id=*")) for name in TABLES):
        raise _of_another_version(root)
    for table in TABLES.values():
        _sound(table, root / table.name / views.NO_ROWS)


def check_readable(root: Path, run_id: str | None = None) -> None:
    """Raises WarehouseError for a folder of rows that this user may not read: DuckDB would find none there, and say
    nothing. run_id: this run's folders alone."""
    for table in TABLES:
        for folder in (root / table, *_runs_of(root / table, run_id)):
            if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
                raise WarehouseError(
                    f"{folder}: you may not read this folder, so that its rows would be missing",
                    hint=f"its owner can change that: chmod a+rX {folder}",
                )


def _runs_of(table: Path, run_id: str | None) -> Iterable[Path]:
    return table.glob("[!.]*/") if run_id is None else [table / run_id]


def mend(root: Path) -> None:
    """Makes again what is damaged or gone of the folders' own files, and the database of views. A table whose folder is
    gone is made again by the next write.

    Raises WarehouseError where that cannot be written, as on a disk that is read only, and for a warehouse of another
    version.
    """
    check_version(root)
    there = [table for table in TABLES.values() if (root / table.name).is_dir()]
    sound = [_sound(table, root / table.name / views.NO_ROWS) for table in there]
    if not _is_empty_record(root / "runs" / views.NO_RUN) or not all(sound):
        make(root)
    elif any(any(aside((root / name / views.NO_ROWS).parent).glob(".*.tmp")) for name in TABLES):
        with suppress(WarehouseError):  # what a kill left is in no reader's way
            make(root)
    if not _is_database(root / views.DATABASE):
        with suppress(WarehouseError):  # no command of ours reads it
            views.rebuild(root)


def _sound(table: Table, path: Path) -> bool:
    """Whether it is a file of no rows with this table's columns; WarehouseError for one of another version's."""
    if not path.is_file():  # a pipe would be waited for
        return False
    try:
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
    except (OSError, pa.ArrowException):
        return False
    about = schema.metadata or {}
    same = about.get(b"format") == FORMAT.encode() and schema.equals(table.schema)
    if about.get(b"table") == table.name.encode() and not same:
        raise _of_another_version(path.parent.parent.parent)
    return same and rows == 0


def _of_another_version(root: Path) -> WarehouseError:
    return WarehouseError(
        f"{root}: this warehouse was written by another version of constitution",
        hint="an older one: `constitution warehouse convert NEW_FOLDER --warehouse OLD_FOLDER`; a newer one: use "
        "the version that wrote it, or name another folder with --warehouse",
    )


def _is_empty_record(path: Path) -> bool:
    try:
        return path.is_file() and path.read_bytes() == _EMPTY
    except OSError:
        return False


def _is_database(path: Path) -> bool:
    """By its size (three headers and whole blocks) and the mark in its head; DuckDB takes much longer to say so."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            blocks = path.stat().st_size - 3 * 4096
            return file.read(12)[8:] == b"DUCK" and blocks > 0 and blocks % 2**18 == 0
    except OSError:
        return False
