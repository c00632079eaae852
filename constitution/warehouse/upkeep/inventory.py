"""Every file of a warehouse: what it is, of which run and table, how large, and when it was written last.

for file in inventory(root):
    file.what, file.run_id, file.table, file.size
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from constitution.warehouse import checksums, views
from constitution.warehouse.damage import QUARANTINE
from constitution.warehouse.layout import is_run_id
from constitution.warehouse.remote import mirror
from constitution.warehouse.remote.manifest import FOLDER as MANIFESTS
from constitution.warehouse.removing import REMOVING
from constitution.warehouse.schema import TABLES

What = Literal[
    "rows", "record", "manifests", "checksums", "locks", "batches", "shards", "quarantine", "temporary", "removing",
    "trials", "views", "other",
]  # fmt: skip

TRIALS = ".try"
"""Folder of the warehouses of `constitution try`."""

_TEMPORARY = re.compile(r"\..+\.tmp(\..+)?")
_RECORD = re.compile(r"\.(.+)\.json\.[0-9a-f]+\.tmp")
_SHARD = re.compile(r"\.[1-9][0-9]*of[1-9][0-9]*$")
_ASIDE = re.compile(r"\.(compact|old|scoring)-(.+)")
"""Folders in checksums/<table>/: of an exchange of a run's folder, and of the lock of its scores."""


class File(NamedTuple):
    path: Path
    what: What
    run_id: str
    """The trial's folder, where it is one's; empty: no run's."""
    table: str
    """Empty: of none."""
    size: int
    """Bytes."""
    changed: float
    """When it was written last, in seconds since 1970 by the file system's clock."""


def inventory(root: Path) -> Iterator[File]:
    """All files in `root`, what is no regular file too, folder by folder. Links are not followed; what vanishes
    meanwhile is not there. Raises OSError where a folder may not be read."""
    for path in _walk(root):
        try:
            about = path.lstat()
        except FileNotFoundError:
            continue
        what, run_id, table = what_is(path.relative_to(root).parts)
        yield File(path, what if stat.S_ISREG(about.st_mode) else "other", run_id, table, about.st_size, about.st_mtime)


def stored(root: Path) -> Iterator[File]:
    """The same of what the store holds, where `root` is the mirror of a warehouse at an address: by its list, which
    need not show yet what was just put. Paths are those in the mirror."""
    remote = mirror.of(root)
    if remote is None:
        yield from inventory(root)
        return
    for each in remote.objects.listed():
        what, run_id, table = what_is(tuple(each.key.split("/")))
        yield File(root / each.key, what, run_id, table, each.size, each.modified.timestamp())


def _walk(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            inner = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    except FileNotFoundError:
        return
    for name, is_folder in inner:
        if is_folder:
            yield from _walk(folder / name)
        else:
            yield folder / name


def what_is(parts: tuple[str, ...]) -> tuple[What, str, str]:
    """What the file of this path within a warehouse is; its run, and its table."""
    top, name = parts[0], parts[-1]
    if len(parts) == 1:
        ours = name == views.DATABASE
        return ("views" if ours else "temporary" if name.startswith(f".{views.DATABASE}.") else "other"), "", ""
    if top == TRIALS:
        return "trials", parts[1], ""
    if top == "runs" and len(parts) == 2:
        return _of_records(name)
    if top == REMOVING and len(parts) > 2:
        return "removing", parts[1], ""
    if top == "batches" and len(parts) > 2:
        return "batches", _SHARD.sub("", parts[1]), ""
    if top == MANIFESTS and len(parts) == 3:
        return ("temporary" if name.startswith(".") else "manifests"), parts[1], ""
    if top == "shards" and len(parts) == 3:
        return _of_shards(parts[1], name)
    if top == QUARANTINE and len(parts) > 3:
        table, folder = parts[2:4] if parts[1] == checksums.FOLDER else parts[1:3]
        return "quarantine", folder.removesuffix("-rows"), table
    if top == checksums.FOLDER and len(parts) > 3 and parts[1] in TABLES:
        return _of_sums(parts[1], parts[2], name)
    if top in TABLES and len(parts) == 3 and name.endswith(".parquet") and not name.startswith("."):
        return ("rows" if is_run_id(parts[1]) else "views"), parts[1] * is_run_id(parts[1]), top
    return "other", "", ""


def _of_records(name: str) -> tuple[What, str, str]:
    if match := _RECORD.fullmatch(name):
        return "temporary", match[1], ""
    stem, _, kind = name.rpartition(".")
    if name == views.NO_RUN:
        return "views", "", ""
    what: What = "record" if kind == "json" else "locks" if kind == "lock" else "other"
    return what, stem if what != "other" else "", ""


def _of_shards(run_id: str, name: str) -> tuple[What, str, str]:
    if run_id == views.NO_RUN_ID:
        return ("views" if name == views.NO_RUN else "temporary" if _TEMPORARY.fullmatch(name) else "other"), "", ""
    what: What = "temporary" if _RECORD.fullmatch(name) else "locks" if name.endswith(".lock") else "shards"
    return what, run_id, ""


def _of_sums(table: str, folder: str, name: str) -> tuple[What, str, str]:
    aside = _ASIDE.fullmatch(folder)
    run_id = aside[2] if aside else folder
    if run_id == views.NO_RUN_ID:
        run_id = ""
    if name == ".lock":
        return "locks", run_id, table
    exchanged = aside is not None and aside[1] != "scoring"
    return ("temporary" if exchanged or _TEMPORARY.fullmatch(name) else "checksums"), run_id, table
