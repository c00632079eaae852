"""A warehouse at s3://: what a run leaves there, who may write it, and what is read of it by whom."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from s3_server import Faults, Request, S3Server
from small_project import small_project, table
from warehouse_rows import CONSTITUTION, RUN, chain, prompt, run

from constitution import api
from constitution.cli import app
from constitution.errors import DamagedPart, InputError, RunLocked, WarehouseError
from constitution.pipeline.standing import Looking
from constitution.recipe import load_recipe
from constitution.records import Annotation, Response, Shard
from constitution.warehouse import Warehouse, connect, place
from constitution.warehouse.remote import lease, mirror
from constitution.warehouse.remote.manifest import MAIN, decode, key

LOST = Faults(slow_down=0.05, lost=0.08, conflict=0.1, cut=0.1, refused=0.03, stale=3)


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


class Machines:
    """Several, by what they keep of the store."""

    def __init__(self, server: S3Server, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.server, self._folder, self._patch = server, folder, patch
        self.url = f"{server.url}/{re.sub('[^a-z0-9]', '', folder.name)}"

    def on(self, machine: str) -> Path:
        """The mirror of the warehouse on this machine."""
        self._patch.setenv("CONSTITUTION_CACHE", str(self._folder / machine))
        return place(self.url)

    def keys(self, folder: str) -> list[str]:
        start = f"{self.url.removeprefix(self.server.url)[1:]}/{folder}/"
        return [key.removeprefix(start) for key in self.server.keys if key.startswith(start)]


@pytest.fixture
def machines(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machines:
    server.faults, server.before, server.after = Faults(), lambda request: None, lambda request: None
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return Machines(server, tmp_path, monkeypatch)


def begin(root: Path) -> Warehouse:
    """With the prompts of 3 chains."""
    warehouse = Warehouse(root)
    with warehouse.lock(RUN):
        warehouse.write_prompts(RUN, 0, [prompt(number) for number in range(3)])
        warehouse.write_principles(RUN, CONSTITUTION)
        warehouse.write_run(run())
    return warehouse


def said(rater: str) -> Annotation:
    return Annotation(f"of {rater}", RUN, prompt(0).id, rater, 1.0, f"{rater}.csv", response_id="r")


def ids(root: Path, name: str = "responses") -> list[str]:
    return sorted(row[0] for row in table(root, f"SELECT id FROM {name}"))


def responses(number: int) -> list[Response]:
    return [row for row in chain(number) if isinstance(row, Response)]


@pytest.mark.parametrize("faults", [Faults(), pytest.param(LOST, marks=pytest.mark.torture)])
def test_a_run_there_is_the_same_as_here_and_read_on_another_machine(
    tmp_path: Path, machines: Machines, faults: Faults
) -> None:
    recipe = load_recipe(small_project(tmp_path, 12), ["output.slice=5", "output.flush_seconds=0.05"])
    here = api.run(recipe, tmp_path / "here")
    machines.on("one")
    machines.server.faults = faults
    there = api.run(recipe, machines.url)
    assert (there.run_id, there.counts) == (here.run_id, here.counts)
    other = machines.on("two")
    for name in ("prompts", "responses", "judgements", "preferences"):
        columns = {row[0] for row in table(other, f"DESCRIBE {name}")}
        query = f"SELECT {', '.join(sorted(columns - {'created_at', 'seconds', 'latency_s'}))} FROM {name} ORDER BY id"
        assert table(other, query) == table(tmp_path / "here", query)
    figures = api.audit_run(machines.url, replicates=10)
    assert len(figures) == len(api.audit_run(tmp_path / "here", replicates=10))
    done = api.export_run(machines.url, tmp_path / "data", format="dpo")
    assert done.rows == api.export_run(tmp_path / "here", tmp_path / "data2", format="dpo").rows
    assert Warehouse(machines.on("three")).read_figures(there.run_id)
    assert Warehouse(other).verify(there.run_id) == []
    machines.server.faults = Faults()
    assert len(machines.keys(f"responses/{there.run_id}")) == 1  # what was merged is gone


@pytest.mark.parametrize("words", [("verify",), ("verify", "--repair")])
def test_a_mirror_that_is_damaged_costs_no_row_and_is_fetched_again(machines: Machines, words: tuple[str, ...]) -> None:
    warehouse = begin(machines.on("one"))
    with warehouse.lock(RUN):
        warehouse.write_part("responses", RUN, responses(0))
    [part], before = warehouse.parts("responses", RUN), machines.keys(f"responses/{RUN}")
    sound = part.read_bytes()
    part.write_bytes(bytes([*sound[:40], sound[40] ^ 1, *sound[41:]]))  # its size is as it was
    found = CliRunner().invoke(app, [*words, RUN, "--warehouse", machines.url])
    assert found.exit_code == 0, found.output
    assert f"damaged: responses/{RUN}/{part.name}\n{RUN}: sound" in found.output
    assert (part.read_bytes(), machines.keys(f"responses/{RUN}")) == (sound, before)
    assert ids(machines.on("two")) == sorted(each.id for each in responses(0))
    assert "damaged" not in CliRunner().invoke(app, [*words, RUN, "--warehouse", machines.url]).output

    # Where both are damaged nothing is sound.
    machines.server.write(f"{machines.url.removeprefix(machines.server.url)[1:]}/responses/{RUN}/{part.name}", b"x")
    part.write_bytes(sound[::-1])
    assert Warehouse(part.parents[2]).verify(RUN) != []


def test_only_one_machine_writes(machines: Machines) -> None:
    one, two = begin(machines.on("one")), Warehouse(machines.on("two"))
    with one.lock(RUN):
        with pytest.raises(RunLocked, match=rf"run {RUN} is being written by process \d+ on "), two.lock(RUN):
            pass
        assert two.locked(RUN)
    assert not two.locked(RUN)
    with two.lock(RUN, prepared=True):
        two.write_part("responses", RUN, responses(1))
    with one.lock(RUN):
        assert one.tally(RUN).counts["responses"] == 3


def test_who_slept_over_its_lease_counts_for_nothing_more(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "SECONDS", 0.5)
    monkeypatch.setattr(lease.Lease, "_renew", lambda self: None)
    slept, other = begin(machines.on("one")), Warehouse(machines.on("two"))
    with slept.lock(RUN):
        slept.write_part("responses", RUN, responses(0))
        time.sleep(2.6)  # a lease, and that S3 tells whole seconds
        with other.lock(RUN):
            other.write_part("responses", RUN, responses(1))
            with pytest.raises(RunLocked, match=r"lease of main was taken by process"):
                slept.write_part("responses", RUN, responses(2))
            with pytest.raises(RunLocked):
                slept.write_run(run(finished=True))
            other.write_part("responses", RUN, responses(2))
    expected = sorted(row.id for number in range(3) for row in responses(number))
    for name in ("one", "two", "three"):
        assert ids(machines.on(name)) == expected
        assert not Warehouse(machines.on(name)).runs()[0].finished_at


def test_a_lease_that_lasts_is_renewed(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "SECONDS", 0.5)
    one, two = begin(machines.on("one")), Warehouse(machines.on("two"))
    with one.lock(RUN):
        time.sleep(2.6)
        with pytest.raises(RunLocked), two.lock(RUN):
            pass


def test_a_dead_shard_is_waited_for_and_taken_over_by_another_machine(machines: Machines) -> None:
    two = begin(machines.on("two"))
    machines.on("one")
    script = KILLED.replace("lock(RUN)", "lock(RUN, shard=Shard(1, 2))").replace(
        "responses(0)", "responses(0), Shard(1, 2)"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(Path(__file__).parent), machines.url, "1"], check=False)
    assert ended.returncode == 9
    machines.on("two")
    with two.lock(RUN, shard=Shard(1, 2)) as lock:
        lock.share()
        two.write_part("responses", RUN, responses(1), Shard(1, 2))
    assert len(ids(two.root)) == 6


KILLED = """
import os, sys
from constitution.records import Shard
from constitution.warehouse.remote import lease
lease.SECONDS = float(sys.argv[3])
sys.path.insert(0, sys.argv[1])
from test_remote import RUN, Warehouse, place, responses
warehouse = Warehouse(place(sys.argv[2]))
with warehouse.lock(RUN):
    warehouse.write_part("responses", RUN, responses(0))
    os._exit(9)
