"""A warehouse of another version is refused in one sentence; rows are replaced as a whole."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from warehouse_rows import PROMPTS, RUN, chain, failure, fill, prompt

from constitution.errors import WarehouseError
from constitution.records import Preference
from constitution.warehouse import Warehouse, ask, checksums, connect, convert, files


@pytest.mark.parametrize("how", ["an older format", "a column less", "a column more", "folders of other names"])
def test_a_warehouse_of_another_version_is_refused(tmp_path: Path, how: str) -> None:
    """Read or written, and nothing in it changes."""
    fill(tmp_path)
    path = tmp_path / "failures" / "none" / "none.parquet"
    data = pq.read_table(path)
    if how == "an older format":
        data = data.replace_schema_metadata({**data.schema.metadata, b"format": b"1"})
    elif how == "a column less":
        data = data.drop_columns(["judge"])
    elif how == "a column more":
        data = data.append_column("mood", data["judge"])
    pq.write_table(data, path)
    if how == "folders of other names":
        path.parent.rename(path.parent.with_name("run_id=_"))
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
    for folder in (tmp_path / "preferences", tmp_path / "checksums" / "preferences"):
        assert {path.name for path in folder.iterdir()} <= {"none", RUN}
    assert warehouse.verify(RUN, ["preferences"]) == []


@pytest.mark.parametrize("exchanges", [True, False])
@pytest.mark.parametrize("same_names", [True, False])
@pytest.mark.parametrize("at", ["announced", "first rename", "second rename", "exchanged", "settled"])
def test_killed_at_any_step_the_rows_are_those_before_or_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool, same_names: bool, at: str
) -> None:
    """Parts and sums are in two folders: those that hold are told by the parts, whichever step was the last."""
    warehouse = fill(tmp_path)
    before = [prompt(n) for n in range(PROMPTS)]
    slices = [convert.prompts_to_arrow(RUN, 0, before[:1])]
    table = "prompts" if same_names else "preferences"
    folder = warehouse.folder(table, RUN)
    parts = {path.name: path.read_bytes() for path in warehouse.parts(table, RUN)}

    class Killed(BaseException):
        pass

    def kill(after: bool, when: Callable[..., bool], call: Callable[..., Any]) -> Callable[..., Any]:
        def calling(*words: Any) -> Any:
            if not when(*words):
                return call(*words)
            if after:
                call(*words)
            raise Killed

        return calling

    with monkeypatch.context() as patch:
        if not exchanges:
            patch.setattr(files, "exchange", lambda one, other: False)
        if at == "announced":
            patch.setattr(checksums, "announce", kill(True, lambda *_: True, checksums.announce))
        elif at == "exchanged":
            patch.setattr(files, "exchange", kill(True, lambda *_: True, files.exchange))
        elif at == "settled":
            patch.setattr(checksums, "settle", kill(False, lambda *_: True, checksums.settle))
        else:
            name = ".old-" if at == "first rename" else folder.name
            own = lambda path, target: target.name.startswith(name) and path.is_dir()  # noqa: E731
            patch.setattr(Path, "rename", kill(True, own, Path.rename))
        with suppress(Killed):
            if same_names:
                warehouse.replace_input("prompts", RUN, slices)
            else:
                warehouse.replace_rows(table, RUN, warehouse.table(table, RUN).slice(0, 1))
    if folder.exists():
        assert checksums.check(folder) == {}
    warehouse.recover(RUN)
    assert warehouse.verify(RUN, [table]) == []
    now = {path.name: path.read_bytes() for path in warehouse.parts(table, RUN)}
    assert now == parts or warehouse.table(table, RUN).num_rows == 1
    assert checksums.read(folder) == {name: [checksums.sum_of(folder / name)] for name in now}
    assert [path.name for path in checksums.aside(folder).iterdir()] == ["SHA256SUMS"]
    assert not list((tmp_path / "checksums" / table).glob(".*"))
