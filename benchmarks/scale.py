"""Does the cost of a run grow with its size, and does a large warehouse answer as fast as plain DuckDB?

    make bench-scale                                            1,000,000 prompts; 10,000,000 votes
    python -m benchmarks.scale --prompts 20000 --votes 200000   a taste of it

Prompts: a run through the fake engine (scale_run), and a small one beside it; another is killed at half and started
again. Votes: what `constitution sql` and `constitution audit` take of a run of so many (scale_rows, scale_votes).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from benchmarks import scale_votes
from benchmarks.results import Table, Verdict, finish, options
from benchmarks.scale_run import apart
from constitution.warehouse import ask, connect


def measure_run(folder: Path, prompts: int) -> dict[str, Any]:
    """A small run, a large one, and one of the large size that is killed at half and started again."""
    small = apart(folder / "small", max(100, prompts // 20))
    shutil.rmtree(folder / "small")
    large = apart(folder / "large", prompts)
    wrong = stored_wrong(folder / "large" / "warehouse", prompts)
    shutil.rmtree(folder / "large")
    apart(folder / "killed", prompts, "--kill-at", "0.5", killed=True)
    resumed = apart(folder / "killed", prompts, "--until", "1000")
    shutil.rmtree(folder / "killed")
    return {"small": small, "large": large, "resumed": resumed, "wrong": wrong}


def stored_wrong(warehouse: Path, prompts: int) -> int:
    """Prompts without a preference, and preferences that a prompt has beyond the first."""
    with connect(warehouse) as connection:
        [(rows, distinct)] = ask(connection, "SELECT count(*), count(DISTINCT prompt_id) FROM preferences").rows
    return abs(prompts - int(distinct)) + int(rows) - int(distinct)


def run_verdicts(runs: Mapping[str, Any]) -> Iterator[Verdict]:
    """Of a run's memory and time, and of how it resumes after a kill."""
    small, large, resumed = runs["small"], runs["large"], runs["resumed"]
    marks, seconds = large["marks"], large["seconds"]
    early, late = (marks[end]["cpu_seconds"] - marks[end - 2]["cpu_seconds"] for end in (2, 9))
    first = marks[0]
    error = abs(first["seconds"] + first["left"] - seconds) / (seconds - first["seconds"])
    sizes = f"{large['prompts']:,} / {small['prompts']:,} prompts"
    yield Verdict(f"peak memory, {sizes}", large["peak_mib"] / small["peak_mib"], 1.3)
    yield Verdict("CPU of the last two tenths / of the second and third", late / early, 1.2)
    yield Verdict("time left promised after the first tenth, relative error", error, 0.2)
    yield Verdict("prompts that are not stored just once", float(runs["wrong"]), 0.0)
    yield Verdict(f"peak memory after a kill at half, {sizes}", resumed["peak_mib"] / small["peak_mib"], 1.6)
    at_work = resumed["at_work"][1] - resumed["prepared"][1]
    yield Verdict(
        "CPU seconds from the prompts' being read to the first new one done, after a kill at half", at_work, 30
    )


def votes_verdicts(votes: Mapping[str, Any]) -> Iterator[Verdict]:
    """Of what is asked of many votes, in CPU seconds over those of DuckDB on one file a table. Of the parts that
    flushes leave nothing is promised: to open hundreds of files takes longer than a question that reads little."""
    for query in votes["layouts"]["compacted"]:
        yield Verdict(f"{query['what']}: CPU / one file", query["ours"] / query["plain"], 3.0)
    audit = votes["audit"]
    yield Verdict("audit: CPU / plain SQL of its means", audit["cpu"] / audit["plain_cpu"], 3.0)
    yield Verdict("audit: peak memory, MiB", audit["peak_mib"], scale_votes.AUDIT_MIB)


def run_table(runs: Mapping[str, Any]) -> tuple[Table, str]:
    small, large, resumed = runs["small"], runs["large"], runs["resumed"]
    rows = []
    for mark in large["marks"]:
        times = (mark["seconds"], mark["cpu_seconds"], mark["rss_mib"], mark["seconds"] + (mark["left"] or 0))
        rows.append([f"{mark['done']:,}", *(f"{time:,.1f}" for time in times)])
    wall, work = resumed["at_work"]
    prepared = resumed["prepared"]
    note = (
        f"{large['prompts']:,} prompts in {large['seconds']:,.0f} s ({large['cpu_seconds']:,.0f} s of CPU); peak "
        f"memory {large['peak_mib']:.0f} MiB, of {small['prompts']:,} prompts {small['peak_mib']:.0f} MiB. Before it "
        f"the source is checked and laid out: {large['prepared'][1]:.0f} s of CPU. Killed with SIGKILL at half and "
        f"started again, its first new prompt was done after {wall:.0f} s ({work:.0f} s of CPU), of which "
        f"{prepared[0]:.0f} s ({prepared[1]:.0f} s) read the source again; peak memory {resumed['peak_mib']:.0f} MiB."
    )
    return Table(["prompts", "seconds", "CPU seconds", "MiB", "end as promised, s"], rows, "A run's growth"), note


def votes_table(votes: Mapping[str, Any]) -> tuple[Table, str]:
    audit, layouts, files = votes["audit"], votes["layouts"], votes["files"]
    heads = [cell for layout in layouts for cell in (f"{layout}, {files[layout]:,} files", "×")]
    rows = []
    for queries in zip(*layouts.values(), strict=True):
        cells = [queries[0]["what"], f"{min(query['plain'] for query in queries):.2f}"]
        for query in queries:
            cells += [f"{query['ours']:.2f}", f"{query['ours'] / query['plain']:.2f}"]
        rows.append(cells)
    note = (
        f"The audit of these votes takes {audit['cpu']:.0f} s of CPU and {audit['peak_mib']:,.0f} MiB; the plain SQL "
        f"of its means, without intervals, on one file a table {audit['plain_cpu']:.0f} s."
    )
    return Table(["question", "one file", *heads], rows, f"CPU seconds, {votes['votes']:,} votes", detail=True), note


@click.command(help=__doc__)
@click.option("--prompts", default=1_000_000, show_default=True, type=click.IntRange(min=2000))
@click.option("--votes", default=10_000_000, show_default=True, type=click.IntRange(min=20_000))
@options
def main(prompts: int, votes: int, out: Path | None, page: Path | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        runs = measure_run(Path(folder), prompts)
    with tempfile.TemporaryDirectory() as folder:
        asked = scale_votes.measure(Path(folder), votes)
    shown = [run_table(runs), votes_table(asked)]
    verdicts = [*run_verdicts(runs), *votes_verdicts(asked)]
    finish(out, page, [table for table, _ in shown], verdicts, [note for _, note in shown])


if __name__ == "__main__":
    main()
