"""`constitution warehouse copy`: what arrives, what is refused, and what is resumed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from kept_warehouse import OTHER, files_of, two_runs, write
from warehouse_rows import PROMPTS, RUN, prompt, run

from constitution.cli import app
from constitution.errors import DamagedPart, InputError, RunLocked, WarehouseError
from constitution.records import Annotation, ShardRecord
from constitution.warehouse import Warehouse
from constitution.warehouse.schema import TABLES
from constitution.warehouse.upkeep import copying
from constitution.warehouse.upkeep.copying import copy_run


def command(root: Path, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["warehouse", "copy", *words, "--warehouse", str(root)], catch_exceptions=False)
    return done.exit_code, done.output


def rows(store: Warehouse, run_id: str = RUN) -> dict[str, object]:
    """By table, the oldest first."""
    return {table: store.table(table, run_id).sort_by("created_at").to_pylist() for table in TABLES
            if "created_at" in store.table(table, run_id).column_names}  # fmt: skip


def test_a_copy_has_every_row_and_record_and_is_sound(tmp_path: Path) -> None:
    store = two_runs(tmp_path / "a")
    shard = ShardRecord(OTHER, 1, 2, "gpu-7", 1, "ann", "2026-11-30T10:00:00+00:00", "2026-11-30T10:00:00+00:00")
    store.write_shard(replace(shard, number=0))
    store.write_shard(shard)
    write(tmp_path / "a" / "batches" / OTHER / "sent.json", 3)
    write(tmp_path / "a" / "batches" / RUN / "sent.json", 3)
    before = files_of(tmp_path / "a")
    code, said = command(tmp_path / "a", str(tmp_path / "b"))
    assert code == 0
    assert said.count("copied") == 2
    assert files_of(tmp_path / "a") == before, "the source is only read"
    copy = Warehouse(tmp_path / "b")
    for run_id in (RUN, OTHER):
        assert rows(copy, run_id) == rows(store, run_id)
        assert copy.read_run(run_id) == store.read_run(run_id)
        assert copy.verify(run_id) == []
        assert copy.unchecked(run_id) == []
    assert copy.shards(OTHER) == store.shards(OTHER)
    assert (tmp_path / "b" / "batches" / OTHER / "sent.json").exists(), "what an open run must fetch"
    assert not (tmp_path / "b" / "batches" / RUN).exists()
    assert command(tmp_path / "a", str(tmp_path / "b")) == (0, f"{RUN}: nothing new\n{OTHER}: nothing new\n")


def test_only_the_runs_that_are_named_and_never_onto_itself(tmp_path: Path) -> None:
    two_runs(tmp_path / "a")
    assert command(tmp_path / "a", str(tmp_path / "b"), RUN[:6])[0] == 0
    assert Warehouse(tmp_path / "b").run_ids() == [RUN]
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(InputError, match="is the warehouse that is to be copied"):
        command(tmp_path / "a", str(tmp_path / "link"))


def test_what_changed_at_the_source_is_brought_up_to_date(tmp_path: Path) -> None:
    """Merged parts, labels made again, annotations that were corrected, a run that has got further."""
    source, target = two_runs(tmp_path / "a"), Warehouse(tmp_path / "b")
    said = source.read_annotations(RUN)[0]
    copy_run(source, target, RUN)
    source.write_part("responses", RUN, source_rows := list(_responses(source))[:1])
    assert source_rows
    source.compact(RUN)
    source.write_annotations(RUN, [replace(said, value=0.0)])
    source.replace_rows("preferences", RUN, source.table("preferences", RUN).slice(1))
    source.write_run(replace(run(finished=True), starts=2))
    done = copy_run(source, target, RUN)
    assert 0 < done.parts < 5
    assert rows(target) == rows(source)
    assert target.verify(RUN, ["responses", "annotations", "preferences"]) == []
    source.write_annotations(RUN, [replace(said, value=1.0)])
    copy_run(source, target, RUN)
    assert target.read_annotations(RUN) == source.read_annotations(RUN)


def _responses(store: Warehouse):  # type: ignore[no-untyped-def]
    return store.rows_of(RUN, [prompt(number).id for number in range(PROMPTS)])[prompt(0).id]


@pytest.mark.parametrize("what", ["annotated", "started", "another"])
def test_what_only_the_target_has_is_never_lost(tmp_path: Path, what: str) -> None:
    source, target = two_runs(tmp_path / "a"), Warehouse(tmp_path / "b")
    if what == "another":
        target = two_runs(tmp_path / "b")
        target.write_annotations(RUN, [Annotation("c" * 64, RUN, "p", "cid", 1.0, "cid.csv", response_id="r")])
    else:
        copy_run(source, target, RUN)
    if what == "annotated":
        target.write_annotations(RUN, [Annotation("b" * 64, RUN, "p", "bob", 1.0, "bob.csv", response_id="r")])
    elif what == "started":
        target.write_run(replace(run(), starts=2))
    before = files_of(target.root)
    with pytest.raises(WarehouseError, match=r"was started again there|was not copied from here: annotations"):
        copy_run(source, target, RUN)
    same = {name for name, data in files_of(target.root).items() if before.get(name) == data}
    assert {name for name in before if not name.endswith(".duckdb")} <= same
    code, said = command(tmp_path / "a", str(tmp_path / "b"))
    assert code == 1
    assert f"{RUN}: not copied: " in said
    assert f"{OTHER}: " in said, "the others are"


def test_what_is_at_work_or_damaged_is_refused(tmp_path: Path) -> None:
    source, target = two_runs(tmp_path / "a"), Warehouse(tmp_path / "b")
    with source.lock(RUN), pytest.raises(RunLocked, match="is at work"):
        copy_run(source, target, RUN)
    copy_run(source, target, OTHER)
    with target.lock(OTHER), pytest.raises(RunLocked, match="is being written by"):
        copy_run(source, target, OTHER)
    path = source.parts("responses", RUN)[0]
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DamagedPart, match=r"part-0\.parquet: is not what was written"):
        copy_run(source, target, RUN)
    assert target.read_run(RUN) is None
    assert not target.parts("responses", RUN)
    code, said = command(tmp_path / "a", str(tmp_path / "c"))
    assert (code, said.count("copied 6 parts")) == (1, 1)


def test_a_damaged_part_of_the_target_is_copied_again(tmp_path: Path) -> None:
    source, target = two_runs(tmp_path / "a"), Warehouse(tmp_path / "b")
    copy_run(source, target, RUN)
    target.parts("responses", RUN)[0].write_bytes(b"x")
    os.unlink(target.parts("judgements", RUN)[0])
    assert copy_run(source, target, RUN).parts == 2
    assert target.verify(RUN) == []
    assert rows(target) == rows(source)


def test_a_run_that_changes_while_it_is_copied_is_copied_as_it_is_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = two_runs(tmp_path / "a"), Warehouse(tmp_path / "b")
    source.write_part("responses", RUN, list(_responses(source))[:1])
    copy = copying._copy_table
    times: list[int] = []

    def meanwhile(here: Warehouse, there: Warehouse, table: str, state: copying._State) -> copying.Copied:
        if table == "responses" and not times:
            times.append(source.compact(RUN))  # the parts that were listed are gone
        return copy(here, there, table, state)

    monkeypatch.setattr(copying, "_copy_table", meanwhile)
    copy_run(source, target, RUN)
    assert times == [1]
    assert rows(target) == rows(source)


def test_a_source_that_may_not_be_written_is_copied(tmp_path: Path) -> None:
    source = two_runs(tmp_path / "a")
    for folder, _, names in os.walk(tmp_path / "a"):
        for name in names:
            os.chmod(Path(folder) / name, 0o444)
        os.chmod(folder, 0o555)
    copy_run(Warehouse(tmp_path / "a"), Warehouse(tmp_path / "b"), RUN)
    assert rows(Warehouse(tmp_path / "b")) == rows(source)
