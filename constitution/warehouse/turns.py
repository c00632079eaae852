"""Which parts of `prompts` are slices of a run's input, and which hold later turns, which the run made as it went."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from constitution.records import Run
from constitution.warehouse import files


def slices(parts: Iterable[Path]) -> list[Path]:
    """Those of the input. A part that cannot be read is one: preparing the run writes it again."""
    return [path for path in parts if not _made(path)]


def made(parts: Iterable[Path]) -> list[Path]:
    return [path for path in parts if _made(path)]


def prompts_of(run: Run) -> int | None:
    """Rows that `prompts` has; None: the record does not know, or later turns are being added."""
    if "prompts" not in run.counts or (scripted(run) and not run.finished_at):
        return None
    return rows_made(run.counts, "prompts")


def scripted(run: Run) -> bool:
    """Whether its prompts may have later turns."""
    return (run.recipe.get("prompts") or {}).get("turns") is not None


def rows_made(counts: Mapping[str, int], table: str) -> int:
    """Rows of the table by a run's counts, in which `prompts` are those of the input alone."""
    return counts.get(table, 0) + (counts.get("turns", 0) if table == "prompts" else 0)


def _made(path: Path) -> bool:
    if files.shard_of(path):  # a shard writes no input
        return True
    try:
        about = path.stat()
        return _later(os.fspath(path), about.st_ino, about.st_mtime_ns)
    except (OSError, pa.ArrowException):
        return False


@lru_cache(maxsize=4096)
def _later(path: str, inode: int, changed: int) -> bool:
    """By the least of its column `turn`, which is at the end of the file; a part never changes under its name, but one
    may take another's place."""
    about: Any = pq.read_metadata(path)
    if not about.num_row_groups or "turn" not in about.schema.names:
        return False
    column = about.row_group(0).column(about.schema.names.index("turn"))
    return column.statistics is not None and bool(column.statistics.min > 1)
