"""What one client process can feed, by the window and by the length of the texts: against the simulated server at a
hundred-fold speed, where the client alone is the bottleneck. Calls and megabytes are a second of its CPU, which is what
a machine that is busy with other things leaves unchanged; a core of one's own gives as many a second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median

from benchmarks.engine import Trial, run
from benchmarks.engine_clients import Part
from benchmarks.results import Table, Verdict

SHORT, LONG = (60, 150), (2_000, 4_000)
"""Words of a prompt; its texts go out again with every later call of the chain."""
FEED = Part("What one client process feeds", ("ours",), 100.0)
PARTS: Mapping[str, Part] = {
    **{f"{n:,}": replace(FEED, window=n, slots=max(256, 2 * n), words=SHORT) for n in (16, 64, 256, 1024, 4096)},
    "256, long prompts": replace(FEED, words=LONG, slots=512),
}
USUAL, WIDE = "256", "4,096"


def measure(prompts: int, repeats: int) -> dict[str, list[Trial]]:
    """Trials by the names of PARTS, interleaved. A window is worked full at least three times."""
    trials: dict[str, list[Trial]] = {name: [] for name in PARTS}
    for _ in range(repeats):
        for name, part in PARTS.items():
            trials[name].append(run(part, "ours", max(prompts // (4 if part.words == LONG else 1), 3 * part.window)))
    return trials


def calls_a_second(trials: Sequence[Trial]) -> float:
    """Calls a second of CPU."""
    return 1 / median(trial.cpu_per_call for trial in trials)


def table(trials: Mapping[str, Sequence[Trial]]) -> Table:
    columns = ["window", "calls/s", "MB/s", "calls/s, measured", "CPU µs a call", "peak MiB", "server's CPU µs a call"]
    rows = []
    for name, these in trials.items():
        calls, memory = calls_a_second(these), median(trial.peak_rss_mib for trial in these)
        megabytes = median(trial.traffic_mb / trial.cpu_s for trial in these)
        wall = median(trial.replies / trial.server_wall_s for trial in these)
        server = median(trial.server_cpu_s / trial.replies for trial in these)
        cells = [f"{calls:,.0f}", f"{megabytes:.1f}", f"{wall:,.0f}", f"{1e6 / calls:.0f}", f"{memory:.0f}"]
        rows.append([name, *cells, f"{1e6 * server:.0f}"])
    return Table(columns, rows, FEED.title)


def per_prompt_kib(trials: Mapping[str, Sequence[Trial]]) -> float:
    """Memory of a prompt in flight, KiB: the growth of the peak from the usual window to the widest."""
    few, many = (median(trial.peak_rss_mib for trial in trials[name]) for name in (USUAL, WIDE))
    return 1024 * (many - few) / (PARTS[WIDE].window - PARTS[USUAL].window)


def verdicts(trials: Mapping[str, Sequence[Trial]]) -> list[Verdict]:
    few, many = (calls_a_second(trials[name]) for name in (USUAL, WIDE))
    return [
        Verdict(f"CPU a call, window {WIDE} / {USUAL}", few / many, 1.25),
        Verdict("memory of a prompt in flight, KiB", per_prompt_kib(trials), 100),
    ]
