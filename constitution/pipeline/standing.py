"""How far a run is, as its records in the warehouse say it: for those who look on from elsewhere.

A run at work writes its record every ten seconds (`pipeline.state.HEARTBEAT`). Whether it is at work is known by its
lock, where that reaches; on another machine, where it may not, by a record that changes while it is watched. Clocks of
two machines are never compared.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from constitution.records import Run
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
class Standing:
    """A run as of one look at it."""

    run: Run
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
    """Seconds without a change after which a run without a lock here is no longer taken for running."""
    _last: Run | None = None
    _since: float = 0.0
    _seen: deque[tuple[float, int]] = field(default_factory=deque)
    """Seconds and prompts done, at each change."""

    def look(self, now: float) -> Standing:
        """now: monotonic clock, seconds. Raises InputError where the run is gone."""
        run = self.store.find_run(self.run_id)
        changed = run != self._last
        if changed:
            if self._last is not None:  # how old the first record is, is not known
                self._seen.append((now, run.counts.get("done", 0)))
            self._last, self._since = run, now
            while len(self._seen) > 2 and now - self._seen[1][0] > SPAN:
                self._seen.popleft()
        silent, status = now - self._since, status_of(self.store, run)
        if status == "open" and self._seen and silent < self.beat:
            status = "running"
        return Standing(run, status, changed, silent, self._rate(run))

    def _rate(self, run: Run) -> float | None:
        if len(self._seen) > 1:
            (then, before), (now, done) = self._seen[0], self._seen[-1]
            return max(0, done - before) / (now - then)
        done = run.counts.get("done", 0)
        return done / run.seconds if done and run.seconds else None
