"""A run in shards, each a process as a scheduler starts it (`constitution run --resume ID --shard I/N`), with what each
took. Those that are killed are started again, as a scheduler's retries do.

Growth by shards is measured on the fake engine, which answers at once: there the client is the bottleneck.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.engine_clients import ROOT, write_prompts
from benchmarks.results import Table, Verdict
from benchmarks.scale_run import RECIPE

COMMAND = (sys.executable, "-m", "constitution", "run")


@dataclass(frozen=True, slots=True)
class Grown:
    """What one run took, by its number of shards."""

    shards: int
    """0: as a whole."""
    prompts: int
    wall_s: float
    """From the start of the first process, the run being prepared, to the end of the last."""
    cpu_s: tuple[float, ...]
    """Of each shard, over all its starts."""
    peak_mib: tuple[float, ...]
    """Of each shard, the most of its starts."""
    kills: int = 0
    prepared_s: float = 0.0

    @property
    def longest(self) -> float:
        """CPU seconds of the shard that took most: no machine with a core a shard is done sooner."""
        return max(self.cpu_s)


@dataclass(slots=True)
class Storm:
    """Kills of random shards, by SIGKILL, until the number is reached; every fourth hangs instead (SIGSTOP)."""

    kills: int
    every_s: float
    hang_s: float = 20.0
    seed: int = 1
    done: int = 0
    hung: int = 0
    alive: dict[int, int] = field(default_factory=dict)
    """Shard → process."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def rage(self, over: threading.Event) -> None:
        draw = random.Random(self.seed)
        while self.done + self.hung < self.kills and not over.wait(draw.uniform(0.5, 1.5) * self.every_s):
            with self.lock:
                if not self.alive:
                    continue
                number = draw.choice(sorted(self.alive))
                process, hangs = self.alive[number], (self.done + self.hung) % 4 == 3
                os.kill(process, signal.SIGSTOP if hangs else signal.SIGKILL)
                if not hangs:
                    del self.alive[number]
                self.hung += hangs
                self.done += not hangs
            if hangs:
                over.wait(self.hang_s)
                with self.lock:
                    if process in self.alive.values():
                        os.kill(process, signal.SIGCONT)


def in_shards(
    recipe: Path, warehouse: str, prompts: int, of: int, *, apart: bool = False, storm: Storm | None = None
) -> Grown:
    """The recipe's run in `of` processes; 0: in one, as a whole. apart: each has its own cache, as on a machine of
    its own. Raises SystemExit for a process that ends with an error."""
    storm, over = storm or Storm(0, 1.0), threading.Event()
    began = time.monotonic()
    run_id = _prepared(recipe, warehouse, _environment(recipe.parent, 0, apart))
    prepared = time.monotonic() - began
    took: dict[int, tuple[float, float]] = {}
    failed: list[str] = []

    def live(number: int) -> None:
        cpu = peak = 0.0
        command = [*COMMAND, str(recipe), "--warehouse", warehouse, "--resume", run_id]
        command += ["--shard", f"{number}/{of}"] if of else []
        while True:
            with (recipe.parent / f"shard-{number}").open("ab") as said:
                process = subprocess.Popen(
                    command, cwd=ROOT, env=_environment(recipe.parent, number, apart), stdout=said, stderr=said
                )
            with storm.lock:
                storm.alive[number] = process.pid
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # its number is its own until it is taken off
            with storm.lock:
                storm.alive.pop(number, None)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            cpu, peak = cpu + usage.ru_utime + usage.ru_stime, max(peak, usage.ru_maxrss / 1024)
            if process.returncode != -signal.SIGKILL:
                break
        took[number] = cpu, peak
        if process.returncode:
            text = (recipe.parent / f"shard-{number}").read_text(errors="replace")
            failed.append(f"shard {number}/{of} ended with {process.returncode}:\n{text[-2000:]}")

    began = time.monotonic()
    threads = [threading.Thread(target=live, args=(number,)) for number in range(1, max(of, 1) + 1)]
    rage = threading.Thread(target=storm.rage, args=(over,))
    for thread in [*threads, rage]:
        thread.start()
    for thread in threads:
        thread.join()
    wall = time.monotonic() - began
    over.set()
    rage.join()
    if failed:
        raise SystemExit("\n".join(failed))
    cpus, peaks = zip(*(took[number] for number in sorted(took)), strict=True)
    return Grown(of, prompts, wall, cpus, peaks, storm.done + storm.hung, prepared)


