"""Does an export of a large run stay small, and quick? Peak of memory, seconds and rows a second of each format.

    make bench-export                      200,000 prompts
    python -m benchmarks.export --prompts 2000

The warehouse is a real run's, through the pipeline as `constitution run` drives it: the fake engine answers each
prompt, revises once and grades both answers by two principles. One prompt in ten is asked twice. Each format is
exported by a process of its own, whose peak of memory the kernel tells; then the files themselves are asked whether a
conversation lies on both sides of the split, and the warehouse whether every candidate is accounted for.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import duckdb

from benchmarks.engine_clients import write_prompts
from benchmarks.results import Table, Verdict, finish, options
from constitution.export import Cleaning, Settings, export
from constitution.pipeline import open_run, prepare
from constitution.recipe import load_recipe
from constitution.warehouse import Warehouse, ask, connect

ROOT = Path(__file__).parent.parent
MOST_MIB = 1536
RECIPE = """
name = "export"
constitution = "general@1.1.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "fake"
verbosity = 8
[revise]
rounds = 1
[judge]
method = "score"
principles = 2
"""
FORMATS = ("dpo", "reward", "robust", "sft", "kto", "grpo")
CLEANED = "dpo, cleaned"
"""dpo with every step of cleaning but the search for private data, which takes a detector's time for each text."""


@dataclass(frozen=True, slots=True)
class Result:
    what: str
    candidates: int
    rows: int
    seconds: float
    peak_mib: float
    """Of the process that exported, from its start."""
    mib: float
    """Of the Parquet files."""
    both_sides: int
    """Conversations that are in train and in test."""
    unaccounted: int
    """Candidates with neither a split nor a reason, or with both."""

    @property
    def verdicts(self) -> list[Verdict]:
        return [
            Verdict(f"{self.what}: peak memory, MiB", self.peak_mib, MOST_MIB),
            Verdict(f"{self.what}: conversations on both sides of the split", self.both_sides, 0),
            Verdict(f"{self.what}: candidates unaccounted, of {self.candidates:,}", self.unaccounted, 0),
        ]


async def make(folder: Path, prompts: int) -> str:
    """A finished run over so many prompts in `folder`; returns its id."""
    write_prompts(folder / "prompts.jsonl", prompts - prompts // 10, words=(20, 60))
    lines = (folder / "prompts.jsonl").read_text(encoding="utf-8").splitlines()[: prompts // 10]
    with (folder / "prompts.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines)
    (folder / "export.toml").write_text(RECIPE)
    (folder / "principles").symlink_to(ROOT / "principles")
    plan = prepare(load_recipe(folder / "export.toml"), folder / "export.toml", folder / "warehouse")
    async with open_run(plan) as session:
        await session.walk()
        await session.finish()
    return plan.run_id


def settings(what: str, folder: Path) -> Settings:
    if what != CLEANED:
        return Settings.model_validate({"format": what})
    cleaning = Cleaning(
        decontaminate=(folder / "evaluation.jsonl",),
        min_words=1,
        max_words=2000,
        language=("en",),
        drop_refusals=True,
        boilerplate=0.9,
        drop_broken=True,
    )
    return Settings(format="dpo", cleaning=cleaning)


def export_one(folder: Path, what: str) -> dict[str, Any]:
    """Exports it, here: seconds, and this process's peak of memory, MiB (Linux)."""
    [run] = Warehouse(folder / "warehouse").runs()
    begun = time.monotonic()
    done = export(folder / "warehouse", run.run_id, settings(what, folder), folder / "out" / what, overwrite=True)
    seconds = time.monotonic() - begun
    status = Path("/proc/self/status").read_text()
    [peak] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    figures = {"candidates": done.candidates, "rows": sum(done.rows.values()), "export_id": done.export_id}
    return {**figures, "seconds": seconds, "peak_mib": int(peak.split()[1]) / 1024}


def measure(folder: Path, what: str) -> Result:
    """`export_one` in its own process, and what its files and the warehouse say."""
    command = [sys.executable, "-m", "benchmarks.export", "--folder", str(folder), "--one", what]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    told: dict[str, Any] = json.loads(done.stdout)
    out = folder / "out" / what
    conversation = "md5(to_json(chosen[:-2])::VARCHAR)" if what == "reward" else "md5(to_json(prompt)::VARCHAR)"
    sides = [
        f"SELECT DISTINCT {conversation} AS conversation FROM read_parquet('{out}/data/**/{side}-*.parquet')"
        for side in ("train", "test")
    ]
    with duckdb.connect() as files:
        query = f"SELECT count(*) FROM ({sides[0]}) JOIN ({sides[1]}) USING (conversation)"
        ((both,),) = files.execute(query).fetchall()
    with connect(folder / "warehouse") as connection:
        query = (
            f"SELECT count(*), count(*) FILTER ((split IS NULL) = (drop_reason IS NULL)), count(split) FROM exported "
            f"WHERE export_id = '{told.pop('export_id')}'"
        )
        [(stored, unaccounted, kept)] = list(ask(connection, query).rows)
    unaccounted += abs(stored - told["candidates"]) + abs(kept - told["rows"])
    mib = sum(path.stat().st_size for path in out.rglob("*.parquet")) / 2**20
    return Result(what, mib=mib, both_sides=both, unaccounted=unaccounted, **told)


def table(results: Sequence[Result], prompts: int) -> Table:
    rows = []
    for each in results:
        numbers = (each.seconds, each.rows / each.seconds, each.peak_mib, each.mib)
        rows.append([each.what, f"{each.candidates:,}", f"{each.rows:,}", *(f"{number:,.0f}" for number in numbers)])
    columns = ["format", "candidates", "rows", "seconds", "rows a second", "peak MiB", "files MiB"]
    return Table(columns, rows, f"A run of {prompts:,} prompts")


@click.command()
@click.option("--prompts", default=200_000, show_default=True, type=click.IntRange(min=100))
@click.option("--only", multiple=True, help="Only these formats.")
@click.option("--one", help="Only this export of the run in --folder, its figures as JSON.")
@click.option("--folder", type=click.Path(path_type=Path), help="Keep the run here; one that is there is taken.")
@options
def main(
    prompts: int, only: tuple[str, ...], one: str | None, folder: Path | None, out: Path | None, page: Path | None
) -> None:
    if one is not None:
        assert folder is not None
        print(json.dumps(export_one(folder, one)))
        return
    with tempfile.TemporaryDirectory() as name:
        place = folder or Path(name)
        place.mkdir(parents=True, exist_ok=True)
        if not (place / "warehouse").exists():
            write_prompts(place / "evaluation.jsonl", 1000, words=(20, 60))
            asyncio.run(make(place, prompts))
        results = []
        for what in only or (*FORMATS, CLEANED):
            results.append(measure(place, what))
    finish(out, page, [table(results, prompts)], [verdict for each in results for verdict in each.verdicts])


if __name__ == "__main__":
    main()
