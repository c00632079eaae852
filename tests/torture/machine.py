"""What the tests of the machine's faults share: a run with all kinds of rows, what it stored, ways to damage it."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from run_once import run_once, stop_midway
from small_project import small_project

from constitution.records import Run
from constitution.warehouse import Warehouse, ask, connect
from constitution.warehouse.damage import INPUT, ROWS

RECIPE = """
name = "machine"
constitution = "general@1.1.0"
[prompts]
path = "prompts.jsonl"
answers = ["good", "bad"]
[model.policy]
engine = "fake"
[model.judge]
engine = "fake"
model = "fake-judge"
[revise]
rounds = 2
[judge]
principles = 2
pairs = ["first-last", "given"]
aggregate = "dawid-skene"
[perturb]
share = 0.5
kinds = ["terse"]
[output]
slice = 8
window = 8
flush_rows = 30
flush_seconds = 0.05
"""
PROMPTS = 24


def project(folder: Path, prompts: int = PROMPTS) -> Path:
    """The recipe's path."""
    folder.mkdir(parents=True, exist_ok=True)
    return small_project(folder, prompts, RECIPE)


def start(recipe: Path, root: Path, overrides: Sequence[str] = ()) -> Run:
    return asyncio.run(run_once(recipe, root, list(overrides)))


def stored(root: Path, run_id: str) -> dict[str, list[str]]:
    """Every row that the run wrote, but for when."""
    with connect(root) as connection:
        return {
            table: sorted(
                map(repr, ask(connection, f"SELECT * EXCLUDE created_at FROM {table} WHERE run_id = '{run_id}'").rows)
            )
            for table in (*INPUT, *ROWS)
        }


def temporary(root: Path) -> list[Path]:
    """Half-written files that readers do not see, and that nobody will take away."""
    return [path for path in root.rglob("*.tmp") if path.is_file()]


DAMAGES = ("flipped", "cut", "emptied", "grown", "zeroed", "deleted", "swapped", "stray")


def damage(chance: random.Random, kind: str, path: Path, others: Sequence[Path]) -> None:
    """Does this to the part. others: more parts, of any table."""
    content = bytearray(path.read_bytes())
    before = bytes(content)
    if kind == "flipped":
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    elif kind == "cut":
        del content[chance.randrange(len(content)) :]
    elif kind == "emptied":
        content.clear()
    elif kind == "grown":
        content += chance.randbytes(chance.randrange(1, 600))
    elif kind == "zeroed":
        begin = chance.randrange(len(content))
        content[begin : begin + 512] = bytes(len(content[begin : begin + 512]))
    if kind == "deleted":
        path.unlink()
    elif kind == "swapped":
        other = chance.choice([one for one in others if one != path and one.read_bytes() != before])
        path.write_bytes(other.read_bytes())
        other.write_bytes(before)
    elif kind == "stray":
        path.with_name(f"part-{chance.randrange(1000, 2000)}.parquet").write_bytes(before)
    elif bytes(content) == before:  # what was zeroed was zero
        damage(chance, "flipped", path, others)
    else:
        path.write_bytes(content)


FAULT = "faults of the machine"


class World(NamedTuple):
    """A run, undisturbed."""

    recipe: Path
    done: Path
    """Its warehouse when it has finished: every table is one part, but for the slices."""
    open: Path
    """Its warehouse when it was stopped midway, in many parts."""
    run_id: str
    rows: dict[str, list[str]]


def undisturbed(folder: Path) -> World:
    recipe = project(folder)
    done = start(recipe, folder / "done")
    assert done.finished_at
    asyncio.run(stop_midway(recipe, folder / "open", [], prompts=16))
    warehouse = Warehouse(folder / "open")
    assert all(len(warehouse.parts(table, done.run_id)) > 1 for table in ("responses", "judgements", "preferences"))
    rows = stored(folder / "done", done.run_id)
    assert {table for table, found in rows.items() if found} == {*INPUT, *ROWS} - {
        "failures",
        "rewards",
        "reference_checks",
        "rubrics",
        "skipped",
    }
    return World(recipe, folder / "done", folder / "open", done.run_id, rows)


def copied(root: Path, to: Path) -> Warehouse:
    shutil.copytree(root, to)
    return Warehouse(to)


def parts(warehouse: Warehouse, run_id: str) -> list[Path]:
    return [path for table in (*INPUT, *ROWS) for path in warehouse.parts(table, run_id)]


def made_good(world: World, root: Path) -> None:
    """The run in `root` is complete, and has the rows of the undisturbed one."""
    warehouse = Warehouse(root)
    run = warehouse.read_run(world.run_id)
    assert run is not None
    assert run.finished_at
    assert stored(root, world.run_id) == world.rows
    assert warehouse.verify(world.run_id) == []
    assert temporary(root) == []
