"""The folder that an export is made in, beside its place; what a killed export left there goes."""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from constitution.warehouse import files
from constitution.writing import beside

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def folder_beside(out: Path, names: frozenset[str]) -> Iterator[Path]:
    """A folder that becomes `out` if all goes well; where `out` is a link, what it leads to. names: of what an export
    has in its folder; a folder that a killed export left is removed if it has no others."""
    out = out.resolve()
    with files.storing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        folder, lock = _claim(out, names)
        try:
            yield folder
            if out.exists() and not files.exchange(folder, out):
                files.remove_tree(out)
            if not out.exists():
                folder.rename(out)
        finally:
            with suppress(FileNotFoundError):  # an export of the same place may be removing the same
                files.remove_tree(folder)
            if lock is not None:
                os.close(lock)


def _claim(out: Path, names: frozenset[str]) -> tuple[Path, int | None]:
    """A new folder, locked as long as the descriptor is open. None: this file system locks no folders, and what a
    killed export left stays."""
    folder = beside(out)
    parent = os.open(out.parent, _FOLDER)
    try:
        with suppress(OSError):
            fcntl.flock(parent, fcntl.LOCK_EX)  # none is new and not locked yet
            for left in out.parent.glob(f".{glob.escape(out.name)}.{'[0-9a-f]' * 16}.tmp"):
                _sweep(left, names)
        folder.mkdir()
        lock = os.open(folder, _FOLDER)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            os.close(lock)
            return folder, None
        return folder, lock
    finally:
        os.close(parent)


def _sweep(left: Path, names: frozenset[str]) -> None:
    with suppress(OSError):  # no folder, or one that is being written
        descriptor = os.open(left, _FOLDER)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if {path.name for path in left.iterdir()} <= names:
                shutil.rmtree(left)
        finally:
            os.close(descriptor)
