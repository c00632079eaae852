"""How far a run is, what it has used, and how long it will take."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol

from constitution.pipeline.cost import COUNTED, Ledger
from constitution.records import (
    UNSAID,
    Failure,
    Judgement,
    Preference,
    ReferenceCheck,
    Response,
    Reward,
    Row,
    RubricItem,
    Score,
    Turn,
)
from constitution.warehouse import Tally
from constitution.warehouse.tally import OFF_LABEL


class Priced(Protocol):
    """A Cost, or a sum of some."""

    @property
    def total(self) -> float | None:
        """None: no model has a price."""
        ...


@dataclass(frozen=True, slots=True)
class Spent:
    """What others counted."""

    total: float | None


@dataclass(slots=True)
class Progress:
    """How far a run is. Prompts are counted as this start takes them up; rows and tokens are those of all starts."""

    total: int
    """Prompts of the run; all turns of a scripted conversation are one."""
    done: int = 0
    """Prompts worked to their end in this start, those that were finished before among them."""
    open: int = 0
    """Part of those: prompts that an engine failed and that a restart tries again."""
    lost: int = 0
    """Part of those: prompts that an engine failed for good."""
    resumed: int = 0
    """Part of those: prompts that were finished before this start."""
    before: int = 0
    """Prompts that were finished before this start, as the rows on disk let it be known: taken up or not."""
    rows: Counter[str] = field(default_factory=Counter)
    """Rows per table; also `turns`, later turns that were asked, `off_label`, votes with most of their probability on
    other words, `censored`, votes of which a label was not read but bounded, `kept`, the preferences that were not
    dropped, `votes_missing` and `votes_spared`, what the preferences do without, `scores_off_label` and
    `rewards_missing`, readings with most of their probability on other words and rewards without a value for want of
    readings, `references_dropped`, those of which nothing may be made, `rubrics_dropped`, items of prompts' rubrics
    that are not asked, and `unsaid`, failures of records.UNSAID."""
    ledger: Ledger = field(default_factory=Ledger)
    """Calls and tokens; `ledger.calls` are those of this start."""
    ended_calls: int = 0
    """This start's calls for prompts that are done."""
    spent: Priced | None = None
    """What the run has cost so far, over all its starts; None: nothing is known of it."""
    currency: str = "USD"
    note: str = ""
    """What the user should know before the run begins."""
    started: float = field(default_factory=time.monotonic)
    """Monotonic clock, seconds."""

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def cost(self) -> float | None:
        """None: there are no prices."""
        return self.spent.total if self.spent else None

    @property
    def completion_tokens(self) -> int:
        return self.ledger.total("completion_tokens")

    @property
    def worked(self) -> float:
        """Prompts' worth of work done in this start: those done, and those in flight by their share of the calls."""
        ended = self.done - self.resumed
        if not ended or not self.ended_calls:
            return float(ended)
        return ended * self.ledger.calls / self.ended_calls

    @property
    def left(self) -> float:
        """Prompts' worth of work that is still to do; those that were finished before are none."""
        return max(0.0, self.total - max(self.before, self.resumed) - self.worked)

    def take_stock(self, tally: Tally) -> None:
        """Rows and tokens of the starts before this one."""
        self.rows.update(tally.counts, unsaid=sum(tally.errors.get(error, 0) for error in UNSAID))
        self.ledger = Ledger(tally.usage)

    def ended(self, failure: Failure | None) -> None:
        """A prompt was worked to its end. failure: what an engine failed it by."""
        self.done += 1
        self.open += failure is not None and failure.retryable
        self.lost += failure is not None and not failure.retryable

    def count(self, row: Row) -> None:
        """A new row."""
        rows = self.rows
        if isinstance(row, Judgement):
            rows["judgements"] += 1
            rows["off_label"] += row.label_mass < OFF_LABEL
            rows["censored"] += row.censored
            self.ledger.add(row)
        elif isinstance(row, Response):
            rows["responses"] += 1
            self.ledger.add(row)
        elif isinstance(row, Preference):
            rows["preferences"] += 1
            rows["kept"] += row.kept
            rows["votes_missing"] += row.votes_missing
            rows["votes_spared"] += row.votes_spared
        elif isinstance(row, Score):
            rows["scores"] += 1
            rows["scores_off_label"] += row.label_mass is not None and row.label_mass < OFF_LABEL
            self.ledger.add(row)
        elif isinstance(row, Reward):
            rows["rewards"] += 1
            rows["rewards_missing"] += row.reason == "readings-missing"
            rows["rewards_other"] += row.value is None and row.reason != "readings-missing"
        elif isinstance(row, ReferenceCheck):
            rows["reference_checks"] += 1
            rows["references_dropped"] += not row.kept
        elif isinstance(row, RubricItem):
            rows["rubrics"] += 1
            rows["rubrics_dropped"] += row.drop_reason is not None
            self.ledger.add(row)
        elif isinstance(row, Failure):
            rows["failures"] += 1
            rows["unsaid"] += row.error in UNSAID
        elif isinstance(row, Turn):
            rows["turns"] += 1

    def counts(self) -> dict[str, int]:
        """For the run's record."""
        return {
            "prompts": self.total,
            "done": self.done,
            "open": self.open,
            "lost": self.lost,
            **{name: self.rows[name] for name in (*Tally.COUNTS, "unsaid")},
            **{name: self.ledger.total(name) for name in COUNTED[1:]},
        }


