"""A warehouse of another version is refused in one sentence; rows are replaced as a whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from warehouse_rows import PROMPTS, RUN, chain, failure, fill, prompt

from constitution.errors import WarehouseError
from constitution.records import Preference
from constitution.warehouse import Warehouse, ask, connect


@pytest.mark.parametrize("how", ["an older format", "a column less", "a column more"])
def test_a_warehouse_of_another_version_is_refused(tmp_path: Path, how: str) -> None:
    """Read or written, and nothing in it changes."""
    fill(tmp_path)
    path = tmp_path / "failures" / "run_id=_" / "_schema.parquet"
    data = pq.read_table(path, partitioning=None)
    if how == "an older format":
        data = data.replace_schema_metadata({**data.schema.metadata, b"format": b"1"})
    elif how == "a column less":
        data = data.drop_columns(["judge"])
    else:
        data = data.append_column("mood", data["judge"])
    pq.write_table(data, path)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    refused = "this warehouse was written by another version of constitution"
    with pytest.raises(WarehouseError, match=refused):
        connect(tmp_path)
    with pytest.raises(WarehouseError, match=refused):
        Warehouse(tmp_path).write_part("failures", RUN, [failure(9)])
    with pytest.raises(WarehouseError, match=refused), Warehouse(tmp_path).lock("another"):
        pass
    with pytest.raises(WarehouseError, match=refused):
        Warehouse(tmp_path).find_run(RUN)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


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
