"""Runs copied from one warehouse to another: rows, records, and what is said of them.

    for run_id in source.run_ids():
        copied = copy_run(source, target, run_id)      # parts and bytes that were not there yet

Each part is held against its checksum as it is written. The record comes last, so that a run that is there is whole;
killed at any moment, the same copy resumes with the parts that are missing. The source is only read: what changes there
meanwhile (a run that is merged or labelled again) is looked at again until it stays the same.

The target remembers what was copied to it (shards/<run_id>/copied.json). A run that has become another there since,
or was never copied, is not touched: nothing that only the target has is lost.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

from constitution.errors import DamagedPart, RunLocked, WarehouseError
from constitution.records import Run, ShardRecord
from constitution.warehouse import batches, checksums, damage, files
from constitution.warehouse.checksums import Sum
from constitution.warehouse.notes import Warehouse
from constitution.warehouse.removing import SAID
from constitution.warehouse.schema import TABLES
from constitution.warehouse.store import reading

NOTE = "copied"
"""Name of what the target remembers."""
ORDER = (*damage.INPUT, *damage.ROWS, *reversed(SAID))
"""What others name first."""
TRIES = 5

Sums = dict[str, dict[str, Sum]]
"""By table and part."""


class Copied(NamedTuple):
    parts: int
    size: int
    """Bytes."""


class _State(NamedTuple):
    """A run at one moment."""

    run: Run
    shards: list[ShardRecord]
    sums: Sums


def copy_run(source: Warehouse, target: Warehouse, run_id: str) -> Copied:
    """Copies the run, or what is missing of it. Raises RunLocked where it is at work in one of the two, DamagedPart
    where a part of it is not what was written, and WarehouseError where the target has another run of this id."""
    done = Copied(0, 0)
    for _ in range(TRIES):
        state = _state(source, run_id)
        try:
            one = _copy(source, target, state)
        except (FileNotFoundError, DamagedPart):
            if _state(source, run_id) == state:
                raise
            continue
        done = Copied(done.parts + one.parts, done.size + one.size)
        if _state(source, run_id) == state:
            return done
    raise WarehouseError(f"{source.root}: run {run_id} changes all the time", hint="copy it when it is finished")


def _state(store: Warehouse, run_id: str) -> _State:
    if holders := store.holders(run_id):
        raise RunLocked(f"{store.root}: run {run_id} is at work ({holders[0]})", hint="copy it when it has ended")
    run = store.read_run(run_id)
    if run is None:
        raise WarehouseError(f"{store.root}: there is no record of run {run_id}", hint="`constitution runs` lists them")
    return _State(run, store.shards(run_id), {table: _sums(store, table, run_id) for table in TABLES})


def _sums(store: Warehouse, table: str, run_id: str) -> dict[str, Sum]:
    """What the parts are that are there: as they were written, or, where that was lost, as they are."""
    store.parts(table, run_id)  # brings them here
    folder = store.folder(table, run_id)
    with reading(folder):
        known = checksums.read(folder)
        there = sorted(path.name for path in folder.glob("[!.]*.parquet"))
        return {name: known[name][-1] if name in known else checksums.sum_of(folder / name) for name in there}


def _copy(source: Warehouse, target: Warehouse, state: _State) -> Copied:
    run_id = state.run.run_id
    target.rebuild_views()  # makes the warehouse, where there is none
    done = Copied(0, 0)
    with target.alone(run_id):
        target.clear(run_id)
        before = _checked(target, state)
        target.write_shared(run_id, NOTE, {"states": [*before, _plain(state)]})
        for table in ORDER:
            one = _copy_table(source, target, table, state)
            done = Copied(done.parts + one.parts, done.size + one.size)
        for shard in state.shards:
            target.write_shard(shard)
        if not state.run.finished_at:
            _copy_batches(source.root, target.root, run_id)
        target.write_run(state.run)
        target.write_shared(run_id, NOTE, {"states": [_plain(state)]})
    target.rebuild_views()
    return done


def _copy_table(source: Warehouse, target: Warehouse, table: str, state: _State) -> Copied:
    """The parts that are missing, one after the other; where others must go, or are shards', all in one step."""
    run_id, wanted = state.run.run_id, state.sums[table]
    here, folder = source.folder(table, run_id), target.folder(table, run_id)
    faults = checksums.check(folder)
    there = {path.name for path in folder.glob("[!.]*.parquet")}
    sound = {name for name in there - faults.keys() if wanted.get(name) in checksums.read(folder).get(name, ())}
    missing = {name: known for name, known in wanted.items() if name not in sound}
    of_shards = any((of := files.part_of(name)) and of.shard for name in missing)
    if there <= sound and not faults and not of_shards:
        for name, known in missing.items():
            with (here / name).open("rb") as part, target.taking(table, run_id, name) as file:
                _pour(part, file, here / name, known)
    else:
        with target.replacing(table, run_id) as (staging, sums):
            for name, known in wanted.items():
                if name in missing:
                    with (here / name).open("rb") as part, checksums.HashedFile(staging / name) as file:
                        _pour(part, file, here / name, known)
                        file.sync()
                else:
                    files.link(folder / name, staging / name)
                sums[name] = known
    return Copied(len(missing), sum(each.size for each in missing.values()))


def _pour(part: Any, file: Any, path: Path, known: Sum) -> None:
    shutil.copyfileobj(part, file, 2**20)
    if file.sum != known:
        raise DamagedPart(f"{path}: {checksums.ALTERED}")


def _copy_batches(source: Path, target: Path, run_id: str) -> None:
    """What an open run sent and must fetch."""
    for folder in batches.folders(source, run_id):
        for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".tmp"):
            place = target / path.relative_to(source)
            with files.storing(place):
                files.make_root(place.parent)
            with path.open("rb") as notes, files.replacing(place) as file:
                shutil.copyfileobj(notes, file)


def _checked(target: Warehouse, state: _State) -> list[Any]:
    """What the target may be: states that were copied to it. Raises WarehouseError where it has something else."""
    run_id = state.run.run_id
    hint = f"to have this copy in its place: constitution warehouse rm {run_id}, there"
    states = target.read_shared(run_id, NOTE).get("states", [])
    known = [*states, _plain(state)]
    for table in TABLES:
        folder = target.folder(table, run_id)
        target.parts(table, run_id)  # brings them here
        there = {name: [list(sum) for sum in sums] for name, sums in checksums.read(folder).items()}
        for name, sums in there.items():
            copies = [each["sums"].get(table, {}).get(name) for each in known]
            if (folder / name).exists() and not any(sum in copies for sum in sums):
                raise WarehouseError(
                    f"{target.root}: run {run_id} has a part that was not copied from here: {table}/{run_id}/{name}",
                    hint=hint,
                )
    run = target.read_run(run_id)
    if run is not None and run.starts > max(each["starts"] for each in known):
        raise WarehouseError(
            f"{target.root}: run {run_id} was started again there since it was copied",
            hint=hint,
        )
    return list(states)


def _plain(state: _State) -> dict[str, Any]:
    """As JSON has it."""
    sums = {table: {name: list(sum) for name, sum in parts.items()} for table, parts in state.sums.items() if parts}
    return {"starts": state.run.starts, "sums": sums}
