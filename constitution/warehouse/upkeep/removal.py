"""A run taken out of the warehouse, with everything that is said of it.

    told = dependents(store, run_id)       # what would be lost, for a person to read
    remove(store, run_id)

The run's record is moved into removing/<run_id>/, where no reader looks: from that step on there is no such run. What
else it has follows, each folder in one step and what names others first, so that no reader finds a row without what it
names; then all of it is deleted, the record last. Killed before that first step, nothing has happened; killed after it,
`remove` again, `gc`, or the next start of the same run does the rest.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

import pyarrow as pa

from constitution.errors import ConstitutionError, InputError
from constitution.warehouse import checksums, damage, files
from constitution.warehouse.notes import Warehouse
from constitution.warehouse.schema import TABLES
from constitution.warehouse.store import Store
from constitution.warehouse.upkeep.inventory import REMOVING, inventory

RECORD = "record.json"
"""In removing/<run_id>/: that it is there says that the run is gone."""
SAID = ("exported", "figures", "annotations", "counterfactuals", "scores")
"""What rests on a run's rows and may have been made after it, what names others first."""
ORDER = (*SAID, *reversed(damage.ROWS), *reversed(damage.INPUT))


@dataclass(frozen=True, slots=True)
class Dependents:
    """What goes with a run, and who misses it."""

    sizes: dict[str, tuple[int, int]]
    """Table, or what else it is (batches, quarantine, …) → files, bytes."""
    rows: dict[str, int | None]
    """Rows of the tables; None: they cannot be counted, for a part is damaged."""
    children: tuple[str, ...]
    """Runs whose parent it is: they stay."""


def dependents(store: Store, run_id: str) -> Dependents:
    sizes: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for file in inventory(store.root):
        if file.run_id == run_id and file.what != "trials":
            count, size = sizes[key := file.table if file.what == "rows" else file.what]
            sizes[key] = (count + 1, size + file.size)
    rows = {table: _rows(damage.folder_of(store.root, table, run_id)) for table in TABLES if table in sizes}
    return Dependents(dict(sizes), rows, tuple(_children(store, run_id)))


def _rows(folder: Path) -> int | None:
    try:
        return damage.count(folder)
    except (OSError, pa.ArrowException):
        return None


def _children(store: Store, run_id: str) -> Iterator[str]:
    for each in store.run_ids():
        try:
            run = store.read_run(each)
        except ConstitutionError:
            continue  # `verify` names it
        if run is not None and getattr(run, "parent", "") == run_id:
            yield each


def interrupted(root: Path) -> list[str]:
    """Runs whose removal has begun and is not done."""
    return sorted(path.parent.name for path in root.glob(f"{REMOVING}/*/{RECORD}"))


def removable(store: Store, begins: str) -> str:
    """The id of the run that is called, or begins, so; whole, that of one without a record too: one whose removal was
    interrupted, or whose record was lost. Raises InputError as `Store.full_id`."""
    if begins in interrupted(store.root) or begins in damage.strays(store.root, store.run_ids()):
        return begins
    return store.full_id(begins)


def remove(store: Warehouse, run_id: str) -> None:
    """The run is gone, or, killed at any moment, as it was or half removed: see above. Raises RunLocked where another
    process writes it or what is said of it, InputError where there is nothing of it."""
    if not any(file.run_id == run_id for file in inventory(store.root)):
        raise InputError(f"{run_id}: there is no such run", hint="`constitution runs` lists them")
    with store.alone(run_id):
        begin(store.root, run_id)
        complete(store.root, run_id)


def begin(root: Path, run_id: str) -> None:
    """The step after which the run is gone; its locks must be held."""
    place, record = root / REMOVING / run_id, root / "runs" / f"{run_id}.json"
    with files.storing(record):
        for folder in (place.parent, place):
            files.make_folder(folder)
        if os.path.lexists(record):
            record.rename(place / RECORD)
        elif not (place / RECORD).exists():
            (place / RECORD).touch()
        files.sync_folder(place)
        files.sync_folder(record.parent)


def complete(root: Path, run_id: str) -> bool:
    """Does what is left of a removal that has begun, holding the run's lock; whether there was any."""
    place = root / REMOVING / run_id
    if not (place / RECORD).exists():
        return False
    for path in (*(root / table / run_id for table in ORDER), *beside(root, run_id)):
        if os.path.lexists(path):
            with files.storing(path):
                path.rename(place / token_hex(8))
    with files.storing(place):
        for path in place.iterdir():
            if path.name != RECORD:
                files.remove(path)
        files.sync_folder(place)
        (place / RECORD).unlink()
        place.rmdir()
        files.remove_if_empty(place.parent)
        files.sync_folder(root)
    return True


def beside(root: Path, run_id: str) -> Iterator[Path]:
    """Files and folders that a run may have besides its record, its lock and its rows."""
    for table in ORDER:
        aside = checksums.aside(root / table / run_id)
        for name in (run_id, f".compact-{run_id}", f".old-{run_id}", f".scoring-{run_id}"):
            yield aside.with_name(name)
    for quarantine in (root / damage.QUARANTINE, root / damage.QUARANTINE / checksums.FOLDER):
        for table in (*ORDER, "runs"):
            yield from (quarantine / table / name for name in (run_id, f"{run_id}-rows"))
    yield from (root / "batches" / run_id, root / "shards" / run_id)
    yield from (root / "runs").glob(f".{run_id}.json.*.tmp")
