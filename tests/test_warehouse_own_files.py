"""The warehouse's own files are made again when they are damaged; what other programs leave is not read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner, Result
from small_project import table
from warehouse_rows import RUN, chain, fill

from constitution.cli import app
from constitution.records import Response
from constitution.warehouse import Warehouse, connect, views
from constitution.warehouse.schema import TABLES

RESPONSES = [row for row in chain(0) if isinstance(row, Response)]


def invoke(root: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--warehouse", str(root)])


def other_of(path: Path) -> Path:
    """See `root`."""
    return next(folder / "runs/other.parquet" for folder in path.parents if (folder / "runs/other.parquet").exists())


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"PAR1 no parquet"),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "another table's": lambda path: shutil.copy(other_of(path), path),
    "gone": lambda path: path.unlink(),
    "gone with its folder": lambda path: shutil.rmtree(path.parent) if path.parent.name == "none" else path.unlink(),
}
OWN = [f"{name}/{views.NO_ROWS}" for name in ("prompts", "responses", "exported")] + ["runs/_none.json", views.DATABASE]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    found = fill(tmp_path / "warehouse").root
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT 7 AS text) TO '{found}/runs/other.parquet' (FORMAT parquet)")
    return found


def assert_whole(root: Path) -> None:
    with duckdb.connect(str(root / views.DATABASE), read_only=True) as connection:
        connection.execute("SET VARIABLE root = ?", [str(root)])
        assert connection.execute("SELECT count(*) FROM responses").fetchall() == [(17,)]
        assert connection.execute("SELECT count(*) FROM runs").fetchall() == [(1,)]


@pytest.mark.parametrize(
    ("damage", "name"), [*((damage, OWN[1]) for damage in DAMAGES), *product(("garbage", "gone"), OWN[2:])]
)
def test_the_warehouses_own_files_are_made_again(root: Path, damage: str, name: str) -> None:
    DAMAGES[damage](root / name)
    assert table(root, "SELECT (SELECT count(*) FROM responses), (SELECT count(*) FROM runs)") == [(17, 1)]
    assert_whole(root)


@pytest.mark.parametrize(
    "words", [("sql", "SELECT count(*) FROM pairs"), ("runs",), ("verify",), ("verify", "--repair")]
)
def test_by_any_command(root: Path, words: tuple[str, ...]) -> None:
    expected = invoke(root, *words)
    for name in OWN:
        (root / name).write_bytes(b"")
    again = invoke(root, *words)
    assert (again.exit_code, again.output, expected.exit_code) == (0, expected.output, 0)
    assert table(root, "SELECT count(*) FROM responses") == [(17,)]
    assert_whole(root)


def test_views_that_are_damaged_inside_are_made_again_by_repair(root: Path) -> None:
    path = root / views.DATABASE
    data = bytearray(path.read_bytes())
    data[4096:] = bytes(len(data) - 4096)
    path.write_bytes(data)
    assert invoke(root, "verify", "--repair").exit_code == 0
    assert_whole(root)


def test_a_run_mends_them_too(tmp_path: Path) -> None:
    root = fill(tmp_path / "warehouse").root
    for name in OWN:
        (root / name).write_bytes(b"")
    Warehouse(root).write_part("responses", "other-0123456789ab", RESPONSES)
    assert table(root, "SELECT count(*) FROM responses") == [(20,)]


def test_what_other_programs_leave_is_not_read(tmp_path: Path) -> None:
    root = fill(tmp_path / "warehouse").root
    before = {view: sorted(table(root, f"FROM {view}"), key=repr) for view in (*TABLES, "runs")}
    for folder in [root, root / "runs", root / "responses", root / "responses" / RUN]:
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", ".part-0.parquet.swp", "part-0.parquet~", "._x.json"):
            (folder / name).write_bytes(b"\0\1")
    part = root / "responses" / RUN / "part-0.parquet"
    for name in ("part-0 (copy).parquet", "part-0.sync-conflict-20261129.parquet", "._part-0.parquet"):
        shutil.copy(part, part.with_name(name))
    record = root / "runs" / f"{RUN}.json"
    shutil.copy(record, record.with_name(f"{RUN} (copy).json"))
    assert {view: sorted(table(root, f"FROM {view}"), key=repr) for view in before} == before
    assert {damage.path.name for damage in Warehouse(root).verify(RUN)} == {
        "part-0 (copy).parquet",
        "part-0.sync-conflict-20261129.parquet",
    }
    assert invoke(root, "runs").exit_code == 0


def test_leftovers_beside_the_files_of_no_rows_are_swept(tmp_path: Path) -> None:
    root = fill(tmp_path / "warehouse").root
    left = root / "checksums" / "responses" / "none" / ".none.parquet.0123456789abcdef.tmp"
    left.write_bytes(b"half")
    with connect(root):
        assert not left.exists()
