"""What nothing in a warehouse refers to any more: found, and deleted.

    for each in find(store, older_than=3 * DAY):
        each.what, each.run_id, each.size, each.kept
        collect(store, each)

What a live process may need is never taken. A run's locks say whether one is at work, and they are held while its files
are deleted. Some file systems have no such locks (NFS without them), so that nothing is taken either that was written
less than `older_than` seconds ago: three days, as Iceberg's remove_orphan_files has it. Rows that are of no run are
never taken: they may be all that is left of one.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from constitution.errors import ConstitutionError, RunLocked
from constitution.warehouse import damage, files, layout, removing, views
from constitution.warehouse.notes import Warehouse
from constitution.warehouse.remote import mirror
from constitution.warehouse.remote.writing import Remote
from constitution.warehouse.upkeep import objects
from constitution.warehouse.upkeep.inventory import TRIALS, File, inventory, stored

DAY = 86_400
OLDER_THAN = 3 * DAY
"""Seconds."""

Kind = Literal["temporary", "batches", "quarantine", "removing", "gone", "trials", "unnamed"]
ABOUT: dict[Kind, str] = {
    "temporary": "files that a process was writing when it was killed",
    "batches": "notes of batches whose run is finished",
    "quarantine": "damaged files, and rows that rested on theirs, which their run has made again",
    "removing": "runs whose removal was interrupted",
    "gone": "locks, checksums, notes and quarantined files of runs that are gone",
    "unnamed": "objects of the store that no manifest names",
    "trials": "what `constitution try` made",
}


@dataclass(frozen=True, slots=True)
class Garbage:
    """Files of one kind and one run."""

    what: Kind
    run_id: str
    """The trial's folder, where it is one; empty: no run's."""
    files: int
    size: int
    """Bytes."""
    kept: str
    """Why it is not taken; empty: it can be."""


def find(store: Warehouse, older_than: float = OLDER_THAN) -> list[Garbage]:
    """All that there is, by kind and run. older_than: seconds."""
    found = _here(store, older_than)
    return found + _unnamed(store, remote, older_than) if (remote := mirror.of(store.root)) else found


def _unnamed(store: Warehouse, remote: Remote, older_than: float) -> list[Garbage]:
    """At an address: what killed writers, and those that lost their lease, left in the store."""
    by_run: dict[str, dict[str, File]] = defaultdict(dict)
    for file in stored(store.root):
        if file.run_id and file.what not in ("other", "trials"):
            by_run[file.run_id][file.path.relative_to(store.root).as_posix()] = file
    found, clock = [], objects.now(remote)
    for run_id, every in sorted(by_run.items()):
        if group := [every[name] for name in objects.unnamed(remote, run_id, every)]:
            kept = _kept(store, "unnamed", run_id, group, older_than, clock)
            found.append(Garbage("unnamed", run_id, len(group), sum(file.size for file in group), kept))
    return found


def _here(store: Warehouse, older_than: float) -> list[Garbage]:
    """In the folder."""
    every = [file for file in inventory(store.root) if file.what not in ("record", "views", "other")]
    known, rows = set(store.run_ids()), {file.run_id for file in every if file.what == "rows"}
    going = set(removing.interrupted(store.root))
    groups: dict[tuple[Kind, str], list[File]] = defaultdict(list)
    for file in every:
        run_id, what = file.run_id, file.what
        if what == "trials" or what == "temporary":
            groups[what, run_id].append(file)
        elif run_id in going:
            groups["removing", run_id].append(file)
        elif what == "batches" or what == "quarantine":
            if run_id in known:
                groups[what, run_id].append(file)
            elif run_id not in rows:
                groups["gone", run_id].append(file)
        elif run_id and run_id not in known | rows:
            groups["gone", run_id].append(file)
    return [
        Garbage(
            what, run_id, len(group), sum(file.size for file in group), _kept(store, what, run_id, group, older_than)
        )
        for (what, run_id), group in sorted(groups.items())
        if what not in ("batches", "quarantine") or _finished(store, run_id)
    ]


def _kept(
    store: Warehouse, what: Kind, run_id: str, group: Iterable[File], older_than: float, clock: float | None = None
) -> str:
    """clock: the store's time, for its objects."""
    age = (time.time() if clock is None else clock) - max(file.changed for file in group)
    if age < older_than:
        return f"written {_ago(age)} ago"
    if _at_work(store, what, run_id):
        return "its run is at work"
    return ""


def _ago(seconds: float) -> str:
    return f"{seconds / DAY:.0f} days" if seconds >= 2 * DAY else f"{max(seconds, 0) / 3600:.1f} hours"


def _at_work(store: Warehouse, what: Kind, run_id: str) -> bool:
    if what == "trials":
        trial = Warehouse(store.root / TRIALS / run_id)
        return any(trial.locked(each) for each in trial.run_ids())
    return bool(run_id) and store.locked(run_id)


def _finished(store: Warehouse, run_id: str) -> bool:
    """Whether nothing that was quarantined or noted has to be made or fetched again. A damaged record does not say."""
    try:
        run = store.read_run(run_id)
    except ConstitutionError:
        return False
    return run is not None and run.finished_at is not None


def collect(store: Warehouse, garbage: Garbage) -> str:
    """Deletes it; empty, or why it was kept after all. Killed at any moment, what is left is found again."""
    root, run_id = store.root, garbage.run_id
    if garbage.what == "trials":
        return _collect_trial(store, run_id)
    if not run_id:
        layout.make(root)
        views.rebuild(root)
        return ""
    try:
        with store.alone(run_id):
            if garbage.what in ("batches", "quarantine") and not _finished(store, run_id):
                return "its run is open again"
            if garbage.what == "gone" and (run_id in store.run_ids() or run_id in damage.strays(root, ())):
                return "its run is there again"
            if garbage.what == "unnamed":
                _collect_unnamed(store, run_id)
            elif garbage.what == "temporary":
                store.clear(run_id)
            elif garbage.what in ("removing", "gone"):
                removing.all_of(root, run_id)
            else:
                for path in removing.beside(root, run_id):
                    if path.relative_to(root).parts[0] == garbage.what:
                        with files.storing(path):
                            files.remove(path)
                            files.remove_if_empty(path.parent)
    except RunLocked as error:
        return str(error)
    return ""


def _collect_unnamed(store: Warehouse, run_id: str) -> None:
    """Looked for again, now that no process puts any."""
    remote = mirror.of(store.root)
    assert remote
    every = [file.path.relative_to(store.root).as_posix() for file in stored(store.root) if file.run_id == run_id]
    if set(gone := objects.unnamed(remote, run_id, every)) == set(every):
        objects.remove(remote, run_id)
    else:
        remote.objects.delete(gone)


def _collect_trial(store: Warehouse, name: str) -> str:
    if _at_work(store, "trials", name):
        return "its run is at work"
    folder = store.root / TRIALS / name
    with files.storing(folder):
        files.remove(folder)
        files.remove_if_empty(folder.parent)
    return ""
