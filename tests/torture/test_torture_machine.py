"""The machine's faults: files that are not what was written, full and closed disks, clocks, and company."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Self

import pytest
from click.testing import CliRunner
from conftest import Torture
from machine import DAMAGES, FAULT, World, copied, damage, made_good, parts, project, start, stored, undisturbed
from run_once import run_once, stop_midway

from constitution.audit import audit
from constitution.cli._watched import watched
from constitution.cli.runs import runs as runs_command
from constitution.cli.verify import verify as verify_command
from constitution.errors import DamagedPart, RunLocked
from constitution.export import Settings, export
from constitution.pipeline import open_run, prepare
from constitution.recipe import load_recipe
from constitution.records import Annotation, Figure
from constitution.warehouse import Warehouse, ask, connect, files


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return undisturbed(tmp_path_factory.mktemp("machine"))


HERE = Path(__file__).parent


# --- files that are not what was written


@pytest.mark.torture
def test_any_damage_is_found(torture: Torture, world: World, tmp_path: Path) -> None:
    """In every part of every table, whatever was done to it: by its name, and nothing else is accused."""
    chance = random.Random(f"{torture.seed}/damages")
    for state in ("done", "open"):
        warehouse = copied(getattr(world, state), tmp_path / state)
        for path in parts(warehouse, world.run_id):
            for kind in DAMAGES * 3:
                before = {one: one.read_bytes() for one in parts(warehouse, world.run_id)}
                damage(chance, kind, path, list(before))
                wrong = {one for one in before if not one.exists() or one.read_bytes() != before[one]}
                wrong |= set(parts(warehouse, world.run_id)) - before.keys()
                assert wrong
                found = warehouse.verify(world.run_id)
                assert {one.path for one in found} == wrong, (kind, path)
                torture.count(FAULT)
                for one in wrong - before.keys():
                    one.unlink()
                for one in wrong & before.keys():
                    one.write_bytes(before[one])
        assert warehouse.verify(world.run_id) == []


SHORT = [("open", "judgements")]
LONG = [
    (state, table)
    for state in ("done", "open")
    for table in ("principles", "prompts", "responses", "judgements", "preferences")
]


def test_what_is_damaged_is_made_again_and_nothing_else(torture: Torture, world: World, tmp_path: Path) -> None:
    """A part of every table, of a run that was stopped and of a finished one that is compacted."""
    chance = random.Random(f"{torture.seed}/repairs")
    cases = LONG * 3 if torture.full else SHORT
    for number, (state, table) in enumerate(cases):
        warehouse = copied(getattr(world, state), tmp_path / str(number))
        path = chance.choice(warehouse.parts(table, world.run_id))
        kind = chance.choice(DAMAGES)
        damage(chance, kind, path, parts(warehouse, world.run_id))
        found = warehouse.verify(world.run_id)
        there = {one.path: one.path.read_bytes() for one in found if one.path.exists()}
        if state == "done":
            assert CliRunner().invoke(verify_command, ["--repair", f"--warehouse={warehouse.root}"]).exit_code == 1
        start(world.recipe, warehouse.root)
        made_good(world, warehouse.root)
        run = warehouse.read_run(world.run_id)
        assert run is not None
        for one in found:
            assert any(str(one.path.relative_to(warehouse.root)) in told for told in run.repairs), (kind, path)
        aside = [one.read_bytes() for one in (warehouse.root / "quarantine").rglob("*") if one.is_file()]
        assert all(content in aside for content in there.values()), "nothing is deleted"
        shown = CliRunner().invoke(runs_command, [world.run_id, f"--warehouse={warehouse.root}"])
        assert f"damaged: {found[0].path.relative_to(warehouse.root)}" in shown.output.replace("\n", "")
        torture.count(FAULT)


@pytest.mark.torture
def test_a_vote_that_stands_is_not_paid_for_again(world: World, tmp_path: Path) -> None:
    """Labels that are gone are made of the votes; a start asks no model for them."""
    warehouse = copied(world.done, tmp_path / "w")
    for path in warehouse.parts("preferences", world.run_id):
        path.unlink()
    with warehouse.lock(world.run_id):
        assert [one.path for one in warehouse.repair(world.run_id)] == [path]
    before = warehouse.read_run(world.run_id)
    after = start(world.recipe, warehouse.root)
    made_good(world, warehouse.root)
    assert before is not None
    calls = [sum(stats["calls"] for stats in run.engines.values()) for run in (before, after)]
    assert calls[0] == calls[1] > 0


@pytest.mark.torture
def test_a_repair_that_is_killed_goes_on(torture: Torture, world: World, tmp_path: Path) -> None:
    """Before every rename of a repair."""

    class Killed(BaseException):
        pass

    rename, renames = Path.rename, 0
    for place in range(100):
        warehouse = copied(world.done, tmp_path / str(place))
        [path] = warehouse.parts("responses", world.run_id)
        rows = bytearray(path.read_bytes())
        rows[len(rows) // 2] ^= 1
        path.write_bytes(rows)
        left = place

        def kill(self: Path, target: Path) -> Path:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return rename(self, target)

        try:
            with pytest.MonkeyPatch.context() as patch, warehouse.lock(world.run_id):
                patch.setattr(Path, "rename", kill)
                warehouse.repair(world.run_id)
        except Killed:
            renames += 1
            if place == 0:  # not even begun: the run is as finished as it was
                with warehouse.lock(world.run_id):
                    warehouse.repair(world.run_id)
            start(world.recipe, warehouse.root)
            made_good(world, warehouse.root)
            torture.count(FAULT)
            continue
        break
    assert renames > 4


def test_a_finished_run_that_lost_a_part(torture: Torture, world: World, tmp_path: Path) -> None:
    """`run` says so, export and audit refuse, verify names it, and repair and run make it good."""
    warehouse = copied(world.done, tmp_path / "w")
    place = f"--warehouse={warehouse.root}"
    sound = CliRunner().invoke(verify_command, [place])
    assert (sound.exit_code, sound.output) == (0, f"{world.run_id}: sound\n")
    [path] = warehouse.parts("judgements", world.run_id)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DamagedPart, match=path.name) as caught:
        prepare(load_recipe(world.recipe), world.recipe, warehouse.root)
    assert "constitution verify --repair" in caught.value.hint
    with pytest.raises(DamagedPart, match=path.name):
        export(warehouse.root, world.run_id, Settings(format="dpo"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(DamagedPart, match=path.name):
        audit(warehouse.root, world.run_id, replicates=100)
    told = CliRunner().invoke(verify_command, [place])
    assert told.exit_code == 1
    assert f"{path}: is not what was written" in told.output
    assert f"constitution verify {world.run_id} --repair {place.replace('=', ' ')}" in told.output
    mended = CliRunner().invoke(verify_command, [world.run_id, "--repair", place])
    assert mended.exit_code == 1
    assert "`constitution run` of its recipe machine makes again what is gone" in mended.output
    start(world.recipe, warehouse.root)
    made_good(world, warehouse.root)
    assert CliRunner().invoke(verify_command, [place]).exit_code == 0
    torture.count(FAULT)


@pytest.mark.torture
@pytest.mark.parametrize("table", ["prompts", "responses"])
def test_a_folder_that_is_gone(torture: Torture, world: World, tmp_path: Path, table: str) -> None:
    """Its sums are gone with it: the run's record tells that there was something."""
    warehouse = copied(world.done, tmp_path / "w")
    shutil.rmtree(warehouse.folder(table, world.run_id))
    with pytest.raises(DamagedPart, match="is missing"):
        prepare(load_recipe(world.recipe), world.recipe, warehouse.root)
    with warehouse.lock(world.run_id):
        warehouse.repair(world.run_id)
    start(world.recipe, warehouse.root)
    made_good(world, warehouse.root)
    torture.count(FAULT)


