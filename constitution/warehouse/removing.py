"""A run that is being taken out of the warehouse: no reader sees it any more, and a kill leaves nothing half done.

The run's record is moved into removing/<run_id>/, where no reader looks: from that step on there is no such run. What
else it has follows, each folder in one step and what names others first, so that no reader finds a row without what it
names; then all of it is deleted, the record last. Killed before that first step, nothing has happened; killed after it,
`complete` does the rest: of the same command, of `gc`, or of the next start of the same run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

from constitution.warehouse import batches, checksums, damage, files
from constitution.warehouse.locks import run_lock

REMOVING = "removing"
"""The folder."""
RECORD = "record.json"
"""In removing/<run_id>/: that it is there says that the run is gone."""
SAID = ("exported", "figures", "clauses", "annotations", "counterfactuals", "scores")
"""What rests on a run's rows and may have been made after it, what names others first."""
ORDER = (*SAID, *reversed(damage.ROWS), *reversed(damage.INPUT))


def interrupted(root: Path) -> list[str]:
    """Runs whose removal has begun and is not done."""
    return sorted(path.parent.name for path in root.glob(f"{REMOVING}/*/{RECORD}"))


def all_of(root: Path, run_id: str) -> None:
    """Removes the run, whose lock is held, and those of what is said of it. The lock goes last."""
    begin(root, run_id)
    complete(root, run_id)
    path = run_lock(root, run_id)
    with files.storing(path):
        path.unlink(missing_ok=True)


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
    yield from (*batches.folders(root, run_id), root / "shards" / run_id)
    yield from (root / "runs").glob(f".{run_id}.json.*.tmp")
