"""A warehouse at an address brought here: its manifests, and the parts and records that they name.

What counts is in the manifests (manifest.py). A part is fetched whole and held against its sum; what is here of other
processes of this machine, which write, is left to them.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from constitution.errors import DamagedPart, WarehouseError
from constitution.warehouse import checksums, files, layout
from constitution.warehouse.checksums import Sum
from constitution.warehouse.compact import replacing_folder
from constitution.warehouse.remote.lease import Lease, alive
from constitution.warehouse.remote.manifest import (
    FOLDER,
    MAIN,
    OWNERS,
    SHARD,
    Holder,
    Manifest,
    another_s,
    decode,
    key,
    named,
    owner,
    said,
)
from constitution.warehouse.remote.objects import Objects
from constitution.warehouse.schema import TABLES
from constitution.writing import beside

THREADS = 8
"""Objects that are read at once."""
TRIES = 5
PAUSE = 0.2
"""Seconds before a part is looked for again whose manifest has changed."""

_MAIN = re.compile(rf"{FOLDER}/([^/]+)/{MAIN}\.json")


class Lost(NamedTuple):
    """A part that a manifest names, and whose object is gone or not what was written."""

    table: str
    name: str
    fault: str


class Mirror:
    """The warehouse at `url`, of one process. `root`: the folder through which it is read and written; `mirror`: this
    folder's id."""

    def __init__(self, root: Path, url: str, mirror: str) -> None:
        self.root, self.url, self.mirror = root, url, mirror
        self.objects = Objects(url)
        self._leases: dict[tuple[str, str], Lease] = {}
        """What this process writes, by run and writer."""

    def manifests(self, run_id: str) -> dict[str, Manifest]:
        """All of a run, by writer: of one moment. Empty: there is no such run."""
        for _ in range(TRIES):
            found = self._manifest(run_id, MAIN)
            writers = [*dict.fromkeys([*(found.writers if found else ()), *OWNERS.values()])]
            with ThreadPoolExecutor(THREADS) as threads:
                others = dict(zip(writers, threads.map(partial(self._manifest, run_id), writers), strict=True))
            # What a shard wrote may have been taken over between the two.
            again = self._manifest(run_id, MAIN)
            if (again and again.absorbed) == (found and found.absorbed):
                return {name: each for name, each in {MAIN: again, **others}.items() if each}
        raise WarehouseError(f"{self.url}: run {run_id} changes all the time", hint="ask again")

    def run_ids(self) -> set[str]:
        """Those of the runs that are listed, and of those that were here before and still are."""
        listed = {found[1] for each in self.objects.listed(FOLDER) if (found := _MAIN.fullmatch(each.key))}
        here = {path.stem for path in (self.root / "runs").glob("*.json") if layout.is_run_id(path.stem)}
        return listed | {run_id for run_id in here - listed if self.objects.get(key(run_id, MAIN))}

    def pull_records(self, run_ids: Collection[str] | None = None) -> None:
        """Brings the records of these runs here, None: of all; those of runs that are no more go."""
        wanted = self.run_ids() if run_ids is None else set(run_ids)
        if wanted and not layout.exists(self.root):
            self._make()
        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(self._pull_record, sorted(wanted)))
        if run_ids is None:
            for path in (self.root / "runs").glob("*.json"):
                if layout.is_run_id(path.stem) and path.stem not in wanted:
                    self._forget(path.stem)

    def pull_shards(self, run_id: str) -> None:
        """Brings the records of the run's shards here, but of those that processes of this machine work."""
        main = self._manifest(run_id, MAIN)
        if not main:
            return
        wanted = ["before", *(writer for writer in main.writers if not self.writes_here(run_id, writer))]
        if self.writes_here(run_id, MAIN):
            wanted.remove("before")
        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(partial(self._pull_file, run_id), wanted))

    def _pull_file(self, run_id: str, name: str) -> None:
        path = self.root / "shards" / run_id / f"{name}.json"
        found = self.objects.get(f"shards/{run_id}/{name}.json")
        if found is None:
            with files.storing(path):
                path.unlink(missing_ok=True)
            return
        self._make()
        with files.storing(path):
            files.make_folder(path.parent)
        self._replace(path, found.data)

    def _replace(self, path: Path, data: bytes) -> None:
        with suppress(FileNotFoundError):
            if path.read_bytes() == data:
                return
        with files.replacing(path) as file:
            file.write(data)

    def pull(
        self, run_id: str, tables: Collection[str] = tuple(TABLES), *, own: str = "", strict: bool = True
    ) -> list[Lost]:
        """Brings the run's parts here, whole, each held against its sum; returns those that are lost.

        own: the writer that this process is about to be; of a shard, only what may have rows of its prompts comes. What
        is here of the other processes of this machine is left to them. strict: raises DamagedPart where one is lost.
        Else its name is kept with its sum, so that `verify` finds it.
        """
        with self.alone(run_id, ".pull", wait=True):
            self._pull_record(run_id)
            lost: list[Lost] = []
            for _ in range(TRIES):
                manifests = self.manifests(run_id)
                if not manifests:
                    return []
                self._make()
                busy = {name for name in manifests if name != own and self.writes_here(run_id, name)}
                counted = named(manifests)
                lost = [
                    gone
                    for table in tables
                    for gone in self._pull_table(run_id, table, counted.get(table, {}), busy, own)
                ]
                # A part that has just been merged away is gone by right.
                if not lost or self.manifests(run_id) == manifests:
                    break
                time.sleep(PAUSE)
            if lost and strict:
                one, more = lost[0], f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
                raise DamagedPart(f"{self.url}/{one.table}/{run_id}/{one.name}: {one.fault}{more}")
            return lost

    def bring(self, run_id: str, tables: Collection[str], *, strict: bool = True) -> None:
        """As `pull`, for who only reads, and not the tables that this process writes."""
        held = {writer for of, writer in self._leases if of == run_id}
        shard = any(SHARD.fullmatch(writer) for writer in held)
        wanted = [table for table in tables if not (owner(table) in held or (shard and table not in OWNERS))]
        if wanted:
            self.pull(run_id, wanted, strict=strict)

    def fetch_again(self, run_id: str, parts: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Fetches these parts, by table and name, that are not what was written in this folder alone; returns those
        whose objects are. The others stay as they are."""
        sound = set()
        with self.alone(run_id, ".pull", wait=True):
            counted = named(self.manifests(run_id))
            for table, name in parts:
                sum, folder = counted.get(table, {}).get(name), self.root / table / run_id
                if sum is None:
                    continue
                fetched = beside(checksums.make_aside(folder) / name)
                try:
                    if self._fetch_to(f"{table}/{run_id}/{name}", fetched) == sum:
                        with files.storing(folder), checksums.naming(folder / name, sum):
                            fetched.replace(folder / name)
                            files.sync_folder(folder)
                        sound.add((table, name))
                finally:
                    fetched.unlink(missing_ok=True)
        return sound

    def bring_all(self, run_ids: Collection[str] | None = None) -> None:
        """The records and parts of these runs, or, for None, of all that there are."""
        self.pull_records(run_ids)
        for run_id in sorted(self.run_ids() if run_ids is None else run_ids):
            self.pull_shards(run_id)
            self.bring(run_id, tuple(TABLES))

    def holders(self, run_id: str) -> list[str]:
        """Who is writing the run now, in words: as a whole, or its shards."""
        main = self._manifest(run_id, MAIN)
        found = []
        for writer in (MAIN, *(main.writers if main else ())):
            if holder := self.holder(run_id, writer):
                found.append(f"{said(writer)}{holder}")
        return found

    def holder(self, run_id: str, writer: str) -> Holder | None:
        """Who is this writer of the run now."""
        name = key(run_id, writer)
        found = self.objects.get(name)
        holder = decode(found.data, f"{self.url}/{name}").holder if found else None
        if found is None or holder is None:
            return None
        here = holder.mirror == self.mirror
        return holder if (self.writes_here(run_id, writer) if here else alive(self.objects, found)) else None

    def verify(self, run_id: str, tables: Collection[str], *, read_parts: bool = True) -> list[Lost]:
        """The run's parts whose objects are gone or not what was written; read_parts: False looks at sizes alone."""
        counted = named(self.manifests(run_id))
        wanted = [(table, name, sum) for table in tables for name, sum in counted.get(table, {}).items()]
        listed = {each.key: each.size for table in tables for each in self.objects.listed(f"{table}/{run_id}")}

        def look(one: tuple[str, str, Sum]) -> Lost | None:
            table, name, sum = one
            where = f"{table}/{run_id}/{name}"
            size = listed.get(where)
            if read_parts or size != sum.size:  # a list may be old: what it says is looked at
                found = self.objects.fetch(where)
                if found is None:
                    return Lost(table, name, checksums.MISSING)
                return Lost(table, name, checksums.ALTERED) if found != sum else None
            return None

        with ThreadPoolExecutor(THREADS) as threads:
            return [lost for lost in threads.map(look, wanted) if lost]

    def _manifest(self, run_id: str, writer: str) -> Manifest | None:
        name = key(run_id, writer)
        found = self.objects.get(name)
        return decode(found.data, f"{self.url}/{name}") if found else None

    def _pull_table(
        self, run_id: str, table: str, counted: Mapping[str, Sum], busy: Collection[str], own: str
    ) -> list[Lost]:
        wanted = {
            name: sum
            for name, sum in counted.items()
            if owner(table, name) not in busy and not another_s(own, owner(table, name))
        }
        folder = self.root / table / run_id
        known = checksums.read(folder)
        there = {path.name: path.stat().st_size for path in folder.glob("*.parquet")}
        missing = {
            name: sum for name, sum in wanted.items() if there.get(name) != sum.size or sum not in known.get(name, ())
        }
        old = set() if busy else (there.keys() - counted.keys()) | (there.keys() & missing.keys())
        if not missing and not old:
            return []
        with files.storing(folder):
            files.make_folder(folder)
            place = checksums.make_aside(folder)
        fetched = {name: beside(place / name) for name in missing}
        try:
            with ThreadPoolExecutor(THREADS) as threads:
                found = dict(zip(fetched, threads.map(self._fetch_to, _keys(table, run_id, fetched), fetched.values()),
                                 strict=True))  # fmt: skip
            sound = {name: fetched[name] for name, sum in missing.items() if found[name] == sum}
            self._place(folder, {name: counted[name] for name in counted if name in there or name in wanted}, sound,
                        None if busy else old)  # fmt: skip
        finally:
            for path in fetched.values():
                path.unlink(missing_ok=True)
        faults = {name: checksums.MISSING if found[name] is None else checksums.ALTERED for name in missing}
        return [Lost(table, name, fault) for name, fault in faults.items() if name not in sound]

    def _place(
        self, folder: Path, wanted: Mapping[str, Sum], fetched: Mapping[str, Path], old: Collection[str] | None
    ) -> None:
        """Puts what was fetched among the folder's parts, or, where some of these are to go, puts all that is wanted in
        the folder's place at once. What is lost is named all the same, so that it is missed. old: those that go; None:
        another process is at work in the folder."""
        if old:
            with replacing_folder(folder) as (staging, sums):
                for name, sum in wanted.items():
                    source = fetched.get(name, folder / name)
                    if name in fetched or (name not in old and source.exists()):
                        files.link(source, staging / name)
                        sums[name] = sum
        else:
            for name, path in fetched.items():
                with files.storing(path), checksums.naming(folder / name, wanted[name]):
                    path.rename(folder / name)
            with files.storing(folder):
                files.sync_folder(folder)
        for name in wanted:
            if not (folder / name).exists() and wanted[name] not in checksums.read(folder).get(name, ()):
                with files.storing(folder), checksums.naming(folder / name, wanted[name]):
                    pass

    def _fetch_to(self, name: str, path: Path) -> Sum | None:
        with files.storing(path), path.open("xb") as file:
            found = self.objects.fetch(name, file)
            file.flush()
            os.fsync(file.fileno())
        return found

    def _pull_record(self, run_id: str) -> None:
        """But that of a run that a process of this machine writes: it has it here."""
        path = self.root / "runs" / f"{run_id}.json"
        if (run_id, MAIN) in self._leases or self.writes_here(run_id, MAIN):
            return
        found = self.objects.get(f"runs/{run_id}.json")
        if found is None:  # its writer was killed before the first
            return
        self._make()
        self._replace(path, found.data)

    def _forget(self, run_id: str) -> None:
        """Nothing stays here of a run that is no more."""
        with self.alone(run_id, MAIN, wait=False) as alone:
            if alone and self.objects.get(key(run_id, MAIN)) is None:
                (self.root / "runs" / f"{run_id}.json").unlink(missing_ok=True)
                for table in TABLES:
                    files.remove_tree(self.root / table / run_id)
                    files.remove_tree(checksums.aside(self.root / table / run_id))

    def _make(self) -> None:
        if not layout.exists(self.root):
            with files.storing(self.root):
                files.make_root(self.root)
            layout.make(self.root)

    # Processes of this machine

    def writes_here(self, run_id: str, writer: str) -> bool:
        if (run_id, writer) in self._leases:
            return True
        try:
            descriptor = os.open(self.root.parent / "locks" / run_id / writer, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not _locked(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        finally:
            os.close(descriptor)

    @contextmanager
    def alone(self, run_id: str, name: str, *, wait: bool) -> Iterator[bool]:
        """For as long as the block lasts, no other process of this machine has the file `name` of the run; False: one
        has. wait: until it has not."""
        folder = self.root.parent / "locks" / run_id
        with files.storing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder / name, files.OPEN, 0o644)
        try:
            yield _locked(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        finally:
            os.close(descriptor)


def _locked(descriptor: int, how: int) -> bool:
    for _ in range(TRIES):
        try:
            fcntl.flock(descriptor, how)
        except BlockingIOError:
            time.sleep(0.05)  # another looks at it, for an instant
        else:
            return True
    return False


def _keys(table: str, run_id: str, names: Collection[str]) -> list[str]:
    return [f"{table}/{run_id}/{name}" for name in names]
