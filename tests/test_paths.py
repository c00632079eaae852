"""The path above the data never changes what is read: not the warehouse's tables, not a file that is imported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from warehouse_rows import RUN, fill

from constitution.errors import PromptError, QueryError
from constitution.prompts import read_prompts
from constitution.recipe import PromptsSection
from constitution.records import Annotation
from constitution.warehouse import Warehouse, ask, connect
from constitution.warehouse.annotations import COLUMNS, read_annotations
from constitution.warehouse.schema import TABLES
from constitution.warehouse.tally import most_left_first

TEXT_COLUMNS = ("filename", "content", "size", "last_modified", "json", "file_row_number")
"""What DuckDB's own readers give."""


def names() -> list[str]:
    return sorted({column.name for table in TABLES.values() for column in table.columns} | {*TEXT_COLUMNS, *COLUMNS})


def below_every_name(root: Path) -> Path:
    """A folder whose path has a `key=value` of every column of every table."""
    for name in names():
        root = root / f"{name}=1"
    root.mkdir(parents=True)
    return root


def rows(root: Path, query: str, run_id: str | None = None) -> list[tuple[Any, ...]]:
    with connect(root, run_id=run_id) as connection:
        return sorted(ask(connection, query).rows, key=repr)


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same warehouse in a plain folder and below every name."""
    base = tmp_path_factory.mktemp("paths")
    plain, below = base / "warehouse", below_every_name(base) / "warehouse"
    warehouse = fill(plain)
    pair = next(iter(warehouse.ids("preferences", RUN)))
    warehouse.write_annotations(RUN, [Annotation("l", RUN, "p", "ann", 0.0, "ann.csv", pair, None, None)])
    shutil.copytree(plain, below)
    return plain, below


@pytest.mark.parametrize("run_id", [None, RUN])
def test_tables_and_views_below_every_name(roots: tuple[Path, Path], run_id: str | None) -> None:
    plain, below = roots
    with connect(plain) as connection:
        views = [str(row[0]) for row in ask(connection, "SHOW TABLES").rows]
    assert {"prompts", "pairs", "runs", "templates", "votes", "chains", "rated"} <= set(views)
    with connect(below, run_id=run_id) as ours, connect(plain, run_id=run_id) as others:
        for view in views:
            assert sorted(ask(ours, f"FROM {view}").rows, key=repr) == sorted(
                ask(others, f"FROM {view}").rows, key=repr
            ), view
    assert [run for (run,) in rows(below, "SELECT DISTINCT run_id FROM responses")] == [RUN]


def test_the_views_in_the_file_below_every_name(roots: tuple[Path, Path]) -> None:
    for root in roots:
        Warehouse(root).rebuild_views()
    plain, below = ([*told(root)] for root in roots)
    assert plain == below


def told(root: Path) -> Iterator[list[Any]]:
    """What anybody's DuckDB reads of warehouse.duckdb."""
    with duckdb.connect(str(root / "warehouse.duckdb"), read_only=True) as connection:
        connection.execute("SET VARIABLE root = ?", [str(root)])
        for view in (*TABLES, "runs", "pairs"):
            yield sorted(connection.execute(f"FROM {view}").fetchall(), key=repr)


def test_a_filter_on_the_run_opens_its_files_alone(tmp_path: Path) -> None:
    warehouse = fill(tmp_path / "run_id=other" / "warehouse")
    for number in range(5):
        shutil.copytree(warehouse.folder("responses", RUN), warehouse.folder("responses", f"run-{number}"))
    with connect(warehouse.root) as connection:
        [(_, plan)] = connection.execute(
            "EXPLAIN ANALYZE SELECT max(text) FROM responses WHERE run_id = 'run-3'"
        ).fetchall()
    assert "Total Files Read: 1" in plan


def test_everything_that_a_run_reads_of_itself(roots: tuple[Path, Path]) -> None:
    plain, below = (Warehouse(root) for root in roots)
    ids = [prompt.id for part in plain.parts("prompts", RUN) for prompt in plain.read_prompts(part)]
    assert below.rows_of(RUN, ids) == plain.rows_of(RUN, ids)
    tallies = [warehouse.tally(RUN) for warehouse in (plain, below)]
    assert sorted(tallies[0].usage, key=repr) == sorted(tallies[1].usage, key=repr)
    assert replace(tallies[0], usage=()) == replace(tallies[1], usage=())
    ended = [warehouse.parts("preferences", RUN) for warehouse in (plain, below)]
    slices = [warehouse.parts("prompts", RUN) for warehouse in (plain, below)]
    assert [path.name for path in most_left_first(slices[1], ended[1])] == [
        path.name for path in most_left_first(slices[0], ended[0])
    ]


@pytest.mark.parametrize("name", ["ann.csv", "ann.tsv", "ann.jsonl", "ann.json", "ann.parquet", "ann.csv.gz"])
@pytest.mark.parametrize("column", COLUMNS)
def test_labels_below_each_of_their_columns(roots: tuple[Path, Path], tmp_path: Path, name: str, column: str) -> None:
    """Values that would be taken without a word, were they those of the file."""
    plain, _ = roots
    pair, other, a, b = rows(plain, "SELECT id, max(id) OVER (), a_id, b_id FROM preferences")[0]
    said = {"pair_id": pair, "preferred": "a", "rater": "ann", "first_id": a, "second_id": b}
    wrong = {"pair_id": other, "preferred": "b", "rater": "ben", "first_id": b, "second_id": a, "value": "1"}
    above = {**wrong, "response_id": a, "principle_id": "kind"}
    folder = tmp_path / f"{column}={above[column]}"
    folder.mkdir()
    with duckdb.connect() as connection:
        connection.register("said", pa.Table.from_pylist([said]))
        kind = name.split(".")[1]
        how = {"tsv": "FORMAT csv, DELIM '\t'", "json": "FORMAT json, ARRAY true", "jsonl": "FORMAT json"}
        gz = ", COMPRESSION gzip" if name.endswith("gz") else ""
        connection.execute(f"COPY said TO '{folder / name}' ({how.get(kind, f'FORMAT {kind}')}{gz})")
    [label] = read_annotations(plain, folder / name).annotations
    assert (label.pair_id, label.response_id, label.rater, label.value) == (pair, None, "ann", 0.0)
    assert label.principle_id is None


