"""Looking a row up by its id reads the row groups that may have it, not the table."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from constitution.identity import row_id
from constitution.warehouse.columns import ROW_GROUP_ROWS, Table, text
from constitution.warehouse.compact import compact_folder
from constitution.warehouse.files import new_part
from constitution.warehouse.schema import TABLES


def _excluded(path: Path, id: str) -> int:
    """Row groups of which the file's Bloom filters say that they do not have the id."""
    probe = f"SELECT bloom_filter_excludes FROM parquet_bloom_probe('{path}', 'id', '{id}')"
    return sum(bool(excludes) for (excludes,) in duckdb.connect().execute(probe).fetchall())


def test_bloom_filters_stand_in_what_a_flush_writes_and_in_what_compaction_makes(tmp_path: Path) -> None:
    table = Table("things", "Things.", (text("id", "Its id.", sought=True), text("other", "Another text.")))
    folder = tmp_path / "run_id=x"
    for part in range(2):
        ids = pa.array([row_id(part, number) for number in range(3 * ROW_GROUP_ROWS)])
        with new_part(folder) as (path, file):
            table.write(pa.table([ids, ids], schema=table.schema), file)
    assert _excluded(path, row_id(1, 7)) == 2, "of three row groups"
    assert compact_folder(table, folder) == 1
    [merged] = folder.glob("*.parquet")
    assert pq.read_metadata(merged).num_row_groups == 6
    assert _excluded(merged, row_id(1, 7)) == 5
    assert _excluded(merged, row_id("in none")) == 6


def test_the_ids_that_views_and_provenance_ask_for_are_sought() -> None:
    sought = {name: [column.name for column in table.columns if column.sought] for name, table in TABLES.items()}
    for name, column in (("prompts", "id"), ("responses", "id"), ("judgements", "pair_id"), ("preferences", "id")):
        assert sought[name] == [column]
