"""A warehouse, or a table of it, that goes away at any moment of a run: the run says so in a sentence and makes nothing
in its place; where it is put back, the same command comes to the undisturbed run's end."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import threading
from contextlib import suppress
from pathlib import Path

from conftest import Torture
from pipeline_run import rows_of
from run_once import run_once
from small_project import small_project

from constitution.errors import ConstitutionError, WarehouseError
from constitution.records import Run
from constitution.warehouse import Warehouse

SETTINGS = ["output.flush_seconds=0.01", "output.flush_rows=20", "output.window=3", "output.slice=6"]
SLOW = "model.policy.latency_s=0.004"
PROMPTS = 9
TABLES = ("prompts", "responses", "critiques", "judgements", "preferences", "principles", "runs")


def tree(folder: Path) -> set[str]:
    """What is in it, also while a run works there."""
    return {os.path.join(at, name) for at, folders, files in os.walk(folder) for name in (*folders, *files)}


def clear(folder: Path) -> None:
    """Deletes it, while a run still writes there."""
    for _ in range(100):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
    raise AssertionError(f"{folder} is made again and again")


class Blow:
    """What befalls the warehouse `root`, and what is right afterwards."""

    def __init__(self, draw: random.Random, root: Path) -> None:
        self.root, self.moved = root, root.with_name("moved")
        self.kind = draw.choice(("renamed", "deleted", "replaced", "a table"))
        self.table = draw.choice(TABLES)
        self.struck = False

    def strike(self) -> None:
        if not self.root.exists():
            return
        if self.kind == "a table":
            with suppress(FileNotFoundError):
                (self.root / self.table).rename(self.moved)
                self.struck = True
            return
        self.struck = True
        if self.kind == "deleted":
            clear(self.root)
            return
        self.root.rename(self.moved)
        if self.kind == "replaced":
            self.root.mkdir()

    def check(self) -> None:
        """Nothing was made where the warehouse was."""
        if self.kind == "replaced":
            assert os.listdir(self.root) == []
        elif self.kind != "a table":
            assert not self.root.exists(), tree(self.root)

    def put_back(self) -> None:
        if self.kind == "a table":
            # Where the run has made the table's folder again, the parts of the old one come to those of the new one.
            if self.moved.exists() and not (self.root / self.table).exists():
                self.moved.rename(self.root / self.table)
            shutil.rmtree(self.moved, ignore_errors=True)
        elif self.moved.exists():
            if self.root.exists():
                self.root.rmdir()
            self.moved.rename(self.root)


async def disturbed(recipe: Path, root: Path, blow: Blow, files: int) -> Run | ConstitutionError:
    """The run, with the blow when its warehouse has so many files and folders, by another thread: in the midst of a
    write as soon as between two."""

    def strike() -> None:
        while not ended.wait(0.001):
            if root.exists() and len(tree(root)) >= files:
                blow.strike()
                return

    ended = threading.Event()
    thread = threading.Thread(target=strike)
    thread.start()
    try:
        return await run_once(recipe, root, [*SETTINGS, SLOW])
    except ConstitutionError as error:
        return error
    finally:
        ended.set()
        await asyncio.to_thread(thread.join)


async def test_a_warehouse_that_goes_at_any_moment(tmp_path: Path, torture: Torture) -> None:
    draw = random.Random(f"{torture.seed}/gone")
    recipe = small_project(tmp_path, PROMPTS)
    calm = await run_once(recipe, tmp_path / "calm", SETTINGS)
    rows = rows_of(tmp_path / "calm", calm.run_id)
    files = len(tree(tmp_path / "calm")) * 5 // 4
    for number in range(24 if torture.full else 2):
        root = tmp_path / str(number) / "warehouse"
        root.parent.mkdir()
        blow = Blow(draw, root)
        ended = await disturbed(recipe, root, blow, draw.randint(0, files))
        if isinstance(ended, ConstitutionError):
            assert blow.struck, ended
            assert isinstance(ended, WarehouseError), repr(ended)
            assert "\n" not in str(ended)
            assert ended.hint
            blow.check()
            torture.count(f"warehouses that went in mid-run: {blow.kind}")
        elif blow.kind != "a table":
            assert ended.finished_at
            assert not blow.struck or not root.exists() or os.listdir(root) == []
        blow.put_back()
        done = await run_once(recipe, root, SETTINGS)
        assert done.finished_at, (blow.kind, blow.table)
        assert done.run_id == calm.run_id
        assert rows_of(root, done.run_id) == rows, (blow.kind, blow.table)
        assert Warehouse(root).verify(done.run_id) == []
        assert done.counts == calm.counts
        assert os.listdir(root.parent) == ["warehouse"]
