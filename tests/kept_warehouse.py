"""A warehouse that is looked after: two runs, and what kills and hands have left there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from warehouse_rows import RUN, fill, run

from constitution.records import Annotation
from constitution.warehouse import Warehouse
from constitution.warehouse.schema import TABLES
from constitution.warehouse.upkeep import garbage

OTHER = "other-0123456789ab"
OLD = 4 * garbage.DAY
"""Seconds."""


def two_runs(root: Path) -> Warehouse:
    """RUN, finished and annotated, and a copy of it that is open."""
    store = fill(root)
    for table in TABLES:
        if (root / table / RUN).exists():
            shutil.copytree(root / table / RUN, root / table / OTHER)
            shutil.copytree(root / "checksums" / table / RUN, root / "checksums" / table / OTHER)
    store.write_run(run(OTHER))
    store.write_run(run(finished=True))
    pair = store.table("preferences", RUN)["id"][0].as_py()
    said = Annotation("a" * 64, RUN, "p", "ann", 1.0, "ann.csv", pair_id=pair)
    store.write_annotations(RUN, [said])
    return store


def write(path: Path, size: int, age: float = OLD) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    changed = path.stat().st_mtime - age
    os.utime(path, (changed, changed))
    return path


def files_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def litter(root: Path, age: float) -> list[Path]:
    """Something of each kind that can go, all of it written `age` seconds ago."""
    return [
        write(root / "checksums" / "responses" / RUN / ".part-7.parquet.tmp", 1, age),
        write(root / "checksums" / "annotations" / RUN / ".part-0.parquet.0a.tmp", 1, age),
        write(root / "checksums" / "responses" / f".compact-{OTHER}" / "part-9.parquet", 1, age),
        write(root / "runs" / f".{RUN}.json.0a0a.tmp", 1, age),
        write(root / ".warehouse.duckdb.0a.tmp", 1, age),
        write(root / "batches" / RUN / "b.json", 1, age),
        write(root / "batches" / f"{RUN}.3of16" / "b.json", 1, age),
        write(root / "quarantine" / "responses" / RUN / "part-0.parquet", 1, age),
        write(root / "checksums" / "responses" / "gone-0a" / "SHA256SUMS", 1, age),
        write(root / "batches" / "gone-0a" / "b.json", 1, age),
        write(root / ".try" / "demo-x" / "runs" / "_none.json", 1, age),
    ]