def test_a_record_that_is_damaged(torture: Torture, world: World, tmp_path: Path) -> None:
    """One sentence, and what it says to do works: the record is made again of the rows."""
    warehouse = copied(world.done, tmp_path / "w")
    path = warehouse.root / "runs" / f"{world.run_id}.json"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DamagedPart, match=f"{path.name}: cannot be read as a run"):
        warehouse.runs()
    place = f"--warehouse={warehouse.root}"
    told = CliRunner().invoke(verify_command, [place])
    assert (told.exit_code, f"{path}: cannot be read as a run" in told.output) == (1, True)
    assert CliRunner().invoke(verify_command, [place, "--repair"]).exit_code == 1
    assert [one.name for one in (warehouse.root / "quarantine").rglob("*.json")] == [path.name]
    start(world.recipe, warehouse.root)
    made_good(world, warehouse.root)
    torture.count(FAULT)


def test_what_was_said_of_a_run(torture: Torture, world: World, tmp_path: Path) -> None:
    """Damaged annotations and figures are quarantined; the run is as finished as it was, and the remedy is named."""
    warehouse = copied(world.done, tmp_path / "w")
    warehouse.write_annotations(world.run_id, [Annotation("l", world.run_id, "p", "ann", 1.0, "ann.csv", pair_id="x")])
    warehouse.write_figures(world.run_id, [Figure(world.run_id, "kept", 1.0, 1)])
    for table in ("annotations", "figures"):
        [path] = warehouse.parts(table, world.run_id)
        path.write_bytes(path.read_bytes()[:-1])
    told = CliRunner().invoke(verify_command, ["--repair", f"--warehouse={warehouse.root}"])
    assert told.exit_code == 1
    assert "annotations: import them again" in told.output
    assert "figures: audit the run again" in told.output
    assert (warehouse.read_annotations(world.run_id), warehouse.read_figures(world.run_id)) == ([], [])
    made_good(world, warehouse.root)
    torture.count(FAULT, 2)


