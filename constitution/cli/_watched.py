"""Something that runs in front of a person: with a progress bar, stopped in good order by Ctrl-C and SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import click

from constitution.cli._progress import Bar, Lines
from constitution.errors import ConstitutionError, NotFinished
from constitution.pipeline import Progress, watcher

Flow = Callable[..., Coroutine[Any, Any, Any]]


def work(flow: Flow, arguments: tuple[object, ...]) -> tuple[Any, bool]:
    """What the flow came to, and whether anything was done. A stop ends the process."""
    stops: list[int] = []
    try:
        return asyncio.run(watched(flow, arguments, stops))
    except (KeyboardInterrupt, asyncio.CancelledError) as stop:
        click.echo("\nStopped. What was made is written; the same command (without --fresh) resumes the run.", err=True)
        # Once the run works, its session takes SIGTERM, not we: what is no Ctrl-C is one.
        sys.exit(130 if signal.SIGINT in stops or isinstance(stop, KeyboardInterrupt) else 143)
    except RuntimeError as error:
        # Prefect has no class for a server that cannot be reached or started.
        if "API" not in str(error):
            raise
        raise ConstitutionError(
            f"Prefect's server does not answer: {error}",
            hint="correct PREFECT_API_URL, or unset it to run without a server",
        ) from error


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """For everything in this process and those that it starts: engines print what they like."""
    sys.stdout.flush()
    kept = os.dup(1)
    before = sys.stdout
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        sys.stdout = before
        os.dup2(kept, 1)
        os.close(kept)


@contextmanager
def _signals(stop: Callable[[int], object]) -> Iterator[None]:
    """Within it Ctrl-C and SIGTERM call `stop` with their number, and a second Ctrl-C ends the process at once.

    A terminal sends SIGINT to the whole process group, and a server that Prefect has started would end before us. So
    the signal is blocked, which child processes inherit, and a thread waits for it.
    """
    over = threading.Event()

    def wait() -> None:
        first = 0.0
        while signal.sigwait({signal.SIGINT}) and not over.is_set():
            if not first:
                first = time.monotonic()
                click.echo("\nStopping: writing what is finished. Ctrl-C again ends at once.", err=True)
                stop(signal.SIGINT)
            elif time.monotonic() - first > 1:  # some shells and `timeout` send it twice
                show_cursor = "\x1b[?25h" if sys.stdout.isatty() else ""
                click.echo(f"{show_cursor}Ended; the same command (without --fresh) resumes the run.", err=True)
                os._exit(130)

    thread = threading.Thread(target=wait, name="interrupt", daemon=True)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    term = signal.signal(signal.SIGTERM, lambda number, frame: stop(number))
    thread.start()
    try:
        yield
    finally:
        over.set()
        signal.signal(signal.SIGTERM, term)
        assert thread.ident is not None
        signal.pthread_kill(thread.ident, signal.SIGINT)
        thread.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


async def watched(flow: Flow, arguments: tuple[object, ...], stops: list[int]) -> tuple[Any, bool]:
    """What the flow came to, and whether anything was done: a clock would not tell, for it may be set back meanwhile.
    stops: gets the numbers of the signals that stop it."""
    worked = False
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    cancel = task.cancel

    def update(progress: Progress) -> None:
        nonlocal worked
        worked = True
        display.update(progress)

    def stop(number: int) -> None:
        stops.append(number)
        loop.call_soon_threadsafe(cancel)

    display = Bar() if sys.stdout.isatty() else Lines()
    token = watcher.set(update)
    try:
        with _signals(stop), display:
            return await _ended(flow, arguments), worked
    finally:
        watcher.reset(token)


async def _ended(flow: Flow, arguments: tuple[object, ...]) -> Any:
    """What the flow came to; raises what the flow failed by, and CancelledError where it was stopped."""
    if not hasattr(flow, "with_options"):
        return await flow(*arguments)  # a function: Prefect has no part in it
    state = await flow(*arguments, return_state=True)
    if state.is_cancelled():
        raise asyncio.CancelledError
    found = await state.aresult(raise_on_failure=False)
    if isinstance(found, NotFinished):
        return found.run
    if isinstance(found, BaseException):
        raise found
    return found
