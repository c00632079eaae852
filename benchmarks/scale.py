"""Does the cost of a run grow with its size, and does a large warehouse answer as fast as plain DuckDB?

    make bench-scale                                            1,000,000 prompts; 10,000,000 votes
    python -m benchmarks.scale --prompts 20000 --votes 200000   a taste of it

Prompts: a run through the fake engine (scale_run), and a small one beside it; another is killed at half and started
again. Votes: what `constitution sql` and `constitution audit` take of a run of so many (scale_rows, scale_votes). The
figures are those of scale_report.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from benchmarks import scale_votes
from benchmarks.engine_report import machine, put_into
from benchmarks.scale_report import Verdict, judged, run_tables, run_verdicts, votes_tables, votes_verdicts
from benchmarks.scale_run import apart
from constitution.warehouse import ask, connect

PARTS = ("prompts", "votes")


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


@click.command()
@click.option("--prompts", default=1_000_000, show_default=True, type=click.IntRange(min=2000))
@click.option("--votes", default=10_000_000, show_default=True, type=click.IntRange(min=20_000))
@click.option("--only", type=click.Choice(PARTS), help="One of the two.")
@click.option("--out", type=click.Path(path_type=Path), help="The figures' file; what is not measured stays in it.")
@click.option("--page", type=click.Path(path_type=Path, exists=True), help="A page with a place for bench-scale.")
def main(prompts: int, votes: int, only: str | None, out: Path | None, page: Path | None) -> None:
    figures: dict[str, Any] = json.loads(out.read_text()) if out and out.exists() else {}
    figures |= {"date": datetime.now(UTC).date().isoformat(), "machine": machine()}
    for part in PARTS if only is None else (only,):
        with tempfile.TemporaryDirectory() as folder:
            figures[part] = (
                measure_run(Path(folder), prompts) if part == "prompts" else scale_votes.measure(Path(folder), votes)
            )
        if out is not None:
            out.write_text(json.dumps(figures, indent=1) + "\n")
    verdicts: list[Verdict] = []
    lines = [f"Measured {figures['date']} on {figures['machine']}.", ""]
    if "prompts" in figures:
        verdicts += run_verdicts(figures["prompts"])
        lines += [*run_tables(figures["prompts"]), ""]
    if "votes" in figures:
        verdicts += votes_verdicts(figures["votes"])
        lines += [*votes_tables(figures["votes"]), ""]
    text = "\n".join([*lines, *judged(verdicts)])
    click.echo(text)
    if page is not None:
        page.write_text(put_into(page.read_text(), "bench-scale", text))
    if any(measured > bound for _, measured, bound in verdicts):
        sys.exit(1)


if __name__ == "__main__":
    main()