"""


def test_a_dead_process_s_run_is_taken_up_at_once_on_its_machine_and_later_on_others(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = begin(machines.on("one")), Warehouse(machines.on("two"))
    machines.on("one")
    ended = subprocess.run([sys.executable, "-c", KILLED, str(Path(__file__).parent), machines.url, "60"], check=False)
    assert ended.returncode == 9
    assert not one.locked(RUN)
    assert two.locked(RUN)  # as far as it can tell
    with pytest.raises(RunLocked), two.lock(RUN):
        pass
    with one.lock(RUN):
        one.write_part("responses", RUN, responses(1))
    assert len(ids(two.root)) == 6


@pytest.mark.parametrize("fault", ["lost", "internal", "late", "conflict"])
def test_a_write_of_which_nothing_is_known_counts_once(machines: Machines, fault: str) -> None:
    """The manifest's put fails, done or not, as often as it is tried: the rows are not written, and are when they are
    written again."""
    warehouse = begin(machines.on("one"))

    def chosen(request: Request) -> str:
        return fault if request.key.endswith("main.json") and request.method in ("PUT", "GET") else ""

    with warehouse.lock(RUN):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("constitution.warehouse.remote.objects.TRIES", 2)
            patch.setattr("constitution.warehouse.remote.objects._PAUSE", 0.0)
            machines.server.faults = Faults(chosen=chosen, timeout_s=0.1)
            with pytest.raises(WarehouseError, match=r"main\.json: cannot be"):
                warehouse.write_part("responses", RUN, responses(0))
        machines.server.faults = Faults()
        warehouse.write_part("responses", RUN, responses(0))
    for name in ("one", "two"):
        assert ids(machines.on(name)) == sorted(row.id for row in responses(0))


def test_what_a_kill_left_is_no_row_and_gives_way(machines: Machines) -> None:
    """A part that was put, and that no manifest came to name."""
    warehouse = begin(machines.on("one"))
    found = mirror.of(warehouse.root)
    assert found is not None
    found.objects.create(f"responses/{RUN}/part-0.parquet", b"left")
    assert ids(machines.on("two")) == []
    with warehouse.lock(RUN):
        warehouse.write_part("responses", RUN, responses(0))
    assert len(ids(machines.on("two"))) == 3


def test_who_reads_sees_all_rows_once_while_they_are_merged(machines: Machines) -> None:
    warehouse = begin(machines.on("one"))
    with warehouse.lock(RUN):
        for number in range(3):
            warehouse.write_part("responses", RUN, responses(number))
        before = ids(machines.on("two"))
        warehouse.compact(RUN)
        assert ids(machines.on("two")) == before == ids(machines.on("three"))
    assert machines.keys(f"responses/{RUN}") == ["part-3.parquet"]


@pytest.mark.parametrize(
    ("damage", "fault"),
    [(None, "is missing"), (b"other", "is not what was written"), (-1, "is not what was written")],
)
def test_an_object_that_is_not_what_was_written(machines: Machines, damage: bytes | int | None, fault: str) -> None:
    warehouse = begin(machines.on("one"))
    with warehouse.lock(RUN):
        warehouse.write_part("responses", RUN, responses(0))
    name = f"{machines.url.removeprefix(machines.server.url)[1:]}/responses/{RUN}/part-0.parquet"
    data = machines.server.read(name)
    if damage is None:
        machines.server.delete(name)
    else:
        machines.server.write(name, damage if isinstance(damage, bytes) else data[:damage])
    with pytest.raises(DamagedPart, match=rf"{machines.url}/responses/{RUN}/part-0.parquet: {fault}"):
        connect(machines.on("two"))
    said = CliRunner().invoke(app, ["verify", "--warehouse", machines.url])
    assert f"{machines.url}/responses/{RUN}/part-0.parquet: is missing" in said.output
    machines.on("one")
    said = CliRunner().invoke(app, ["verify", "--warehouse", machines.url])
    assert (said.exit_code, f"{machines.url}/responses/{RUN}/part-0.parquet: {fault}" in said.output) == (1, True)
    assert f"verify {RUN} --repair --warehouse {machines.url}" in said.output
    assert len(ids(warehouse.root)) == 3
    with warehouse.lock(RUN):
        warehouse.put_again(RUN)  # what is sound here
    assert machines.server.read(name) == data
    assert len(ids(machines.on("two"))) == 3


def test_annotations_of_two_machines(machines: Machines) -> None:
    one, two = begin(machines.on("one")), Warehouse(machines.on("two"))
    assert one.write_annotations(RUN, [said("ann")]).new == 1
    assert two.write_annotations(RUN, [said("bob")]).new == 1
    assert two.write_annotations(RUN, [said("bob")]).new == 0
    assert len(Warehouse(machines.on("one")).read_annotations(RUN)) == 2
    assert len(machines.keys(f"annotations/{RUN}")) == 1


def test_shards_on_machines(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "SECONDS", 3.0)
    one, two = begin(machines.on("one")), Warehouse(machines.on("two"))
    first, second = Shard(1, 2), Shard(2, 2)
    with one.lock(RUN, shard=first) as lock:
        assert lock.alone
        lock.share()
        one.write_part("responses", RUN, responses(0), first)
        with two.lock(RUN, shard=second) as other:
            assert not other.alone
            two.write_part("responses", RUN, responses(1), second)
            with pytest.raises(RunLocked, match="shard 1/2"), Warehouse(machines.on("three")).lock(RUN):
                pass
            with pytest.raises(RunLocked), Warehouse(machines.on("three")).lock(RUN, shard=first):
                pass
            with pytest.raises(RunLocked), Warehouse(machines.on("three")).lock(RUN, shard=Shard(1, 3)):
                pass
            assert len(two.holders(RUN)) == 2
            assert len(ids(machines.on("three"))) == 6
    for name in ("one", "two"):
        with Warehouse(machines.on(name)).lock(RUN, shard=first) as lock:
            assert lock.alone
    with two.lock(RUN):
        two.compact(RUN)
        with pytest.raises(RunLocked), Warehouse(machines.on("one")).lock(RUN, shard=first):
            pass
    for name in ("one", "two", "three"):
        assert len(ids(machines.on(name))) == 6
    assert machines.keys(f"responses/{RUN}") == ["part-1.parquet"]
    with one.lock(RUN, shard=first) as lock:
        lock.share()
        one.write_part("responses", RUN, responses(2), first)
    for name in ("one", "two", "three"):
        assert len(ids(machines.on(name))) == 9


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("s3://", "names no bucket"),
        ("ftp://host/x", "of a kind that holds no warehouse"),
        ("https://host/x", "of a kind that holds no warehouse"),
        ("s3://bucket/a?b", "with '\\?' in it"),
        ("s3://bucket/../x", "with '\\.\\.' in it"),
    ],
)
def test_addresses_that_are_refused(address: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        place(address)


def test_a_store_that_does_not_answer(tmp_path: Path, machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("constitution.warehouse.remote.objects._RETRY", {"max_retries": 0})
    monkeypatch.setattr("constitution.warehouse.remote.objects.TRIES", 1)
    with pytest.raises(WarehouseError, match=r"s3://.*: cannot be .*error sending request"):
        Warehouse(machines.on("one")).runs()


def test_what_a_manifest_says(machines: Machines) -> None:
    warehouse = begin(machines.on("one"))
    found = mirror.of(warehouse.root)
    assert found is not None
    stored = found.objects.get(key(RUN, MAIN))
    assert stored is not None
    manifest = decode(stored.data, "it")
    assert decode(manifest.encode(), "it") == manifest
    assert sorted(manifest.parts) == ["principles", "prompts"]
    assert manifest.holder is None
    for data in (
        b"",
        b"{}",
        b"[]",
        b'{"schema": 1, "parts": 3}',
        stored.data.replace(b'"parts":{', b'"parts":{"a":1,'),
    ):
        with pytest.raises(DamagedPart, match="cannot be read as a manifest"):
            decode(data, "it")
    with pytest.raises(WarehouseError, match="has layout 2"):
        decode(stored.data.replace(b'"schema":1', b'"schema":2'), "it")


def test_a_run_at_work_is_watched_from_another_machine(machines: Machines) -> None:
    """By its lease and its records, which are fetched at every look."""
    here = begin(machines.on("here"))
    looking = Looking(Warehouse(machines.on("there")), RUN, 30.0)
    assert (looking.look(0.0).status, looking.look(1.0).changed) == ("open", False)
    with here.lock(RUN):
        assert looking.look(2.0).status == "running"
        here.write_run(replace(run(), counts={"prompts": 3, "done": 2}))
        seen = looking.look(3.0)
        assert (seen.changed, seen.run.counts["done"]) == (True, 2)
    here.write_run(replace(run(finished=True), counts={"prompts": 3, "done": 3}))
    assert looking.look(4.0).over
