"""The warehouse's tables, files, runs and locks, with real Parquet and DuckDB."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from warehouse_rows import CONSTITUTION, RUN, chain, failure, prompt, run

import constitution.warehouse
from constitution.errors import RunLocked, WarehouseError
from constitution.records import Failure, Judgement, Message, Preference, Prompt, Response, Row, Sampling
from constitution.warehouse import Warehouse, checksums, convert
from constitution.warehouse.columns import ROW_GROUP_ROWS
from constitution.warehouse.dictionary import VIEWS
from constitution.warehouse.query import connect
from constitution.warehouse.schema import TABLES

TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
COUNT = st.integers(0, 2**31 - 1)
SHARE = st.floats(0, 1)
SEED = st.none() | COUNT
MAYBE_SHARE = st.none() | SHARE
MAYBE_TEXT = st.none() | TEXT
SAMPLINGS = st.builds(Sampling, st.floats(0, 5), SHARE, COUNT, st.lists(TEXT, max_size=3).map(tuple))
COMMON = {"run_id": st.just(RUN), "id": TEXT, "prompt_id": TEXT}

RESPONSES = st.builds(
    Response,
    **COMMON,
    kind=st.sampled_from(["initial", "revision", "sample", "given"]),
    round=COUNT,
    text=TEXT,
    outcome=st.sampled_from(["ok", "cut", "empty", "unchanged", "skipped"]),
    model=TEXT,
    parent_id=MAYBE_TEXT,
    principle_id=MAYBE_TEXT,
    principle_digest=MAYBE_TEXT,
    critique=MAYBE_TEXT,
    critique_outcome=st.none() | st.sampled_from(["ok", "cut", "empty", "refused"]),
    critique_seed=SEED,
    critique_prompt_tokens=COUNT,
    template_digest=MAYBE_TEXT,
    sampling=st.none() | SAMPLINGS,
    seed=SEED,
    finish_reason=MAYBE_TEXT,
    completion_tokens=COUNT,
)
JUDGEMENTS = st.builds(
    Judgement,
    **COMMON,
    pair_id=TEXT,
    first_id=TEXT,
    second_id=TEXT,
    judge=TEXT,
    principle_id=TEXT,
    principle_digest=TEXT,
    method=TEXT,
    p_first=SHARE,
    label_mass=SHARE,
    template_digest=TEXT,
    rationale=MAYBE_TEXT,
    seed=SEED,
)
PREFERENCES = st.builds(
    Preference,
    **COMMON,
    kind=TEXT,
    a_id=TEXT,
    b_id=TEXT,
    p_b=MAYBE_SHARE,
    votes=COUNT,
    votes_missing=COUNT,
    consistency=MAYBE_SHARE,
    agreement=MAYBE_SHARE,
    label_mass=MAYBE_SHARE,
    drop_reason=st.none() | st.sampled_from(["tie", "margin", "identical", "empty", "cut", "votes-missing"]),
    gold_id=MAYBE_TEXT,
)
FAILURES = st.builds(Failure, **COMMON, step=TEXT, error=TEXT, message=TEXT, retryable=st.booleans())
MESSAGES = st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), TEXT), max_size=4).map(tuple)
TEXTS = st.lists(TEXT, max_size=3).map(tuple)
PROMPTS = st.builds(Prompt, MESSAGES, TEXT, TEXTS, TEXTS, SEED, COUNT)
ONE_FOLDER = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
"""All examples write to one warehouse: every write waits for the disk."""

ROWS: dict[str, st.SearchStrategy[list[Row]]] = {
    "responses": st.lists(RESPONSES, min_size=1, max_size=5).map(list),
    "judgements": st.lists(JUDGEMENTS, min_size=1, max_size=5).map(list),
    "preferences": st.lists(PREFERENCES, min_size=1, max_size=5).map(list),
    "failures": st.lists(FAILURES, min_size=1, max_size=5).map(list),
}


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "warehouse")


def write_chains(warehouse: Warehouse, numbers: range, run_id: str = RUN) -> list[Row]:
    rows = [row for number in numbers for row in chain(number, run_id)]
    for kind, table in convert.TABLE_OF.items():
        if of_kind := [row for row in rows if isinstance(row, kind)]:
            warehouse.write_part(table, run_id, of_kind)
    return rows


@pytest.mark.parametrize("table", list(ROWS))
@ONE_FOLDER
@given(data=st.data())
def test_rows_come_back_exactly(table: str, data: st.DataObject, warehouse: Warehouse) -> None:
    rows = data.draw(ROWS[table])
    part = warehouse.write_part(table, RUN, rows)
    with pq.ParquetFile(part) as file:
        assert file.schema_arrow.equals(TABLES[table].schema)
        assert convert.rows_from_arrow(table, file.read()) == rows
    with duckdb.connect() as connection:  # and through DuckDB, which is what resuming reads with
        data_back = connection.sql(
            "FROM read_parquet(?, hive_partitioning = false)", params=[str(part)]
        ).to_arrow_table()
        assert convert.rows_from_arrow(table, data_back) == rows


@ONE_FOLDER
@given(prompts=st.lists(PROMPTS, max_size=5))
def test_prompts_come_back_exactly(prompts: list[Prompt], warehouse: Warehouse) -> None:
    assert warehouse.read_prompts(warehouse.write_prompts(RUN, 3, prompts)) == prompts


def test_derived_columns_are_the_records_properties(warehouse: Warehouse) -> None:
    rows = [row for number in range(3) for row in chain(number) if isinstance(row, Preference)]
    tie = Preference("x", RUN, "p", "parent", "a", "b", 0.5, 2, 0, None, None, None, "tie")
    lost = Preference("y", RUN, "p", "parent", "a", "b", None, 0, 2, None, None, None, "votes-missing")
    worse = Preference("z", RUN, "p", "parent", "a", "b", 0.25, 2, 0, None, None, None, None)
    part = warehouse.write_part("preferences", RUN, [*rows, tie, lost, worse])
    table = pq.ParquetFile(part).read()
    for name in ("kept", "chosen_id", "rejected_id", "p_chosen"):
        assert table[name].to_pylist() == [getattr(row, name) for row in [*rows, tie, lost, worse]]
    part = warehouse.write_prompts(RUN, 0, [prompt(7)])
    (row,) = pq.ParquetFile(part).read(["id", "turns", "last_user", "position"]).to_pylist()
    assert row == {"id": prompt(7).id, "turns": 3, "last_user": "again 7", "position": 0}


def test_a_constitution_comes_back_with_its_digest(warehouse: Warehouse) -> None:
    assert warehouse.read_principles(RUN) is None
    for _ in range(2):  # writing it again changes nothing
        warehouse.write_principles(RUN, CONSTITUTION)
    assert warehouse.read_principles(RUN) == CONSTITUTION
    again = warehouse.read_principles(RUN)
    assert again
    assert again.digest == CONSTITUTION.digest


def test_files_have_the_layout_that_the_design_names(warehouse: Warehouse) -> None:
    first = warehouse.write_part("responses", RUN, [r for r in chain(1) if isinstance(r, Response)])
    second = warehouse.write_part("responses", RUN, [r for r in chain(2) if isinstance(r, Response)])
    assert first == warehouse.root / "responses" / RUN / "part-0.parquet"
    assert second.name == "part-1.parquet"
    metadata = pq.read_metadata(first).row_group(0)
    by_path = {metadata.column(i).path_in_schema: metadata.column(i) for i in range(metadata.num_columns)}
    assert {column.compression for column in by_path.values()} == {"ZSTD"}
    dictionary = {path for path, column in by_path.items() if column.has_dictionary_page}
    assert {"model", "outcome", "sampling.top_p", "run_id"} <= dictionary
    assert dictionary.isdisjoint({"id", "text", "critique", "seed"})
    for table in TABLES:
        pattern = str(warehouse.root / table / "*" / "*.parquet")
        with duckdb.connect() as connection:
            query = "SELECT count(*) FROM read_parquet(?, hive_partitioning = true)"
            assert connection.execute(query, [pattern]).fetchall() == [(6 if table == "responses" else 0,)]


def test_row_groups_are_of_the_size_that_scans_like(warehouse: Warehouse) -> None:
    rows: list[Row] = [failure(number) for number in range(ROW_GROUP_ROWS + 5)]
    metadata = pq.read_metadata(warehouse.write_part("failures", RUN, rows))
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [ROW_GROUP_ROWS, 5]


def test_writing_a_slice_again_replaces_it(warehouse: Warehouse) -> None:
    path = warehouse.write_prompts(RUN, 4, [prompt(1), prompt(2)])
    assert path == warehouse.write_prompts(RUN, 4, [prompt(3)])
    assert warehouse.read_prompts(path) == [prompt(3)]
    assert [part.name for part in warehouse.parts("prompts", RUN)] == ["part-4.parquet"]


def test_rows_of_gives_the_rows_of_these_prompts_only(warehouse: Warehouse) -> None:
    assert warehouse.rows_of(RUN, [prompt(1).id]) == {}
    assert not warehouse.root.exists(), "asking makes nothing"
    rows = write_chains(warehouse, range(20))
    write_chains(warehouse, range(20, 30))
    warehouse.write_part("failures", RUN, [failure(3)])
    found = warehouse.rows_of(RUN, [prompt(3).id, prompt(25).id, "nobody"])
    *votes, label = (row for row in rows if row.prompt_id == prompt(3).id)
    assert found == {
        prompt(3).id: [*votes, failure(3), label],
        prompt(25).id: list(chain(25)),
    }
    assert warehouse.ids("failures", RUN, "prompt_id") == {prompt(3).id}
    assert warehouse.ids("preferences", RUN) == {list(chain(number))[-1].id for number in range(30)}


def test_runs_are_stored_and_listed_by_their_start(warehouse: Warehouse) -> None:
    assert warehouse.read_run(RUN) is None
    assert warehouse.runs() == []
    warehouse.write_run(run())
    warehouse.write_run(run(finished=True))
    warehouse.write_run(run("a-later"))
    assert warehouse.read_run(RUN) == run(finished=True)
    assert warehouse.runs() == [run("a-later"), run(finished=True)]
    path = warehouse.root / "runs" / f"{RUN}.json"
    assert json.loads(path.read_text())["schema"] == 1
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 9'))
    with pytest.raises(WarehouseError, match=r"layout 9"):
        warehouse.read_run(RUN)
    path.write_text("{")
    with pytest.raises(WarehouseError, match=str(path)):
        warehouse.read_run(RUN)


@pytest.mark.parametrize("run_id", ["", "../x", "a/b", ".x", "_", "a" * 129, "a\nb"])
def test_a_run_id_that_is_no_folder_name_is_refused(warehouse: Warehouse, run_id: str) -> None:
    with pytest.raises(WarehouseError, match="cannot be a run id"):
        warehouse.write_part("failures", run_id, [failure(1)])
    assert not warehouse.root.exists()


def test_text_that_utf8_cannot_hold_is_refused_with_its_place(warehouse: Warehouse) -> None:
    bad = Failure("x", RUN, "p", "initial", "E", "half a \ud800 character", False)
    with pytest.raises(WarehouseError, match=r"failures\.message"):
        warehouse.write_part("failures", RUN, [bad])
    assert warehouse.parts("failures", RUN) == []


def test_a_second_writer_is_told_who_holds_the_lock(warehouse: Warehouse) -> None:
    with warehouse.lock(RUN):
        assert warehouse.locked(RUN)
        with pytest.raises(RunLocked, match=f"process {os.getpid()}"), warehouse.lock(RUN):
            pass
        with warehouse.lock("another"):
            pass
    assert not warehouse.locked(RUN)
    with warehouse.lock(RUN):
        pass


def test_a_killed_holder_leaves_no_lock(warehouse: Warehouse) -> None:
    code = (
        "import os, sys, pathlib; from constitution.warehouse import Warehouse\n"
        f"with Warehouse(pathlib.Path(sys.argv[1])).lock('{RUN}'):\n"
        "    print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(warehouse.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(RunLocked, match=f"process {process.pid}"), warehouse.lock(RUN):
            pass
        process.kill()
        process.wait()
    with warehouse.lock(RUN):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(WarehouseError, match="closed"):
        Warehouse(tmp_path / "closed").write_part("failures", RUN, [failure(1)])


def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WarehouseError, match=r"file.*cannot be written: Not a directory|File exists"):
        Warehouse(tmp_path / "file").write_part("failures", RUN, [failure(1)])


def test_recover_sweeps_what_a_killed_write_left(warehouse: Warehouse) -> None:
    part = warehouse.write_part("failures", RUN, [failure(1)])
    place = checksums.aside(part.parent)
    (place / ".part-1.parquet.tmp").write_bytes(b"half")
    (place / ".part-7.parquet.99.tmp").write_bytes(b"half")
    assert warehouse.write_part("failures", RUN, [failure(2)]).name == "part-2.parquet", "1 is taken by a writer"
    warehouse.recover(RUN)
    assert sorted(path.name for path in part.parent.iterdir()) == ["part-0.parquet", "part-2.parquet"]
    assert [path.name for path in place.iterdir()] == ["SHA256SUMS"]


def test_the_dictionary_lists_every_column(tmp_path: Path) -> None:
    """Of the tables, and of the views with a name of theirs for something else: in order, with their types."""
    Warehouse(tmp_path).rebuild_views()
    described = {name: table.columns for name, table in TABLES.items()} | VIEWS
    with connect(tmp_path) as connection:
        listed = connection.execute("SELECT table_name, column_name, type, says FROM dictionary").fetchall()
        shown = [(name, *row[:2]) for name in described for row in connection.execute(f"DESCRIBE {name}").fetchall()]
    assert [row[3] for row in listed] == [column.doc for columns in described.values() for column in columns]
    assert [row[:3] for row in _plain(listed)] == _plain(shown)


def _plain(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Types in one spelling."""
    others = {"timestamp with time zone": "timestamptz"}
    return [
        (table, name, others.get(kind.lower(), kind.lower().replace('"', "")), *more)
        for table, name, kind, *more in rows
    ]


