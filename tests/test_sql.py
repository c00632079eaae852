"""`constitution sql` and `runs`: views, macros, formats, and where the warehouse lies."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from warehouse_rows import CONSTITUTION, PROMPTS, RUN, chain, failure, fill, prompt, run

from constitution.cli import app
from constitution.errors import ConstitutionError, QueryError, WarehouseError
from constitution.records import Judgement, Preference, Response
from constitution.warehouse import Warehouse, ask, connect, convert


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """Only read from, below."""
    return fill(tmp_path_factory.mktemp("sql") / "warehouse")


@pytest.fixture
def connection(warehouse: Warehouse) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(warehouse.root) as connection:
        yield connection


def sql(warehouse: Warehouse, *arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["sql", "--warehouse", str(warehouse.root), *arguments], input=stdin)


# Views and macros


def test_chains_tell_complete_from_open_and_failed(tmp_path: Path) -> None:
    warehouse = fill(tmp_path)

    def states() -> dict[str, str]:
        with connect(tmp_path) as connection:
            return dict(ask(connection, "SELECT prompt_id, state FROM chains").rows)

    expected = {prompt(number).id: "complete" for number in range(PROMPTS - 1)}
    assert states() == {**expected, prompt(PROMPTS - 1).id: "open"}
    warehouse.write_part("failures", RUN, [failure(PROMPTS - 1, retryable=False)])
    assert states() == {**expected, prompt(PROMPTS - 1).id: "failed"}
    warehouse.write_run(run(rounds=3))
    assert set(states().values()) == {"open", "failed"}


def test_a_refused_critique_or_a_vote_that_cannot_be_had_fails_no_chain(tmp_path: Path) -> None:
    warehouse, last = fill(tmp_path), prompt(PROMPTS - 1).id
    for step, error in (("critique-1", "CritiqueRefused"), ("vote", "ContextTooLong")):
        unsaid = replace(failure(PROMPTS - 1, retryable=False), id=step, step=step, error=error)
        warehouse.write_part("failures", RUN, [unsaid])
    with connect(tmp_path) as connection:
        assert list(ask(connection, f"SELECT state FROM chains WHERE prompt_id = '{last}'").rows) == [("open",)]


def test_an_empty_initial_answer_completes_its_chain_whatever_the_pairs(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    first, preference = next(chain(0)), list(chain(0))[-1]
    assert isinstance(first, Response)
    assert isinstance(preference, Preference)
    warehouse.write_prompts(RUN, 0, [prompt(0)])
    warehouse.write_part("responses", RUN, [replace(first, text="", outcome="empty")])
    warehouse.write_part("preferences", RUN, [replace(preference, b_id=first.id, p_b=None, drop_reason="empty")])
    recipe = {"revise": {"rounds": 2}, "judge": {"pairs": ["first-last", "parent"]}}
    warehouse.write_run(replace(run(), recipe=recipe))
    with connect(tmp_path) as connection:
        assert list(ask(connection, "SELECT state, pairs_missing FROM chains").rows) == [("complete", [])]


def test_votes_on_a_pair_without_its_preference_say_nothing_of_its_answers(tmp_path: Path) -> None:
    warehouse, last = fill(tmp_path), PROMPTS - 1
    warehouse.write_part("judgements", RUN, [row for row in chain(last) if isinstance(row, Judgement)])
    with connect(tmp_path) as connection:
        query = f"SELECT p_first, p_b, a_first FROM votes WHERE prompt_id = '{prompt(last).id}' ORDER BY 1"
        assert list(ask(connection, query).rows) == [(0.2, None, None), (0.7, None, None)]


def test_provenance_leads_to_every_word_seed_and_vote(connection: duckdb.DuckDBPyConnection) -> None:
    rows = list(chain(2))
    preference = rows[-1]
    answer = ask(connection, f"FROM provenance('{preference.id}')")
    found = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
    assert [row["part"] for row in found] == ["pair", "prompt", *["response"] * 3, *["vote"] * 2]
    assert [row["id"] for row in found[2:5]] == [row.id for row in rows[:3]], "parents too, in their order"
    assert [row["seed"] for row in found[2:5]] == [20, 21, 22]
    assert [row["critique_seed"] for row in found[2:5]] == [None, 26, 27]
    revision, vote = found[3], found[5]
    principle = CONSTITUTION.principles[0]
    assert revision["principle"] == vote["principle"]
    assert revision["principle"]["critique_request"] == principle.critique_request
    assert vote["principle"]["comparison_question"] == principle.comparison_question
    assert revision["critique"] == "critique 1 of 2"
    assert vote["templates"] == {"critique.txt": "Critique: {request}", "vote.txt": "Which?\n(A) {first}\n(B) {second}"}
    assert json.loads(revision["model_identity"])["digest"] == "aa"
    assert json.loads(vote["model_identity"])["digest"] == "bb"
    assert [row["p_b"] for row in found] == [0.75, None, None, None, None, pytest.approx(0.8), pytest.approx(0.7)]
    assert json.loads(revision["sampling"])["temperature"] == 0.7


def test_versions_are_compared_figure_by_figure_and_principle_by_principle(tmp_path: Path) -> None:
    warehouse = fill(tmp_path)
    other = "demo-ba9876543210"
    reworded = replace(CONSTITUTION.principles[0], comparison_question="Which is kindest?")
    rows = [row for number in range(3) for row in chain(number, other, principle=reworded)]
    for kind, table in convert.TABLE_OF.items():
        if of_kind := [row for row in rows if isinstance(row, kind)]:
            warehouse.write_part(table, other, of_kind)
    changed = replace(CONSTITUTION, version="1.2.1", principles=(reworded,))
    warehouse.write_principles(other, changed)
    with connect(tmp_path) as connection:
        figures = {row[0]: row[1:] for row in ask(connection, f"FROM compare_versions('{RUN}', '{other}')").rows}
        differ = "not the same prompts: 3 answered in both, 3 only in a, 0 only in b"
        assert figures["pairs"] == (5, 3, -2, differ)
        assert figures["mean_p_chosen"] == (0.75, 0.75, 0.0, differ)
        assert figures["failures"] == (1, 0, -1, differ)
        answer = ask(connection, f"FROM compare_principles('{RUN}', '{other}')")
        found = {row[0]: dict(zip(answer.columns, row, strict=True)) for row in answer.rows}
    assert {name: row["principle"] for name, row in found.items()} == {
        "kind": "changed", "true": "removed", "plain": "removed",
    }  # fmt: skip
    assert {row["note"] for row in found.values()} == {differ}
    assert found["kind"]["votes_a"] == 10
    assert found["kind"]["votes_b"] == 6
    assert found["kind"]["p_b_b"] == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("x", "same", (3, 0, 0, None)),
        ("x", "moved", (1, 2, 2, "not the same prompts: 1 answered in both, 2 only in a, 2 only in b")),
        ("moved", "far", (0, 3, 2, "not the same prompts: 0 answered in both, 3 only in a, 2 only in b")),
        ("x", "no-such-run", (0, 3, 0, "not the same prompts: 0 answered in both, 3 only in a, 0 only in b")),
        ("no-such-run", "nor-this", (0, 0, 0, "neither run has answers")),
    ],
)
def test_what_compares_runs_says_whether_their_prompts_are_the_same(
    tmp_path: Path, a: str, b: str, expected: tuple[Any, ...]
) -> None:
    warehouse = Warehouse(tmp_path)
    for run_id, numbers in {"x": range(3), "same": range(3), "moved": range(2, 5), "far": range(8, 10)}.items():
        rows = [row for number in numbers for row in chain(number, run_id) if isinstance(row, Response)]
        warehouse.write_part("responses", run_id, rows)
    with connect(tmp_path) as connection:
        assert list(ask(connection, f"FROM compare_prompts('{a}', '{b}')").rows) == [expected]
        notes = {row[-1] for row in ask(connection, f"FROM compare_versions('{a}', '{b}')").rows}
    assert notes == {expected[-1]}


def test_pairs_and_votes_carry_their_texts(connection: duckdb.DuckDBPyConnection) -> None:
    ((chosen, rejected, last),) = ask(
        connection, f"SELECT chosen, rejected, last_user FROM pairs WHERE prompt_id = '{prompt(1).id}'"
    ).rows
    assert (chosen, rejected, last) == ("answer 2 to 1", "answer 0 to 1", "again 1")
    votes = ask(connection, f"SELECT a_first, p_b, comparison_question FROM votes WHERE prompt_id = '{prompt(1).id}'")
    assert sorted(votes.rows) == [(False, pytest.approx(0.7), "Which is kinder?"), (True, 0.8, "Which is kinder?")]


def test_a_filter_on_the_run_reads_only_its_files(connection: duckdb.DuckDBPyConnection) -> None:
    ((_, plan),) = ask(connection, f"EXPLAIN ANALYZE SELECT count(text) FROM responses WHERE run_id = '{RUN}'").rows
    assert "1/2" in plan


def test_a_run_id_that_looks_like_a_number_or_date_stays_text(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    for run_id in ("0123", "2026-01-01", "abc"):
        warehouse.write_part("failures", run_id, [failure(1, run_id)])
    with connect(tmp_path) as connection:
        rows = ask(connection, "SELECT run_id FROM failures ORDER BY 1").rows
        assert list(rows) == [("0123",), ("2026-01-01",), ("abc",)]


# Where the warehouse lies


@pytest.mark.parametrize("name", ["with space", "it's", "a[b]c*d", "ünï"])
def test_the_folders_name_does_not_matter(tmp_path: Path, name: str) -> None:
    fill(tmp_path / name)
    with connect(tmp_path / name) as connection:
        assert list(ask(connection, "SELECT count(*) FROM prompts").rows) == [(PROMPTS,)]
        assert list(ask(connection, "SELECT count(*) FROM runs").rows) == [(1,)]


def test_the_database_file_works_after_a_move_as_documented(tmp_path: Path) -> None:
    fill(tmp_path / "old")
    moved = (tmp_path / "old").rename(tmp_path / "new")
    code = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1], read_only=True); c.execute(sys.argv[2])\n"
        "print(c.execute('SELECT (SELECT count(*) FROM prompts) + (SELECT count(*) FROM runs)').fetchone()[0])"
    )

    def answer(place: Path, before: str) -> str:
        command = [sys.executable, "-c", code, str(moved / "warehouse.duckdb"), before]
        return subprocess.run(command, cwd=place, capture_output=True, text=True, check=False).stdout.strip()

    assert answer(moved, "SELECT 1") == "7", "inside the folder"
    assert answer(tmp_path, f"SET VARIABLE root = '{moved}'") == "7"
    assert answer(tmp_path, f"SET file_search_path = '{moved}'") == "7"
    assert answer(tmp_path, "SELECT 1") == "", "elsewhere, without either"


def test_no_database_file_is_needed(tmp_path: Path) -> None:
    warehouse = fill(tmp_path)
    (tmp_path / "warehouse.duckdb").unlink()
    assert sql(warehouse, "SELECT count(*) FROM prompts").exit_code == 0
    assert (tmp_path / "warehouse.duckdb").exists()  # made again, for others


# The command


def test_a_table_for_the_eye(warehouse: Warehouse) -> None:
    result = sql(warehouse, "SELECT round, text, 0.123456::DOUBLE AS p, NULL AS n FROM responses ORDER BY ALL LIMIT 2")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["round", "text", "p", "n"]
    assert lines[2].split() == ["0", "answer", "0", "to", "0", "0.1235", "·"]
    assert lines[-1] == "2 rows"
    steered = sql(warehouse, "SELECT chr(27) || ']0;title' || chr(10) || '[red]x[/red]' AS \"a\u202eb\"").stdout
    assert "\x1b" not in steered
    assert "\u202e" not in steered
    assert r"\x1b]0;title\n[red]x[/red]" in steered
    assert "chosen_round" in sql(warehouse, "FROM pairs LIMIT 1").stdout  # field by field
    assert "not shown for want of room: " in sql(warehouse, "FROM pairs").stdout
    long = sql(warehouse, "SELECT i FROM range(1000) t(i)").stdout
    assert "1,000 rows, 40 shown" in long
    assert len(long.splitlines()) < 50


def test_csv_is_quoted_as_csv_readers_expect(warehouse: Warehouse) -> None:
    query = "SELECT 'a,\"b\"\nc' AS t, NULL AS n, messages, true AS b FROM prompts LIMIT 1"
    result = sql(warehouse, query, "--format", "csv")
    header, row = csv.reader(result.stdout.splitlines(keepends=True))
    assert header == ["t", "n", "messages", "b"]
    assert row[:2] == ['a,"b"\nc', ""]
    assert json.loads(row[2])[0] == {"role": "user", "content": "question 0"}
    assert row[3] == "true"


def test_parquet_and_files(warehouse: Warehouse, tmp_path: Path) -> None:
    out = tmp_path / "x.parquet"
    assert sql(warehouse, "FROM prompts", "--format", "parquet", "--out", str(out)).exit_code == 0
    assert pq.read_table(out).num_rows == PROMPTS
    result = sql(warehouse, "FROM prompts", "--format", "parquet")
    assert isinstance(result.exception, QueryError)
    out = tmp_path / "x.csv"
    assert sql(warehouse, "SELECT 1 AS a", "--format", "csv", "--out", str(out)).exit_code == 0
    assert isinstance(sql(warehouse, "FROM nowhere", "--out", str(out)).exception, QueryError)
    assert out.read_text() == "a\n1\n"  # a wrong query does not empty the file that is there
    assert json.loads(sql(warehouse, "SELECT 1 AS a WHERE false", "--format", "json").stdout) == []
    result = sql(warehouse, "SELECT 1", "--out", str(tmp_path / "no" / "x.csv"))
    assert isinstance(result.exception, ConstitutionError)
    assert "x.csv: cannot be written" in str(result.exception)


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    code = "from constitution.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_errors_are_one_sentence_and_exit_code_2(warehouse: Warehouse, tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match="no warehouse here"):
        connect(tmp_path)
    missing = command("sql", "--warehouse", str(tmp_path / "none"), "SELECT 1")
    assert missing.returncode == 2
    assert len(missing.stderr.splitlines()) == 1
    assert "none: there is no warehouse here" in missing.stderr
    assert not (tmp_path / "none").exists()
    wrong = command("sql", "SELECT promt FROM prompts", CONSTITUTION_WAREHOUSE=str(warehouse.root))
    assert wrong.returncode == 2
    assert 'Referenced column "promt" not found' in wrong.stderr
    line, caret = (text for text in wrong.stderr.splitlines() if "LINE 1:" in text or text.strip().startswith("^"))
    assert line.index("promt") == caret.index("^")
    assert "Traceback" not in wrong.stderr
    refused = command("sql", "--warehouse", str(warehouse.root), "INSTALL httpfs")
    assert refused.returncode == 2
    assert "not allowed" in refused.stderr


def test_ctrl_c_ends_a_long_query_at_once(warehouse: Warehouse) -> None:
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    code = f"{heard} from constitution.cli import main; main()"
    query = "SELECT count(*) FROM range(10_000_000_000) AS a, range(1000) AS b WHERE a.range * b.range = 7"
    arguments = [sys.executable, "-c", code, "sql", "--warehouse", str(warehouse.root)]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdin is not None
    process.stdin.write(query)
    process.stdin.close()
    time.sleep(3)  # whenever it comes, it ends the query
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert process.stderr is not None
    assert process.stderr.read().strip() == "constitution: interrupted"


def test_runs_lists_what_ran(tmp_path: Path) -> None:
    warehouse = fill(tmp_path)
    arguments = ["runs", "--warehouse", str(tmp_path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    header, _, row = result.stdout.splitlines()
    assert row.split() == [RUN, "·", "demo@1.2.0", "open", "5", "/", "6", "5", "1", "0:05:00", "·", "3,700", "350"]
    assert header.split()[:5] == ["run", "by", "constitution", "status", "prompts"]
    with warehouse.lock(RUN):
        assert "running" in CliRunner().invoke(app, arguments).stdout
    warehouse.write_run(run(finished=True))
    assert "finished" in CliRunner().invoke(app, arguments).stdout
