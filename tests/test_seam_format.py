"""A further export format is a section of formats.toml: it is exported, split, described and found by the command."""

from __future__ import annotations

from pathlib import Path

import seams

ORPO = """
[ranked]
title = "ranked answers"
unit = "pair"
trainer = "ORPO"
tags = ["orpo"]
settings = ["min_margin"]
columns = ["prompt", "chosen", "rejected", "gap", "run_id"]
column.gap = ["number", "How much likelier the chosen answer is the better one.", "2 * t.p_won - 1"]
intro = "Votes of language models."
limits = ["They can be wrong together."]

[grpo]
"""
CHECK = """
import json
from pathlib import Path
import pyarrow.parquet as pq
rows = pq.read_table("out/data/train-00000-of-00001.parquet").to_pylist()
assert rows and all(0.4 <= row["gap"] <= 1 for row in rows)
assert list(rows[0]) == ["prompt", "chosen", "rejected", "gap", "run_id"]
manifest = json.loads(Path("out/manifest.json").read_text())
assert manifest["format"] == "ranked" and manifest["settings"]["min_margin"] == 0.2
assert "ORPOTrainer" in Path("out/README.md").read_text()
"""


def test_a_further_format_is_one_section(tmp_path: Path) -> None:
    changed = {"constitution/export/formats.toml": [("\n[grpo]\n", ORPO)]}
    copy = seams.stub(tmp_path, new={}, changed=changed, limit=3)
    copy.command("run", "recipes/fake.toml", "--warehouse", "w")
    copy.command(
        *("export", "--warehouse", "w", "--format", "ranked", "--out", "out"),
        *("--min-margin", "0.2", "--test", "0", "--dedupe", "off"),
    )
    copy.python(CHECK)
    assert "clip is for reward" in copy.command(
        *("export", "--warehouse", "w", "--format", "ranked", "--out", "o2", "--clip", "0.9"), code=2
    )
