"""A run's progress: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from constitution.pipeline import Pace, Progress
from constitution.pipeline.report import figures
from constitution.shown import printable

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

EVERY = 10.0
"""Seconds between two lines."""
REFRESH = 0.1
"""Seconds between two states of the bar."""


class Lines:
    """One line every ten seconds, and one at the end."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._pace = Pace()
        self._noted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    def update(self, progress: Progress) -> None:
        if progress.note and not self._noted:
            self._noted = True
            click.echo(printable(progress.note), err=True)
        now = time.monotonic()
        self._pace.update(progress, now)
        if now - self._last < EVERY and progress.done < progress.total:
            return
        self._last = now
        click.echo(f"{progress.done:,}/{progress.total:,} prompts · {figures(progress, self._pace)}")


class Bar:
    """A bar with prompts done, and the same figures."""

    def __init__(self) -> None:
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._last = 0.0
        self._pace = Pace()
        self._noted = False

    def __enter__(self) -> Self:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[figures]}")
        )
        self._bar.start()
        self._task = self._bar.add_task("starting", total=None, figures="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, progress: Progress) -> None:
        now = time.monotonic()
        self._pace.update(progress, now)
        if self._bar is None or self._task is None:
            return
        if progress.note and not self._noted:
            self._noted = True
            self._bar.console.print(printable(progress.note), markup=False, highlight=False)
        if now - self._last < REFRESH and progress.done < progress.total:
            return
        self._last = now
        self._bar.update(
            self._task,
            description="prompts",
            completed=progress.done,
            total=progress.total,
            figures=figures(progress, self._pace),
        )
