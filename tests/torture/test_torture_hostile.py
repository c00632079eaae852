"""Who reads and writes what: SQL that tries to get out, and recipes that name what is not theirs."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner
from conftest import Torture
from hypothesis import given, settings
from hypothesis import strategies as st
from sql_attacks import ATTACKS, OTHERS, READS, WRITES, besiege, check_refused, listing
from warehouse_rows import PROMPTS, fill

from constitution import sandbox
from constitution.cli import app
from constitution.errors import InputError, PromptError, QueryError
from constitution.export import Settings, export
from constitution.export.settings import Cleaning
from constitution.prompts import read_prompts
from constitution.recipe import PromptsSection
from constitution.warehouse import Warehouse, ask, connect
from constitution.warehouse.query import ask_arrow

EVERY = [*READS, *WRITES, *OTHERS, *ATTACKS]


@pytest.fixture(scope="module")
def besieged(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """A warehouse with secrets beside it and links to them in it."""
    root = besiege(tmp_path_factory.mktemp("siege"))
    return fill(root)


def some(torture: Torture, attacks: list[str], number: int, full: int | None = None) -> list[str]:
    """So many of them, another choice with every seed; in the long version `full`, or all."""
    number = (full or len(attacks)) if torture.full else number
    return random.Random(f"{torture.seed}/attacks").sample(attacks, number)


# --- SQL


def test_the_attacks_would_succeed_on_an_open_connection(tmp_path: Path, torture: Torture) -> None:
    """They are attacks, and not merely wrong."""
    root = besiege(tmp_path / "open")
    for attack in some(torture, READS, 8):
        with duckdb.connect() as connection:
            told = str(connection.execute(attack.replace("{root}", str(root))).fetchall())
            assert told not in ("[]", ""), attack
    for attack in some(torture, WRITES, 5):
        shutil.rmtree(tmp_path / "open")
        root = besiege(tmp_path / "open")
        before = listing(tmp_path / "open")
        with duckdb.connect() as connection:
            for statement in connection.extract_statements(attack.replace("{root}", str(root))):
                connection.execute(statement).fetchall()
        assert listing(tmp_path / "open").keys() > before.keys(), attack


def test_no_query_gets_out_of_the_warehouse(besieged: Warehouse, torture: Torture) -> None:
    before = listing(besieged.root.parent)
    with connect(besieged.root) as connection:
        for attack in EVERY:
            query = attack.replace("{root}", str(besieged.root))
            for way in (ask_all, ask_arrow_all):
                check_refused(partial(way, connection, query), attack, QueryError)
            torture.count("attacks on the rest")
        assert list(ask(connection, "SELECT count(*) FROM prompts").rows) == [(PROMPTS,)], "and the views are there"
    assert listing(besieged.root.parent) == before


def ask_all(connection: duckdb.DuckDBPyConnection, query: str) -> Any:
    return list(ask(connection, query).rows)


def ask_arrow_all(connection: duckdb.DuckDBPyConnection, query: str) -> Any:
    return ask_arrow(connection, query).read_all()


def read_all(section: PromptsSection, base: Path) -> Any:
    return list(read_prompts(section, base))


def test_no_query_of_a_recipe_gets_out_of_its_folder(besieged: Warehouse, torture: Torture) -> None:
    before = listing(besieged.root.parent)
    for attack in some(torture, EVERY, 15):
        for query in (attack, f"SELECT x::VARCHAR AS prompt FROM ({attack}) AS x"):
            section = PromptsSection(format="sql", query=" " + query.replace("{root}", str(besieged.root)))
            check_refused(partial(read_all, section, besieged.root), query, PromptError)
        torture.count("attacks on the rest")
    assert listing(besieged.root.parent) == before


def test_no_condition_of_an_export_gets_out(besieged: Warehouse, torture: Torture, tmp_path: Path) -> None:
    [run] = besieged.runs()
    before = listing(besieged.root.parent)
    attacks = [
        *(f"(SELECT max(x::VARCHAR) FROM ({attack}) AS x) > ''" for attack in EVERY),
        *(f"true) UNION ALL (SELECT x::VARCHAR FROM ({attack}) AS x" for attack in EVERY),
        *(f"true); {attack} --" for attack in EVERY),
    ]
    for attack in some(torture, attacks, 2, full=90):
        where = attack.replace("{root}", str(besieged.root))
        chosen = Settings(format="sft", where=where, cleaning=Cleaning(dedupe="off"))
        check_refused(partial(export, besieged.root, run.run_id, chosen, tmp_path / "out"), attack, InputError)
        torture.count("attacks on the rest")
    assert not (tmp_path / "out").exists()
    assert listing(besieged.root.parent) == before


def test_the_command_refuses_in_one_sentence(besieged: Warehouse, torture: Torture) -> None:
    for attack in some(torture, EVERY, 2, full=60):
        query = attack.replace("{root}", str(besieged.root))
        done = CliRunner().invoke(app, ["sql", "--warehouse", str(besieged.root), "--format", "json", "--", query])
        assert isinstance(done.exception, QueryError), attack
        assert done.stdout == "", attack


QUERIES = [
    "SELECT prompt FROM 'p.jsonl'",
    'SELECT prompt FROM "p.jsonl"',
    "SELECT prompt FROM read_json('p.jsonl')",
    "SELECT prompt FROM read_json_auto(['p.jsonl', 'sub/q.jsonl'])",
    "SELECT prompt FROM 'sub/*.jsonl'",
    "SELECT prompt FROM './sub/../p.jsonl'",
    "SELECT 'é' || prompt AS prompt FROM 'p.jsonl' -- 'p.jsonl'",
    'WITH "p.jsonl" AS (SELECT \'x\' AS prompt) FROM "p.jsonl"',
    "SELECT trim(content) AS prompt FROM read_text('p.jsonl')",
    "SELECT prompt FROM read_csv('sub/c.csv', header = true, delim = ',')",
    "SELECT prompt FROM '{base}/p.jsonl'",
    "SELECT p.prompt FROM 'p.jsonl' AS p JOIN 'sub/q.jsonl' AS q ON true",
    "SELECT 'p.jsonl' AS prompt",
    "SELECT unnest(['p.jsonl', 'x']) AS prompt",
    "SELECT x AS prompt FROM unnest(['p.jsonl']) AS t(x)",
]


@pytest.mark.parametrize("folder", ["plain", "w[e]ird * 'name'?"])
def test_what_a_recipes_query_may_read_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    """Names are relative to the recipe's folder, wherever the command is given, and the texts beside them stay."""
    base = tmp_path / folder
    (base / "sub").mkdir(parents=True)
    (base / "p.jsonl").write_text('{"prompt": "one"}')
    (base / "sub" / "q.jsonl").write_text('{"prompt": "two"}')
    (base / "sub" / "c.csv").write_text("prompt\nthree\n")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "p.jsonl").write_text('{"prompt": "of the working directory"}')
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = []
    for query in QUERIES:
        section = PromptsSection(
            format="sql", query=query.replace("{base}", sandbox.as_pattern(base).replace("'", "''"))
        )
        found.append([prompt.messages[0].content for prompt in read_prompts(section, base)])
    one, two = ["one"], ["two"]
    assert found[:4] == [one, one, one, [*one, *two]]
    assert found[4:9] == [two, one, ["éone"], ["x"], ['{"prompt": "one"}']]
    assert found[9:] == [["three"], one, one, ["p.jsonl"], ["p.jsonl", "x"], ["p.jsonl"]]


