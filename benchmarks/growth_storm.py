"""Shards on the simulated server, in a folder and on an S3 server that answers five milliseconds late: what the URL
costs, and whether a run whose requests straggle and whose shards are killed and hang loses or doubles a row."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from unittest.mock import patch

from benchmarks.engine import server, stats_of
from benchmarks.engine_clients import ROOT, Job, Part, write_prompts
from benchmarks.growth_shards import Grown, Storm, in_shards, said
from benchmarks.results import Table, Verdict
from constitution.warehouse import Warehouse, ask, connect, place

LATENCY_S = 0.005
OF, EACH = 8, 25_000
PART = Part("", ("ours",), 10.0, slots=512)
STORMY = replace(PART, stragglers=0.005)
COUNTED = """SELECT (SELECT count(*) FROM responses), (SELECT count(*) FROM judgements),
    (SELECT count(*) FROM failures), count(*), count(DISTINCT prompt_id) FROM preferences"""


@dataclass(frozen=True, slots=True)
class Weathered:
    """A run on the simulated server."""

    grown: Grown
    url: bool
    repeated: float
    """Calls that were made more than once, of those that there are."""
    wrong: int
    """Rows that are missing or too many, files that are damaged, and a run that is not finished."""


@contextmanager
def bucket() -> Iterator[str]:
    """An S3 server's bucket, as a URL; the environment says where it is."""
    command = [sys.executable, "tests/s3_server.py", "--port", "0", "--latency", str(LATENCY_S)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        given = json.loads(process.stdout.readline())
        with patch.dict(os.environ, given):
            yield given["CONSTITUTION_URL"]
    finally:
        process.kill()
        process.wait()


def weathered(part: Part, prompts: int, of: int, *, url: bool, storm: Storm | None = None) -> Weathered:
    """One run in `of` processes; 0: as a whole. On a URL each has its own mirror."""
    with tempfile.TemporaryDirectory() as name, server(part) as base_url, bucket() if url else nullcontext() as place_:
        job = Job(base_url, Path(name), part, prompts)
        write_prompts(job.file, prompts, part.words)
        where = f"{place_}/warehouse" if place_ else str(job.warehouse)
        grown = in_shards(job.recipe(), where, prompts, of, apart=url, storm=storm)
        replies = stats_of(base_url)["replies"]
        with patch.dict(os.environ, {"CONSTITUTION_CACHE": f"{name}/cache-reader"}):
            wrong = wrong_in(where, prompts)
    found = Weathered(grown, url, replies / (part.calls * prompts) - 1, wrong)
    print(f"  {said(of)}, {'URL' if url else 'folder'}: {prompts:,} prompts in {grown.wall_s:.1f} s", file=sys.stderr)
    return found


def wrong_in(where: str, prompts: int) -> int:
    warehouse = place(where)
    with connect(warehouse) as connection:
        [rows] = ask(connection, COUNTED).rows
    expected = (2 * prompts, 2 * prompts, 0, prompts, prompts)
    [run] = Warehouse(warehouse).runs()
    unequal = sum(abs(int(there) - wanted) for there, wanted in zip(rows, expected, strict=True))
    return unequal + len(Warehouse(warehouse).verify(run.run_id)) + (run.finished_at is None)


def overhead(prompts: int, repeats: int) -> list[Weathered]:
    """As a whole, in a folder and on a URL, interleaved."""
    return [weathered(PART, prompts, 0, url=url) for _ in range(repeats) for url in (False, True)]


def storm(each: int, kills: int, url: bool) -> Weathered:
    """OF shards of `each` prompts; `kills` times one is killed or hangs."""
    usual = OF * each * STORMY.calls / 1000  # seconds, about, on two cores
    return weathered(STORMY, OF * each, OF, url=url, storm=Storm(kills, max(2.0, usual / (kills + 1))))


def overhead_verdicts(runs: Sequence[Weathered]) -> list[Verdict]:
    pairs = [(one.grown, two.grown) for one, two in zip(runs[::2], runs[1::2], strict=True)]
    wall = median(two.wall_s / one.wall_s for one, two in pairs)
    cpu = median(two.longest / one.longest for one, two in pairs)
    return [
        Verdict(f"seconds, URL with {1000 * LATENCY_S:g} ms of latency / folder", wall, 1.15),
        Verdict("CPU, URL / folder", cpu, 1.3),
    ]


def storm_verdicts(run: Weathered) -> list[Verdict]:
    return [Verdict(f"{OF} shards, {run.grown.kills} killed or hung: rows wrong", float(run.wrong), 0.0)]


def table(runs: Sequence[Weathered]) -> Table:
    rows = []
    for run in runs:
        grown, where = run.grown, "URL" if run.url else "folder"
        cells = [f"{grown.prompts:,}", where, f"{grown.kills}", f"{grown.wall_s:.1f}", f"{sum(grown.cpu_s):.1f}"]
        rows.append([said(grown.shards), *cells, f"{max(grown.peak_mib):.0f}", f"{run.repeated:.1%}", f"{run.wrong}"])
    columns = ["in", "prompts", "warehouse", "killed or hung", "seconds", "CPU s", "peak MiB of one"]
    return Table([*columns, "calls repeated", "rows wrong"], rows, "On the simulated server")
