"""Full disks, disks that can only be read, files that may not grow, folders that may not be written."""

from __future__ import annotations

import json
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Torture
from machine import FAULT, World, made_good, parts, start, undisturbed

from constitution.errors import WarehouseError
from constitution.warehouse import Warehouse


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return undisturbed(tmp_path_factory.mktemp("machine"))


HERE = Path(__file__).parent


# --- disks


def small_disk(task: str, world: World, *words: str) -> list[dict[str, Any]]:
    """What tests/torture/small_disk.py tells, line by line; skips where file systems cannot be mounted."""
    if not shutil.which("unshare"):
        pytest.skip("there is no unshare")
    command = ["unshare", "--map-root-user", "--mount", sys.executable, str(HERE / "small_disk.py"), task]
    done = subprocess.run(
        [*command, str(world.recipe), str(world.done), *words], capture_output=True, text=True, check=False
    )
    if done.returncode == 77 or "unshare failed" in done.stderr or "Operation not permitted" in done.stderr:
        pytest.skip("no file system can be mounted here")
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.torture
def test_a_full_disk_stops_the_run_and_room_lets_it_go_on(torture: Torture, world: World) -> None:
    """A real file system, full at every stage: slices, parts, record, compaction, labels, views."""
    told = small_disk("run", world, str(torture.seed), "15")
    full = [one for one in told if one["error"]]
    assert len(full) >= 3
    for one in full:
        assert "No space left on device" in one["error"], one
        assert "\n" not in one["error"]
        assert one["damaged"] == []
        torture.count(FAULT)
    assert all(one["rows"] == world.rows for one in told if one["finished"])
    assert any(one["finished"] for one in told)


@pytest.mark.torture
def test_a_full_disk_while_exporting(torture: Torture, world: World) -> None:
    for one in small_disk("export", world):
        assert "No space left on device" in one["error"], one
        assert one["left"] == []
        assert one["then"] > 0
        torture.count(FAULT)


@pytest.mark.torture
def test_a_full_temporary_folder(torture: Torture, world: World) -> None:
    """DuckDB has nowhere to put what does not fit into memory: one sentence, and the next query is answered."""
    [one] = small_disk("spill", world)
    assert "QueryError" in one["error"]
    assert one["then"] == 1
    torture.count(FAULT)


@pytest.mark.torture
def test_a_disk_that_can_only_be_read(torture: Torture, world: World) -> None:
    [one] = small_disk("read-only", world)
    assert "Read-only file system" in one["run"], one
    assert one["queried"] > 0
    assert one["damaged"] == []
    torture.count(FAULT)


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """For this process: what a quota does, without a file system of one's own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_files_that_may_not_grow(torture: Torture, world: World, tmp_path: Path) -> None:
    """Where a part is too large, nothing of it is there, and the same command resumes when it may be."""
    chance = random.Random(f"{torture.seed}/sizes")
    largest = max(path.stat().st_size for path in parts(Warehouse(world.done), world.run_id))
    for number in range(25 if torture.full else 1):
        root = tmp_path / str(number)
        size = chance.randrange(500, largest)
        with no_file_larger_than(size), pytest.raises(WarehouseError) as caught:
            start(world.recipe, root)
        assert "File too large" in str(caught.value), caught.value
        assert len(str(caught.value).splitlines()) == 1
        assert Warehouse(root).verify(world.run_id) == []
        start(world.recipe, root)
        made_good(world, root)
        torture.count(FAULT)


@pytest.mark.torture
@pytest.mark.parametrize("table", ["responses", "prompts", "judgements", "preferences", "runs"])
def test_a_folder_that_cannot_be_written(torture: Torture, world: World, tmp_path: Path, table: str) -> None:
    """A file stands in its place, which stops root too."""
    root = tmp_path / "w"
    name = world.run_id if table != "runs" else f"{world.run_id}.json"
    if table == "runs":
        (root / table / name).mkdir(parents=True)
    else:
        (root / table).mkdir(parents=True)
        (root / table / name).write_text("in the way")
    with pytest.raises(WarehouseError, match=table) as caught:
        start(world.recipe, root)
    assert len(str(caught.value).splitlines()) == 1
    shutil.rmtree(root / table / name) if table == "runs" else (root / table / name).unlink()
    start(world.recipe, root)
    made_good(world, root)
    torture.count(FAULT)
