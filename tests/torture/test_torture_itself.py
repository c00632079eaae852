"""What the tests here count reaches the page."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

COUNTING = """
def test_counts(torture):
    torture.count("kills", 3 if torture.full else 1)
    torture.count("kills", torture.seed)
    torture.measure("repeated calls", 0.5)

def test_counts_too(torture):
    torture.count("kills")
"""


def test_what_is_counted_is_told(tmp_path: Path) -> None:
    (tmp_path / "test_counting.py").write_text(COUNTING)
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    counts = tmp_path / "counts.json"
    command = [sys.executable, "-m", "pytest", str(tmp_path), "--torture", "--seed=5", f"--counts={counts}", "-n", "2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kills: 9" in done.stdout
    found = json.loads(counts.read_text())
    assert found == {"counts": {"kills": 9}, "figures": {"repeated calls": 0.5}}
