"""Does a run's cost grow with its size? Memory, time and the progress bar's time left, through the fake engine.

    make bench-scale                       100,000 prompts
    python -m benchmarks.scale --prompts 1000000

The pipeline as `constitution run` drives it, without Prefect: five calls a prompt, real Parquet and DuckDB. At every
tenth of the prompts the resident memory, the time and the time left that the bar promises are noted. A run of a
tenth of the size, in a process of its own, stands beside it.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from benchmarks.engine import write_prompts
from benchmarks.engine_report import machine
from constitution.pipeline import Pace, Progress, Session, prepare, watcher
from constitution.recipe import load_recipe
from constitution.warehouse import ask, connect

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


def rss_mib() -> float:
    """Resident memory of this process now, MiB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def run(folder: Path, prompts: int) -> dict[str, Any]:
    """One run of `prompts` prompts: a mark a tenth, its seconds, and this process's peak of memory, MiB."""
    write_prompts(folder / "prompts.jsonl", prompts, words=(20, 60))
    (folder / "scale.toml").write_text(RECIPE)
    (folder / "principles").symlink_to(ROOT / "principles")
    marks: list[Mark] = []
    pace = Pace()

    def watch(progress: Progress) -> None:
        pace.update(progress, time.monotonic())
        if progress.done * 10 >= progress.total * (len(marks) + 1):
            seconds, cpu = time.monotonic() - begun, time.process_time() - worked
            marks.append(Mark(progress.done, seconds, cpu, rss_mib(), pace.left(progress)))

    token = watcher.set(watch)
    try:
        plan = prepare(load_recipe(folder / "scale.toml"), folder / "scale.toml", folder / "warehouse")
        begun, worked = time.monotonic(), time.process_time()
        async with Session(plan) as session:
            await session.walk()
            await session.finish()
    finally:
        watcher.reset(token)
    seconds = time.monotonic() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with connect(folder / "warehouse") as connection:
        [stored] = ask(connection, "SELECT count(*), count(DISTINCT prompt_id) FROM preferences").rows
    if stored != (prompts, prompts):
        raise SystemExit(f"FAIL: {stored[0]:,} preferences of {stored[1]:,} prompts are stored, expected {prompts:,}")
    return {"prompts": prompts, "seconds": seconds, "peak_mib": peak, "marks": [asdict(mark) for mark in marks]}


def apart(prompts: int) -> dict[str, Any]:
    """`run` in a process of its own, so that its peak of memory is its own."""
    command = [sys.executable, "-m", "benchmarks.scale", "--prompts", str(prompts), "--one"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def verdicts(small: dict[str, Any], large: dict[str, Any]) -> list[tuple[str, float, float]]:
    """(what, measured, bound) of the three promises; a figure above its bound breaks one."""
    marks, seconds = large["marks"], large["seconds"]
    early = marks[2]["cpu_seconds"] - marks[0]["cpu_seconds"]
    late = marks[9]["cpu_seconds"] - marks[7]["cpu_seconds"]
    first = marks[0]
    error = abs(first["seconds"] + first["left"] - seconds) / (seconds - first["seconds"])
    return [
        (
            f"peak memory, {large['prompts']:,} / {small['prompts']:,} prompts",
            large["peak_mib"] / small["peak_mib"],
            1.2,
        ),
        ("CPU of the last two tenths / of the second and third", late / early, 1.2),
        ("time left promised after the first tenth, relative error", error, 0.2),
    ]


def show(small: dict[str, Any], large: dict[str, Any]) -> None:
    click.echo("| prompts | seconds | CPU seconds | MiB | end as promised, s |")
    click.echo("|--:|--:|--:|--:|--:|")
    for mark in large["marks"]:
        times = (mark["seconds"], mark["cpu_seconds"], mark["rss_mib"], mark["seconds"] + (mark["left"] or 0))
        click.echo(f"| {mark['done']:,} | " + " | ".join(f"{time:.1f}" for time in times) + " |")
    rate = large["prompts"] / large["seconds"]
    click.echo(
        f"\n{large['prompts']:,} prompts in {large['seconds']:.1f} s ({rate:.0f}/s), each stored once; peak memory"
        f" {large['peak_mib']:.0f} MiB, of {small['prompts']:,} prompts {small['peak_mib']:.0f} MiB\n"
    )


@click.command()
@click.option("--prompts", default=100_000, show_default=True, type=click.IntRange(min=100))
@click.option("--one", is_flag=True, help="Only this one run, its figures as JSON.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write the figures here, as JSON.")
def main(prompts: int, one: bool, out: Path | None) -> None:
    if one:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(asyncio.run(run(Path(folder), prompts))))
        return
    small, large = apart(prompts // 10), apart(prompts)
    show(small, large)
    found = verdicts(small, large)
    for what, measured, bound in found:
        click.echo(f"{'PASS' if measured <= bound else 'FAIL'}  {what}: {measured:.3f} (at most {bound})")
    if out is not None:
        figures = {"date": datetime.now(UTC).date().isoformat(), "machine": machine(), "small": small, "large": large}
        out.write_text(json.dumps({**figures, "verdicts": found}, indent=1) + "\n")
    if any(measured > bound for _, measured, bound in found):
        sys.exit(1)


if __name__ == "__main__":
    main()
