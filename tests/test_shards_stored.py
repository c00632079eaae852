"""A run that several processes write: their locks, the names of their parts, and what is recorded of each."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from judging_rows import answer
from kill_points import kills
from warehouse_rows import RUN, chain, failure, fill, run

from constitution.errors import InputError, RunLocked, WarehouseError
from constitution.records import Judgement, Preference, Response, Shard, ShardRecord
from constitution.warehouse import Warehouse, checksums, files, locks

ONE, TWO, OTHER = Shard(1, 2), Shard(2, 2), Shard(1, 3)
RECORD = ShardRecord(RUN, 1, 2, "a", 7, "ann", "2026-01-01T00:00:00", "2026-01-01T00:10:00", counts={"prompts": 5})


@pytest.mark.parametrize("text", ["3/16", "1/1", "16/16", " 2/2\n", "9999/10000"])
def test_a_shard_is_its_text(text: str) -> None:
    shard = Shard.parse(text)
    assert str(shard) == text.strip()
    assert files.part_of(files.Part(7, shard).name) == files.Part(7, shard)


@pytest.mark.parametrize(
    "text", ["", "3", "0/4", "5/4", "-1/4", "1/0", "03/16", "1/10001", "1/2/3", "a/b", "1 / 2", "٣/٤"]
)
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        Shard.parse(text)


@pytest.mark.parametrize(
    "name",
    ["part-0of2-1.parquet", "part-3of2-1.parquet", "part-01of2-1.parquet", "part-1of2.parquet", "part-1of2-.parquet",
     "part-1of99999-0.parquet", "part--1.parquet", "part-1of2-1.parquet.tmp"],
)  # fmt: skip
def test_other_names_are_no_parts(name: str) -> None:
    assert files.part_of(name) is None


def test_a_shard_reads_its_own_parts_and_those_of_no_present_shard(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "warehouse")
    for n, shard in enumerate((None, ONE, TWO, ONE, OTHER)):
        warehouse.write_part("failures", RUN, [failure(n)], shard)

    names = [path.name for path in warehouse.parts("failures", RUN)]
    parts = ("0", "1of2-1", "2of2-1", "1of2-2", "1of3-3")
    assert names == [f"part-{part}.parquet" for part in parts]
    own = [path.name for path in warehouse.parts("failures", RUN, ONE)]
    assert own == [name for name in names if "2of2" not in name]
    assert warehouse.verify(RUN) == []
    assert answer(warehouse.root, "SELECT count(*) AS n FROM failures") == [{"n": 5}]
    assert answer(warehouse.root, "SELECT DISTINCT run_id FROM failures") == [{"run_id": RUN}]

    assert warehouse.compact(RUN) == 4
    [merged] = warehouse.parts("failures", RUN)
    after = [warehouse.write_part("failures", RUN, [failure(10 + n)], shard) for n, shard in enumerate((TWO, OTHER))]
    assert {merged.name, *(path.name for path in after)}.isdisjoint(names), "no name is used again"
    assert warehouse.verify(RUN) == []


def test_shards_of_one_number_work_at_once_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    warehouse = Warehouse(tmp_path)
    with warehouse.lock(RUN, shard=ONE) as first:
        assert first.alone
        assert warehouse.holders(RUN) == [f"shard 1/2, process {os.getpid()} on {os.uname().nodename}"]
        first.share()
        assert not first.alone
        with warehouse.lock(RUN, shard=TWO) as second:
            assert not second.alone
            for shard, refused in (
                (None, f"run {RUN} is being written by shard 1/2, process .*; shard 2/2, process"),
                (ONE, f"shard 1/2 of run {RUN} is being worked by process"),
                (OTHER, f"shard 1/3 of run {RUN} would have prompts of shards that are at work: shard 1/2, "),
            ):
                with pytest.raises(RunLocked, match=refused), warehouse.lock(RUN, shard=shard):
                    raise AssertionError
    assert not warehouse.locked(RUN)
    with warehouse.lock(RUN) as whole:
        assert whole.alone
        with pytest.raises(RunLocked, match=f"run {RUN} is being written by process"), warehouse.lock(RUN, shard=ONE):
            raise AssertionError
    with warehouse.lock(RUN, shard=OTHER) as other:
        assert other.alone


WAITS = """
import sys, pathlib
from constitution.records import Shard
from constitution.warehouse import Warehouse
print("comes", flush=True)
with Warehouse(pathlib.Path(sys.argv[1])).lock(sys.argv[2], shard=Shard.parse(sys.argv[3])) as lock:
    print("alone" if lock.alone else "in", flush=True)
    lock.share()
    sys.stdin.read()
