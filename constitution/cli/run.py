"""`constitution run`: the flow flows/generate.py:generate, with a progress bar."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self, cast

import click

from constitution.cli._options import warehouse_option
from constitution.cli._progress import Bar, Lines
from constitution.cli._summary import show
from constitution.errors import ConstitutionError, InputError
from constitution.pipeline import Progress, watcher
from constitution.recipe import load_recipe
from constitution.records import Run
from constitution.shown import printable

PREFECT = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # A flow without a server starts one of its own; on a fresh home that takes longer than Prefect's own limit of 20 s.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    # Errors are told by us, in one sentence; with a server, its UI has the logs all the same.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
}
"""Set before Prefect is imported, unless the user has set them."""

REMEDIES = {
    "budget": "Raise budget.limit, in the recipe or by --set budget.limit=…, and the same command goes on.",
    "servers": "Mend the server, or the recipe's [model] section (docs/engines.md: omit, extra_body, dialect), and the "
    "same command tries those prompts again; with --set output.stop_at_failures=1 they fail for good.",
    "engines": "When they work again (servers, key, account), the same command goes on.",
    "failures": "Mend what failed them, and the same command goes on; output.stop_at_failures in the recipe says at "
    "what share a run stops.",
}
"""By what `Run.stopped` begins with."""

Flow = Callable[..., Awaitable[Run]]


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many prompts.")
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Change a value of the recipe for this run.")
@click.option("--fresh", is_flag=True, help="A new run, although the same recipe ran before.")
@click.option(
    "--retry-failed", is_flag=True, help="Try prompts again that failed for good, in a run that is finished too."
)
@click.option(
    "--allow",
    type=click.Path(exists=True, file_okay=False, resolve_path=True),
    multiple=True,
    metavar="DIR",
    help="Let the recipe read in DIR too, beside its project (again for more); also CONSTITUTION_ALLOW.",
)
@warehouse_option
def run(
    recipe: Path,
    limit: int | None,
    overrides: tuple[str, ...],
    fresh: bool,
    retry_failed: bool,
    allow: tuple[str, ...],
    warehouse: Path,
) -> None:
    """Run RECIPE: answer, critique, revise, judge, store.

    The same command goes on where a run was stopped. Exit code 1: the run ended, and engines failed on some prompts,
    its servers were gone, or its budget is spent; 130 and 143: it was stopped, by Ctrl-C and by SIGTERM.

    \b
    Examples:
      constitution run recipes/fake.toml
      constitution run recipes/hh-harmless.toml --limit 100 --set prompts.path=harmless.jsonl.gz
    """
    load_recipe(recipe, overrides)  # a fault in the recipe is told before Prefect takes its seconds to start
    flow = load_flow(recipe)
    # A project's own flow of an older version knows neither of the last two.
    more = ([list(allow)] if allow or retry_failed else []) + ([True] if retry_failed else [])
    arguments = (str(recipe), str(warehouse), limit, list(overrides), fresh, *more)
    interrupt = _Interrupt()
    try:
        with interrupt:
            done, worked = asyncio.run(_watched(flow, interrupt, arguments))
    except (KeyboardInterrupt, asyncio.CancelledError) as stop:
        click.echo(
            "\nStopped. What was made is written; the same command (without --fresh) goes on from here.", err=True
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
    if done.finished_at and not worked:
        click.echo(f"Nothing to do: this run finished on {done.finished_at}; --fresh makes a new one.")
    _tell(done, warehouse)
    if done.finished_at is None or done.counts.get("lost", 0):
        sys.exit(1)


def load_flow(recipe: Path) -> Flow:
    """`generate` from flows/generate.py in the nearest folder above the recipe, or above the working directory."""
    here = [recipe.absolute().parent, Path.cwd()]
    for folder in (parent for start in here for parent in (start, *start.parents)):
        path = folder / "flows" / "generate.py"
        if path.is_file():
            break
    else:
        raise InputError(
            f"there is no flows/generate.py above {here[0]} or {here[1]}",
            hint="`constitution init DIR` starts a project that has one",
        )
    for name, value in PREFECT.items():
        os.environ.setdefault(name, value)
    spec = importlib.util.spec_from_file_location("generate", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["generate"] = module
    try:
        spec.loader.exec_module(module)
        return cast(Flow, module.generate)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise InputError(f"{path}: has no flow `generate` that can be loaded: {error}") from error


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
            return await flow(*arguments), worked
    finally:
        watcher.reset(token)


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
        query = f"SELECT prompt, chosen, rejected, p_chosen FROM pairs WHERE run_id = '{run.run_id}' LIMIT 5"
    elif run.counts.get("open", 0) or not run.stopped.startswith("budget"):
        again = ": the same command tries those again" if run.counts.get("open", 0) else ""
        click.echo(f"Engines failed on some prompts{again}. Why they failed:")
        query = f"SELECT step, judge, error, message, count(*) FROM failures WHERE run_id = '{run.run_id}' GROUP BY ALL"
    else:
        query = f"SELECT * FROM usage WHERE run_id = '{run.run_id}'"
    click.echo(f'  constitution sql{place} "{query}"')
