"""docs/documents.md: its commands, in turn, from a new project to a data set with its coverage."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from constitution import query
from constitution.cli import app

PAGE = Path(__file__).parent.parent / "docs" / "documents.md"


def test_the_page_leads_from_house_rules_to_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL)
    commands = [line.removeprefix("$ ") for line in block.splitlines()]
    assert len(commands) < 10
    monkeypatch.chdir(tmp_path)
    said: dict[str, str] = {}
    for command in commands:
        words = shlex.split(command)
        if words[0] == "cd":
            monkeypatch.chdir(words[1])
            continue
        done = CliRunner().invoke(app, words[1:])
        assert done.exit_code == 0, f"{command}: {done.output}{done.exception}"
        said[words[1] if words[1] != "principles" else words[2]] = done.output
    assert "14 clauses without a draft" in said["extract"]
    text = " ".join(Path("recipes/house-rules.md").read_text().split())
    principles = query("warehouse", "FROM principles")
    assert len(principles) == 15
    assert all(each["quote"] and each["quote"] in text for each in principles)
    (loose,) = query(
        "warehouse",
        "SELECT count(*) AS n FROM judgements "
        "WHERE id NOT IN (SELECT id FROM clause_rows WHERE table_name = 'judgements' AND clause IS NOT NULL)",
    )
    assert loose["n"] == 0
    rows: Any = pq.read_table("house-dpo/data" if Path("house-dpo/data").exists() else "house-dpo")
    assert rows.num_rows > 0
    states = {
        row["state"]: row["n"] for row in query("warehouse", "SELECT state, count(*) AS n FROM coverage GROUP BY ALL")
    }
    assert states["covered"] >= 10
    assert states["no-principle"] == 14
