"""A document's clauses beside a run: what is covered, what is not, and that every row leads to its clause."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from export_runs import NO_CLEANING
from judging_rows import answer
from run_once import run_once
from test_remote import Machines, machines, server  # noqa: F401
from test_warehouse_copy import command as copy

from constitution.audit import audit
from constitution.audit.report import report
from constitution.cli import app
from constitution.documents import read_document
from constitution.errors import ConstitutionError
from constitution.export import Settings, export
from constitution.records import Run
from constitution.warehouse import Warehouse

RULES = """# House rules of the harbour desk

The desk answers everyone who asks.

## 1 Manner

1.1 Staff speak kindly to every caller.

1.2 Staff name the next step.

## 2 Truth

2.1 Staff do not guess.

2.2 Staff must never:

- (a) promise a berth;
- (b) quote a price.

## 3 Archive

3.1 Letters are kept for ten years.

3.2 Keys are counted at night.
"""
CONSTITUTION = """
name = "harbour"
version = "1.0.0"
description = "Of tests."

[[principles]]
id = "kind"
critique_request = "Where is the answer unkind?"
revision_request = "Rewrite it kindly."
comparison_question = "Which answer is kinder?"
quote = "Staff speak kindly to every caller."
clauses = ["rules#1.1"]

[[principles]]
id = "true"
comparison_question = "Which answer guesses less?"
quote = "Staff do  not guess."
clauses = ["rules#2.1", "rules#2.2.a"]

[[principles]]
id = "berths"
aim = "Promise no berth."
quote = "Staff must never: promise a berth"
clauses = ["rules#2.2.a"]

[[principles]]
id = "brief"
comparison_question = "Which answer is shorter?"

[[principles]]
id = "idle"
aim = "Keep letters."
quote = "Letters are burnt at once."
clauses = ["rules#3.1", "rules#9"]

[[principles]]
id = "keys"
aim = "Count keys."
clauses = ["rules#3.2"]
"""
RECIPE = """
name = "harbour"
constitution = "harbour@1.0.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "fake"
[revise]
rounds = 1
[judge]
method = "label"
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    root = tmp_path_factory.mktemp("harbour it's 你好")
    put(root, "rules.md", RULES)
    put(root, "principles/harbour/1.0.0.toml", CONSTITUTION)
    put(root, "recipe.toml", RECIPE)
    put(root, "prompts.jsonl", "".join(json.dumps({"prompt": f"Is berth {n} free?"}) + "\n" for n in range(8)))
    return root, asyncio.run(run_once(root / "recipe.toml", root / "warehouse", []))


