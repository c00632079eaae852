"""`constitution warehouse du | gc | rm`: sizes, what nothing needs any more, and runs that are to go."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner
from kept_warehouse import OLD, OTHER, files_of, litter, two_runs, write
from small_project import small_project
from warehouse_rows import RUN, run

from constitution.cli import app
from constitution.errors import InputError, RunLocked
from constitution.records import Annotation
from constitution.warehouse import Warehouse, ask, connect, locks, removing
from constitution.warehouse.schema import TABLES
from constitution.warehouse.upkeep import garbage
from constitution.warehouse.upkeep.inventory import inventory


def command(root: Path, *words: str) -> str:
    done = CliRunner().invoke(app, ["warehouse", *words, "--warehouse", str(root)], catch_exceptions=False)
    return f"{done.output}\n{done.exit_code}"


# --- du


def test_sizes_add_up_to_all_that_is_there(tmp_path: Path) -> None:
    store = two_runs(tmp_path)
    write(tmp_path / "notes.txt", 3)
    write(tmp_path / "runs" / "x.bak", 3)
    write(tmp_path / "quarantine" / "responses" / RUN / "part-0.parquet", 5)
    write(tmp_path / "quarantine" / "checksums" / "responses" / f"{RUN}-rows" / "SHA256SUMS", 5)
    write(tmp_path / "batches" / RUN / "a" / "b.json", 7)
    write(tmp_path / ".try" / "demo-x" / "runs" / "_none.json", 2)
    write(tmp_path / "checksums" / "responses" / f".compact-{RUN}" / "part-3.parquet", 11)
    listed = json.loads(command(tmp_path, "du", "--json").rpartition("\n")[0])
    there = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(each["files"] for each in listed) == len(there)
    assert sum(each["bytes"] for each in listed) == sum(path.stat().st_size for path in there)
    of = {(each["run_id"], each["what"], each["table"]): each["bytes"] for each in listed}
    assert of[RUN, "quarantine", "responses"] == 10
    assert of[RUN, "batches", ""] == 7
    assert of["demo-x", "trials", ""] == 2
    assert of[RUN, "temporary", "responses"] == 11
    assert of["", "other", ""] == 6
    assert of[RUN, "rows", "responses"] == sum(path.stat().st_size for path in store.parts("responses", RUN))


def test_shown_by_run_and_by_table(tmp_path: Path) -> None:
    store = two_runs(tmp_path)
    (tmp_path / "runs" / f"{OTHER}.json").unlink()
    shown = command(tmp_path, "du")
    assert RUN in shown
    assert f"{OTHER} (no record)" in shown
    inner = command(tmp_path, "du", RUN[:6])
    assert "annotations" in inner
    assert OTHER not in inner
    assert str(sum(file.run_id == RUN for file in inventory(store.root))) in inner.splitlines()[-3]


# --- gc


def test_what_nothing_needs_goes_and_nothing_else(tmp_path: Path) -> None:
    store = two_runs(tmp_path)
    before = files_of(tmp_path)
    kept = [
        write(tmp_path / "batches" / OTHER / "b.json", 1),  # of an open run: what it sent and must fetch
        write(tmp_path / "quarantine" / "responses" / OTHER / "part-0.parquet", 1),  # not made again yet
        write(tmp_path / "responses" / "stray-0a" / "part-0.parquet", 1),  # all that is left of a run
        write(tmp_path / "batches" / "stray-0a" / "b.json", 1),
        write(tmp_path / "notes.txt", 1),
    ]
    left = litter(tmp_path, OLD)
    first = files_of(tmp_path)
    said = command(tmp_path, "gc")
    assert files_of(tmp_path) == first, "without --yes nothing changes"
    assert said.count("Would delete") == len({(g.what, g.run_id) for g in garbage.find(store)}) == 7
    assert "stray-0a: rows of no run, kept" in said
    command(tmp_path, "gc", "--yes")
    after = files_of(tmp_path)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)
    changed = {name for name in before if before[name] != after.get(name)}
    assert changed <= {"warehouse.duckdb"}
    assert {name for name in after.keys() - before.keys() if not name.endswith("lock")} == {
        str(path.relative_to(tmp_path)) for path in kept
    }
    assert store.verify(RUN) == store.verify(OTHER) == []
    assert command(tmp_path, "gc", "--yes").startswith("There is nothing to delete.")


def test_what_is_young_or_at_work_is_kept(tmp_path: Path) -> None:
    store = two_runs(tmp_path)
    left = litter(tmp_path, garbage.DAY)
    assert "Would delete" not in command(tmp_path, "gc")
    assert command(tmp_path, "gc", "--yes").count("Kept (written 24.0 hours ago)") == 7
    with store.lock(RUN):
        assert {g.run_id for g in garbage.find(store, 0) if g.kept == "its run is at work"} == {RUN}
        found = [replace(g, kept="") for g in garbage.find(store, 0) if g.run_id == RUN]
        assert all("is being written by" in garbage.collect(store, each) for each in found), "it began meanwhile"
    assert all(path.exists() for path in left)
    assert "Invalid value for '--older-than'" in command(tmp_path, "gc", "--older-than", "0.1")


def test_a_run_that_is_open_again_keeps_what_it_needs(tmp_path: Path) -> None:
    store = two_runs(tmp_path)
    path = write(tmp_path / "quarantine" / "responses" / RUN / "part-0.parquet", 1)
    [found] = [each for each in garbage.find(store) if each.what == "quarantine"]
    store.write_run(run())
    assert garbage.collect(store, found) == "its run is open again"
    assert path.exists()


def test_a_killed_write_is_not_missed_after_its_file_is_gone(tmp_path: Path) -> None:
    """Its part is named, and only the temporary file tells that it never came to be."""
    store = two_runs(tmp_path)
    with (tmp_path / "checksums" / "responses" / OTHER / "SHA256SUMS").open("a") as sums:
        sums.write(f"# 1 part-7.parquet\n{'0' * 64}  part-7.parquet\n")
    write(tmp_path / "checksums" / "responses" / OTHER / ".part-7.parquet.tmp", 1)
    assert store.verify(OTHER) == []
    command(tmp_path, "gc", "--yes")
    assert store.verify(OTHER) == []


# --- rm


def test_all_of_a_run_goes_and_nothing_of_another(tmp_path: Path) -> None:
    store = two_runs(tmp_path)
    litter(tmp_path, 0)
    other = {name: data for name, data in files_of(tmp_path).items() if RUN not in name}
    said = command(tmp_path, "rm", RUN[:6])
    assert "To remove it: constitution warehouse rm" in said
    assert "annotations" in said
    assert "what people said" in said
    assert said.endswith("\n1")
    assert store.read_run(RUN) is not None
    assert command(tmp_path, "rm", RUN[:6], "--yes").endswith(f"Removed {RUN}.\n\n0")
    left = files_of(tmp_path)
    assert {name: data for name, data in left.items() if RUN not in name} == other
    assert [name for name in left if RUN in name] == []
    assert RUN not in command(tmp_path, "du", "--json")
    with pytest.raises(InputError, match="there is no such run"):
        command(tmp_path, "rm", RUN, "--yes")
    with connect(tmp_path) as connection:
        assert ask(connection, "SELECT DISTINCT run_id FROM responses").rows.__next__() == (OTHER,)


def test_every_table_is_moved(tmp_path: Path) -> None:
    assert sorted(removing.ORDER) == sorted(TABLES)
    assert len(set(removing.ORDER)) == len(removing.ORDER)


def test_who_is_at_work_is_left_alone(tmp_path: Path) -> None:
    store = two_runs(tmp_path)
    before = files_of(tmp_path)
    with store.lock(RUN), pytest.raises(RunLocked, match=f"run {RUN} is being written by process"):
        command(tmp_path, "rm", RUN, "--yes")
    with store.scoring(OTHER), pytest.raises(RunLocked, match=f"run {OTHER}"):
        command(tmp_path, "rm", OTHER, "--yes")
    after = files_of(tmp_path)
    assert {name: after[name] for name in before if not name.endswith(("duckdb", ".lock"))} == {
        name: data for name, data in before.items() if not name.endswith(("duckdb", ".lock"))
    }


def test_a_run_without_a_record_or_with_a_broken_one_can_go(tmp_path: Path) -> None:
    two_runs(tmp_path)
    (tmp_path / "runs" / f"{OTHER}.json").unlink()
    (tmp_path / "runs" / f"{RUN}.json").write_text("{")
    (tmp_path / "responses" / RUN / "part-0.parquet").write_bytes(b"x")
    assert "there is no record of it" in command(tmp_path, "rm", OTHER, "--yes")
    said = command(tmp_path, "rm", RUN, "--yes")
    assert "its record is damaged" in said
    assert "damaged" in said
    with connect(tmp_path) as connection:
        assert [row for table in TABLES for row in ask(connection, f"FROM {table}").rows] == []


def test_a_run_that_is_started_again_after_an_interrupted_removal_begins_with_nothing_of_it(tmp_path: Path) -> None:
    store = two_runs(tmp_path)
    removing.begin(tmp_path, RUN)
    with Warehouse(tmp_path).lock(RUN):
        assert not store.has_rows(RUN)
        store.write_run(run())
    assert store.read_run(RUN) is not None
    assert removing.interrupted(tmp_path) == []
    assert store.read_annotations(RUN) == []


def test_a_lock_on_a_file_that_was_removed_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process opened it before, and takes it after: the next one would hold another file of that name."""
    store = two_runs(tmp_path)
    path = tmp_path / "runs" / f"{RUN}.lock"
    with store.lock(RUN):
        path.unlink()
        path.touch()
        with Warehouse(tmp_path).lock(RUN):
            pass
    taken = locks._taken

    def late(file: locks._File, how: int) -> bool:
        path.unlink()
        return taken(file, how)

    monkeypatch.setattr(locks, "_taken", late)
    with pytest.raises(RunLocked, match=f"run {RUN} is being written by"), store.lock(RUN):
        pass