# --- clocks


def clock(monkeypatch: pytest.MonkeyPatch, now: Callable[[], datetime]) -> None:
    """Every module of ours reads this clock."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            moment = now().astimezone(tz)
            return cls.fromtimestamp(moment.timestamp(), tz)

    for name, module in list(sys.modules.items()):
        if name.startswith("constitution") and getattr(module, "datetime", None) is not None:
            monkeypatch.setattr(module, "datetime", Clock)


def test_a_clock_that_goes_back(
    torture: Torture, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day for every look at it, and years between two starts."""
    root = tmp_path / "w"
    looks = 0

    def backwards() -> datetime:
        nonlocal looks
        looks += 1
        return first - timedelta(days=looks)

    first = datetime(2031, 1, 1, tzinfo=UTC)
    clock(monkeypatch, backwards)
    if torture.full:
        asyncio.run(stop_midway(world.recipe, root, [], prompts=10))
        assert looks > 10
    else:
        copied(world.open, root)
    first = datetime(1999, 1, 1, tzinfo=UTC)
    run = start(world.recipe, root)
    made_good(world, root)
    assert looks > 4
    assert run.finished_at is not None
    assert run.finished_at < run.started_at
    assert run.seconds > 0
    shown = CliRunner().invoke(runs_command, [f"--warehouse={root}"])
    assert shown.exit_code == 0
    assert " -" not in shown.output
    # Nor does the command tell by the clock whether there was anything to do.
    arguments: tuple[object, ...] = (world.recipe, tmp_path / "x" if torture.full else root, [])
    assert asyncio.run(watched(run_once, arguments, []))[1] is torture.full
    # The word that was imported last counts, whatever the clock said.
    store = Warehouse(root)
    for value in (1.0, 0.0):
        store.write_annotations(run.run_id, [Annotation("l", run.run_id, "p", "ann", value, "ann.csv", pair_id="x")])
    assert [label.value for label in store.read_annotations(run.run_id)] == [0.0]
    torture.count(FAULT, 2)


