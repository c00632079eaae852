"""Works on a file system of its own that is too small: `small_disk.py TASK RECIPE WAREHOUSE [WORDS]`, inside
`unshare --map-root-user --mount`, where anybody may mount one that nobody else sees. Tells what happened as JSON lines.

Exit code 77: none can be mounted here.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from machine import start, stored, temporary  # noqa: E402

from constitution.errors import ConstitutionError, QueryError  # noqa: E402
from constitution.export import Settings, export  # noqa: E402
from constitution.warehouse import Warehouse, ask, connect  # noqa: E402


def mount(place: Path, options: str) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=False).returncode:
        sys.exit(77)


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)


def tell(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def run(recipe: Path, done: Path, place: Path, seed: str, disks: str) -> None:
    """Disks of many sizes, each made larger when it is full until the run finishes on it."""
    chance = random.Random(f"{seed}/disks")
    needed = sum(path.stat().st_blocks * 512 for path in done.rglob("*") if path.is_file()) // 1024
    for number in range(int(disks)):
        # The first are full before the run begins, and when it is nearly done.
        size = (40, needed * 9 // 10)[number] if number < 2 else chance.randrange(40, needed)
        mount(place, f"size={size}k")
        error = "begin"
        while error:
            error, finished = "", False
            try:
                finished = start(recipe, place / "w").finished_at is not None
            except ConstitutionError as fault:
                error = str(fault)
            store = Warehouse(place / "w")
            ids = store.run_ids()
            damaged = [str(damage) for run_id in ids for damage in store.verify(run_id)]
            tell(
                size=size,
                error=error,
                finished=finished,
                damaged=damaged,
                rows=stored(store.root, ids[0]) if finished else {},
                left=[str(path) for path in temporary(store.root)] if finished else [],
            )
            size += chance.randrange(20, 400)
            remount(place, f"size={size}k")
        subprocess.run(["umount", str(place)], check=True)


def export_(recipe: Path, done: Path, place: Path) -> None:
    """No room for the data set, and then none for the rows of `exported`."""
    [run_id] = Warehouse(done).run_ids()
    for full in ("out", "warehouse"):
        mount(place, "size=64m")
        shutil.copytree(done, place / "w")
        other = Path(tempfile.mkdtemp())
        out = (place if full == "out" else other) / "out"
        free = os.statvfs(place)
        with (place / "filler").open("wb") as file:
            file.write(bytes((free.f_bavail - (2 if full == "out" else 0)) * free.f_bsize))
        error = ""
        try:
            export(place / "w", run_id, Settings(format="dpo"), out)
        except (ConstitutionError, OSError) as fault:
            error = f"{type(fault).__name__}: {fault}"
        left = [str(path) for path in (*out.parent.glob("*out*"), *(place / "w").rglob("*.tmp"))]
        (place / "filler").unlink()
        then = export(place / "w", run_id, Settings(format="dpo"), out)
        tell(full=full, error=error, left=left, then=sum(then.rows.values()))
        shutil.rmtree(other)
        subprocess.run(["umount", str(place)], check=True)


def spill(recipe: Path, done: Path, place: Path) -> None:
    mount(place, "size=1m")
    tempfile.tempdir = str(place)
    error, query = "", "SELECT count(*) FROM (SELECT i, hash(i) AS h FROM range(6000000) r(i) ORDER BY h) WHERE h > 0"
    with connect(done, memory_mib=48) as connection:
        try:
            list(ask(connection, query).rows)
        except QueryError as fault:
            error = f"{type(fault).__name__}: {fault}"
        [(one,)] = ask(connection, "SELECT 1").rows
    tell(error=error, then=one)


def read_only(recipe: Path, done: Path, place: Path) -> None:
    mount(place, "size=64m")
    shutil.copytree(done, place / "w")
    [run_id] = Warehouse(done).run_ids()
    remount(place, "ro")
    told = ""
    try:
        start(recipe, place / "w", ["seed=7"])
    except ConstitutionError as fault:
        told = str(fault)
    with connect(place / "w") as connection:
        [(rows,)] = ask(connection, "SELECT count(*) FROM responses").rows
    tell(run=told, queried=rows, damaged=[str(one) for one in Warehouse(place / "w").verify(run_id)])


if __name__ == "__main__":
    task, recipe, done, *words = sys.argv[1:]
    place = Path(tempfile.mkdtemp())
    tasks: dict[str, Callable[..., None]] = {"run": run, "export": export_, "spill": spill, "read-only": read_only}
    tasks[task](Path(recipe), Path(done), place, *words)
