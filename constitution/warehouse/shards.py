"""The records of a run's shards: shards/<run_id>/<number>of<of>.json, and before.json of what was done before it was
dealt into these. That one says into how many the run is dealt now; records of another number are left of a kill."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from constitution.errors import DamagedPart
from constitution.records import Shard, ShardRecord
from constitution.warehouse import files, record
from constitution.warehouse.damage import Damage

BEFORE = "before.json"


def folder_of(root: Path, run_id: str) -> Path:
    return root / "shards" / run_id


def path_of(root: Path, run_id: str, shard: Shard | None) -> Path:
    """Where the record is, or, for None, that of what was before; it need not exist."""
    return folder_of(root, run_id) / (f"{shard.name}.json" if shard else BEFORE)


def write(root: Path, found: ShardRecord) -> Path:
    path = path_of(root, found.run_id, found.shard if found.number else None)
    data = record.render(found)
    with files.storing(path):
        for folder in (path.parent.parent, path.parent):
            files.make_folder(folder)
    with files.replacing(path) as file:
        file.write(data)
    return path


def read(root: Path, run_id: str) -> list[ShardRecord]:
    """What was before, and the present shards by their numbers; empty: the run is worked as a whole. Raises DamagedPart
    for one that cannot be read."""
    before = record.read(path_of(root, run_id, None), ShardRecord)
    if before is None:
        return []
    found = (record.read(path, ShardRecord) for path in paths(root, run_id) if path.stem.endswith(f"of{before.of}"))
    return [before, *sorted((each for each in found if each), key=lambda each: each.number)]


def damaged(root: Path, run_id: str) -> list[Damage]:
    """The records that cannot be read."""
    found = []
    for path in (path_of(root, run_id, None), *paths(root, run_id)):
        try:
            record.read(path, ShardRecord)
        except DamagedPart:
            found.append(Damage("shards", path, "cannot be read as a shard"))
    return found


def paths(root: Path, run_id: str) -> list[Path]:
    """All records that there are, but for before.json."""
    return sorted(folder_of(root, run_id).glob("[1-9]*of*.json"))


def others(root: Path, run_id: str, but_of: int) -> list[Path]:
    """The records of shards of another number; 0: all, that of what was before first."""
    found = [path_of(root, run_id, None)] if not but_of else []
    return found + [path for path in paths(root, run_id) if not but_of or not path.stem.endswith(f"of{but_of}")]


def forget(gone: Sequence[Path]) -> None:
    """Deletes these records, in their order, so that a kill leaves none that counts without what was before."""
    for path in gone:
        with files.storing(path):
            path.unlink(missing_ok=True)
    if gone and gone[0].parent.is_dir():
        with files.storing(gone[0].parent):
            files.sync_folder(gone[0].parent)