def _prepared(recipe: Path, warehouse: str, environment: Mapping[str, str]) -> str:
    command: Sequence[str] = [*COMMAND, str(recipe), "--warehouse", warehouse, "--prepare"]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"--prepare ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout.split()[-1]


def _environment(folder: Path, number: int, apart: bool) -> dict[str, str]:
    own = {"PYTHONPATH": str(ROOT), "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "PREFECT_HOME": str(folder / "prefect")}
    own["CONSTITUTION_CACHE"] = str(folder / f"cache-{number if apart else 0}")
    environment = os.environ | own
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


FEW, MANY, TIMES = 2, 8, 4


def measure(prompts: int, repeats: int) -> list[Grown]:
    """As a whole and in FEW shards, interleaved; in MANY; and in FEW with TIMES as many prompts."""
    sizes = [*[(of, prompts) for _ in range(repeats) for of in (0, FEW)], (MANY, prompts), (FEW, TIMES * prompts)]
    return [_of_fake(of, count) for of, count in sizes]


def _of_fake(of: int, prompts: int) -> Grown:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_prompts(folder / "prompts.jsonl", prompts, words=(20, 60))
        (folder / "scale.toml").write_text(RECIPE)
        (folder / "principles").symlink_to(ROOT / "principles")
        grown = in_shards(folder / "scale.toml", str(folder / "warehouse"), prompts, of)
    print(
        f"  {said(of)}: {prompts:,} prompts in {grown.wall_s:.1f} s, {sum(grown.cpu_s):.1f} s of CPU", file=sys.stderr
    )
    return grown


def said(of: int) -> str:
    return f"{of} shards" if of else "whole"


def verdicts(runs: Sequence[Grown]) -> list[Verdict]:
    """Of `measure`."""
    *pairs, many, large = runs
    whole, few = pairs[::2], pairs[1::2]
    faster = median(one.wall_s / two.wall_s for one, two in zip(whole, few, strict=True))
    shared = median(one.longest / two.longest for one, two in zip(whole, few, strict=True))
    more = median(sum(two.cpu_s) / sum(one.cpu_s) for one, two in zip(whole, few, strict=True))
    peak = median(max(one.peak_mib) for one in few)
    return [
        Verdict(f"as fast, {FEW} shards on {len(os.sched_getaffinity(0))} cores / whole", faster, 1.8, False),
        Verdict(f"CPU of the whole / of the busier of {FEW} shards", shared, 1.8, False),
        Verdict(f"CPU, {FEW} shards / whole", more, 1.1),
        Verdict(f"peak memory of a shard, of {MANY} / of {FEW}", max(many.peak_mib) / peak, 1.2),
        Verdict(f"peak memory of a shard, {TIMES} times as many prompts / once", max(large.peak_mib) / peak, 1.2),
    ]


def table(runs: Sequence[Grown]) -> Table:
    rows = []
    for of, prompts in dict.fromkeys((run.shards, run.prompts) for run in runs):
        these = [run for run in runs if (run.shards, run.prompts) == (of, prompts)]
        wall, cpu = median(run.wall_s for run in these), median(sum(run.cpu_s) for run in these)
        longest, peak = median(run.longest for run in these), median(max(run.peak_mib) for run in these)
        figures = [f"{wall:.1f}", f"{prompts / wall:,.0f}", f"{cpu:.1f}", f"{longest:.1f}", f"{peak:.0f}"]
        rows.append([said(of), f"{prompts:,}", *figures])
    columns = ["in", "prompts", "seconds", "prompts/s", "CPU s", "CPU s of the busiest", "peak MiB of one"]
    return Table(columns, rows, "Growth by shards, on the fake engine")
