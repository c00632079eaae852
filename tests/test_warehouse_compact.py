"""Compaction: no row doubled, none lost, whenever it is killed and whoever reads meanwhile."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from warehouse_rows import RUN, failure

from constitution.records import Failure
from constitution.warehouse import Warehouse, files
from constitution.warehouse.columns import ROW_GROUP_ROWS
from constitution.warehouse.compact import READ_ROWS

PARTS = 3
ROWS = 400
TEMPLATE = Path()


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code catches it."""


class _Killer:
    """Counts what the code does to files (Python's audit events) and ends it at the n-th."""

    EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "shutil.rmtree", "ctypes.dlsym")

    def __init__(self) -> None:
        self.left: int | None = None
        sys.addaudithook(self)  # stays for good; idle while `left` is None

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.left is None or event not in self.EVENTS:
            return
        self.left -= 1
        if self.left < 0:
            self.left = None
            raise Killed(event)

    @contextmanager
    def after(self, events: int) -> Iterator[None]:
        self.left = events
        try:
            yield
        finally:
            self.left = None


KILLER = _Killer()


@pytest.fixture(scope="module", autouse=True)
def template(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What `filled` copies."""
    global TEMPLATE
    warehouse = Warehouse(TEMPLATE := tmp_path_factory.mktemp("filled"))
    for part in range(PARTS):
        warehouse.write_part("failures", RUN, [failure(part * ROWS + row) for row in range(ROWS)])


def filled(root: Path) -> Warehouse:
    shutil.copytree(TEMPLATE, root, dirs_exist_ok=True)
    warehouse = Warehouse(root)
    warehouse.require()
    return warehouse


def stored(warehouse: Warehouse) -> list[str]:
    """Ids as a reader's glob finds them."""
    pattern = str(warehouse.root / "failures" / "*" / "*.parquet")
    with duckdb.connect() as connection:
        rows = connection.execute("SELECT id FROM read_parquet(?, hive_partitioning = true) ORDER BY id", [pattern])
        return [str(row[0]) for row in rows.fetchall()]


def test_parts_become_one_and_its_number_is_new(tmp_path: Path) -> None:
    warehouse = filled(tmp_path)
    before = stored(warehouse)
    assert warehouse.compact(RUN) == PARTS - 1
    assert [part.name for part in warehouse.parts("failures", RUN)] == [f"part-{PARTS}.parquet"]
    assert stored(warehouse) == before
    assert [path.name for path in (tmp_path / "failures").iterdir() if path.name.startswith(".")] == []
    assert warehouse.compact(RUN) == 0, "there is nothing left to do"
    assert warehouse.write_part("failures", RUN, [failure(9999)]).name == f"part-{PARTS + 1}.parquet"


def test_row_groups_and_encoding_are_those_of_a_fresh_part(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    for start in (0, 20_000):
        warehouse.write_part("failures", RUN, [failure(start + row) for row in range(10_000)])
    warehouse.compact(RUN)
    (part,) = warehouse.parts("failures", RUN)
    metadata = pq.read_metadata(part)
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    first, second = (group.num_rows for group in groups)
    assert ROW_GROUP_ROWS <= first < ROW_GROUP_ROWS + READ_ROWS
    assert first + second == 20_000
    assert groups[0].column(0).has_dictionary_page
    assert not groups[0].column(1).has_dictionary_page
    assert {row.step for rows in warehouse.rows_of(RUN, warehouse.ids("failures", RUN, "prompt_id")).values()
            for row in rows if isinstance(row, Failure)} == {"initial"}  # fmt: skip


def test_large_parts_stay_as_they_are(tmp_path: Path) -> None:
    warehouse = filled(tmp_path)
    before = stored(warehouse)
    size = max(part.stat().st_size for part in warehouse.parts("failures", RUN)) * 5 // 4
    assert warehouse.compact(RUN, target_bytes=size) == 0
    warehouse.write_part("failures", RUN, [failure(5000)])
    warehouse.write_part("failures", RUN, [failure(5001)])
    assert warehouse.compact(RUN, target_bytes=size) == 1
    names = [part.name for part in warehouse.parts("failures", RUN)]
    assert names == [*(f"part-{n}.parquet" for n in range(PARTS)), f"part-{PARTS + 2}.parquet"]
    assert stored(warehouse) == sorted([*before, failure(5000).id, failure(5001).id])


def test_killed_anywhere_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    """Before every single thing that compaction does to a file, then what a reader sees, recovery, and a second try."""
    events = 0
    while True:
        warehouse = filled(tmp_path / str(events))
        before = stored(warehouse)
        try:
            with KILLER.after(events):
                warehouse.compact(RUN)
        except Killed:
            assert stored(warehouse) == before, f"a reader after a kill at event {events}"
            warehouse.recover(RUN)
            assert stored(warehouse) == before, f"recovered from a kill at event {events}"
            left = list((warehouse.root / "failures").rglob(".*"))
            assert left == []
            warehouse.compact(RUN)
            assert stored(warehouse) == before
            assert len(warehouse.parts("failures", RUN)) == 1
            events += 1
            continue
        break
    assert events > 8, "the loop must have stopped at many places"


def test_recovery_itself_may_be_killed(tmp_path: Path) -> None:
    for events in range(3, 30, 3):
        warehouse = filled(tmp_path / str(events))
        before = stored(warehouse)
        with pytest.raises(Killed), KILLER.after(9):
            warehouse.compact(RUN)
        try:
            with KILLER.after(events):
                warehouse.recover(RUN)
        except Killed:
            assert stored(warehouse) == before
        warehouse.recover(RUN)
        assert stored(warehouse) == before


def test_where_folders_cannot_be_exchanged_the_parts_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warehouse = filled(tmp_path)
    before = stored(warehouse)
    monkeypatch.setattr(files, "exchange", lambda one, other: False)
    assert warehouse.compact(RUN) == 0
    assert stored(warehouse) == before
    assert len(warehouse.parts("failures", RUN)) == PARTS
    assert list((tmp_path / "failures").rglob(".*")) == []


@pytest.mark.parametrize("exchanges", [True, False])
def test_killed_anywhere_rows_are_replaced_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool
) -> None:
    """Never old and new together; and where folders cannot be exchanged, never neither once it is recovered."""
    if not exchanges:
        monkeypatch.setattr(files, "exchange", lambda one, other: False)
    new = [failure(9000), failure(9001)]
    events, seen = 0, set[str]()
    while True:
        warehouse = filled(tmp_path / str(events))
        states = {"old": stored(warehouse), "new": sorted(row.id for row in new), "none": []}

        def state(warehouse: Warehouse = warehouse, states: dict[str, list[str]] = states) -> str:
            return next(name for name, ids in states.items() if ids == stored(warehouse))

        try:
            with KILLER.after(events):
                warehouse.replace_rows("failures", RUN, new)
        except Killed:
            seen.add(state())
            warehouse.recover(RUN)
            assert state() in ("old", "new")
            assert list((warehouse.root / "failures").rglob(".*")) == []
            warehouse.replace_rows("failures", RUN, new)
            assert state() == "new"
            events += 1
            continue
        break
    assert seen == ({"old", "new"} if exchanges else {"old", "new", "none"})
