"""Recipes of planted judges whose votes are adaptive, or all asked for; and a run as a kill leaves it."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from constitution.cli import app
from constitution.records import Run

PLANTED = """
name = "planted"
constitution = "general@1.2.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "fake"
verbosity = 3
[model.judge]
engine = "fake"
model = "planted"
noise = 6
position_bias = 0.8
[revise]
rounds = 1
[judge]
[perturb]
share = 0.2
[output]
flush_seconds = 1.0
"""
"""Sixteen principles in both orders, 32 votes a pair, and noise of up to four sentences: some pairs are clear, others
close."""
JURY = PLANTED.replace("[model.judge]", "[model.jury.one]").replace(
    "[revise]",
    """[model.jury.two]
engine = "fake"
model = "two"
accuracy = 0.7
[model.jury.weak]
engine = "fake"
model = "weak"
failure_rate = 0.5
[revise]""",
)
ADAPTIVE = "judge.votes=adaptive"
SOUND = "model.jury.weak.failure_rate=0"
MIXED = JURY.replace('model = "two"\n', 'model = "two"\nmethod = "verdict"\n').replace(
    "failure_rate = 0.5", 'method = "score"'
)


def command(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in arguments])
    assert result.exit_code == 0, f"{result.output}{result.exception!r}"
    return result.output


def reopened(root: Path, run: Run) -> None:
    """As a process leaves it that was killed before its record was written."""
    path = root / "runs" / f"{run.run_id}.json"
    record = json.loads(path.read_text(encoding="utf-8")) | {"finished_at": None}
    path.write_text(json.dumps(record), encoding="utf-8")
