"""Everything that may go wrong, at length: kills, servers' and machines' faults, bad and hostile input.

    make torture                           with a seed of its own, which it prints
    make torture SEED=7

The tests are those of tests/torture, whose short versions are part of `make test`. What they count and measure is
printed, and put beside the last run's into docs/reliability.md; the page keeps two runs.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from benchmarks.engine_report import machine, put_into

ROOT = Path(__file__).parent.parent
KEPT = 2
"""Runs that the results and the page hold."""


def run(seed: int) -> dict[str, Any]:
    """One run of all the tests. Exits with pytest's code where any fails."""
    with tempfile.TemporaryDirectory() as folder:
        counts = Path(folder) / "counts.json"
        command = [sys.executable, "-m", "pytest", "tests/torture", "--torture", f"--seed={seed}", f"--counts={counts}"]
        begun = time.monotonic()
        code = subprocess.run([*command, "-n", "auto", "--maxprocesses", "4"], cwd=ROOT, check=False).returncode
        if code:
            click.echo(f"FAIL: seed {seed}")
            sys.exit(code)
        found: dict[str, Any] = json.loads(counts.read_text())
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "seed": seed,
        "seconds": round(time.monotonic() - begun),
        **found,
    }


def table(runs: list[dict[str, Any]]) -> str:
    """The runs side by side, as Markdown."""
    lines = ["| | " + " | ".join(f"seed {run['seed']}" for run in runs) + " |", "|:--|" + "--:|" * len(runs)]
    for kind in ("counts", "figures"):
        for what in sorted({name for run in runs for name in run[kind]}):
            cells = [run[kind].get(what, "") for run in runs]
            shown = [f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells]
            lines.append(f"| {what} | " + " | ".join(shown) + " |")
    lines.append("| seconds | " + " | ".join(f"{run['seconds']:,}" for run in runs) + " |")
    return "\n".join([*lines, "", f"{runs[-1]['date']}, {runs[-1]['machine']}."])


@click.command()
@click.option("--seed", type=int, help="Of all that is drawn by chance; one that nobody chose where it is not given.")
@click.option("--out", type=click.Path(path_type=Path), help="Keep the figures of the last two runs here, as JSON.")
@click.option("--page", type=click.Path(path_type=Path), help="Also put them into this Markdown page.")
def main(seed: int | None, out: Path | None, page: Path | None) -> None:
    found = run(secrets.randbelow(2**31) if seed is None else seed)
    click.echo(f"PASS: seed {found['seed']}, {found['seconds']} s: nothing lost")
    before = json.loads(out.read_text())["runs"] if out is not None and out.exists() else []
    runs = [*before, found][-KEPT:]
    if out is not None:
        out.write_text(json.dumps({"runs": runs}, indent=1) + "\n")
    if page is not None:
        page.write_text(put_into(page.read_text(encoding="utf-8"), "torture", table(runs)), encoding="utf-8")


if __name__ == "__main__":
    main()
