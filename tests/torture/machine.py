"""What the tests of the machine's faults share: a run with all kinds of rows, what it stored, ways to damage it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

from run_once import run_once
from small_project import small_project

from constitution.records import Run
from constitution.warehouse import ask, connect
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
