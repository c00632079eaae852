"""How far a run is, as its records in the warehouse say it: for those who look on from elsewhere.

A run at work writes its record every ten seconds (`pipeline.state.HEARTBEAT`), and each of its shards its own. Whether
one is at work is known by its lock, where that reaches; on another machine, where it may not, by a record that changes
while it is watched. Clocks of two machines are never compared.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from constitution.pipeline.dealing import summed
from constitution.records import Run, ShardRecord
from constitution.warehouse import Warehouse

SPAN = 300.0
"""Seconds: the pace is that of the last ones."""


def status_of(store: Warehouse, run: Run) -> str:
    """finished, running (a process here has its lock), stopped (it took up no more prompts) or open (it was
    interrupted, or has prompts that failed)."""
    if run.finished_at:
        return "finished"
    return "running" if store.locked(run.run_id) else "stopped" if run.stopped else "open"


@dataclass(frozen=True)
class ShardStanding:
    """A shard as of one look at it."""

    record: ShardRecord
    silent: float
    """Seconds that it has been watched without a change."""
    lost: bool
    """Whether it is not at its end and has been silent for too long to be at work."""


@dataclass(frozen=True)
class Standing:
    """A run as of one look at it."""

    run: Run
    """Its record; where it is dealt into shards, with what theirs add up to."""
    shards: tuple[ShardStanding, ...]
    """Those that have been begun; empty: it is worked as a whole."""
    status: str
    """As `status_of` says; also running where its record changes."""
    changed: bool
    """Whether it is something else than at the look before."""
    silent: float
    """Seconds that it has been watched without a change."""
    rate: float | None
    """Prompts a second, over the last SPAN seconds; before two changes were seen, over the time that the record has.
    None: nothing was done yet."""

    @property
    def over(self) -> bool:
        return self.status == "finished"

    @property
    def lost(self) -> list[str]:
        """A sentence for each shard that is silent."""
        return [
            f"shard {each.record.shard} on {each.record.host} has been silent for {each.silent:,.0f} s"
            for each in self.shards
            if each.lost and not self.over
        ]

    @property
    def left(self) -> float | None:
        """Seconds to go at this rate; None: it is not known."""
        count = self.run.counts
        if self.over:
            return 0.0
        return (count.get("prompts", 0) - count.get("done", 0)) / self.rate if self.rate else None


@dataclass
class Looking:
    """Looks at a run time and again."""

    store: Warehouse
    run_id: str
    beat: float
    """Seconds without a change after which what has no lock here is no longer taken for running."""
    _last: Run | None = None
    _since: float = 0.0
    _seen: deque[tuple[float, int]] = field(default_factory=deque)
    """Seconds and prompts done, at each change."""
    _shards: dict[int, tuple[ShardRecord, float]] = field(default_factory=dict)
    """By number: the record, and since when it is so."""

    def look(self, now: float) -> Standing:
        """now: monotonic clock, seconds. Raises InputError where the run is gone."""
        run, records = self.store.find_run(self.run_id), self.store.shards(self.run_id)
        shards = [self._shard(record, now) for record in records if record.number]
        run = run if run.finished_at else summed(run, records)
        changed = run != self._last or any(each.silent == 0 for each in shards)
        if changed:
            if self._last is not None:  # how old the first record is, is not known
                self._seen.append((now, run.counts.get("done", 0)))
            self._last, self._since = run, now
            while len(self._seen) > 2 and now - self._seen[1][0] > SPAN:
                self._seen.popleft()
        silent, status = now - self._since, status_of(self.store, run)
        if status == "open" and self._seen and silent < self.beat:
            status = "running"
        return Standing(run, tuple(shards), status, changed, silent, self._rate(run, len(shards)))

    def _shard(self, record: ShardRecord, now: float) -> ShardStanding:
        before, since = self._shards.get(record.number, (None, now))
        if before != record:
            self._shards[record.number] = record, (since := now)
        silent = now - since
        return ShardStanding(record, silent, record.ended_at is None and silent >= self.beat)

    def _rate(self, run: Run, shards: int) -> float | None:
        if len(self._seen) > 1:
            (then, before), (now, done) = self._seen[0], self._seen[-1]
            return max(0, done - before) / (now - then) if now > then else None
        done = run.counts.get("done", 0)
        # The seconds of a run in shards are those of all of its processes.
        return done * max(shards, 1) / run.seconds if done and run.seconds else None
