"""A run taken out of the warehouse, with everything that is said of it.

told = dependents(store, run_id)       # what would be lost, for a person to read
remove(store, run_id)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from constitution.errors import ConstitutionError, InputError
from constitution.warehouse import damage, removing
from constitution.warehouse.notes import Warehouse
from constitution.warehouse.remote import mirror
from constitution.warehouse.schema import TABLES
from constitution.warehouse.store import Store
from constitution.warehouse.upkeep import objects
from constitution.warehouse.upkeep.inventory import stored


@dataclass(frozen=True, slots=True)
class Dependents:
    """What goes with a run, and who misses it."""

    sizes: dict[str, tuple[int, int]]
    """Table, or what else it is (batches, quarantine, …) → files, bytes."""
    rows: dict[str, int | None]
    """Rows of the tables, but for a warehouse at an address; None: they cannot be counted, for a part is damaged."""
    children: tuple[str, ...]
    """Runs whose parent it is: they stay."""


def dependents(store: Store, run_id: str) -> Dependents:
    sizes: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for file in stored(store.root):
        if file.run_id == run_id and file.what != "trials":
            count, size = sizes[key := file.table if file.what == "rows" else file.what]
            sizes[key] = (count + 1, size + file.size)
    here = TABLES if mirror.of(store.root) is None else ()  # to count them they would have to be brought here
    rows = {table: _rows(damage.folder_of(store.root, table, run_id)) for table in here if table in sizes}
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
        if run is not None and run.parent == run_id:
            yield each


def removable(store: Store, begins: str) -> str:
    """The id of the run that is called, or begins, so; whole, that of one without a record too: one whose removal was
    interrupted, or whose record was lost. Raises InputError as `Store.full_id`."""
    if (remote := mirror.of(store.root)) and begins in remote.run_ids():
        return begins
    if begins in removing.interrupted(store.root) or begins in damage.strays(store.root, store.run_ids()):
        return begins
    return store.full_id(begins)


def remove(store: Warehouse, run_id: str) -> None:
    """The run is gone, or, where the process is killed, as it was, or half removed: the next
    that removes it does the rest.

    Raises RunLocked where another process writes it or what is said of it, InputError where there is nothing of it.
    """
    remote = mirror.of(store.root)
    if not any(file.run_id == run_id for file in stored(store.root)) and not (remote and remote.manifests(run_id)):
        raise InputError(f"{run_id}: there is no such run", hint="`constitution runs` lists them")
    with store.alone(run_id):
        if remote:
            objects.remove(remote, run_id)
        removing.all_of(store.root, run_id)