def put(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def covered(root: Path, document: Path, run: Run, *words: str) -> Result:
    command = ["coverage", str(document), run.run_id, "--warehouse", str(root / "warehouse"), *words]
    return CliRunner().invoke(app, command)


def test_each_clause_has_its_numbers_and_what_is_not_covered_is_said(ran: tuple[Path, Run]) -> None:
    root, run = ran
    done = covered(root, root / "rules.md", run, "--json")
    assert done.exit_code == 1, done.output
    rows = {row["clause"].removeprefix("rules#"): row for row in json.loads(done.stdout)}
    states = {name: row["state"] for name, row in rows.items()}
    assert states.pop("2.2") == "introduces"
    assert {name for name, state in states.items() if state == "covered"} == {"1.1", "2.1", "2.2.a"}
    assert states["3.1"] == "misquoted"
    assert rows["3.1"]["misquoted_by"] == ["idle"]
    assert {states[name] for name in ("1.2", "2.2.b")} == {"no-principle"}
    kind = rows["1.1"]
    votes = answer(root / "warehouse", "SELECT principle_id, count(*) AS n FROM judgements GROUP BY ALL")
    assert kind["votes"] == next(row["n"] for row in votes if row["principle_id"] == "kind") == 16
    [drawn] = answer(root / "warehouse", "SELECT * FROM drawn WHERE principle_id = 'kind'")
    assert [kind[name] for name in ("answers", "changed", "judged", "win_rate")] == [
        drawn[name] for name in ("drawn", "changed", "judged", "win_rate")
    ]
    assert [kind[name] for name in ("prompts", "pairs", "failures", "principle_ids")] == [8, 8, 0, ["kind"]]
    assert rows["2.2.a"]["principle_ids"] == ["true", "berths"]
    assert (rows["2.1"]["quoted_by"], rows["2.2.a"]["quoted_by"]) == (["true"], ["berths"])
    assert (rows["3.1"]["agrees"], rows["3.1"]["win_rate"], rows["3.1"]["votes"]) == (None, None, 0)
    told = done.stderr
    assert f"3 of {len(states)} clauses are covered" in told
    assert "Named by principles that quote other words: 1 (rules#3.1)" in told
    assert "Never drawn, voted or read: 1 (rules#3.2)" in told
    assert "Principles that name no clause of rules: 1 (brief)" in told
    assert "principle idle: names rules#9, and this edition has no such clause" in told
    assert "principle idle: its quote is not in the clauses that it names" in told


def test_every_row_traces_to_its_clause_in_one_query(ran: tuple[Path, Run]) -> None:
    root, run = ran
    covered(root, root / "rules.md", run)
    rows = answer(
        root / "warehouse",
        f"SELECT r.table_name, r.id, r.principle_id, c.text FROM clause_rows AS r LEFT JOIN clauses AS c "
        f"ON c.run_id = r.run_id AND c.clause = r.clause WHERE r.run_id = '{run.run_id}'",
    )
    for table in ("responses", "judgements", "preferences", "scores"):
        there = answer(root / "warehouse", f"SELECT id FROM {table}")
        assert {row["id"] for row in there} == {row["id"] for row in rows if row["table_name"] == table}
    for row in rows:
        assert (row["text"] is None) == (row["principle_id"] in (None, "brief"))
    assert {row["text"] for row in rows if row["principle_id"] == "kind"} == {"Staff speak kindly to every caller."}


def test_an_edition_is_stored_once_and_each_apart(ran: tuple[Path, Run], tmp_path: Path) -> None:
    root, run = ran
    warehouse = Warehouse(root / "warehouse")
    covered(root, root / "rules.md", run)
    before = warehouse.table("clauses", run.run_id)
    covered(root, root / "rules.md", run)
    assert warehouse.table("clauses", run.run_id) == before
    later = put(tmp_path, "rules.md", RULES.replace("every caller", "all who call").replace("2.1 Staff", "2.9 Staff"))
    done = covered(root, later, run)
    assert "Edition " in done.stderr
    assert "1 moved, 1 reworded, 0 added, 0 removed" in done.stderr
    assert "principle kind follows from rules#1.1: reworded" in done.stderr
    assert "principle true: names rules#2.1, and this edition has no such clause" in done.stderr
    [moved] = answer(
        root / "warehouse", "SELECT state FROM coverage WHERE clause = 'rules#1.1' ORDER BY state DESC LIMIT 1"
    )
    assert moved["state"] == "misquoted"
    editions = answer(root / "warehouse", "SELECT edition, count(*) AS n FROM clauses GROUP BY ALL")
    assert [row["n"] for row in editions] == [before.num_rows] * 2
    stays = [row for row in warehouse.table("clauses", run.run_id).to_pylist() if row in before.to_pylist()]
    assert len(stays) == before.num_rows


def test_what_was_divided_otherwise_is_replaced_and_said(ran: tuple[Path, Run]) -> None:
    root, run = ran
    warehouse = Warehouse(root / "warehouse")
    covered(root, root / "rules.md", run)
    digest = read_document(root / "rules.md").digest
    rows = [each for each in warehouse.read_clauses(run.run_id) if each.edition == digest]
    warehouse.write_clauses(run.run_id, [replace(rows[0], text="Other words."), *rows[1:]])
    done = covered(root, root / "rules.md", run)
    assert "its rows were replaced" in done.stderr
    assert [each for each in warehouse.read_clauses(run.run_id) if each.edition == digest] == rows


def test_a_document_by_another_name(ran: tuple[Path, Run], tmp_path: Path) -> None:
    root, run = ran
    other = put(tmp_path, "Rules 2027.md", RULES)
    done = covered(root, other, run)
    assert isinstance(done.exception, ConstitutionError)
    assert "names a clause of rules-2027" in str(done.exception)
    assert "--as NAME" in str(done.exception.hint)
    assert covered(root, other, run, "--as", "rules").exit_code == 1
    assert isinstance(covered(root, other, run, "--as", "a b").exception, ConstitutionError)


def test_the_audit_has_the_clauses(ran: tuple[Path, Run]) -> None:
    root, run = ran
    covered(root, root / "rules.md", run)
    figures = {each.figure: each for each in audit(root / "warehouse", run.run_id, replicates=20)}
    assert figures["clauses_covered"].n > 5
    assert 0 < (figures["clauses_covered"].value or 0) < 1
    assert figures["principles_traced"].value == pytest.approx(5 / 6)
    page = report(root / "warehouse", run.run_id)
    assert "Clause by clause" in page
    assert "rules#2.2.a" in page


def test_the_card_names_document_and_edition(ran: tuple[Path, Run], tmp_path: Path) -> None:
    root, run = ran
    covered(root, root / "rules.md", run)
    export(root / "warehouse", run.run_id, Settings(format="dpo", cleaning=NO_CLEANING), tmp_path / "dpo")
    card = " ".join((tmp_path / "dpo" / "README.md").read_text(encoding="utf-8").split())
    assert f"Held against the document rules, {len(read_document(root / 'rules.md').clauses)} clauses" in card
    assert read_document(root / "rules.md").digest in card


def test_a_run_of_before_has_none_and_takes_some(ran: tuple[Path, Run], tmp_path: Path) -> None:
    """As it is converted: principles without quote and clauses, no folder of clauses."""
    root, run = ran
    covered(root, root / "rules.md", run)
    old = tmp_path / "warehouse"
    shutil.copytree(root / "warehouse", old)
    shutil.rmtree(old / "clauses")
    [part] = (old / "principles" / run.run_id).glob("*.parquet")
    pq.write_table(pq.read_table(part).drop_columns(["quote", "clauses"]), part)
    shutil.rmtree(old / "checksums" / "principles")
    assert answer(old, "SELECT count(*) AS n FROM coverage") == [{"n": 0}]
    assert {row["clause"] for row in answer(old, "FROM clause_rows")} == {None}
    done = covered(tmp_path, root / "rules.md", run)
    assert "no principle of harbour@1.0.0 names a clause of rules" in str(done.exception)
    clauses = Warehouse(root / "warehouse").read_clauses(run.run_id)
    assert Warehouse(old).write_clauses(run.run_id, clauses) == "new"
    states = answer(old, "SELECT DISTINCT state FROM coverage ORDER BY ALL")
    assert [row["state"] for row in states] == ["introduces", "no-principle"]


def test_at_an_address_all_machines_have_them(ran: tuple[Path, Run], machines: Machines) -> None:  # noqa: F811
    root, run = ran
    covered(root, root / "rules.md", run)
    machines.on("here")
    assert copy(root / "warehouse", machines.url)[0] == 0
    clauses = Warehouse(root / "warehouse").read_clauses(run.run_id)
    there = Warehouse(machines.on("there"))
    assert there.read_clauses(run.run_id) == clauses
    edition = replace(clauses[0], id="0" * 32, edition="f" * 64)
    assert there.write_clauses(run.run_id, [edition]) == "new"
    assert there.write_clauses(run.run_id, [edition]) == "same"
    again = Warehouse(machines.on("third"))
    assert sorted(again.read_clauses(run.run_id), key=str) == sorted([*clauses, edition], key=str)
    assert again.verify(run.run_id) == []