watcher: ContextVar[Callable[[Progress], None] | None] = ContextVar("watcher", default=None)
"""Called after every prompt of any session that is opened in this context, and before the first where there is a note:
for a progress bar."""


class Pace:
    """How fast a run goes, by the later half of the time that it has worked.

    So a slow start (weights, compiling, filling the window) is soon out of the figure, and the longer a run is, the
    steadier it gets. Prompts that were finished before are neither work nor time. How long the last prompts in flight
    take, when no others fill the window, is not foreseen.
    """

    EVERY = 0.1
    """Seconds between two marks, at the least; and a hundredth of the time worked."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int, int, int]] = deque()
        """Time, calls, prompts that ended, tokens out; the first is the last one at or before half of the time."""
        self._began = 0.0
        self._a_call = 0.0
        """Prompts' worth of work of one call, as it is known now: it falls while prompts that ended early outweigh the
        others, so that two states of `Progress.worked` cannot be compared."""

    def update(self, progress: Progress, now: float) -> None:
        """now: monotonic clock, seconds. To be called as often as one likes."""
        marks = self._marks
        ended = progress.done - progress.resumed
        mark = (now, progress.ledger.calls, ended, progress.ledger.written)
        self._a_call = ended / progress.ended_calls if progress.ended_calls else 0.0
        if not marks or not ended:
            # While prompts are passed over that were finished before, the clock waits.
            marks.clear()
            marks.append(mark if progress.resumed else (progress.started, 0, 0, 0))
            self._began = marks[0][0]
        if now - marks[-1][0] >= max(self.EVERY, (now - self._began) / 100):
            marks.append(mark)
        half = (self._began + now) / 2
        while len(marks) > 1 and marks[1][0] <= half:
            marks.popleft()
        self._now = mark

    def prompts(self) -> float:
        """Prompts' worth of work a second; never negative."""
        seconds, calls, ended, _ = (now - then for now, then in zip(self._now, self._marks[0], strict=True))
        return (calls * self._a_call or ended) / seconds if seconds > 0 else 0.0

    def tokens(self) -> float:
        """Tokens of output a second."""
        seconds = self._now[0] - self._marks[0][0]
        return (self._now[3] - self._marks[0][3]) / seconds if seconds > 0 else 0.0

    def left(self, progress: Progress) -> float | None:
        """Seconds to go; None while nothing is known."""
        speed = self.prompts()
        return progress.left / speed if speed > 0 else None
