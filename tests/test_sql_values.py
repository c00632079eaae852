"""`constitution sql`: every type in every format, long cells, deep queries, terminals that are not UTF-8."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from warehouse_rows import PROMPTS, fill

from constitution import sandbox
from constitution.cli import app, main
from constitution.errors import PromptError, QueryError
from constitution.prompts import read_prompts
from constitution.recipe import PromptsSection
from constitution.warehouse import Warehouse, connect
from constitution.warehouse.answers import PAGE, keep


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """Only read from, below."""
    return fill(tmp_path_factory.mktemp("sql") / "warehouse")


def sql(warehouse: Warehouse, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["sql", "--warehouse", str(warehouse.root), *arguments])


SAME = object()
"""As CSV has it."""
TYPES: list[tuple[str, Any, str, Any]] = [
    # SQL, as JSON, as CSV, as Parquet
    ("true", True, "true", True),
    ("255::UTINYINT", 255, "255", 255),
    ("18446744073709551615::UBIGINT", 2**64 - 1, str(2**64 - 1), 2**64 - 1),
    ("(-99999999999999999999999999999999999999)::HUGEINT", 1 - 10**38, str(1 - 10**38), None),
    ("0.1::FLOAT", 0.10000000149011612, "0.10000000149011612", 0.10000000149011612),
    ("'inf'::DOUBLE", None, "", float("inf")),
    ("1.50::DECIMAL(9,2)", 1.5, "1.50", Decimal("1.50")),
    ("2::DECIMAL(9,2)", 2, "2.00", Decimal("2.00")),
    ("0::DECIMAL(18,9)", 0, "0.000000000", Decimal(0)),
    ("12345678901234567890.123456789::DECIMAL(38,9)", "12345678901234567890.123456789",
     "12345678901234567890.123456789", Decimal("12345678901234567890.123456789")),
    (f"'{'1234567890' * 6}'::BIGNUM", "1234567890" * 6, "1234567890" * 6, SAME),
    ("'10101'::BIT", "10101", "10101", SAME),
    ("'\\xff=1'::BLOB", "/z0x", "/z0x", b"\xff=1"),
    ("'00000000-0000-0000-0000-000000000001'::UUID", *("00000000-0000-0000-0000-000000000001",) * 2, SAME),
    ("'b'::ENUM('a', 'b')", "b", "b", "b"),
    ("INTERVAL 14 MONTH", "1 year 2 months", "1 year 2 months", SAME),
    ("INTERVAL 100000 YEAR", "100000 years", "100000 years", SAME),
    ("'24:00:00'::TIME", "24:00:00", "24:00:00", None),
    ("'12:00:00.123456789'::TIME_NS", "12:00:00.123456789", "12:00:00.123456789", None),
    ("'12:00:00+05:30'::TIMETZ", "12:00:00+05:30", "12:00:00+05:30", None),
    ("DATE '2026-01-02'", "2026-01-02", "2026-01-02", None),
    ("DATE '5000000-01-01'", "5000000-01-01", "5000000-01-01", None),
    ("DATE '0044-03-15 (BC)'", "0044-03-15 (BC)", "0044-03-15 (BC)", None),
    ("'-infinity'::DATE", "-infinity", "-infinity", None),
    ("TIMESTAMP '2026-01-02 03:04:05.5'", *("2026-01-02T03:04:05.5",) * 2, datetime(2026, 1, 2, 3, 4, 5, 500_000)),
    ("TIMESTAMP '290000-01-01'", "290000-01-01T00:00:00", "290000-01-01T00:00:00", None),
    ("TIMESTAMP '0044-03-15 (BC) 00:00:00'", *("0044-03-15 (BC) 00:00:00",) * 2, None),
    ("'infinity'::TIMESTAMP", "infinity", "infinity", None),
    ("'infinity'::TIMESTAMPTZ", "infinity", "infinity", None),
    ("TIMESTAMPTZ '2026-01-01 00:00:00Z'", "2026-01-01T00:00:00+00:00", "2026-01-01T00:00:00+00:00", None),
    ("'20000-01-01'::TIMESTAMP_S", "20000-01-01T00:00:00", "20000-01-01T00:00:00", None),
    ("'2026-01-01 00:00:00.123456789'::TIMESTAMP_NS", *("2026-01-01T00:00:00.123456789",) * 2, None),
    ("union_value(n := 1)::UNION(n INT, s VARCHAR)", {"n": 1}, '{"n":1}', SAME),
    ("{'a': 1}::VARIANT", {"a": 1}, '{"a":1}', SAME),
    ("MAP {1: 'x'}", {"1": "x"}, '{"1": "x"}', {1: "x"}),
    ("MAP {{'x': 1}: 2}", {"{'x': 1}": 2}, '{"{\'x\': 1}": 2}', None),
    ("MAP {}", {}, "{}", {}),
    ("row(1, 'nan'::DOUBLE)", [1, None], "[1, null]", None),
    ("[1, 2]::INT[2]", [1, 2], "[1, 2]", None),
    ("{}", {}, "{}", "{}"),
    ("[{}]", [{}], "[{}]", ["{}"]),
    ("NULL", None, "", None),
    ("[NULL]", [None], "[null]", [None]),
    ("'POINT(1 2)'::GEOMETRY", "POINT (1 2)", "POINT (1 2)", SAME),
    ("get_type(1)", "INTEGER", "INTEGER", SAME),
    ("""'{"a": [1, 1e999]}'::JSON""", {"a": [1, None]}, '{"a": [1, 1e999]}', SAME),
    ("""'[1, ]'::JSON""", "[1, ]", "[1, ]", SAME),
    ("""'{"a": 1, "a": 2}'::JSON""", '{"a": 1, "a": 2}', '{"a": 1, "a": 2}', SAME),
    ("""[{'j': '{"b": 1}'::JSON}]""", [{"j": {"b": 1}}], '[{"j": {"b": 1}}]', [{"j": '{"b": 1}'}]),
    ("[MAP {'k': {'i': INTERVAL 1 DAY, 't': 'infinity'::TIMESTAMP, 'u': union_value(d := DATE '5000000-01-01')}}]",
     [{"k": {"i": "1 day", "t": "infinity", "u": {"d": "5000000-01-01"}}}], "", None),
]  # fmt: skip


@pytest.fixture(scope="module")
def cells(warehouse: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    """Each cell of TYPES, asked for at once, as JSON, CSV and Parquet have it; and it is a table without an error."""
    query = "SELECT " + ", ".join(f"{cell} AS c{number}" for number, (cell, *_) in enumerate(TYPES))
    out = tmp_path_factory.mktemp("types") / "x.parquet"
    ways = {"json": (), "csv": (), "table": (), "parquet": ("--out", str(out))}
    results = {way: sql(warehouse, query, "--format", way, *more) for way, more in ways.items()}
    assert [result.exit_code for result in results.values()] == [0] * 4, results
    assert "NaN" not in results["json"].stdout
    assert "Infinity" not in results["json"].stdout
    [as_json] = json.loads(results["json"].stdout)
    _, as_csv = csv.reader(io.StringIO(results["csv"].stdout, newline=""))
    with duckdb.connect() as reader:  # pyarrow cannot say what year 290000 is
        [as_parquet] = reader.execute("FROM read_parquet(?)", [str(out)]).fetchall()
    return list(zip(as_json.values(), as_csv, as_parquet, strict=True))


@pytest.mark.parametrize("number", range(len(TYPES)), ids=[row[0][:40] for row in TYPES])
def test_every_type_is_what_it_is_in_every_format(cells: list[tuple[Any, ...]], number: int) -> None:
    (_, as_json, as_csv, as_parquet), found = TYPES[number], cells[number]
    assert found[0] == as_json
    assert type(found[0]) is type(as_json)
    if as_csv or as_json is None:
        assert found[1] == as_csv
    if as_parquet is not None:
        assert found[2] == (as_csv if as_parquet is SAME else as_parquet)


def test_a_table_shows_decimals_as_they_are(warehouse: Warehouse) -> None:
    """A double shows four digits; a decimal is there for its digits."""
    cells = "12345678901234567890123456789012345678::DECIMAL(38, 0) AS a, 99.99999::DECIMAL(10, 5) AS b, "
    cells += "-1234.50::DECIMAL(9, 2) AS c, 1e-20::DECIMAL(38, 20) AS d"
    shown = sql(warehouse, f"SELECT {cells}").stdout
    for number in ("12,345,678,901,234,567,890,123,456,789,012,345,678", "99.99999", "-1,234.50", f"0.{'0' * 19}1"):
        assert number in shown


@pytest.mark.parametrize("words", ["SUMMARIZE", "DESCRIBE TABLE", "desc", "TABLE", "FROM", "/* a */ SUMMARIZE\n"])
def test_a_file_may_be_named_wherever_a_table_may(warehouse: Warehouse, words: str) -> None:
    [part] = (warehouse.root / "responses").glob("d*/part-0.parquet")
    for literal in (f"'{part}'", f'"{part}"'):
        of_file, of_table = (sql(warehouse, f"{words} {each}", "--format", "csv") for each in (literal, "responses"))
        assert (of_file.exit_code, of_table.exit_code) == (0, 0), of_file.exception
        assert len(of_file.stdout.splitlines()) == len(of_table.stdout.splitlines()) > 1


def test_the_types_are_all_that_duckdb_has(warehouse: Warehouse) -> None:
    """A type that is new in DuckDB gets a row above."""
    with duckdb.connect() as connection:
        rows = connection.execute("SELECT DISTINCT logical_type FROM duckdb_types()").fetchall()
        kinds = set()
        for cell in [*(cell for cell, *_ in TYPES), "1::TINYINT", "1::SMALLINT", "1::BIGINT", "1::USMALLINT",
                     "1::UINTEGER", "1::INTEGER", "1::HUGEINT", "1::UHUGEINT", "{'a': 1}", "'x'",
                     "'2026-01-01'::TIMESTAMP_MS",
                     "'2026-01-01'::TIMESTAMPTZ_NS"]:  # fmt: skip
            about = connection.execute(f"FROM (SELECT {cell}) LIMIT 0").description
            kinds.add(about[0][1].id.upper())
    assert {kind for (kind,) in rows} <= kinds


def test_numbers_that_parquet_cannot_hold_are_refused(warehouse: Warehouse, tmp_path: Path) -> None:
    for number in ("340282366920938463463374607431768211455::UHUGEINT", "170141183460469231731687303715884105727"):
        exact = asked_json(warehouse, f"SELECT {number} AS x")
        assert exact == [{"x": int(number.partition(":")[0])}]
        result = sql(warehouse, f"SELECT {number}", "--format", "parquet", "--out", str(tmp_path / "x.parquet"))
        assert isinstance(result.exception, QueryError)
        assert "39 digits" in str(result.exception)
        assert not (tmp_path / "x.parquet").exists()
    out = tmp_path / "sum.parquet"
    assert sql(warehouse, "SELECT sum(1) AS n", "--format", "parquet", "--out", str(out)).exit_code == 0
    assert pq.read_table(out).to_pylist() == [{"n": 1}]


def asked_json(warehouse: Warehouse, query: str) -> Any:
    return json.loads(sql(warehouse, query, "--format", "json").stdout)


def test_columns_of_one_name_are_all_there(warehouse: Warehouse, tmp_path: Path) -> None:
    query = "SELECT 1 AS a, 2 AS a, 3 AS a_1"
    assert list(asked_json(warehouse, query)[0].values()) == [1, 2, 3]
    [row] = csv.DictReader(io.StringIO(sql(warehouse, query, "--format", "csv").stdout))
    assert list(row.values()) == ["1", "2", "3"]
    out = tmp_path / "x.parquet"
    assert sql(warehouse, query, "--format", "parquet", "--out", str(out)).exit_code == 0
    assert list(pq.read_table(out).to_pylist()[0].values()) == [1, 2, 3]
    assert sql(warehouse, f"{query} WHERE false", "--format", "parquet", "--out", str(out)).exit_code == 0
    assert (pq.read_table(out).num_rows, pq.read_table(out).num_columns) == (0, 3)


def test_json_that_is_too_deep_is_refused_with_its_row(warehouse: Warehouse) -> None:
    query = "SELECT (repeat('[', 3000) || repeat(']', 3000))::JSON AS x"
    result = sql(warehouse, query, "--format", "json")
    assert isinstance(result.exception, QueryError)
    assert "row 1: JSON in it is nested too deep" in str(result.exception)
    assert len(sql(warehouse, query, "--format", "csv").stdout) > 6000


def test_csv_is_raw_unless_it_is_asked_for_spreadsheets(warehouse: Warehouse) -> None:
    query = """SELECT '- a list' AS "=a", '=1+1' AS b, -1 AS c, -1.5 AS d, ['=1'] AS e"""
    raw = '=a,b,c,d,e\n- a list,=1+1,-1,-1.5,"[""=1""]"\n'
    assert sql(warehouse, query, "--format", "csv").stdout == raw
    safe = sql(warehouse, query, "--format", "csv", "--spreadsheet-safe").stdout
    assert safe == '\'=a,b,c,d,e\n\'- a list,\'=1+1,-1,-1.5,"[""=1""]"\n'
    assert isinstance(sql(warehouse, query, "--format", "json", "--spreadsheet-safe").exception, QueryError)


# Long cells

_MEMORY = """
import resource, sys
from pathlib import Path
from constitution.cli import _formats
from constitution.warehouse import connect
from constitution.warehouse.answers import keep
form, root, out = sys.argv[1:]
query = "SELECT t, t AS u FROM (SELECT repeat('x', 1_200_000) || i AS t FROM range(1) r(i)), range(80)"
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with connect(Path(root), 64) as connection:
    answer = keep(connection, query, "parquet" if form == "parquet" else "python")
    if form == "parquet":
        _formats.write_parquet(answer, Path(out))
    else:
        with open(out, "w") as file:
            (_formats.write_csv if form == "csv" else _formats.write_json)(answer, file)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_memory_is_bounded_in_bytes(warehouse: Warehouse, tmp_path: Path, form: str) -> None:
    """80 rows of 2.4 MB, all of one text: 192 MB, where DuckDB may hold 64 MiB."""
    out = tmp_path / "x"
    command = [sys.executable, "-c", _MEMORY, form, str(warehouse.root), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 190
    if form != "parquet":
        assert out.stat().st_size > 190_000_000
    else:
        assert pq.ParquetFile(out).metadata.num_rows == 80


def test_what_does_not_fit_is_refused_with_what_to_do(warehouse: Warehouse) -> None:
    query = "SELECT [t] FROM (SELECT repeat('x', 1_200_000) || i AS t FROM range(1) r(i)), range(120)"
    with connect(warehouse.root, 64) as connection, pytest.raises(QueryError, match="Out of Memory") as error:
        sum(1 for _ in keep(connection, query).rows())
    assert "fewer rows" in str(error.value.hint)
    assert "\n" not in str(error.value)


def test_pages_hold_every_row_once_in_the_querys_order(warehouse: Warehouse) -> None:
    query = "SELECT i, repeat('x', ((i % 7) * 3000)::INT) AS t FROM range(12000) r(i) ORDER BY i DESC"
    with connect(warehouse.root) as connection:
        answer = keep(connection, query)
        assert len(answer.pages) > 5
        lengths = {}
        place = 11_999
        for number, text in answer.rows():
            assert (number, len(text)) == (place, place % 7 * 3000)
            lengths[number] = len(text)
            place -= 1
    assert (place, answer.count) == (-1, 12_000)
    for start, end in answer.pages:
        assert sum(lengths[11_999 - row] for row in range(start, end)) <= PAGE + 18_000


# Deep queries


def nested(depth: int) -> str:
    return "SELECT * FROM " + "(SELECT * FROM " * depth + "range(1)" + ")" * depth


DEEP = {
    "operators": "SELECT " + "+".join(["1"] * 900),
    "texts": "SELECT " + "||".join(["'a'"] * 500),
    "more operators": "SELECT " + "+".join(["1"] * 50_000),
    "queries": nested(330),
    "many queries": nested(200_000),
    "scalars": "SELECT " + "(SELECT " * 500 + "1" + ")" * 500,
    "lists": "SELECT " + "[" * 500 + "]" * 500,
    "structs": "SELECT " + "{'a': " * 500 + "1" + "}" * 500,
    "functions": "SELECT " + "abs(" * 900 + "1" + ")" * 900,
    "named": "".join(f"WITH a{i} AS (" for i in range(9000)) + "SELECT 1" + ") SELECT 1" * 9000,
    "joins": "SELECT 1 FROM range(1)" + "".join(f" JOIN range(1) t{i} ON true" for i in range(3000)),
    "pivots": "FROM " + "(PIVOT " * 300 + "(SELECT 1 a)" + " ON a USING count(*))" * 300,
    "minus": "SELECT " + "- " * 100_000 + "1",
}


@pytest.mark.parametrize("kind", DEEP)
def test_deep_queries_are_refused_in_a_sentence(warehouse: Warehouse, tmp_path: Path, kind: str) -> None:
    with connect(warehouse.root) as connection, pytest.raises(QueryError):
        keep(connection, DEEP[kind])
    section = PromptsSection(format="sql", query=DEEP[kind])
    with pytest.raises(PromptError, match=r"^prompts\.query: "):
        next(iter(read_prompts(section, tmp_path)))


@pytest.mark.parametrize("query", [nested(60), "SELECT " + "+".join(["1"] * 150), "SELECT '" + "(" * 5000 + "'",
                                   "SELECT 1 -- " + "(" * 5000, "SELECT 1 IN (" + "1, " * 20_000 + "1)"])  # fmt: skip
def test_queries_that_only_look_deep_are_answered(warehouse: Warehouse, query: str) -> None:
    with connect(warehouse.root) as connection:
        assert keep(connection, query).count == 1


def test_the_depth_is_where_it_is_said() -> None:
    with duckdb.connect() as connection:
        sandbox.check(connection, nested(sandbox.MOST_NESTED - 1))
        with pytest.raises(QueryError, match=f"more than {sandbox.MOST_NESTED} brackets"):
            sandbox.check(connection, nested(sandbox.MOST_NESTED + 1))


# Terminals and names

SAID = "☃ é 😀"


def command(
    monkeypatch: pytest.MonkeyPatch, encoding: str, *words: str | bytes, stdin: bytes = b""
) -> tuple[int, bytes, str]:
    """Exit code, standard output and error of the command in a terminal of this encoding."""
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding) for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding))
    monkeypatch.setattr(sys, "argv", ["constitution", *map(os.fsdecode, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = []
    for stream in streams.values():
        stream.flush()
        assert isinstance(stream.buffer, io.BytesIO)
        said.append(stream.buffer.getvalue())
    return int(str(ended.value.code)), said[0], said[1].decode(encoding, "replace")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "cp1252"])
def test_data_are_utf_8_whatever_the_terminal_is(
    warehouse: Warehouse, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ("--warehouse", str(warehouse.root))
    query = f"SELECT '{SAID}' AS \"é\""
    _, out, _ = command(monkeypatch, encoding, "sql", *where, "--format", "json", query)
    assert json.loads(out.decode()) == [{"é": SAID}]
    _, out, _ = command(monkeypatch, encoding, "sql", *where, "--format", "csv", stdin=query.encode())
    assert out.decode() == f"é\n{SAID}\n"
    for code, *words in ((0, "sql", query), (0, "runs"), (0, "annotations", "list"), (2, "sql", f"SELECT {SAID}"),
                         (2, "runs", SAID), (2, "audit", SAID), (2, "relabel", SAID),
                         (2, "nothing", SAID)):  # fmt: skip
        ended, out, err = command(monkeypatch, encoding, *words, *(where if words[0] != "nothing" else ()))
        assert ended == code, err
        assert out if code == 0 else err
    ended, _, err = command(monkeypatch, encoding, "sql", *where, stdin=b"SELECT '\xff'")
    assert (ended, "standard input, byte 8: not UTF-8" in err) == (2, True)


def test_a_query_in_a_locale_that_is_not_utf_8_is_what_was_typed(warehouse: Warehouse) -> None:
    code = "from constitution.cli import main; main()"
    where = ["--warehouse", str(warehouse.root), "--format", "csv"]
    words = [sys.executable, "-c", code, "sql", *where, f"SELECT '{SAID}' x"]
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(words, capture_output=True, check=False, env={**os.environ, **locale})
    assert done.stdout.decode() == f"x\n{SAID}\n", done.stderr


def test_names_that_are_not_utf_8_are_no_tracebacks(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = os.fsencode(tmp_path) + b"/x\xff"
    where = ("--warehouse", str(warehouse.root))
    for words in (
        ("sql", "--warehouse", odd, "SELECT 1"),
        ("runs", *where, b"\xff"),
        ("sql", *where, b"SELECT '\xff'"),
        ("annotations", "import", *where, odd + b".csv"),
        ("audit", *where, b"\xff"),
        ("export", *where, "--format", "dpo", "--out", odd),
        ("run", odd + b".toml"),
        ("principles", "show", odd),
    ):
        ended, _, err = command(monkeypatch, "utf-8", *words)
        assert ended == 2, (words, err)
        assert err.startswith("constitution: ")
    assert not list(tmp_path.iterdir())
    query = "SELECT count(*) AS n FROM prompts"
    assert command(monkeypatch, "ascii", "sql", *where, "--out", odd + b".csv", query)[0] == 0
    assert str(PROMPTS) in Path(os.fsdecode(odd + b".csv")).read_text()
