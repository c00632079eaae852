"""Warehouses that an older version wrote: without the tables and columns that have come since."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from warehouse_rows import CONSTITUTION, PROMPTS, RUN, chain, fill, prompt

from constitution.cli import app
from constitution.records import Annotation, Criterion, Figure, Judgement, Preference, Response, Row
from constitution.warehouse import Warehouse, ask, connect
from constitution.warehouse.schema import TABLES

SINCE = {
    "principles": {"criteria"},
    "responses": {
        *(
            "family",
            "perturbation",
            "refuses",
            "reasoning",
            "reasoning_tokens",
            "critique_reasoning",
            "critique_reasoning_tokens",
        ),
    },
    "judgements": {
        "repeat",
        "calls",
        "read_first",
        "read_second",
        "rationale_reasoning",
        "reasoning_tokens",
        "censored",
    },
    "preferences": {"p_mean", "label_by", "ties", "dissent"},
    "counterfactuals": {"reasoning", "reasoning_tokens"},
    "scores": {"censored"},
}
TABLES_SINCE = ("annotations", "figures")


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """What fill() writes, as version 0.1.0 wrote it."""
    fill(tmp_path)
    for table, columns in SINCE.items():
        for path in (tmp_path / table).rglob("*.parquet"):
            data = pq.read_table(path, partitioning=None)
            assert columns <= set(data.column_names)
            pq.write_table(data.drop_columns(list(columns)), path)
    for table in TABLES_SINCE:
        shutil.rmtree(tmp_path / table)
    (tmp_path / "warehouse.duckdb").unlink()
    for sums in tmp_path.rglob("SHA256SUMS"):
        sums.unlink()
    return tmp_path


def test_all_that_is_new_is_told_of() -> None:
    """Who adds a column that must not be null says in schema.py what older rows say in it, and adds it above."""
    told = {
        (table.name, column.name) for table in TABLES.values() for column in table.columns if column.older is not None
    }
    assert told <= {(table, column) for table, columns in SINCE.items() for column in columns}
    for table, columns in SINCE.items():
        for column in TABLES[table].columns:
            if column.name in columns:
                assert column.null or column.older is not None, f"{table}.{column.name}"


def test_it_can_be_asked_without_writing_into_it(older: Path) -> None:
    for folder, _, _ in os.walk(older):
        os.chmod(folder, 0o555)
    before = sorted(older.rglob("*"))
    try:
        with connect(older) as connection:
            names = [
                name for (name,) in ask(connection, "SELECT view_name FROM duckdb_views() WHERE NOT internal").rows
            ]
            for name in names:
                list(ask(connection, f'SELECT count(*) FROM "{name}"').rows)
            rows = ask(connection, "SELECT DISTINCT repeat, calls, read_first FROM judgements").rows
            assert list(rows) == [(0, 1, None)]
            rows = ask(connection, "SELECT DISTINCT label_by, ties, dissent, p_mean FROM preferences").rows
            assert list(rows) == [("mean", 0, [], None)]
            assert list(ask(connection, "SELECT count(*) FROM averaged_votes").rows) == [(PROMPTS - 1,)]
            assert list(ask(connection, "SELECT count(*) FROM annotations").rows) == [(0,)]
        result = CliRunner().invoke(app, ["sql", "SELECT count(*) FROM gold", "--warehouse", str(older)])
        assert result.exit_code == 0, result.output
        # The views are made again where that is possible; this may be root's test.
        assert {*older.rglob("*")} - {older / "warehouse.duckdb"} == set(before)
    finally:
        for folder, _, _ in os.walk(older):
            os.chmod(folder, 0o755)


def test_a_run_in_it_goes_on(older: Path) -> None:
    """Old parts and new ones side by side are read, tallied and merged."""
    warehouse = Warehouse(older)
    old = {row.id: row for row in chain(0)}
    assert {row.id: row for row in warehouse.rows_of(RUN, [prompt(0).id])[prompt(0).id]} == old
    assert warehouse.read_principles(RUN) == CONSTITUTION
    rows = list(chain(PROMPTS - 1))
    [preference] = [replace(row, ties=1, dissent=("judge/true",)) for row in rows if isinstance(row, Preference)]
    votes = [replace(row, repeat=1, calls=3) for row in rows if isinstance(row, Judgement)]
    warehouse.write_part("preferences", RUN, [preference])
    warehouse.write_part("judgements", RUN, votes)
    warehouse.write_part("responses", RUN, [row for row in rows if isinstance(row, Response)][2:])
    tally = warehouse.tally(RUN)
    assert (tally.counts["preferences"], tally.counts["judgements"]) == (PROMPTS, 2 * PROMPTS)
    expected = {prompt(n).id: warehouse.rows_of(RUN, [prompt(n).id])[prompt(n).id] for n in (0, PROMPTS - 1)}
    assert warehouse.compact(RUN) > 0
    assert len(warehouse.parts("judgements", RUN)) == 1
    assert pq.read_schema(warehouse.parts("judgements", RUN)[0]).equals(TABLES["judgements"].schema)
    assert warehouse.rows_of(RUN, list(expected)) == expected
    assert {row.id: row for row in expected[prompt(0).id]} == old
    assert preference in expected[prompt(PROMPTS - 1).id]


def test_labels_and_figures_can_be_written_into_it(older: Path) -> None:
    warehouse = Warehouse(older)
    label = Annotation("l", RUN, prompt(0).id, "ann", 1.0, "ann.csv", pair_id="p")
    assert warehouse.write_annotations(RUN, [label]) == (1, 0, 0)
    warehouse.write_figures(RUN, [Figure(RUN, "kept", 1.0, 1)])
    warehouse.rebuild_views()
    assert warehouse.read_annotations(RUN) == [label]
    with connect(older) as connection:
        assert list(
            ask(connection, "SELECT (SELECT count(*) FROM annotations), (SELECT count(*) FROM figures)").rows
        ) == [(1, 1)]


def test_new_columns_come_back_as_they_were_written(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    answer, *_, vote, _, preference = chain(0)
    assert isinstance(answer, Response)
    assert isinstance(vote, Judgement)
    assert isinstance(preference, Preference)
    rows: list[Row] = [
        replace(answer, kind="perturbation", family="llama", perturbation="terse"),
        replace(vote, method="score", repeat=2, calls=2, read_first=(0.1, 0.0, 0.9), read_second=()),
        replace(preference, p_mean=0.25, label_by="majority, style", ties=3, dissent=("x/kind", "y/true")),
    ]
    for table, row in zip(("responses", "judgements", "preferences"), rows, strict=True):
        warehouse.write_part(table, RUN, [row])
    assert warehouse.rows_of(RUN, [prompt(0).id]) == {prompt(0).id: rows}
    criteria = (Criterion("Is it kind?"), Criterion("Does it shout?", "no", 0.5))
    constitution = replace(CONSTITUTION, principles=(replace(CONSTITUTION.principles[0], criteria=criteria),))
    warehouse.write_principles(RUN, constitution)
    assert warehouse.read_principles(RUN) == constitution


@pytest.mark.parametrize("exchanges", [True, False])
def test_rows_are_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool) -> None:
    warehouse = fill(tmp_path)
    extra = [row for row in chain(PROMPTS) if isinstance(row, Preference)]
    warehouse.write_part("preferences", RUN, extra)
    if not exchanges:
        monkeypatch.setattr("constitution.warehouse.files.exchange", lambda one, other: False)
    [row] = [replace(row, p_b=0.1, label_by="dawid-skene") for row in extra]
    warehouse.replace_rows("preferences", RUN, [row])
    assert [part.name for part in warehouse.parts("preferences", RUN)] == ["part-2.parquet"]
    assert warehouse.rows_of(RUN, [prompt(n).id for n in range(PROMPTS + 1)])[row.prompt_id][-1] == row
    with connect(tmp_path) as connection:
        assert list(ask(connection, "SELECT id, p_b FROM preferences").rows) == [(row.id, 0.1)]
    assert sorted(path.name for path in (tmp_path / "preferences").iterdir()) == ["run_id=_", f"run_id={RUN}"]


def test_a_column_of_an_older_version_that_is_gone_is_left_out(tmp_path: Path) -> None:
    """A part with more columns than this version knows, as a newer one may have written it."""
    warehouse = fill(tmp_path)
    [part] = warehouse.parts("failures", RUN)
    data = pq.read_table(part, partitioning=None)
    pq.write_table(data.append_column("mood", pa.array(["good"] * data.num_rows)), part)
    with connect(tmp_path) as connection:
        found = ask(connection, "FROM failures")
        assert list(found.columns) == [column.name for column in TABLES["failures"].columns]
        assert len(list(found.rows)) == 1
