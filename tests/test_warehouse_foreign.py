"""Files of a warehouse that are no files, that may not be read, or that are of no run: told, and never waited for."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest
from click.testing import CliRunner, Result
from warehouse_rows import RUN, fill

from constitution.cli import app
from constitution.errors import WarehouseError
from constitution.warehouse import Warehouse, checksums, connect, layout, spool

PART = "responses/{run}/part-0.parquet"
SUMS = "checksums/responses/{run}/SHA256SUMS"
RECORD = "runs/{run}.json"


def verify(root: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["verify", *words, "--warehouse", str(root)])


def replaced(path: Path, kind: str) -> None:
    path.unlink()
    path.mkdir() if kind == "folder" else os.mkfifo(path)


@pytest.mark.parametrize("kind", ["folder", "pipe"])
@pytest.mark.parametrize("name", [PART, SUMS, RECORD])
def test_what_is_no_file_is_told_and_put_aside(tmp_path: Path, name: str, kind: str) -> None:
    warehouse = fill(tmp_path / "warehouse")
    path = warehouse.root / name.format(run=RUN)
    replaced(path, kind)
    told = verify(warehouse.root)
    assert (told.exit_code, str(path) in told.output) == (1, True)
    assert verify(warehouse.root, RUN, "--repair").exit_code == 1
    assert not os.path.lexists(path) or path.is_file()
    aside = warehouse.root / "quarantine" / ("runs" if name == RECORD else "responses") / RUN / path.name
    assert os.path.lexists(aside)


@pytest.mark.parametrize("name", ["responses/none/none.parquet", "runs/_none.json", "warehouse.duckdb"])
def test_a_pipe_in_place_of_a_file_of_no_data_is_made_again(tmp_path: Path, name: str) -> None:
    warehouse = fill(tmp_path / "warehouse")
    path = warehouse.root / name
    replaced(path, "pipe")
    with connect(warehouse.root) as connection:
        assert connection.sql("SELECT count(*) > 0 FROM responses").fetchall() == [(True,)]
    assert path.is_file()


def test_a_broken_part_without_checksum_is_told_and_put_aside(tmp_path: Path) -> None:
    warehouse = fill(tmp_path / "warehouse")
    part = warehouse.root / PART.format(run=RUN)
    (checksums.aside(part.parent) / "SHA256SUMS").unlink()
    assert "no checksum is left of" in verify(warehouse.root).output
    os.truncate(part, 100)
    told = verify(warehouse.root)
    assert (told.exit_code, f"{part}: cannot be read as Parquet" in told.output) == (1, True)
    verify(warehouse.root, RUN, "--repair")
    assert not part.exists()


@pytest.mark.parametrize("code", [errno.EACCES, errno.ESTALE, errno.EMFILE, errno.ETIMEDOUT])
@pytest.mark.parametrize("what", ["part", "record"])
def test_what_may_not_be_read_now_is_not_put_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, what: str
) -> None:
    warehouse = fill(tmp_path / "warehouse")
    before = sorted(warehouse.root.rglob("*"))

    def refused(path: Path, *_: object) -> bytes:
        raise OSError(code, os.strerror(code), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(*((checksums, "sum_of", refused) if what == "part" else (Path, "read_bytes", refused)))
        with pytest.raises(WarehouseError, match=os.strerror(code)):
            warehouse.repair(RUN)
    assert sorted(warehouse.root.rglob("*")) == before


def test_a_disk_that_lost_content_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    warehouse = fill(tmp_path / "warehouse")
    with monkeypatch.context() as patch:
        patch.setattr(checksums, "sum_of", lost)
        assert {damage.fault for damage in warehouse.verify(RUN)} == {"cannot be read: Input/output error"}


def test_a_folder_that_may_not_be_read_is_no_table_of_fewer_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB's glob passes it over: 0 rows, without a word."""
    warehouse = fill(tmp_path / "warehouse")
    access = os.access
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: RUN not in str(path) and access(path, mode))
        with pytest.raises(WarehouseError, match=f"{RUN}: you may not read this folder"):
            connect(warehouse.root)
        connect(warehouse.root, run_id="another").close()


def test_what_a_kill_left_locks_no_reader_of_a_read_only_disk_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(path: Path) -> None:
        raise WarehouseError(f"{path}: cannot be written: Read-only file system")

    warehouse = fill(tmp_path / "warehouse")
    leftover = warehouse.root / "checksums/responses/none/.left.tmp"
    leftover.touch()
    with monkeypatch.context() as patch:
        patch.setattr(layout, "make", read_only)
        connect(warehouse.root).close()
    connect(warehouse.root).close()
    assert not leftover.exists()


def test_prompts_wait_in_the_warehouse_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder above it may be one that the user cannot write to."""
    root = tmp_path / "warehouse"
    folders = []

    def write(prompts: object, file: Any, near: Path) -> tuple[str, int]:
        folders.append(file._TemporaryFileArgs["dir"])
        return "", 0

    monkeypatch.setattr(spool, "_write", write)
    for made in (tmp_path, root):
        made.mkdir(exist_ok=True)
        with spool.spooled([], root):
            pass
    assert folders == [str(tmp_path), str(root)]


@pytest.mark.parametrize("name", [f"{RUN} copy", f"{RUN} (1)", f"{RUN} - Copy", f".{RUN}"])
def test_a_copy_of_a_runs_folder_is_not_read_and_told(tmp_path: Path, name: str) -> None:
    warehouse = fill(tmp_path / "warehouse")
    folder = warehouse.root / "responses" / RUN
    with connect(warehouse.root) as connection:
        before = connection.sql("SELECT count(*) FROM responses").fetchall()
    shutil.copytree(folder, folder.with_name(name))
    with connect(warehouse.root) as connection:
        assert connection.sql("SELECT count(*) FROM responses").fetchall() == before
    told = verify(warehouse.root)
    assert (told.exit_code, f"{name}: there is no record of such a run" in told.output) == (1, True)


def test_rows_of_a_run_whose_record_was_lost_are_told(tmp_path: Path) -> None:
    warehouse = fill(tmp_path / "warehouse")
    assert verify(warehouse.root).exit_code == 0
    (warehouse.root / RECORD.format(run=RUN)).unlink()
    with warehouse.lock(RUN):  # at work: the record is written last
        assert verify(warehouse.root).exit_code == 0
    told = verify(warehouse.root)
    assert (told.exit_code, f"{RUN}: there is no record" in told.output, "resumes" in told.output) == (1, True, True)


def test_arrow_reads_a_table_as_the_docs_say(tmp_path: Path) -> None:
    warehouse = fill(tmp_path / "warehouse")
    rows = ds.dataset(warehouse.root / "responses", exclude_invalid_files=True).count_rows()
    assert rows == len(Warehouse(warehouse.root).table("responses", RUN)) > 0