"""


def comes(warehouse: Warehouse, shard: Shard) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", WAITS, str(warehouse.root), RUN, str(shard)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "comes\n"
    return process


def test_the_first_shard_is_alone_and_the_others_wait_until_it_shares(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    warehouse = Warehouse(tmp_path)
    with warehouse.lock(RUN, shard=ONE) as first:
        process = comes(warehouse, TWO)
        assert process.stdout is not None
        while len(warehouse.holders(RUN)) < 2:
            pass  # it has its own lock, and waits
        first.share()
        assert process.stdout.readline() == "in\n"
    process.kill()
    process.communicate()
    assert not warehouse.locked(RUN), "a dead process holds no lock"
    process = comes(warehouse, TWO)
    assert process.communicate("")[0] == "alone\n"


def test_a_shard_that_begins_and_dies_lets_the_next_one_be_alone(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    warehouse = Warehouse(tmp_path)
    code = WAITS.replace("lock.share()", "sys.stdin.read()")
    words = [sys.executable, "-c", code, str(tmp_path), RUN, "1/2"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["comes\n", "alone\n"]
        process.kill()
    with warehouse.lock(RUN, shard=TWO) as lock:
        assert lock.alone


def test_what_a_kill_leaves_of_a_shard_is_cleared_while_others_write(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "warehouse")
    warehouse.write_part("failures", RUN, [failure(1)], ONE)
    folder = warehouse.folder("failures", RUN)
    place = checksums.aside(folder)
    for shard in (ONE, TWO):
        name = files.Part(8, shard).name
        (place / f".{name}.tmp").write_bytes(b"half")
        with checksums.naming(folder / name, checksums.Sum("0" * 64, 4)):
            pass
        warehouse.write_shard(replace(RECORD, number=shard.number))
        (tmp_path / "warehouse" / "shards" / RUN / f".{shard.name}.json.12.tmp").write_bytes(b"{")
    assert warehouse.verify(RUN) == []

    warehouse.recover(RUN, ONE)
    left = [path.name for path in (*place.glob(".part*"), *(tmp_path / "warehouse" / "shards" / RUN).glob(".*"))]
    assert sorted(left) == [".2of2.json.12.tmp", ".part-2of2-8.parquet.tmp"]
    assert sorted(checksums.read(folder)) == ["part-1of2-0.parquet", "part-2of2-8.parquet"]
    warehouse.recover(RUN)
    assert not list((tmp_path / "warehouse" / "shards" / RUN).glob(".*"))
    assert sorted(checksums.read(folder)) == ["part-1of2-0.parquet"]


def test_records_of_shards_are_read_by_their_number_and_in_sql(tmp_path: Path) -> None:
    warehouse = fill(tmp_path / "warehouse")
    assert warehouse.shards(RUN) == []
    assert answer(warehouse.root, "SELECT * FROM shards") == []
    before, second = replace(RECORD, number=0, seconds=3.5, counts={}), replace(RECORD, number=2)
    for each in (second, RECORD, before, replace(RECORD, of=5)):
        warehouse.write_shard(each)
    assert warehouse.shards(RUN) == [before, RECORD, second]
    assert warehouse.read_shard(RUN, OTHER) is None
    rows = answer(warehouse.root, "SELECT number, of, host, seconds, prompts FROM shards ORDER BY number")
    assert [row["number"] for row in rows] == [0, 1, 2], "what a kill left of another number is not the run's"
    assert [row["prompts"] for row in rows] == [None, 5, 5]
    warehouse.forget_shards(RUN, but_of=2)
    assert {path.name for path in (warehouse.root / "shards" / RUN).iterdir()} == {
        "before.json",
        "1of2.json",
        "2of2.json",
    }

    path = warehouse.root / "shards" / RUN / "2of2.json"
    path.write_text("{", encoding="utf-8")
    assert [(each.table, each.path) for each in warehouse.verify(RUN)] == [("shards", path)]
    assert len(warehouse.repair(RUN)) == 1
    assert warehouse.verify(RUN) == []
    assert (warehouse.root / "quarantine" / "shards" / RUN / "2of2.json").read_text() == "{"
    warehouse.forget_shards(RUN)
    assert warehouse.shards(RUN) == []


@pytest.mark.parametrize(("host", "ended", "age"), [("else", True, 0), ("here", False, 0), ("else", False, 31)])
def test_a_shard_that_cannot_be_at_work_is_taken_over_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, ended: bool, age: int
) -> None:
    warehouse = Warehouse(tmp_path / "warehouse")
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail(f"waits {seconds} s"))
    found = replace(RECORD, host=socket.gethostname() if host == "here" else host, ended_at="2026" if ended else None)
    path = warehouse.write_shard(found)
    os.utime(path, times=(path.stat().st_mtime - age,) * 2)
    with warehouse.lock(RUN, shard=ONE) as lock:
        assert lock.alone


def test_a_shard_of_another_machine_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that does not lock between machines: only the other's heartbeat tells."""
    warehouse = Warehouse(tmp_path / "warehouse")
    path = warehouse.write_shard(RECORD)
    waited: list[float] = []

    def grows_old(seconds: float) -> None:
        waited.append(seconds)
        os.utime(path, times=(path.stat().st_mtime - seconds - 1e-3,) * 2)

    def lives(seconds: float) -> None:
        warehouse.write_shard(replace(RECORD, beat_at="2026-01-01T00:10:10"))

    monkeypatch.setattr("time.sleep", lives)
    refused = f"shard 1/2 of run {RUN} is at work on a, and its lock is not seen here"
    with pytest.raises(RunLocked, match=refused), warehouse.lock(RUN, shard=ONE):
        raise AssertionError
    monkeypatch.setattr("time.sleep", grows_old)
    with warehouse.lock(RUN, shard=ONE) as lock:
        assert lock.alone
    assert sum(waited) == pytest.approx(locks.SILENT, abs=1.5)


