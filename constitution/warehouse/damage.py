"""Parts that are not what was written: finding them, and quarantining them.

A damaged part goes to quarantine/<table>/<run_id>/ under its own name, where no reader's glob looks. Nothing is
deleted.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from constitution.errors import WarehouseError
from constitution.warehouse import checksums, files, turns
from constitution.warehouse.schema import TABLES
from constitution.warehouse.views import NO_RUN_ID

QUARANTINE = "quarantine"

INPUT = ("principles", "prompts", "skipped")
"""Copies of what the recipe names: preparing the run writes them again."""

ROWS = ("responses", "judgements", "reference_checks", "rubrics", "rewards", "preferences", "failures")
"""What the run makes, in the order that rows name each other."""


RECORDS = ("runs", "shards")
"""Folders of records, which `Damage.table` may be."""


def made_by(counts: Mapping[str, int]) -> tuple[str, ...]:
    """The tables of rows that a run made, by its record's counts: also `scores` where it read some for rewards. That
    table also holds what was asked afterwards."""
    return (*ROWS, "scores") if counts.get("scores") else ROWS


REMEDIES = {
    "annotations": "import them again",
    "figures": "audit the run again",
    "clauses": "`constitution coverage` of the document again",
    "scores": "audit it again with --scorecard",
    "counterfactuals": "audit it again with --scorecard --swaps",
    "exported": "export it again",
}
"""What makes the rows of the other tables again."""


def known(counts: Mapping[str, int]) -> dict[str, int | None]:
    """How many rows these tables have, as far as the record of a finished run counts them; None: some."""
    return {name: None if name == "scores" else counts[name] for name in made_by(counts) if name in counts}


@dataclass(frozen=True, slots=True)
class Damage:
    """One file that is not what was written."""

    table: str
    """Or one of RECORDS."""
    path: Path
    """The part; the folder, where it is gone with all its parts."""
    fault: str

    def __str__(self) -> str:
        return f"{self.path}: {self.fault}"


def folder_of(root: Path, table: str, run_id: str) -> Path:
    return root / table / run_id


def find(
    root: Path,
    run_id: str,
    counts: Mapping[str, int | None],
    tables: Iterable[str] = tuple(TABLES),
    *,
    read_parts: bool = True,
) -> list[Damage]:
    """What is wrong with the run's parts, table by table.

    counts: how many rows tables have (None: some), as far as it is known: a folder that is gone takes its sums with it.
    read_parts: False looks at names, sizes and counts alone.
    """
    found = []
    for table in tables:
        folder = folder_of(root, table, run_id)
        faults = checksums.check(folder, read_parts=read_parts) or _without_sums(folder)
        places = {checksums.SUMS: checksums.aside(folder)}
        found += [Damage(table, places.get(name, folder) / name, fault) for name, fault in faults.items()]
        rows = counts.get(table, 0)
        if not faults and rows != 0 and not files.parts(folder):
            found.append(Damage(table, folder, checksums.MISSING))
        elif not faults and table in counts and rows is not None and (there := count(folder)) != rows:
            found.append(Damage(table, folder, f"has {there:,} rows, and the run's record counts {rows:,}"))
    return found


def _without_sums(folder: Path) -> dict[str, str]:
    """What can be said of parts that have no checksum: those that are no Parquet."""
    found = {}
    for name in checksums.unchecked(folder):
        if not (folder / name).is_file():
            found[name] = checksums.NO_FILE
            continue
        try:
            pq.read_metadata(folder / name)
        except (OSError, pa.ArrowException) as error:
            if isinstance(error, OSError) and not checksums.broken(error):
                raise
            found[name] = f"cannot be read as Parquet: {str(error).splitlines()[0]}"
    return found


def count(folder: Path) -> int:
    """Rows of the parts in the folder, by what each says of itself."""
    return rows_in(files.parts(folder))


def rows_in(parts: Iterable[Path]) -> int:
    return sum(pq.read_metadata(path).num_rows for path in parts)


def check_counts(root: Path, run_id: str, counts: Mapping[str, int]) -> None:
    """Raises WarehouseError where the tables have others than the rows that the run has made, which `counts` has."""
    for table in ("prompts", *made_by(counts)):
        folder, made = folder_of(root, table, run_id), turns.rows_made(counts, table)
        there = count(folder)
        if there != made and not (table == "scores" and there > made):  # a scorecard's are among them
            raise WarehouseError(
                f"run {run_id} has made {made:,} {table}, and {folder} has {there:,}",
                hint="the same command makes again what is gone; does anything else write there?",
            )


def strays(root: Path, known: Collection[str]) -> dict[str, list[str]]:
    """Folders that are like a run's and of none of the `known`, with the tables that have parts there: a run whose
    record was lost, or a copy of a run's folder, whose rows are read twice."""
    found: dict[str, list[str]] = {}
    for table in TABLES:
        for folder in sorted((root / table).glob("*/")):
            if folder.name not in {*known, NO_RUN_ID} and any(folder.glob("*.parquet")):
                found.setdefault(folder.name, []).append(table)
    return found


def quarantine_part(root: Path, run_id: str, damage: Damage) -> Path | None:
    """Moves the part to the quarantine; its new place, None if it is not there to be moved. A folder or a pipe of its
    name goes too, but never the run's folder."""
    is_folder = damage.path.is_dir() and damage.path == folder_of(root, damage.table, run_id)
    if is_folder or not os.path.lexists(damage.path):
        return None
    place = quarantine(root, damage.table, run_id)
    target, number = place / damage.path.name, 1
    while os.path.lexists(target):
        target, number = place / f"{damage.path.name}.{number}", number + 1
    with files.storing(damage.path):
        damage.path.rename(target)
        files.sync_folder(target.parent)
        files.sync_folder(damage.path.parent)
    return target


def quarantine(root: Path, table: str, run_id: str) -> Path:
    """The folder, made if need be."""
    place = root
    for name in (QUARANTINE, table, run_id):
        place /= name
        with files.storing(place):
            files.make_folder(place)
    return place
