"""Runs in shards: the rows are those of the run as a whole, whoever works them and however often."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from small_project import table

from constitution.pipeline import open_run
from constitution.pipeline.dealing import dealt
from constitution.pipeline.shard import prepare_run, work_shard
from constitution.records import Run, Shard
from constitution.warehouse import Warehouse
from constitution.warehouse.damage import ROWS

ROOT = Path(__file__).parents[1]
FAKE = sorted(
    path.stem
    for path in (ROOT / "recipes").glob("*.toml")
    if not any(f'engine = "{engine}"' in path.read_text() for engine in ("vllm", "openai", "transformers", "pocket"))
)
FEW = ["deliberative", "ultrafeedback", "compute-as-teacher"]
"""Of these, in every run of the tests: a chain with votes, rewards and pairs of samples, references and rubrics."""
SMALL = ("output.slice=2", "output.flush_rows=4", "output.flush_seconds=0.05")


def shards(
    recipe: Path, warehouse: Path, of: int, overrides: Sequence[str] = SMALL, **how: Any
) -> list[dict[str, Any]]:
    return [work_shard(str(recipe), str(warehouse), n, of, overrides=overrides, **how) for n in range(1, of + 1)]


def the_run(warehouse: Path) -> Run:
    [run] = Warehouse(warehouse).runs()
    return run


def rows(warehouse: Path, name: str) -> list[tuple[Any, ...]]:
    """All of a table's columns but the time."""
    return table(warehouse, f"SELECT * EXCLUDE (created_at) FROM {name} ORDER BY id")


def same(one: Path, other: Path) -> None:
    """All rows, and what the records count."""
    for name in ("prompts", *ROWS, "scores"):
        ours, theirs = rows(one, name), rows(other, name)
        assert len(ours) == len(theirs), name
        assert [pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]][:1] == [], name
    run, quiet = the_run(one), the_run(other)
    assert (run.counts, run.usage) == (quiet.counts, quiet.usage)
    assert run.labels.get("applied") == quiet.labels.get("applied")
    assert [bool(each.finished_at) for each in (run, quiet)] == [True, True]
    assert Warehouse(one).verify(run.run_id) == []


def whole(recipe: Path, warehouse: Path, overrides: Sequence[str] = SMALL) -> Path:
    async def work() -> None:
        async with open_run(prepare_run(recipe, warehouse, overrides)) as session:
            await session.walk()
            await session.finish()

    asyncio.run(work())
    return warehouse


def test_every_slice_is_dealt_once_and_evenly() -> None:
    slices = [Path(f"part-{n}.parquet") for n in range(50)]
    hands = [dealt("run", slices, Shard(number, 8)) for number in range(1, 9)]
    assert sorted(path for hand in hands for path in hand) == sorted(slices)
    assert {len(hand) for hand in hands} == {6, 7}
    assert hands[0] != [path for path in slices if path in slices[::8]]  # what comes first in a source is spread
    assert dealt("another", slices, Shard(1, 8)) != hands[0]
    assert dealt("run", slices, Shard(1, 1)) == slices


@pytest.mark.parametrize(
    "name", [name if name in FEW else pytest.param(name, marks=pytest.mark.torture) for name in FAKE]
)
def test_rows_of_shards_are_those_of_the_whole_run(name: str, tmp_path: Path) -> None:
    recipe = ROOT / "recipes" / f"{name}.toml"
    found = shards(recipe, tmp_path / "w", 3)
    assert [each["done"] for each in found] == [True] * 3
    assert [bool(each["finished"]) for each in found] == [False, False, True]
    assert found[0]["left"] == ["shard 2/3: not begun", "shard 3/3: not begun"]
    same(tmp_path / "w", whole(recipe, tmp_path / "whole"))
