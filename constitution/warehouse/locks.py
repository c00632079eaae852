"""Who may write a run: locks on files, which the system takes back when a process ends, however it ends.

    runs/<run_id>.lock              exclusive: who writes the run as a whole; shared: its shards
    shards/<run_id>/3of16.lock      exclusive: who works this shard
    shards/<run_id>/begin.lock      exclusive: the shard that is beginning, or the last step; the others wait for it

The first shard that comes is alone until it lets the others in, so that it can clear and mend what was left. Each file
says who holds it. They stay when no process does, and go with their run: a lock on a file that is gone is none.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from constitution.errors import DamagedPart, InputError, RunLocked, WarehouseError
from constitution.records import Shard, ShardRecord
from constitution.warehouse import checksums, files, record, shards

_TRIES = 5  # × 50 ms: `holders` holds a lock for an instant to look at it
_LISTED = 3
SILENT = 30.0
"""Seconds, three heartbeats, after which a shard that another machine worked is taken for dead."""


class _File(NamedTuple):
    path: Path
    number: int
    """Descriptor."""


@dataclass(slots=True)
class Lock:
    """A run's lock, or a shard's, that is held."""

    alone: bool
    """Whether no other process can write the run."""
    _run_id: str
    _file: _File
    _begin: ExitStack
    """Holds what keeps other shards waiting."""

    def keep(self, what: AbstractContextManager[object]) -> None:
        """Ends it when the other shards may come in."""
        self._begin.push(what)

    def share(self) -> None:
        """The other shards may come in: `alone` no longer. Raises RunLocked where another process took the run."""
        if self.alone:
            self.alone = False
            with self._begin:
                if not _taken(self._file, fcntl.LOCK_SH):
                    raise RunLocked(f"run {self._run_id} was taken by {_named(self._file)}")


@contextmanager
def whole(root: Path, run_id: str, *, last_step: bool = False) -> Iterator[Lock]:
    """For as long as the block lasts, this is the only process that writes the run; RunLocked if another does.
    last_step: it is that of shards, and one that begins meanwhile waits for it."""
    with ExitStack() as begin, _opened(run_lock(root, run_id)) as file:
        if last_step:
            _wait_in_turn(root, run_id, begin)
        if not _taken(file, fcntl.LOCK_EX):
            raise RunLocked(f"run {run_id} is being written by {_who(holders(root, run_id))}")
        _sign(file)
        yield Lock(True, run_id, file, ExitStack())


@contextmanager
def of_shard(root: Path, run_id: str, shard: Shard) -> Iterator[Lock]:
    """For as long as the block lasts, this is the only process that works the shard, and only shards of the same number
    work the run; RunLocked where that cannot be. The first one is alone until it says `share`; others wait for that.

    A shard that another machine worked is taken over when its record has been silent for SILENT; where it is not, the
    file system does not lock between machines, and RunLocked says so.
    """
    own_path, name = shards.folder_of(root, run_id) / f"{shard.name}.lock", f"shard {shard} of run {run_id}"
    with files.storing(own_path):
        files.make_folder(own_path.parent.parent)
    with _opened(own_path) as own, _opened(run_lock(root, run_id)) as run, ExitStack() as begin:
        if not _taken(own, fcntl.LOCK_EX):
            raise RunLocked(f"{name} is being worked by {_named(own)}")
        _sign(own)
        _wait_for_silence(own, name, shards.path_of(root, run_id, shard))
        _wait_in_turn(root, run_id, begin)
        others = {other: holder for other, holder in _at_work(root, run_id).items() if other != shard}
        if strangers := [each for each in others if each.of != shard.of]:
            raise RunLocked(
                f"{name} would have prompts of shards that are at work: {_who(_in_words(others, strangers))}",
                hint=f"begin it as one of {strangers[0].of}, or wait until they end",
            )
        # By the run's lock, which those have that work: one that waits for its turn here has its own lock already.
        alone = _taken(run, fcntl.LOCK_EX)
        if not alone and not _taken(run, fcntl.LOCK_SH):
            raise RunLocked(f"run {run_id} is being written by {_named(run)}")
        if alone:
            _sign(run, f"shard {shard}: ")
        else:
            begin.close()
        yield Lock(alone, run_id, run, begin)


def holders(root: Path, run_id: str) -> list[str]:
    """Who is writing the run now; none: it is not locked."""
    at_work = _at_work(root, run_id)
    holder = _holder(run_lock(root, run_id))
    return _in_words(at_work, at_work) or ([holder] if holder else [])


def run_lock(root: Path, run_id: str) -> Path:
    return root / "runs" / f"{run_id}.lock"


def _wait_in_turn(root: Path, run_id: str, begin: ExitStack) -> None:
    """Until no other shard is beginning and none is at the last step; then the others wait for `begin` to end. Raises
    RunLocked where the run was removed meanwhile."""
    path = shards.folder_of(root, run_id) / "begin.lock"
    with files.storing(path):
        files.make_folder(path.parent.parent)
    gate = begin.enter_context(_opened(path))
    while not _taken(gate, fcntl.LOCK_EX):
        if not checksums.is_there(gate.number, gate.path):
            raise RunLocked(f"run {run_id} was removed by {_named(gate)}")


def _at_work(root: Path, run_id: str) -> dict[Shard, str]:
    """The shards whose locks are held, and by whom."""
    found = {}
    for path in shards.folder_of(root, run_id).glob("*of*.lock"):
        if (holder := _holder(path)) and (shard := _shard_of(path)):
            found[shard] = holder
    return dict(sorted(found.items()))


def _shard_of(path: Path) -> Shard | None:
    try:
        return Shard.parse(path.stem.replace("of", "/"))
    except InputError:
        return None


def _in_words(at_work: Mapping[Shard, str], those: Iterable[Shard]) -> list[str]:
    return [f"shard {shard}, {at_work[shard]}" for shard in those]


def _who(holders: Sequence[str]) -> str:
    more = f"; and {len(holders) - _LISTED} more" if len(holders) > _LISTED else ""
    return "; ".join(holders[:_LISTED]) + more if holders else "another process"


@contextmanager
def _opened(path: Path) -> Iterator[_File]:
    """The lock's file, made if need be; closing it gives the lock back."""
    with files.storing(path):
        files.make_folder(path.parent)
        descriptor = os.open(path, files.OPEN, 0o644)
    try:
        yield _File(path, descriptor)
    finally:
        os.close(descriptor)


