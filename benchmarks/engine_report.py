"""The figures of `engine.py`: one trial's, what is promised of them, and how they are shown."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Trial:
    """One client's job. Seconds of a client run from the first prompt that it reads to the last row on disk."""

    client: str
    prompts: int
    wall_s: float
    cpu_s: float
    startup_s: float
    """From the start of the process to the first prompt: imports."""
    startup_cpu_s: float
    peak_rss_mib: float
    """Of the client's main process; 0: not known."""
    server_wall_s: float
    """From the first request to the last reply."""
    utilisation: float
    """Held slot-seconds over those there were in that time."""
    server_cpu_s: float
    replies: int
    cached_share: float
    """Of the prompt tokens, what the prefix cache had."""
    note: str = ""

    @property
    def cpu_per_1000(self) -> float:
        """CPU seconds per 1,000 prompts."""
        return 1000 * self.cpu_s / self.prompts

    @property
    def server_us(self) -> float:
        """CPU of the server for a call, microseconds."""
        return 1e6 * self.server_cpu_s / self.replies

    @property
    def prompts_per_s(self) -> float:
        return self.prompts / self.wall_s


@dataclass(frozen=True)
class Verdict:
    """A promise of issue 3, kept or not."""

    what: str
    measured: float
    bound: float
    at_most: bool

    @property
    def passes(self) -> bool:
        return self.measured <= self.bound if self.at_most else self.measured >= self.bound

    def __str__(self) -> str:
        side = "at most" if self.at_most else "at least"
        return f"{'PASS' if self.passes else 'FAIL'}  {self.what}: {self.measured:.3f} ({side} {self.bound})"


def medians(trials: Sequence[Trial], client: str, figure: str) -> float:
    return float(median(getattr(trial, figure) for trial in trials if trial.client == client))


def verdicts(trials: Mapping[str, Sequence[Trial]]) -> list[Verdict]:
    """Of the parts that were run."""
    found = []

    def ratio(part: str, figure: str, client: str = "ours") -> float:
        return medians(trials[part], client, figure) / medians(trials[part], "bare", figure)

    if "real" in trials:
        found += [
            Verdict("real time, wall ours / bare", ratio("real", "wall_s"), 1.05, True),
            Verdict("real time, slot utilisation ours / bare", ratio("real", "utilisation"), 0.95, False),
            Verdict(
                "real time, constitution run: first request to last reply / bare",
                ratio("real", "server_wall_s", "command"),
                1.05,
                True,
            ),
            Verdict(
                "real time, constitution run: slot utilisation / bare",
                ratio("real", "utilisation", "command"),
                0.95,
                False,
            ),
        ]
    for part, words in (("fast", "ten-fold"), ("flood", "hundred-fold")):
        if part in trials:
            found += [
                Verdict(f"{words}, prompts/s ours / bare", ratio(part, "prompts_per_s"), 0.6, False),
                Verdict(f"{words}, client CPU per 1,000 prompts ours / bare", ratio(part, "cpu_per_1000"), 1.8, True),
            ]
    if "memory" in trials:
        few, many = (trial.peak_rss_mib for trial in trials["memory"])
        found.append(Verdict("peak memory, ten times as many prompts / once", many / few, 1.2, True))
    return found


TITLES = {
    "real": "Real time",
    "fast": "Ten-fold speed (medians)",
    "flood": "Hundred-fold speed (medians): the client alone is the bottleneck",
    "memory": "Memory",
    "peers": "Peers, ten-fold speed",
}
HEAD = """| client | prompts | wall s | prompts/s | CPU s per 1,000 prompts | slot utilisation | peak MiB | start-up s |
|---|--:|--:|--:|--:|--:|--:|--:|"""


def markdown(trials: Mapping[str, Sequence[Trial]]) -> str:
    """A table for each part; medians where a client was tried more than once with as many prompts."""
    blocks = []
    for part, done in trials.items():
        lines = [f"### {TITLES[part]}", "", HEAD]
        for client, prompts in dict.fromkeys((trial.client, trial.prompts) for trial in done):
            these = [trial for trial in done if (trial.client, trial.prompts) == (client, prompts)]
            wall, speed, cpu, use, memory, start = (
                medians(these, client, figure)
                for figure in ("wall_s", "prompts_per_s", "cpu_per_1000", "utilisation", "peak_rss_mib", "startup_s")
            )
            note = f" ({these[0].note})" if these[0].note else ""
            lines.append(
                f"| {client}{note} | {prompts:,} | {wall:.1f} | {speed:.1f} | {cpu:.2f} | {100 * use:.1f} % "
                f"| {f'{memory:.0f}' if memory else '–'} | {f'{start:.1f}' if start else '–'} |"
            )
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def write_results(out: Path, text: str, found: Sequence[Verdict], trials: Mapping[str, Any]) -> str:
    """`out` (JSON), and a Markdown file beside it, whose text is returned."""
    date = datetime.now(UTC).date().isoformat()
    figures = {
        "date": date,
        "machine": machine(),
        "verdicts": [asdict(verdict) | {"passes": verdict.passes} for verdict in found],
        "trials": trials,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    rounded = json.loads(json.dumps(figures), parse_float=lambda number: round(float(number), 4))
    out.write_text(json.dumps(rounded, indent=1) + "\n")
    lines = [f"Measured {date} on {machine()}.", "", text, *(f"- {verdict}" for verdict in found)]
    page = "\n".join(lines).strip() + "\n"
    out.with_suffix(".md").write_text(page)
    return page


def put_into(page: str, name: str, text: str) -> str:
    """`page` with `text` between its two marks of that name."""
    head, opening, rest = page.partition(f"<!-- {name}: ")
    mark, _, behind = rest.partition("\n")
    _, closing, tail = behind.partition(f"<!-- /{name} -->")
    if not (opening and closing):
        raise ValueError(f"the page has no place for {name}")
    return f"{head}{opening}{mark}\n{text.strip()}\n{closing}{tail}"


def machine() -> str:
    """In words, without names."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return f"{len(os.sched_getaffinity(0))} cores, {model}, {platform.system()}, Python {platform.python_version()}"