# --- company


def running(recipe: Path, root: Path, *overrides: str) -> subprocess.Popen[str]:
    """A process that works on the run."""
    command = [sys.executable, str(HERE.parent / "run_once.py"), str(recipe), str(root), *overrides]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert process.stdout
    assert process.stdout.readline() == "working\n"
    return process


@pytest.mark.torture
def test_two_processes_two_runs_and_a_reader(torture: Torture, world: World, tmp_path: Path) -> None:
    """The same run is worked by one process, and another says so and leaves; two runs are worked at once; and who reads
    and verifies all the while finds no error, no damage and no row twice."""
    root, slow = tmp_path / "w", ["model.policy.latency_s=0.3"]
    looks, wrong = 0, list[object]()
    over = threading.Event()

    def look() -> None:
        nonlocal looks
        while not over.is_set():
            for run_id in Warehouse(root).run_ids():
                wrong.extend(Warehouse(root).verify(run_id))
            with connect(root) as connection:
                wrong.extend(ask(connection, "SELECT id FROM responses GROUP BY id HAVING count(*) > 1").rows)
            looks += 1

    async def second() -> None:
        async with open_run(prepare(load_recipe(world.recipe, slow), world.recipe, root)):
            raise AssertionError("both work on it")

    with running(world.recipe, root, *slow) as one, running(world.recipe, root, *slow, "seed=7") as two:
        reader = threading.Thread(target=look)
        reader.start()
        try:
            with pytest.raises(RunLocked, match=f"{world.run_id} is being written by process {one.pid} on"):
                asyncio.run(second())
            assert (one.wait(), two.wait()) == (0, 0)
        finally:
            over.set()
            reader.join()
    assert wrong == []
    assert looks > 3
    made_good(world, root)
    [other] = {run.run_id for run in Warehouse(root).runs()} - {world.run_id}
    alone = start(world.recipe, tmp_path / "alone", ["seed=7"])
    assert alone.run_id == other
    assert stored(root, other) == stored(tmp_path / "alone", other)
    torture.count(FAULT, 3)


@pytest.mark.torture
def test_the_command_says_who_works_on_the_run_and_leaves(torture: Torture, tmp_path: Path) -> None:
    recipe, root = project(tmp_path), tmp_path / "w"
    asyncio.run(stop_midway(recipe, root, [], prompts=8))
    [run] = Warehouse(root).runs()
    before = {path: path.read_bytes() for path in root.rglob("*.parquet")}
    command = [sys.executable, "-c", "from constitution.cli import main; main()"]
    command += ["run", str(recipe), "--warehouse", str(root)]
    with Warehouse(root).lock(run.run_id):
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"run {run.run_id} is being written by process {os.getpid()} on" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert {path: path.read_bytes() for path in root.rglob("*.parquet")} == before
    torture.count(FAULT)


@pytest.mark.torture
def test_a_warehouse_that_is_moved_or_linked(torture: Torture, world: World, tmp_path: Path) -> None:
    copied(world.open, tmp_path / "before").root.rename(tmp_path / "after")
    (tmp_path / "link").symlink_to(tmp_path / "after")
    start(world.recipe, tmp_path / "link")
    for root in (tmp_path / "after", tmp_path / "link"):
        made_good(world, root)
    torture.count(FAULT, 2)


@pytest.mark.torture
def test_where_folders_cannot_be_exchanged(
    torture: Torture, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on NFS: a repair of the slices does without."""
    monkeypatch.setattr(files, "exchange", lambda one, other: False)
    warehouse = copied(world.open, tmp_path / "w")
    warehouse.parts("prompts", world.run_id)[1].unlink()
    start(world.recipe, warehouse.root)
    made_good(world, warehouse.root)
    torture.count(FAULT)
