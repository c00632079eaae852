"""`constitution warehouse` at s3://: copies there and back, sizes, runs that go, and objects that no manifest names."""

from __future__ import annotations

from pathlib import Path

import pytest
from kept_warehouse import OTHER, two_runs
from s3_server import Faults
from test_remote import Machines, begin, machines, server  # noqa: F401
from test_warehouse_copy import command as copy
from test_warehouse_copy import rows
from test_warehouse_upkeep import command
from warehouse_rows import RUN, chain, run

from constitution.errors import RunLocked
from constitution.records import Response, Shard
from constitution.warehouse import Warehouse
from constitution.warehouse.remote.objects import Objects
from constitution.warehouse.upkeep import garbage, removal
from constitution.warehouse.upkeep.copying import copy_run


def _name(of: Machines) -> str:
    return of.url.rpartition("/")[2]


class Killed(BaseException):
    """The process ends here."""


def test_to_the_store_and_back_every_row_is_there(machines: Machines, tmp_path: Path) -> None:  # noqa: F811
    store = two_runs(tmp_path / "a")
    machines.server.faults = Faults(slow_down=0.05, lost=0.08, conflict=0.1, stale=3)
    here = machines.on("here")
    assert copy(tmp_path / "a", machines.url)[0] == 0
    assert copy(tmp_path / "a", machines.url) == (0, f"{RUN}: nothing new\n{OTHER}: nothing new\n")
    there = machines.on("there")
    assert there != here
    code, said = copy(there, str(tmp_path / "b"))
    assert (code, said.count("copied")) == (0, 2)
    back = Warehouse(tmp_path / "b")
    for run_id in (RUN, OTHER):
        assert rows(back, run_id) == rows(store, run_id)
        assert back.read_run(run_id) == store.read_run(run_id)
        assert Warehouse(there).verify(run_id) == []
    store.compact(RUN)
    store.write_run(run(finished=True))
    assert copy(tmp_path / "a", machines.url)[0] == 0, "brought up to date"
    assert rows(Warehouse(machines.on("third"))) == rows(store)


def test_parts_of_shards_arrive_too(machines: Machines, tmp_path: Path) -> None:  # noqa: F811
    store = two_runs(tmp_path / "a")
    more = [row for row in chain(9, OTHER) if isinstance(row, Response)]
    store.write_part("responses", OTHER, more, Shard(1, 2))
    machines.on("here")
    copy(tmp_path / "a", machines.url, OTHER)
    assert rows(Warehouse(machines.on("there")), OTHER) == rows(store, OTHER)


def test_sizes_are_those_of_the_store(machines: Machines, tmp_path: Path) -> None:  # noqa: F811
    two_runs(tmp_path / "a")
    machines.on("here")
    copy(tmp_path / "a", machines.url)
    shown = command(machines.on("there"), "du", RUN)
    for each in ("responses", "annotations", "manifests", "record"):
        assert each in shown
    assert OTHER in command(machines.on("there"), "du")


def test_a_run_is_removed_for_all_machines(machines: Machines, tmp_path: Path) -> None:  # noqa: F811
    two_runs(tmp_path / "a")
    here, there = machines.on("here"), machines.on("there")
    copy(tmp_path / "a", machines.url)
    assert Warehouse(here).run_ids() == [RUN, OTHER]
    with Warehouse(there).lock(RUN), pytest.raises(RunLocked):
        removal.remove(Warehouse(here), RUN)
    assert "annotations" in command(there, "rm", RUN)
    command(there, "rm", RUN, "--yes")
    assert not [key for key in machines.server.keys if _name(machines) in key and RUN in key]
    assert Warehouse(here).run_ids() == [OTHER]
    assert Warehouse(here).verify(OTHER) == []
    assert not Warehouse(here).parts("responses", RUN)
    begin(here)
    assert Warehouse(there).run_ids() == [RUN, OTHER]


@pytest.mark.parametrize("at", [1, 4, 9])
def test_a_removal_that_was_killed_is_done_by_the_same_command(
    machines: Machines,  # noqa: F811
    tmp_path: Path,
    at: int,
) -> None:
    two_runs(tmp_path / "a")
    here, there = machines.on("here"), machines.on("there")
    copy(tmp_path / "a", machines.url, RUN)
    with pytest.MonkeyPatch.context() as patch:
        _killing(at, patch)
        with pytest.raises(Killed):
            removal.remove(Warehouse(here), RUN)
    command(there, "rm", RUN, "--yes")
    assert not [key for key in machines.server.keys if _name(machines) in key and RUN in key]


def _killing(at: int, patch: pytest.MonkeyPatch) -> None:
    """The process that removes ends before it deletes its `at`-th object."""
    delete, count = Objects.delete, [0]

    def counted(self: Objects, keys: list[str]) -> None:
        for each in keys:
            count[0] += 1
            if count[0] == at:
                raise Killed
            delete(self, [each])

    patch.setattr(Objects, "delete", counted)


def test_objects_that_no_manifest_names_go_when_they_are_old(machines: Machines, tmp_path: Path) -> None:  # noqa: F811
    two_runs(tmp_path / "a")
    here = machines.on("here")
    copy(tmp_path / "a", machines.url)
    store, name = Warehouse(here), _name(machines)
    before = set(machines.server.keys)
    for left in (f"responses/{RUN}/part-7.parquet", "responses/gone-0a/part-0.parquet", "shards/gone-0a/1of2.json"):
        machines.server.write(f"{name}/{left}", b"x")
    found = [each for each in garbage.find(store) if each.what == "unnamed"]
    assert [(each.run_id, each.files, each.kept.startswith("written")) for each in found] == [
        (RUN, 1, True),
        ("gone-0a", 2, True),
    ]
    for each in garbage.find(store, -1):
        with Warehouse(machines.on("there")).lock(each.run_id):
            assert "being written" in garbage.collect(store, each)
        assert garbage.collect(store, each) == ""
    assert set(machines.server.keys) == before
    assert Warehouse(machines.on("third")).verify(RUN) == []
    assert copy_run(Warehouse(here), Warehouse(tmp_path / "b"), RUN).parts