def test_a_name_that_two_views_have_means_the_same_or_says_what_it_means(tmp_path: Path) -> None:
    """Every view that has a column of a described table is described too, or has it from there; `pairs` has all of a
    preference's columns, so that nothing is joined twice."""
    assert {column.name for column in TABLES["preferences"].columns} <= {column.name for column in VIEWS["pairs"]}
    warehouse = Warehouse(tmp_path)
    write_chains(warehouse, range(4))
    with connect(tmp_path) as connection:
        names = ", ".join(TABLES["preferences"].schema.names)
        pairs, preferences = (
            connection.execute(f"SELECT {names} FROM {name} ORDER BY id").fetchall()
            for name in ("pairs", "preferences")
        )
    assert pairs == preferences != []
    meanings: dict[str, set[str]] = {}
    for name, columns in ({name: table.columns for name, table in TABLES.items()} | VIEWS).items():
        for column in columns:
            meanings.setdefault(column.name, set()).add(column.doc)
            assert column.doc, (name, column.name)
    assert len(meanings["p_b"]) >= 4
    assert len(meanings["p_chosen"]) == len(meanings["gold"]) == 1


def test_every_field_of_a_record_is_a_column() -> None:
    for table, kind in convert.ROW_TABLES.items():
        columns = {column.name for column in TABLES[table].columns}
        assert set(kind.__dataclass_fields__) <= columns
    assert all(column.doc for table in TABLES.values() for column in table.columns)


def test_public_names_are_those_of_all() -> None:
    assert all(hasattr(constitution.warehouse, name) for name in constitution.warehouse.__all__)
