"""`constitution run`: the flow flows/generate.py:generate, with a progress bar."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, cast

import click
import orjson

from constitution.cli._flow import Flow, has_api, load_flow
from constitution.cli._options import run_ids, warehouse_option
from constitution.cli._progress import Bar, Lines
from constitution.cli._summary import show
from constitution.errors import ConstitutionError, NotFinished
from constitution.pipeline import Progress, watcher
from constitution.recipe import load_recipe
from constitution.records import Run
from constitution.shown import printable

REMEDIES = {
    "budget": "Raise budget.limit, in the recipe or by --set budget.limit=…, and the same command goes on.",
    "servers": "Mend the server, or the recipe's [model] section (docs/engines.md: omit, extra_body, dialect), and the "
    "same command tries those prompts again; with --set output.stop_at_failures=1 they fail for good.",
    "engines": "When they work again (servers, key, account), the same command goes on.",
    "failures": "Mend what failed them, and the same command goes on; output.stop_at_failures in the recipe says at "
    "what share a run stops.",
}
"""By what `Run.stopped` begins with."""


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many prompts.")
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Change a value of the recipe for this run.")
@click.option("--fresh", is_flag=True, help="A new run, although the same recipe ran before.")
@click.option(
    "--retry-failed", is_flag=True, help="Try prompts again that failed for good, in a run that is finished too."
)
@click.option(
    "--resume", default="", metavar="RUN", shell_complete=run_ids, help="Resume this run, with the prompts that it has."
)
@click.option(
    "--allow",
    type=click.Path(exists=True, file_okay=False, resolve_path=True),
    multiple=True,
    metavar="DIR",
    help="Let the recipe read in DIR too, beside its project (again for more); also CONSTITUTION_ALLOW.",
)
@click.option(
    "--flow",
    "flow_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The flow that runs it. Without: flows/generate.py of the project that CONSTITUTION_PROJECT names or that you "
    "are in, or the package's own.",
)
@click.option(
    "--prefect",
    is_flag=True,
    help="Run it as a flow run of Prefect, which starts a server for it where no API is configured.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what it came to as JSON, and nothing else.")
@warehouse_option
def run(
    recipe: Path,
    limit: int | None,
    overrides: tuple[str, ...],
    fresh: bool,
    allow: tuple[str, ...],
    warehouse: Path,
    **how: Any,
) -> None:
    """Run RECIPE: answer, critique, revise, judge, store.

    The same command resumes a run that was stopped. A recipe brings no code: its own project's flow runs only where you
    are in that project, or name it. Exit codes, and the flow run's state in Prefect: 0 Completed; 1 Failed, BudgetSpent
    or CompletedWithFailures: engines failed on some prompts, the servers were gone, or the budget is spent; 2 Failed
    before any model was asked; 130 and 143 Cancelled: stopped by Ctrl-C, by SIGTERM.

    \b
    Examples:
      constitution run recipes/fake.toml
      constitution run recipes/hh-harmless.toml --limit 100 --set prompts.path=harmless.jsonl.gz
    """
    if fresh and how["resume"]:
        raise click.UsageError("--fresh makes a new run, --resume takes one up: give one of the two")
    load_recipe(recipe, overrides)  # a fault in the recipe is told before Prefect takes its seconds to start
    flow = load_flow(how["flow_file"], recipe, prefect=how["prefect"] or has_api())
    # A project's own flow of an older version does not know the last ones.
    more: list[object] = [list(allow), how["retry_failed"], how["resume"]]
    while more and not more[-1]:
        more.pop()
    arguments = (str(recipe), str(warehouse), limit, list(overrides), fresh, *more)
    if not how["as_json"]:
        done, worked = _work(flow, arguments)
        if done.finished_at and not worked:
            click.echo(f"Nothing to do: this run finished on {done.finished_at}; --fresh makes a new one.")
        _tell(done, warehouse)
    else:
        with _stdout_to_stderr():
            done, worked = _work(flow, arguments)
        click.echo(orjson.dumps(_facts(done, warehouse, worked), option=orjson.OPT_INDENT_2))
    if done.finished_at is None or done.counts.get("lost", 0):
        sys.exit(1)


def _work(flow: Flow, arguments: tuple[object, ...]) -> tuple[Run, bool]:
    """What the run came to, and whether anything was done. A stop ends the process."""
    interrupt = _Interrupt()
    try:
        with interrupt:
            return asyncio.run(_watched(flow, interrupt, arguments))
    except (KeyboardInterrupt, asyncio.CancelledError) as stop:
        click.echo(
            "\nStopped. What was made is written; the same command (without --fresh) resumes from here.", err=True
        )
        sys.exit(130 if interrupt.asked or isinstance(stop, KeyboardInterrupt) else 143)
    except RuntimeError as error:
        # Prefect has no class of its own for a server that cannot be reached or started.
        if "API" not in str(error):
            raise
        raise ConstitutionError(
            f"Prefect's server does not answer: {error}",
            hint="correct PREFECT_API_URL, or unset it to run without a server of your own",
        ) from error


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
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


def _facts(run: Run, warehouse: Path, worked: bool) -> dict[str, Any]:
    """What --json prints. Its keys are a contract."""
    status = "finished" if run.finished_at else "stopped" if run.stopped else "open"
    return {
        "run_id": run.run_id,
        "status": status,
        "worked": worked,
        "stopped": run.stopped,
        "constitution": run.constitution,
        "warehouse": str(warehouse),
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "starts": run.starts,
        "seconds": run.seconds,
        "counts": run.counts,
        "cost": run.cost,
        "currency": (run.recipe.get("budget") or {}).get("currency", "USD"),
    }


class _Interrupt:
    """Ctrl-C. The first stops the run, which then writes what it has; one that comes later ends the process at once.

    A terminal sends SIGINT to the whole process group, and the server that Prefect may have started would end before
    us and leave Prefect waiting for it. So the signal is blocked, which child processes inherit, and a thread waits
    for it.

    SIGTERM stops the run too. Where nobody else takes it, it would end the process at once, and the server that Prefect
    has started would stay behind.
    """

    def __init__(self) -> None:
        self.asked: float | None = None
        """Monotonic clock of the first, seconds."""
        self._task: asyncio.Task[object] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over = False
        self._thread = threading.Thread(target=self._wait, name="interrupt", daemon=True)

    def __enter__(self) -> Self:
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        self._thread.start()
        self._term = signal.signal(signal.SIGTERM, self._terminate)
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        signal.signal(signal.SIGTERM, self._term)
        assert self._thread.ident is not None
        signal.pthread_kill(self._thread.ident, signal.SIGINT)
        self._thread.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)

    def watch(self, task: asyncio.Task[object]) -> None:
        """This task is the one to be stopped; at once if Ctrl-C came before."""
        self._task, self._loop = task, asyncio.get_running_loop()
        if self.asked is not None:
            task.cancel()

    def _terminate(self, number: int, frame: object) -> None:
        if self._task is None or self._loop is None:
            raise asyncio.CancelledError
        self._loop.call_soon_threadsafe(self._task.cancel)

    def _wait(self) -> None:
        while True:
            signal.sigwait({signal.SIGINT})
            if self._over:
                return
            if self.asked is None:
                self.asked = time.monotonic()
                click.echo("\nStopping: writing what is finished. Ctrl-C again ends at once.", err=True)
                if self._task is not None and self._loop is not None:
                    self._loop.call_soon_threadsafe(self._task.cancel)
            elif time.monotonic() - self.asked > 1:  # some shells and `timeout` send it twice
                show_cursor = "\x1b[?25h" if sys.stdout.isatty() else ""
                click.echo(f"{show_cursor}Ended; the same command (without --fresh) goes on from here.", err=True)
                os._exit(130)


async def _watched(flow: Flow, interrupt: _Interrupt, arguments: tuple[object, ...]) -> tuple[Run, bool]:
    """What the run came to, and whether anything was done: a clock would not tell, for it may be set back meanwhile."""
    worked = False

    def update(progress: Progress) -> None:
        nonlocal worked
        worked = True
        display.update(progress)

    display = Bar() if sys.stdout.isatty() else Lines()
    token = watcher.set(update)
    task = asyncio.current_task()
    assert task is not None
    interrupt.watch(task)
    try:
        with display:
            return await _ended(flow, arguments), worked
    finally:
        watcher.reset(token)


async def _ended(flow: Flow, arguments: tuple[object, ...]) -> Run:
    """The run that the flow came to; raises what the flow failed by, and CancelledError where it was stopped."""
    if not hasattr(flow, "with_options"):
        return cast(Run, await flow(*arguments))  # a function: Prefect has no part in it
    state = await flow(*arguments, return_state=True)
    if state.is_cancelled():
        raise asyncio.CancelledError
    found = await state.aresult(raise_on_failure=False)
    if isinstance(found, NotFinished):
        return cast(Run, found.run)
    if isinstance(found, BaseException):
        raise found
    return cast(Run, found)


def _tell(run: Run, warehouse: Path) -> None:
    """The summary: what there is, where it lies, what to do next."""
    show(run, "finished" if run.finished_at else "not finished")
    click.echo(f"Data: {warehouse}/")
    place = "" if str(warehouse) == "warehouse" else f" --warehouse {shlex.quote(str(warehouse))}"
    if run.stopped:
        remedy = REMEDIES.get(run.stopped.partition(":")[0], "The same command goes on.")
        click.echo(f"Stopped by its {printable(run.stopped)}. {remedy}")
    if lost := run.counts.get("lost", 0):
        which, them = ("One prompt", "it") if lost == 1 else (f"{lost:,} prompts", "them")
        click.echo(f"{which} failed for good: with --retry-failed the same command tries {them} again.")
    if run.finished_at:
        click.echo("Next:")
        query = f"SELECT prompt, chosen, rejected, p_chosen FROM pairs WHERE run_id = '{run.run_id}' "
        query += "ORDER BY p_chosen DESC LIMIT 5"  # pairs without a label come last
    elif run.counts.get("open", 0) or not run.stopped.startswith("budget"):
        again = ": the same command tries those again" if run.counts.get("open", 0) else ""
        click.echo(f"Engines failed on some prompts{again}. Why they failed:")
        query = f"SELECT step, judge, error, message, count(*) FROM failures WHERE run_id = '{run.run_id}' GROUP BY ALL"
    else:
        query = f"SELECT * FROM usage WHERE run_id = '{run.run_id}'"
    click.echo(f'  constitution sql{place} "{query}"')
