"""A run that several processes write: their locks, the names of their parts, and what is recorded of each."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from judging_rows import answer
from warehouse_rows import RUN, failure, fill

from constitution.errors import InputError, RunLocked
from constitution.records import Shard, ShardRecord
from constitution.warehouse import Warehouse, checksums, files

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
