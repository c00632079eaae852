"""A warehouse at an address written through its mirror: leases, parts that count before they are here, and what is here
made what counts."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from constitution.errors import DamagedPart, RunLocked, WarehouseError
from constitution.records import Shard
from constitution.warehouse import checksums
from constitution.warehouse.checksums import Sum
from constitution.warehouse.locks import Lock
from constitution.warehouse.remote.lease import Lease
from constitution.warehouse.remote.manifest import MAIN, OWNERS, SHARD, Manifest, decode, key, named, owner, said
from constitution.warehouse.remote.objects import Changed, Version
from constitution.warehouse.remote.reading import PAUSE, TRIES, Mirror
from constitution.warehouse.schema import TABLES
from constitution.warehouse.shared import AGAIN

PART_BYTES = 64 * 2**20
"""Size that parts are merged to: each is put by one request, out of memory."""


class Remote(Mirror):
    """A mirror that is also written."""

    def __init__(self, root: Path, url: str, mirror: str) -> None:
        super().__init__(root, url, mirror)
        self._versions: dict[str, Version | None] = {}
        """What this process knows of the objects that are put again under their names."""

    @contextmanager
    def holding(self, run_id: str, writer: str = MAIN, *, wait: bool = False, begins: bool = False) -> Iterator[Lease]:
        """For as long as the block lasts, this process is the run's `writer`, and what is here of the run is what
        counts. Raises RunLocked where another is; wait: until it has ended. begins: shards that begin wait for it."""
        with ExitStack() as stack:
            if not stack.enter_context(self.alone(run_id, writer, wait=wait)):
                raise RunLocked(f"run {run_id} is being written by another process of this machine")
            # A scheduler starts a killed shard again on another machine before its lease is over.
            doubt = SHARD.fullmatch(writer) is not None
            lease = Lease(self.objects, run_id, writer, self.mirror, begins=begins).take(wait, doubt)
            stack.callback(lease.release)
            self._exclude(lease)
            own = [table for table in TABLES if owner(table) == writer] if writer in OWNERS.values() else TABLES
            self.pull(run_id, own, own=writer, strict=False)
            self._leases[run_id, writer] = lease
            try:
                yield lease
            finally:
                del self._leases[run_id, writer]

    @contextmanager
    def locked(self, run_id: str, shard: Shard | None, lock: Lock, last_step: bool = False) -> Iterator[None]:
        """The same over all machines as `lock` is on this one: of the run as a whole, or of a shard, of which the first
        is alone until it lets the others in. last_step: as `locks.whole` has it."""
        if shard is None:
            with self.holding(run_id, begins=last_step):
                yield
            return
        if lock.alone:
            with ExitStack() as alone:
                if self._first(run_id, alone):
                    lock.keep(alone.pop_all())
                else:
                    lock.share()
        with self.holding(run_id, shard.name):
            yield

    def _first(self, run_id: str, stack: ExitStack) -> bool:
        """Whether no shard is at work on any machine: then the run as a whole is held in `stack`."""
        while True:
            try:
                stack.enter_context(self.holding(run_id, begins=True))
                return True
            except RunLocked:
                holder = self.holder(run_id, MAIN)
                if holder and not holder.begins:
                    raise
                main = self._manifest(run_id, MAIN)
                if any(self.holder(run_id, writer) for writer in (main.writers if main else ())):
                    return False
                time.sleep(PAUSE)

    @contextmanager
    def holding_all(self, run_id: str, tables: Iterable[str]) -> Iterator[None]:
        """For as long as the block lasts, these tables are written by this process alone, also those of what is said of
        the run."""
        with ExitStack() as stack:
            for writer in sorted({owner(table) for table in tables}):
                if (run_id, writer) not in self._leases:
                    stack.enter_context(self.holding(run_id, writer, wait=True))
            yield

    def commit(self, temporary: Path, path: Path, sum: Sum) -> None:
        """Puts the part, which is to be at `path` and lies at `temporary` as yet; from then on it counts."""
        table, run_id, name = path.relative_to(self.root).parts
        lease = self._lease(run_id, owner(table, name))
        before = lease.manifest.parts.get(table, {}).get(name)
        if before and before.sum != sum:
            lease.change(lambda manifest: manifest.without(table, name))  # or a kill would leave it with a wrong sum
        self._put_part(lease, f"{table}/{run_id}/{name}", temporary.read_bytes())
        lease.change(lambda manifest: manifest.having(table, name, sum))

    def publish(self, run_id: str, tables: Collection[str]) -> None:
        """Makes what is here of these tables of the run what counts, in one step for each of their owners; the caller
        holds those. Objects that are named no more are deleted."""
        before = self.manifests(run_id)
        for writer in dict.fromkeys(owner(table) for table in tables):
            lease = self._lease(run_id, writer)
            # What is taken over of a shard is taken over whole.
            own = {*(table for table in tables if owner(table) == writer), *_shared(writer, before)}
            here = {table: self._here(table, run_id) for table in own}
            counted = named(before)
            new = [
                f"{table}/{run_id}/{name}"
                for table, parts in here.items()
                for name, sum in parts.items()
                if counted.get(table, {}).get(name) != sum
            ]
            for each in new:
                self._put_part(lease, each, (self.root / each).read_bytes())
            shards = {name: each.epoch for name, each in before.items() if SHARD.fullmatch(name)}
            lease.change(partial(_publish, here, shards))
            lease.change()  # nothing is deleted that another writer may have put meanwhile
        after = named(self.manifests(run_id))
        gone = [
            f"{table}/{run_id}/{name}"
            for table, parts in named(before).items()
            for name in parts
            if table in tables and name not in after.get(table, {})
        ]
        self.objects.delete(gone)

    def change_held(self, run_id: str, how: Callable[[Manifest], Manifest]) -> None:
        """The manifest of the run as a whole, which this process holds, as `how` makes it."""
        self._lease(run_id, MAIN).change(how)

    def put(self, path: Path, data: bytes) -> None:
        """A record of a run (its path in the mirror), in place of what it was. Where this process writes the run, its
        lease is asked first."""
        name = path.relative_to(self.root).as_posix()
        run_id = path.parent.name if path.parent.parent != self.root else path.stem
        for _ in range(TRIES):
            for (of, writer), lease in list(self._leases.items()):
                if of == run_id and writer not in OWNERS.values():
                    lease.change()
            if name not in self._versions:
                found = self.objects.get(name)
                self._versions[name] = found.version if found else None
            try:
                self._versions[name] = self.objects.swap(name, data, self._versions[name])
            except Changed as changed:
                if changed.found and changed.found.data == data:
                    return
                self._versions[name] = changed.found.version if changed.found else None
            else:
                return
        raise WarehouseError(f"{self.url}/{name}: cannot be written: others write it all the time")

    def put_again(self, path: Path) -> None:
        """The part at `path`, whose object is gone or not what was written; where it is sound here."""
        table, run_id, name = path.relative_to(self.root).parts
        if checksums.sum_of(path) == named(self.manifests(run_id)).get(table, {}).get(name):
            self._put_part(self._lease(run_id, owner(table)), f"{table}/{run_id}/{name}", path.read_bytes())

    def json(self, path: Path) -> dict[str, Any]:
        """The file of JSON at `path`, which many machines change; empty: there is none. Raises DamagedPart."""
        name = path.relative_to(self.root).as_posix()
        found = self.objects.get(name)
        return _json(found.data, f"{self.url}/{name}") if found else {}

    def change(self, path: Path, how: Callable[[dict[str, Any]], Mapping[str, Any]]) -> dict[str, Any]:
        """What `how` makes of it, stored by one process after the other; and returned. It may be called again for what
        it has made already, since the store need not have said so."""
        name = path.relative_to(self.root).as_posix()
        while True:
            found = self.objects.get(name)
            after = dict(how(_json(found.data, f"{self.url}/{name}") if found else {}))
            try:
                data = json.dumps(after, indent=1, allow_nan=False).encode()
                self.objects.swap(name, data, found.version if found else None)
            except Changed:
                time.sleep(random.uniform(0, PAUSE))
            else:
                return after

    def delete(self, paths: Iterable[Path]) -> None:
        """The objects of these files of the mirror, in their order."""
        for path in paths:
            name = path.relative_to(self.root).as_posix()
            self._versions.pop(name, None)
            self.objects.delete([name])

    def _exclude(self, lease: Lease) -> None:
        """Only one kind writes: the whole run, or shards of one number. Each shows itself
        first and looks then: of two at once, one or both are refused. The lease of a dead one is ended, so that it
        finds out should it come back. Raises RunLocked."""
        writer = lease.manifest.writer
        if writer == MAIN:
            others = list(lease.manifest.writers)
        elif found := SHARD.fullmatch(writer):
            main = self._named_in_main(lease)
            others = [name for name in main if not name.endswith(f"of{found[2]}")]
        else:
            return
        for name in others:
            self._end_dead(lease, name)

    def _named_in_main(self, lease: Lease) -> tuple[str, ...]:
        """The shards that ever wrote the run, once this one is among them."""
        run_id, writer = lease.manifest.run_id, lease.manifest.writer
        while True:
            before, version = self._end_dead(lease, MAIN)
            if writer in before.writers:
                return before.writers
            after = replace(before, writers=(*before.writers, writer), sequence=before.sequence + 1)
            try:
                self.objects.swap(key(run_id, MAIN), after.encode(), version)
            except Changed:
                continue
            return after.writers

    def _end_dead(self, lease: Lease, writer: str) -> tuple[Manifest, Version | None]:
        """That writer's manifest, which no process holds. Raises RunLocked where one does."""
        run_id, name = lease.manifest.run_id, key(lease.manifest.run_id, writer)
        while True:
            found = self.objects.get(name)
            if found is None:
                return Manifest(run_id, writer), None
            manifest, own = decode(found.data, f"{self.url}/{name}"), self._leases.get((run_id, writer))
            if manifest.holder is None or (own and own.holder == manifest.holder):
                return manifest, found.version
            if holder := self.holder(run_id, writer):
                if not holder.begins:
                    raise RunLocked(f"run {run_id} is being written by {said(writer)}{holder}")
                time.sleep(PAUSE)  # it lets us in, soon
                continue
            ended = replace(manifest, holder=None, sequence=manifest.sequence + 1)
            with suppress(Changed):
                return ended, self.objects.swap(name, ended.encode(), found.version)

    def _put_part(self, lease: Lease, name: str, data: bytes) -> None:
        """Puts a part. What is there under its name, and is named by no manifest, was left by a writer that was killed
        or lost its lease, and gives way once it is known that the lease is ours."""
        try:
            self.objects.create(name, data)
        except Changed as changed:
            lease.change()
            try:
                self.objects.swap(name, data, changed.found.version if changed.found else None)
            except Changed:
                raise WarehouseError(f"{self.url}/{name}: cannot be written: another process puts it too") from None

    def _lease(self, run_id: str, writer: str) -> Lease:
        try:
            return self._leases[run_id, writer]
        except KeyError:
            raise WarehouseError(f"{self.url}: run {run_id} is not held for writing {writer}") from None

    def _here(self, table: str, run_id: str) -> dict[str, Sum]:
        """The parts that are in the mirror, with their sums."""
        folder = self.root / table / run_id
        known = checksums.read(folder)
        return {
            path.name: known[path.name][-1] if path.name in known else checksums.sum_of(path)
            for path in sorted(folder.glob("*.parquet"))
        }


def _shared(writer: str, manifests: Mapping[str, Manifest]) -> set[str]:
    """Tables of this owner that shards have parts of."""
    return {
        table
        for name, manifest in manifests.items()
        for table in manifest.parts
        if SHARD.fullmatch(name) and owner(table) == writer
    }


def _publish(here: Mapping[str, Mapping[str, Sum]], shards: Mapping[str, int], manifest: Manifest) -> Manifest:
    return replace(manifest.holding(here), absorbed={**manifest.absorbed, **shards})


def _json(data: bytes, label: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
        if not isinstance(found, dict):
            raise ValueError("it is no object of JSON")
    except ValueError as error:
        raise DamagedPart(f"{label}: cannot be read: {error}", hint=AGAIN) from None
    return found
