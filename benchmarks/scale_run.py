"""One run through the fake engine, in its own process, so that its peak of memory is its own.

    python -m benchmarks.scale_run FOLDER --prompts 50000               a run from its beginning to its end
    python -m benchmarks.scale_run FOLDER --prompts 50000 --kill-at .5  killed by SIGKILL when half of it is done
    python -m benchmarks.scale_run FOLDER --prompts 50000 --until 1000  so many prompts more, then stopped by SIGTERM

The pipeline as `constitution run` drives it, without Prefect: five calls a prompt, real Parquet and DuckDB. The last
line of the output is the figures as JSON; of a run that is killed there are none.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click

from benchmarks.engine_clients import write_prompts
from benchmarks.figures import peak_rss_mib
from constitution.pipeline import Pace, Progress, open_run, prepare, watcher
from constitution.recipe import load_recipe

ROOT = Path(__file__).parent.parent
RECIPE = """
name = "scale"
constitution = "general@1.1.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "fake"
[revise]
rounds = 1
[judge]
principles = 1
"""


@dataclass(frozen=True, slots=True)
class Mark:
    """The state of a run when a tenth of its prompts was done."""

    done: int
    seconds: float
    cpu_seconds: float
    """Of this process, all threads."""
    rss_mib: float
    left: float | None
    """The promised seconds to go."""


@dataclass
class Watch:
    """What is seen of a run from the side."""

    kill_at: float = 0.0
    """Share of the prompts; 0: it is not killed."""
    until: int = 0
    """New prompts of this start, after which it is stopped; 0: it goes to its end."""
    marks: list[Mark] = field(default_factory=list)
    at_work: tuple[float, float] | None = None
    """Seconds and CPU seconds until the first prompt was done that no start before had finished."""
    began: tuple[float, float] = field(default_factory=lambda: (time.monotonic(), time.process_time()))
    pace: Pace = field(default_factory=Pace)

    def gone(self) -> tuple[float, float]:
        """Seconds and CPU seconds since it began."""
        return time.monotonic() - self.began[0], time.process_time() - self.began[1]

    def __call__(self, progress: Progress) -> None:
        self.pace.update(progress, time.monotonic())
        new = progress.done - progress.resumed
        if self.kill_at and progress.done >= self.kill_at * progress.total:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.at_work is None and new:
            self.at_work = self.gone()
        if self.until and new == self.until:
            os.kill(os.getpid(), signal.SIGTERM)
        if progress.done * 10 >= progress.total * (len(self.marks) + 1):
            self.marks.append(Mark(progress.done, *self.gone(), rss_mib(), self.pace.left(progress)))


def rss_mib() -> float:
    """Resident memory of this process now, MiB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def run(folder: Path, prompts: int, watch: Watch) -> dict[str, Any]:
    """One start of the run in `folder`, which is made where it is not there: its figures."""
    recipe, source = folder / "scale.toml", folder / "prompts.jsonl"
    if not recipe.exists():
        write_prompts(source, prompts, words=(20, 60))
        recipe.write_text(RECIPE)
        (folder / "principles").symlink_to(ROOT / "principles")
    token = watcher.set(watch)
    watch.began = (time.monotonic(), time.process_time())
    try:
        plan = prepare(load_recipe(recipe), recipe, folder / "warehouse")
        prepared = watch.gone()
        if not watch.until:
            watch.began = (time.monotonic(), time.process_time())
        try:
            async with open_run(plan) as session:
                await session.walk()
                await session.finish()
        except asyncio.CancelledError:
            if not watch.until:
                raise
    finally:
        watcher.reset(token)
    seconds, cpu = watch.gone()
    return {
        "prompts": prompts,
        "prepared": prepared,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_mib": peak_rss_mib(),
        "at_work": watch.at_work,
        "marks": [asdict(mark) for mark in watch.marks],
    }


def apart(folder: Path, prompts: int, *options: str, killed: bool = False) -> dict[str, Any]:
    """`run` in its own process. killed: it is to be killed, and tells nothing."""
    command = [sys.executable, "-m", "benchmarks.scale_run", str(folder), "--prompts", str(prompts), *options]
    done = subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True)
    expected = -signal.SIGKILL if killed else 0
    if done.returncode != expected:
        raise SystemExit(f"FAIL: {' '.join(command[1:])} ended with {done.returncode}, expected {expected}")
    figures: dict[str, Any] = {} if killed else json.loads(done.stdout.splitlines()[-1])
    return figures


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--prompts", required=True, type=click.IntRange(min=100))
@click.option("--kill-at", default=0.0, help="Share of the prompts.")
@click.option("--until", default=0, help="New prompts.")
def main(folder: Path, prompts: int, kill_at: float, until: int) -> None:
    folder.mkdir(exist_ok=True)
    print(json.dumps(asyncio.run(run(folder, prompts, Watch(kill_at, until)))), flush=True)


if __name__ == "__main__":
    main()