def test_a_query_that_never_ends_can_be_ended(besieged: Warehouse, torture: Torture) -> None:
    """There is no limit of time; Ctrl-C interrupts DuckDB, as this does, and what it may hold is bounded."""
    bombs = [
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t",
        "SELECT sum(a.range * b.range * c.range) FROM range(1000000) a, range(1000000) b, range(1000000) c",
    ]
    for bomb in some(torture, bombs, 1):
        with connect(besieged.root, memory_mib=256) as connection:
            timer = threading.Timer(0.2, connection.interrupt)
            timer.start()
            with pytest.raises(QueryError):
                list(ask(connection, bomb).rows)
            timer.cancel()
            assert list(ask(connection, "SELECT count(*) FROM prompts").rows) == [(PROMPTS,)]
        torture.count("attacks on the rest")


def cpu_seconds(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@pytest.mark.torture
@pytest.mark.parametrize("form", ["json", "parquet"])
def test_ctrl_c_ends_a_query_and_nothing_else_is_printed(
    besieged: Warehouse, torture: Torture, tmp_path: Path, form: str
) -> None:
    """As a terminal sends it, after so long that DuckDB would have drawn a bar of progress into the answer."""
    # One piece of work that takes DuckDB days.
    query = "SELECT count(*) FROM range(10000000) a JOIN range(10000000) b ON a.range < b.range"
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from constitution.cli import main; main()"
    options = ["--warehouse", str(besieged.root), "--format", form, "--out", str(tmp_path / "out")]
    command = [sys.executable, "-c", code, "sql", *options[: None if form == "parquet" else 4], query]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while cpu_seconds(process.pid) < 6:  # imports take one or two
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        try:
            out, err = process.communicate(timeout=10)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (130, "", "\nconstitution: interrupted\n")
    assert not list(tmp_path.iterdir())
    torture.count("attacks on the rest")


def test_a_query_that_holds_too_much_is_refused(besieged: Warehouse, torture: Torture) -> None:
    with connect(besieged.root, memory_mib=64) as connection:
        limit = "SELECT value FROM duckdb_settings() WHERE name = 'max_temp_directory_size'"
        ((spills,),) = ask(connection, limit).rows
        assert "GiB" in spills or "MiB" in spills
        assert "%" not in spills, "not DuckDB's default, nine tenths of the disk"
        with pytest.raises(QueryError, match=r"(?i)memory"):
            list(ask(connection, "SELECT string_agg(repeat('x', 1000), '') FROM range(1000000)").rows)
    torture.count("attacks on the rest")


@settings(max_examples=50)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00")))
def test_any_text_is_a_text_in_sql(text: str) -> None:
    assert CONNECTION.execute(f"SELECT {sandbox.quoted(text)}").fetchall() == [(text,)]


CONNECTION = duckdb.connect()