# --- who wrote what


def test_who_wrote_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "ann\x1b[2J")
    monkeypatch.setattr("socket.gethostname", lambda: "gpu-7")
    recipe = small_project(tmp_path)
    root = tmp_path / "w"
    call("run", str(recipe), root=root)
    [first] = Warehouse(root).runs()
    assert first.authors == ("ann\\x1b[2J@gpu-7",)
    monkeypatch.setattr("getpass.getuser", lambda: (_ for _ in ()).throw(OSError("no such account")))
    Warehouse(root).write_run(replace(first, finished_at=None))
    call("run", str(recipe), root=root)
    numbered = f"{os.getuid()}@gpu-7"
    [again] = json.loads(call("runs", "--json", root=root))
    assert again["authors"] == [*first.authors, numbered]
    assert f"by {first.authors[0]}, {numbered}" in call("runs", first.run_id, root=root)
    store = Warehouse(root)
    store.write_annotations(
        first.run_id, [Annotation("a" * 64, first.run_id, "p", "bob", 1.0, "b.csv", response_id="r")]
    )
    rows = {"format": "dpo", "id": "x", "prompt_id": "p", "split": "train", "drop_reason": None, "drop_detail": None}
    store.write_exported(
        first.run_id, "dpo-0123456789ab", [pa.RecordBatch.from_pylist([rows], TABLES["exported"].schema)]
    )
    with connect(root) as connection:
        assert list(ask(connection, "SELECT authors FROM runs").rows) == [([*first.authors, numbered],)]
        for table in ("annotations", "exported"):
            assert list(ask(connection, f"SELECT DISTINCT author FROM {table}").rows) == [(numbered,)]


def call(*words: str, root: Path) -> str:
    done = CliRunner().invoke(app, [*words, "--warehouse", str(root)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout
