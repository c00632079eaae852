"""Everything that may go wrong, at length: kills, servers' and machines' faults, bad and hostile input.

    make torture                           with a new seed, which it prints
    make torture SEED=7

The tests are those of tests/torture, whose short versions are part of `make test`, and those that are marked `torture`.
What they count and measure is printed and written to docs/RESULTS.md.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from benchmarks.results import Table, finish, options

ROOT = Path(__file__).parent.parent


def run(seed: int) -> dict[str, Any]:
    """One run of all the tests. Exits with pytest's code where any fails."""
    with tempfile.TemporaryDirectory() as folder:
        counts = Path(folder) / "counts.json"
        command = [sys.executable, "-m", "pytest", "tests", "--torture", f"--seed={seed}", f"--counts={counts}"]
        begun = time.monotonic()
        code = subprocess.run([*command, "-n", "auto", "--maxprocesses", "4"], cwd=ROOT, check=False).returncode
        if code:
            click.echo(f"FAIL: seed {seed}")
            sys.exit(code)
        found: dict[str, Any] = json.loads(counts.read_text())
    return {"seed": seed, "seconds": round(time.monotonic() - begun), **found}


def table(run: dict[str, Any]) -> Table:
    rows = [
        [what, f"{value:,}" if isinstance(value, int) else str(value)]
        for kind in ("counts", "figures")
        for what, value in sorted(run[kind].items())
    ]
    return Table(["what was tried", f"seed {run['seed']}"], [*rows, ["seconds", f"{run['seconds']:,}"]])


@click.command()
@click.option("--seed", type=int, help="Of all that is drawn by chance; drawn itself where it is not given.")
@options
def main(seed: int | None, out: Path | None, page: Path | None) -> None:
    tried = run(secrets.randbelow(2**31) if seed is None else seed)
    click.echo(f"PASS: seed {tried['seed']}, {tried['seconds']} s: nothing lost")
    finish(out, page, [table(tried)], [])


if __name__ == "__main__":
    main()