QUERIES = [
    "SELECT {} FROM 'p.parquet'",
    "SELECT {} FROM 'p.csv'",
    "SELECT {} FROM 'p.csv' AS t WHERE t.prompt <> ''",
    "SELECT {} FROM 'p.csv' WHERE p.prompt <> ''",
    "SELECT {} FROM 'p.jsonl'",
    "SELECT {} FROM read_parquet('p.parquet')",
    "SELECT {} FROM Read_Parquet(['p.parquet'] /* ) */, union_by_name = true) AS \"b)\"",
    "SELECT {} FROM parquet_scan('p.parquet', hive_partitioning = false)",
    "SELECT {} FROM read_csv('p.csv', header = true)",
    "SELECT {} FROM read_csv_auto('p.csv')",
    "SELECT {} FROM read_json('p.jsonl')",
    "SELECT {} FROM read_ndjson('*.jsonl')",
    "WITH x AS (FROM 'p.parquet') SELECT {} FROM x, (SELECT count(*) FROM read_csv('p.csv')) AS y(n)",
]


@pytest.mark.parametrize("query", QUERIES)
def test_a_recipes_query_below_its_own_columns(tmp_path: Path, query: str) -> None:
    base = tmp_path / "prompt=wrong" / "tag=wrong"
    base.mkdir(parents=True)
    with duckdb.connect() as connection:
        for kind in ("parquet", "csv", "json"):
            path = base / f"p.{kind}l" if kind == "json" else base / f"p.{kind}"
            connection.execute(f"COPY (SELECT 'Why?' AS prompt) TO '{path}' (FORMAT {kind})")
    [prompt] = read_prompts(PromptsSection(format="sql", query=query.format("prompt")), base)
    assert prompt.messages[0].content == "Why?"
    with pytest.raises(PromptError, match="tag"):  # the path's columns are not there at all
        list(read_prompts(PromptsSection(format="sql", query=query.format("tag AS prompt")), base))


@pytest.mark.parametrize("function", ["read_text", "read_blob"])
def test_a_recipes_whole_files(tmp_path: Path, function: str) -> None:
    base = tmp_path / "lang=de"
    base.mkdir()
    (base / "p.txt").write_text("Why?")
    query = f"SELECT decode(content::BLOB) AS prompt FROM {function}('p.txt')"
    [prompt] = read_prompts(PromptsSection(format="sql", query=query), base)
    assert prompt.messages[0].content == "Why?"
    with pytest.raises(PromptError, match="lang"):
        list(read_prompts(PromptsSection(format="sql", query=f"SELECT lang AS prompt FROM {function}('p.txt')"), base))
    below = tmp_path / "content=x"
    below.mkdir()
    with pytest.raises(PromptError, match="content=x") as refused:
        list(read_prompts(PromptsSection(format="sql", query=query), below))
    assert refused.value.hint


def test_folders_of_the_data_are_columns_where_the_query_asks(tmp_path: Path) -> None:
    for base in (tmp_path / "data", tmp_path / "lang=fr" / "data"):
        (base / "lang=de").mkdir(parents=True)
        (base / "lang=de" / "p.jsonl").write_text(json.dumps({"prompt": "Why?"}))
    query = "SELECT lang || prompt AS prompt FROM read_json('*/p.jsonl', hive_partitioning = true)"
    [prompt] = read_prompts(PromptsSection(format="sql", query=query), tmp_path / "data")
    assert prompt.messages[0].content == "deWhy?"
    with pytest.raises(PromptError, match="lang=fr") as refused:
        list(read_prompts(PromptsSection(format="sql", query=query), tmp_path / "lang=fr" / "data"))
    assert refused.value.hint


@pytest.mark.parametrize(
    "query",
    [
        "SELECT id, prompt_id, kind FROM read_parquet('{}/responses/{}/part-0.parquet')",
        "SELECT id, prompt_id, kind FROM '{}/responses/{}/part-0.parquet'",
    ],
)
def test_a_query_over_the_warehouses_own_files(roots: tuple[Path, Path], query: str) -> None:
    plain, below = (rows(root, query.format(root, RUN)) for root in roots)
    assert plain == below == rows(roots[0], "SELECT id, prompt_id, kind FROM responses")
    assert rows(roots[1], "SUMMARIZE " + query.format(roots[1], RUN))
    assert rows(roots[1], "EXPLAIN " + query.format(roots[1], RUN))


def test_pivot_over_a_file_is_refused(roots: tuple[Path, Path]) -> None:
    for source in ("read_parquet('{}/x.parquet')", "'{}/x.parquet'"):
        with pytest.raises(QueryError, match="PIVOT over a file"):
            rows(roots[1], f"PIVOT {source.format(roots[1])} ON kind USING count(*)")
