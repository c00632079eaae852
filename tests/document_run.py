"""A public document through extract, accept, run and coverage, and what must hold of the rows."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from judging_rows import answer
from run_once import run_once

from constitution.cli import app
from constitution.documents import read_document
from constitution.documents.lines import normal
from constitution.records import Run

GPL = Path("/usr/share/common-licenses/GPL-3")
"""Free Software Foundation; verbatim copies are allowed. Debian's base has it."""
POLICY = Path("/usr/share/doc/python3/python-policy.html")
"""Debian Python Policy, GPL-2+; the package python3 has it."""
LEAST_WORDS = 5000
RECIPE = """
name = "{name}"
constitution = "{name}"
[prompts]
path = "prompts.jsonl"
{model}
[revise]
rounds = {rounds}
[judge]
method = "label"
principles = 3
"""
ROWS = """
SELECT r.table_name, r.id, r.principle_id, r.clause, c.text, c.lead
FROM clause_rows AS r LEFT JOIN clauses AS c
ON c.run_id = r.run_id AND c.clause = r.clause AND c.edition = '{edition}' WHERE r.run_id = '{run}'
"""


def command(*words: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, words)))


def extracted(root: Path, document: Path, name: str, *options: str) -> Result:
    """`principles extract` of the document into `root`, and all accepted."""
    (root / "principles").mkdir(exist_ok=True)
    place = ("--root", root / "principles")
    return command("principles", "extract", document, "--name", name, "--accept", "all", *options, *place)


def run_on(root: Path, name: str, model: str, prompts: int, sets: list[str], rounds: int = 1) -> Run:
    lines = "".join(json.dumps({"prompt": f"May I give away copy number {n}?"}) + "\n" for n in range(prompts))
    (root / "prompts.jsonl").write_text(lines, encoding="utf-8")
    (root / "recipe.toml").write_text(RECIPE.format(name=name, model=model, rounds=rounds), encoding="utf-8")
    return asyncio.run(run_once(root / "recipe.toml", root / "warehouse", sets))


def traced(root: Path, document: Path, run: Run) -> list[dict[str, Any]]:
    """The view `coverage` of this edition, once every quote is known to be verbatim and every row has its clause."""
    found, warehouse = read_document(document), root / "warehouse"
    done = command("coverage", document, run.run_id, "--warehouse", warehouse, "--json")
    assert done.exit_code == 0, done.stderr or done.exception
    principles = answer(warehouse, f"SELECT * FROM principles WHERE run_id = '{run.run_id}'")
    assert principles
    for each in principles:
        assert each["quote"]
        assert normal(each["quote"]) in found.text.replace("\n", " "), each["quote"]
    rows = answer(warehouse, ROWS.format(edition=found.digest, run=run.run_id))
    quotes = {each["principle_id"]: normal(each["quote"]) for each in principles}
    for table in ("responses", "judgements", "preferences", "scores"):
        there = answer(warehouse, f"SELECT id FROM {table} WHERE run_id = '{run.run_id}'")
        assert {row["id"] for row in there} == {row["id"] for row in rows if row["table_name"] == table}
    for row in rows:
        if row["table_name"] in ("judgements", "preferences"):
            assert row["principle_id"]
        if row["principle_id"]:
            assert row["text"], row
            assert quotes[row["principle_id"]] in normal(f"{row['lead']} {row['text']}"), row
    covered: list[dict[str, Any]] = json.loads(done.stdout)
    assert {row["clause"] for row in rows if row["clause"]} == {
        row["clause"] for row in covered if row["state"] == "covered"
    }
    return covered
