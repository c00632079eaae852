"""How files come to be: whole or not at all. Temporary names start with a dot and end in .tmp: no glob matches them."""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, NamedTuple

import pyarrow as pa

from constitution.errors import WarehouseError
from constitution.records import Shard
from constitution.records.shards import MOST
from constitution.warehouse import checksums
from constitution.warehouse.checksums import HashedFile, Sum, make_aside
from constitution.warehouse.checksums import make_folder as make_folder
from constitution.warehouse.checksums import sync_folder as sync_folder
from constitution.writing import beside

_PART = re.compile(r"part-(?:([1-9]\d{0,4})of([1-9]\d{0,4})-)?(\d+)\.parquet")

OPEN = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
"""How a file of known name is opened that is written in place: never through a link."""

Commit = Callable[[Path, Path, Sum], None]
"""Called with a part that is whole, before it is in its place: where it lies, where it is to be, and its sum."""

_EXCHANGE = 2  # RENAME_EXCHANGE of Linux and RENAME_SWAP of macOS are both 2
_AT_FDCWD = -100


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turns what can go wrong with a file into a WarehouseError that names it."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise WarehouseError(
            f"{path}: cannot be written: {reason}",
            hint="check free space and permissions; nothing is half written, the same command resumes from here",
        ) from error


def make_root(root: Path) -> None:
    """The folder with all its parents."""
    if not root.is_dir():
        make_root(root.parent)
        make_folder(root)


@contextmanager
def replacing(path: Path, *, part: bool = False, commit: Commit | None = None) -> Iterator[IO[bytes]]:
    """A file to write to that becomes `path`, in place of what was there, when the block ends well.

    part: it is one of a run's, and named with its checksum. commit: where it counts before it is here.
    """
    with storing(path):
        make_folder(path.parent)
        # Of a table, no reader finds what is not yet a part.
        temporary = beside(make_aside(path.parent) / path.name) if path.suffix == ".parquet" else beside(path)
        with _becoming(path, temporary, HashedFile(temporary), part, commit) as file:
            yield file


@contextmanager
def _becoming(path: Path, temporary: Path, file: HashedFile, part: bool, commit: Commit | None) -> Iterator[IO[bytes]]:
    """`file`, which lies under the name `temporary`, becomes `path` when the block ends well."""
    try:
        with file:
            yield file
            file.sync()
        if commit:
            commit(temporary, path, file.sum)
        with checksums.naming(path, file.sum) if part else nullcontext():
            temporary.rename(path)
    except (OSError, pa.ArrowException, WarehouseError):
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


class Part(NamedTuple):
    """What the name of a part says."""

    number: int
    shard: Shard | None
    """That wrote it, and alone numbers such parts; None: who had the run as a whole."""

    @property
    def name(self) -> str:
        return f"part-{self.number}.parquet" if self.shard is None else f"part-{self.shard.name}-{self.number}.parquet"


def part_of(name: str) -> Part | None:
    """None: it is no part's name."""
    if (found := _numbers(name)) is None:
        return None
    number, of, shard = found
    return Part(number, Shard(shard, of) if of else None)


def _numbers(name: str) -> tuple[int, int, int] | None:
    """A part's number, and its shard's `of` and number, 0 where it has none: a run has tens of thousands of parts."""
    if not (match := _PART.fullmatch(name)):
        return None
    number, of = int(match[1] or 0), int(match[2] or 0)
    return (int(match[3]), of, number) if number <= of <= MOST else None


def _listed(folder: Path, shard: Shard | None) -> list[tuple[int, int, int, str]]:
    """The numbers and names of the parts in the folder that `parts` is about."""
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    own, of = (shard.number, shard.of) if shard else (0, -1)
    found = ((numbers, name) for name in names if (numbers := _numbers(name)))
    return [(*numbers, name) for numbers, name in found if numbers[1] != of or numbers[2] == own]


def parts(folder: Path, shard: Shard | None = None) -> list[Path]:
    """The parts in a run's folder, by number and shard; none if there is no such folder. shard: only those that may
    hold rows of its prompts: its own, and those that were written when the run was not dealt into as many."""
    return [folder / name for *_, name in sorted(_listed(folder, shard))]


def number_of(part: Path) -> int:
    found = part_of(part.name)
    assert found is not None
    return found.number


def shard_of(part: Path) -> Shard | None:
    """That wrote it; None: who had the run as a whole."""
    found = part_of(part.name)
    return found.shard if found else None


def next_number(folder: Path, shard: Shard | None = None) -> int:
    """Greater than that of any part there, so that no name is used again when parts were merged. shard: than that of
    any part which this shard may read."""
    return max((number for number, *_ in _listed(folder, shard)), default=-1) + 1


@contextmanager
def new_part(
    folder: Path, shard: Shard | None = None, commit: Commit | None = None
) -> Iterator[tuple[Path, IO[bytes]]]:
    """The next free part of `folder` and a file to write it to; several threads may do so at once. shard: whose it is.

    The number belongs to who creates the temporary file; the part's own name is looked at after that, because another
    thread may have renamed its temporary file away in between.
    """
    with storing(folder):
        make_folder(folder)
        place = make_aside(folder)
    number = next_number(folder, shard)
    while True:
        path = folder / Part(number, shard).name
        temporary = place / f".{path.name}.tmp"
        number += 1
        with storing(path):
            try:
                file = HashedFile(temporary)
            except FileExistsError:
                continue
        if not path.exists():
            break
        file.close()
        temporary.unlink()
    with storing(path), _becoming(path, temporary, file, True, commit):
        yield path, file


def sweep(folder: Path, shard: Shard | None = None) -> None:
    """Deletes temporary files that a killed process left in `folder`. No other may be writing there; shard: but for the
    other shards, for only this one's are deleted, whose lock is held."""
    if shard is None:
        checksums.settle(folder)
    begins = "" if shard is None else f"part-{shard.name}-"
    checksums.forget_interrupted(folder, begins)
    for leftover in checksums.aside(folder).glob(f".{begins}*.tmp"):
        leftover.unlink(missing_ok=True)


def sweep_records(folder: Path, name: str) -> None:
    """Deletes what a killed process left of writing the record `name` in `folder`; `*`: any."""
    for leftover in folder.glob(f".{name}.json.*.tmp"):
        leftover.unlink(missing_ok=True)


@contextmanager
def alone(folder: Path, *, wait: bool = True, shared: bool = False) -> Iterator[None]:
    """For as long as the block lasts, no other process is in such a block of this folder. wait: for one that is; False:
    BlockingIOError is raised. shared: others may be whose block is so too."""
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        with storing(folder):
            path = make_aside(folder) / ".lock"
            descriptor = os.open(path, OPEN, 0o644)
        try:
            if not wait:
                fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            with storing(folder):
                fcntl.flock(descriptor, how)
            if checksums.is_there(descriptor, path):  # else its run was removed while we waited
                yield
                return
        finally:
            os.close(descriptor)


def exchange(one: Path, other: Path) -> bool:
    """Swaps two folders in one step, so that no reader ever sees neither or both; False: not possible here."""
    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "darwin" and hasattr(libc, "renamex_np"):
        failed = libc.renamex_np(os.fsencode(one), os.fsencode(other), _EXCHANGE)
    elif hasattr(libc, "renameat2"):
        failed = libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE)
    else:
        return False
    return not failed


def link(path: Path, target: Path) -> None:
    """The same file under a second name, or a copy where the file system has no hard links."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


def remove_tree(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)


def remove(path: Path) -> None:
    """A file, a link, or a folder with all that is in it; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # others' are in it, or there is none
        folder.rmdir()
