"""A run's progress: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from constitution.pipeline import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

EVERY = 10.0
"""Seconds between two lines."""


def _figures(progress: Progress) -> str:
    out = progress.completion_tokens
    engine_failures = progress.rows["failures"] - progress.rows["unsaid"]
    return f"{out:,} tokens out · {engine_failures:,} failures"


def rate(progress: Progress) -> float:
    """Prompts a second of this start; prompts that were finished before do not count."""
    return (progress.done - progress.resumed) / progress.seconds if progress.seconds > 0 else 0.0


def left(progress: Progress) -> str:
    """Time to go at this start's rate, h:mm:ss; unknown before the first prompt."""
    speed = rate(progress)
    if not speed:
        return "-:--:--"
    seconds = round((progress.total - progress.done) / speed)
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


class Lines:
    """One line every ten seconds, and one at the end."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    def update(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last < EVERY and progress.done < progress.total:
            return
        self._last = now
        click.echo(
            f"{progress.done:,}/{progress.total:,} prompts · {rate(progress):.1f}/s · {_figures(progress)}"
            f" · {left(progress)} left"
        )


class Bar:
    """A bar with prompts done, rate, tokens, failures and time left."""

    def __init__(self) -> None:
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None

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
        if self._bar is None or self._task is None:
            return
        self._bar.update(
            self._task,
            description="prompts",
            completed=progress.done,
            total=progress.total,
            figures=f"{rate(progress):.1f}/s · {_figures(progress)} · {left(progress)} left",
        )
