"""What `benchmarks.scale` found, as tables and verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Verdict = tuple[str, float, float]
"""What, measured, and at most how much; more breaks a promise."""


def run_verdicts(found: Mapping[str, Any]) -> Iterator[Verdict]:
    """Of a run's memory and time, and of how it goes on after a kill."""
    small, large, resumed = found["small"], found["large"], found["resumed"]
    marks, seconds = large["marks"], large["seconds"]
    early, late = (marks[end]["cpu_seconds"] - marks[end - 2]["cpu_seconds"] for end in (2, 9))
    first = marks[0]
    error = abs(first["seconds"] + first["left"] - seconds) / (seconds - first["seconds"])
    sizes = f"{large['prompts']:,} / {small['prompts']:,} prompts"
    yield f"peak memory, {sizes}", large["peak_mib"] / small["peak_mib"], 1.3
    yield "CPU of the last two tenths / of the second and third", late / early, 1.2
    yield "time left promised after the first tenth, relative error", error, 0.2
    yield "prompts that are not stored just once", float(found["wrong"]), 0.0
    yield f"peak memory after a kill at half, {sizes}", resumed["peak_mib"] / small["peak_mib"], 1.6
    at_work = resumed["at_work"][1] - resumed["prepared"][1]
    yield "CPU seconds from the prompts' being read to the first new one done, after a kill at half", at_work, 30.0


def votes_verdicts(found: Mapping[str, Any]) -> Iterator[Verdict]:
    """Of what is asked of many votes, in CPU seconds over those of DuckDB on one file a table. Of the parts that
    flushes leave nothing is promised: to open hundreds of files takes longer than a question that reads little."""
    for query in found["layouts"]["compacted"]:
        yield f"{query['what']}: CPU / one file", query["ours"]["cpu"] / query["plain"]["cpu"], 3.0
    audit = found["audit"]
    yield "audit: CPU / plain SQL of its means", audit["cpu"] / audit["plain_cpu"], 3.0
    yield "audit: peak memory, MiB", audit["peak_mib"], audit["bound_mib"]


def run_tables(found: Mapping[str, Any]) -> list[str]:
    small, large, resumed = found["small"], found["large"], found["resumed"]
    lines = ["| prompts | seconds | CPU seconds | MiB | end as promised, s |", "|--:|--:|--:|--:|--:|"]
    for mark in large["marks"]:
        times = (mark["seconds"], mark["cpu_seconds"], mark["rss_mib"], mark["seconds"] + (mark["left"] or 0))
        lines.append(f"| {mark['done']:,} | " + " | ".join(f"{time:,.1f}" for time in times) + " |")
    wall, work = resumed["at_work"]
    return [
        *lines,
        "",
        f"{large['prompts']:,} prompts in {large['seconds']:,.0f} s ({large['cpu_seconds']:,.0f} s of CPU); peak "
        f"memory {large['peak_mib']:.0f} MiB, of {small['prompts']:,} prompts {small['peak_mib']:.0f} MiB. Before it "
        f"the source is read twice, to check it and to lay it out: {large['prepared'][1]:.0f} s of CPU.",
        "",
        f"Killed with SIGKILL at half and started again, its first new prompt was done after {wall:.0f} s "
        f"({work:.0f} s of CPU), of which {resumed['prepared'][0]:.0f} s ({resumed['prepared'][1]:.0f} s) go to "
        f"reading the source again; peak memory {resumed['peak_mib']:.0f} MiB.",
    ]


def votes_tables(found: Mapping[str, Any]) -> list[str]:
    audit, layouts, files = found["audit"], found["layouts"], found["files"]
    heads = " | ".join(f"{layout}, {files[layout]:,} files | ×" for layout in layouts)
    lines = [
        f"| CPU seconds, {found['votes']:,} votes | one file | {heads} |",
        "|---|--:|" + "--:|--:|" * len(layouts),
    ]
    for rows in zip(*layouts.values(), strict=True):
        plain = min(row["plain"]["cpu"] for row in rows)
        cells = [f"{row['ours']['cpu']:.2f} | {row['ours']['cpu'] / row['plain']['cpu']:.2f}" for row in rows]
        lines.append(f"| {rows[0]['what']} | {plain:.2f} | " + " | ".join(cells) + " |")
    return [
        *lines,
        "",
        f"The audit of these votes takes {audit['cpu']:.0f} s of CPU and {audit['peak_mib']:,.0f} MiB; the plain SQL "
        f"of its means, without intervals, on one file a table {audit['plain_cpu']:.0f} s.",
    ]


def judged(verdicts: list[Verdict]) -> list[str]:
    """A line each."""
    return [
        f"- {'PASS' if measured <= bound else 'FAIL'}  {what}: {measured:,.3f} (at most {bound:,g})"
        for what, measured, bound in verdicts
    ]
