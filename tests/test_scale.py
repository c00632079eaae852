"""A run's memory and CPU time do not grow with its size (`make bench-scale` is the long version)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def run(prompts: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.scale", "--prompts", str(prompts), "--one"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def test_memory_and_time_of_a_run_do_not_grow_with_its_size() -> None:
    # Parquet's and DuckDB's own pools fill in the first ten thousand rows or so.
    small, large = run(3000), run(9000)
    assert large["peak_mib"] < 1.2 * small["peak_mib"]
    marks = large["marks"]
    early, late = (marks[end]["cpu_seconds"] - marks[end - 3]["cpu_seconds"] for end in (3, 9))
    assert late < 1.6 * early