def test_a_file_system_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").mkdir()

    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", none)
    for shard in (None, ONE):
        with (
            pytest.raises(WarehouseError, match=r"\.lock: its file system does not lock files: No locks available"),
            Warehouse(tmp_path).lock(RUN, shard=shard),
        ):
            raise AssertionError


def test_a_kill_at_any_step_of_a_shard_loses_no_row_and_harms_no_other(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "warehouse")
    warehouse.write_part("failures", RUN, [failure(0)])
    killed = 0
    for point in kills(lambda: dies(warehouse.root)):
        killed = point
        assert warehouse.verify(RUN) == []
        ids = warehouse.table("failures", RUN)["id"].to_pylist()
        assert len(ids) == len(set(ids))
        with warehouse.lock(RUN, shard=ONE) as lock:
            assert lock.alone, "the dead hold no lock"
            lock.share()
            warehouse.recover(RUN, ONE)
            warehouse.write_part("failures", RUN, [failure(1000 + point)], TWO)
            assert not list(checksums.aside(warehouse.folder("failures", RUN)).glob(".part-1of2-*"))
    assert killed >= 10
    stored = warehouse.ids("failures", RUN)
    assert {failure(n).id for n in (1, 2, 3, 4, *range(1001, 1001 + killed))} <= stored
    assert warehouse.verify(RUN) == []


def dies(root: Path) -> None:
    """What shard 1 writes in one start: rows that are not there, and its record."""
    warehouse = Warehouse(root)
    with warehouse.lock(RUN, shard=ONE) as lock:
        warehouse.recover(RUN)
        lock.share()
        for number in (1, 2, 3, 4):
            if failure(number).id not in warehouse.ids("failures", RUN):
                warehouse.write_part("failures", RUN, [failure(number)], ONE)
        warehouse.write_shard(RECORD)


def test_a_damaged_part_of_a_shard_is_quarantined_with_what_rests_on_it(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "warehouse")
    warehouse.write_run(run())
    rows = {number: list(chain(number)) for number in (1, 2)}
    for shard in (ONE, TWO):
        for table, kind in (("responses", Response), ("judgements", Judgement), ("preferences", Preference)):
            warehouse.write_part(table, RUN, [row for row in rows[shard.number] if isinstance(row, kind)], shard)
    [path, _] = warehouse.parts("responses", RUN)
    assert path.name == "part-1of2-0.parquet"
    path.write_bytes(b"PAR1")
    with warehouse.lock(RUN):
        assert path in {damage.path for damage in warehouse.repair(RUN)}
    left = warehouse.rows_of(RUN, {row.prompt_id for each in rows.values() for row in each})
    assert list(left) == [rows[2][0].prompt_id]
    assert len(left[rows[2][0].prompt_id]) == len(rows[2])
    assert (tmp_path / "warehouse" / "quarantine" / "responses" / RUN / path.name).exists()


def test_a_shard_that_begins_waits_for_the_last_step(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    warehouse, begun, taken = Warehouse(tmp_path), threading.Event(), threading.Event()

    def begin() -> None:
        begun.set()
        with Warehouse(tmp_path).lock(RUN, shard=ONE) as lock:
            assert lock.alone
            taken.set()

    with ThreadPoolExecutor(1) as pool:
        with warehouse.lock(RUN, last_step=True):
            shard = pool.submit(begin)
            assert begun.wait(10)
            assert not taken.wait(0.6), "longer than a lock is tried for"
        shard.result(30)
    with warehouse.lock(RUN, shard=ONE) as lock:
        lock.share()
        with pytest.raises(RunLocked), warehouse.lock(RUN, last_step=True):
            pass
