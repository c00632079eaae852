"""Tasks that end in good order: what is being written is written to its end, whatever cancels."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

COLLECTED = 20_000
"""New objects, less those that are gone."""
OF_A_PROMPT = 75
"""Objects, about, of a prompt in flight."""


class Window(asyncio.Semaphore):
    """Room for a number of coroutines at work at once: a task is made once `acquire` has found room for it."""

    def start(self, group: asyncio.TaskGroup, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task of `group` for `work`, in the room that was acquired last; at its end the room is free again."""
        task = group.create_task(work)
        task.add_done_callback(lambda _: self.release())
        return task


async def to_its_end(write: Callable[P, T], *arguments: P.args, **settings: P.kwargs) -> T:
    """Calls `write` in a thread. A cancellation waits for it: the run's lock must not be given up while it writes."""
    task = asyncio.create_task(asyncio.to_thread(write, *arguments, **settings))
    await wait_for(task)
    return task.result()


async def end(task: asyncio.Task[None]) -> None:
    """Cancels a task of ours and waits for it."""
    task.cancel()
    await wait_for(task)
    if not task.cancelled():
        task.result()


async def wait_for(task: asyncio.Task[Any]) -> None:
    """Waits until the task is done; a cancellation waits for that too."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled:
        raise cancelled


@contextmanager
def sigterm_cancels() -> Iterator[None]:
    """Makes SIGTERM cancel the task that is in this block, as Ctrl-C does, so that it leaves in good order.

    Others' handlers (Prefect's) raise wherever the program happens to be, which tears the event loop down with the
    writer in it; they are put back at the end. Outside the main thread, where signals are not ours, it does nothing.
    """
    task = asyncio.current_task()
    if task is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, before)


@contextmanager
def seldom_collected(window: int) -> Iterator[None]:
    """In this block Python looks for garbage in cycles at every COLLECTED objects, or as many as a wide window holds,
    where it would do so oftener.

    A run's prompts in flight and rows that wait are far more objects than the default's 700, and none is garbage yet:
    to look through them time and again takes a quarter of the CPU of a run, and a tenth where the window
    holds more than COLLECTED objects.
    """
    before = gc.get_threshold()
    if not 0 < before[0] < COLLECTED:  # as the program has set it, or another run
        yield
        return
    gc.set_threshold(max(COLLECTED, OF_A_PROMPT * window), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def first_error(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that came first, out of groups within groups."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