def _taken(file: _File, how: int) -> bool:
    """Whether the lock was to be had, at once or nearly so."""
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(0.05)
        try:
            fcntl.flock(file.number, how | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        except OSError as error:
            raise WarehouseError(
                f"{file.path}: its file system does not lock files: {error.strerror or error}",
                hint="keep the warehouse on one that does, or on object storage (--warehouse s3://…)",
            ) from error
        return checksums.is_there(file.number, file.path)  # else its run was removed meanwhile
    return False


def _sign(file: _File, shard: str = "") -> None:
    """Who holds the lock, for those who cannot have it."""
    with files.storing(file.path):
        os.ftruncate(file.number, 0)
        os.pwrite(file.number, f"{shard}process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)


def _named(file: _File) -> str:
    return os.pread(file.number, 200, 0).decode("utf-8", "replace").strip() or "another process"


def _holder(path: Path) -> str | None:
    """Who holds the lock; None: it is free."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _named(_File(path, file))
    finally:
        os.close(file)
    return None


def _wait_for_silence(own: _File, name: str, seen: Path) -> None:
    """Until the shard's record says that it ended or stopped, or was of this machine, or nothing for SILENT. own: the
    shard's lock, whose time is that of the file system's own clock."""
    first = None
    while True:
        try:
            last = record.read(seen, ShardRecord)
            written = seen.stat().st_mtime
        except (DamagedPart, FileNotFoundError):
            return  # `verify` finds it
        if last is None or last.ended_at or last.stopped or last.host == socket.gethostname():
            return
        with files.storing(own.path):
            os.utime(own.number)
            left = written + SILENT - os.fstat(own.number).st_mtime
        if left <= 0:
            return
        first = first or last
        if last != first:
            raise RunLocked(
                f"{name} is at work on {last.host}, and its lock is not seen here",
                hint="the warehouse's file system does not lock between machines: mount it with locks (NFS without "
                "nolock, Lustre with flock), or keep the warehouse on object storage (--warehouse s3://…)",
            )
        time.sleep(min(left, 1.0))
