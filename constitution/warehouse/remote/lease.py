"""A writer's manifest, held for as long as a process writes: no other changes what it names.

The lease lasts `Manifest.lease` seconds after the manifest's last change, by the store's own clock, and is renewed at a
third of it. A process that was stopped for longer may find its lease taken: its next change is refused by the store,
since another was made, and `Lost` is raised from then on. What it had written by then counts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from secrets import token_hex

from constitution.errors import RunLocked, WarehouseError
from constitution.warehouse.remote.manifest import FOLDER, Holder, Manifest, decode, key
from constitution.warehouse.remote.objects import Changed, Object, Objects

SECONDS = 60.0
"""How long a lease lasts after its last renewal."""
_WAIT = 1.0  # seconds between two looks at a lease that is waited for


class Lease:
    """One writer's, from `take` to `release`; threads may change the manifest through it."""

    def __init__(self, objects: Objects, run_id: str, writer: str, mirror: str, *, begins: bool = False) -> None:
        """mirror: whose lock for this writer the process holds. begins: for a while, to let others in then."""
        self.manifest = Manifest(run_id, writer, lease=SECONDS)
        self.holder = Holder.me(mirror, begins)
        self._objects = objects
        self._key = key(run_id, writer)
        self._version: dict[str, str] | None = None
        self._unsure = False
        """Whether the store may have made a change of which it said nothing."""
        self._lost: RunLocked | None = None
        self._mutex = threading.RLock()
        self._ended = threading.Event()
        self._changed = time.monotonic()
        self._thread: threading.Thread | None = None

    def take(self, wait: bool = False, doubt: bool = False) -> Lease:
        """Raises RunLocked where another process holds it; wait: until that one has ended. doubt: it may be dead, and
        is waited for until it renews its lease or that is over."""
        first = self.manifest
        seen: tuple[Holder | None, int] | None = None
        while True:
            found = self._objects.get(self._key)
            before = decode(found.data, f"{self._objects.url}/{self._key}") if found else first
            other = before.holder is not None and before.holder.mirror != self.holder.mirror
            # Of this mirror we have the lock: who held it before is dead.
            if found and other and alive(self._objects, found):
                now = (before.holder, before.sequence)
                if not wait and not (doubt and seen in (None, now)):
                    raise RunLocked(f"run {before.run_id} is being written by {before.holder}")
                seen = now
                time.sleep(_WAIT)
                continue
            mine = replace(before, holder=self.holder, sequence=before.sequence + 1, epoch=before.epoch + 1)
            mine = replace(mine, lease=first.lease)
            try:
                self._version = self._objects.swap(self._key, mine.encode(), found.version if found else None)
            except Changed:
                continue
            self.manifest = mine
            break
        self._thread = threading.Thread(target=self._renew, name=f"lease of {self._key}", daemon=True)
        self._thread.start()
        return self

    def change(self, edit: Callable[[Manifest], Manifest] = lambda manifest: manifest) -> Manifest:
        """The manifest as `edit` makes it of the present one, once the store has it; without one, it is renewed.

        Raises RunLocked where another process has taken the lease. Where a WarehouseError is raised, the change does
        not count, even if the store made it: the next one is made of the manifest as it was.
        """
        with self._mutex:
            while True:
                if self._lost:
                    raise self._lost
                if self._unsure:
                    self._adopt(self._objects.get(self._key))
                    continue
                after = replace(edit(self.manifest), sequence=self.manifest.sequence + 1)
                try:
                    version = self._objects.swap(self._key, after.encode(), self._version)
                except Changed as changed:
                    self._adopt(changed.found)
                except WarehouseError:
                    self._unsure = True
                    raise
                else:
                    self.manifest, self._version, self._changed = after, version, time.monotonic()
                    return after

    def _adopt(self, found: Object | None) -> None:
        """Continues from what is there: a change of ours of which nothing was heard, or a shard that named itself."""
        there = decode(found.data, f"{self._objects.url}/{self._key}") if found else None
        if found is None or there is None or there.holder != self.holder:
            by = f"by {there.holder}" if there and there.holder else "meanwhile"
            self._lost = RunLocked(
                f"run {self.manifest.run_id}: the lease of {self.manifest.writer} was taken {by}",
                hint="this process was stopped, or cut off from the store, for longer than a lease lasts; what it had "
                "written until then counts, and the same command resumes the run when it is free",
            )
            return
        self.manifest = replace(self.manifest, sequence=there.sequence, writers=there.writers)
        self._version, self._unsure = found.version, False

    def release(self) -> None:
        """Where the store does not answer, the lease ends by itself."""
        self._ended.set()
        if self._thread:
            self._thread.join()
        with suppress(WarehouseError):
            self.change(lambda manifest: replace(manifest, holder=None))

    def _renew(self) -> None:
        third = self.manifest.lease / 3
        while not self._ended.wait(max(0.05, self._changed + third - time.monotonic())):
            if time.monotonic() < self._changed + third:
                continue
            try:
                self.change()
            except RunLocked:
                return  # the next write says so
            except WarehouseError:
                self._ended.wait(third / 4)


def alive(objects: Objects, found: Object) -> bool:
    """Whether the holder of the manifest that was `found` renewed its lease in time, by the store's clock."""
    manifest = decode(found.data, objects.url)
    now = objects.clock(f"{FOLDER}/{manifest.run_id}/.clock-{token_hex(8)}")
    return (now - found.modified).total_seconds() <= manifest.lease + 1  # S3 tells whole seconds
