"""Rows of a shard that are damaged: who mends them, and who makes them again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from pipeline_run import rows_of

from constitution.pipeline import open_run
from constitution.pipeline.shard import prepare_run, work_shard
from constitution.records import Shard
from constitution.warehouse import Warehouse

RECIPE = Path(__file__).parents[1] / "recipes" / "fake.toml"
SMALL = ("output.slice=2", "output.flush_rows=4", "output.flush_seconds=0.05", "prompts.limit=8")
ONE, TWO = Shard(1, 2), Shard(2, 2)


def worked(root: Path, shard: Shard) -> dict[str, Any]:
    return work_shard(str(RECIPE), str(root), shard.number, shard.of, overrides=SMALL)


def damaged(root: Path, run_id: str) -> Path:
    """The first part of answers, which is shard 1's, cut short."""
    path = Warehouse(root).parts("responses", run_id)[0]
    assert path.name == "part-1of2-0.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    return path


def test_a_shard_that_had_ended_makes_again_what_another_finds_damaged(tmp_path: Path) -> None:
    root = tmp_path / "w"
    run_id = worked(root, ONE)["run_id"]
    path = damaged(root, run_id)
    second = worked(root, TWO)
    assert (second["done"], second["finished"]) == (True, None)
    assert [each.partition(",")[0] for each in second["left"]] == ["shard 1/2: 4 of 4 prompts"]
    again = worked(root, ONE)
    assert again["done"]
    assert again["finished"]
    assert again["left"] == []
    warehouse = Warehouse(root)
    run = warehouse.read_run(run_id)
    assert run
    assert run.repairs == (f"{path.relative_to(root)} is not what was written",)
    assert warehouse.verify(run_id) == []
    worked(tmp_path / "clean", ONE)
    worked(tmp_path / "clean", TWO)
    assert rows_of(root, run_id) == rows_of(tmp_path / "clean", run_id)


def test_a_shard_beside_others_says_what_it_leaves_damaged(tmp_path: Path) -> None:
    root = tmp_path / "w"
    run_id = worked(root, ONE)["run_id"]
    path = damaged(root, run_id)

    async def note() -> str:
        async with open_run(prepare_run(RECIPE, root, SMALL), shard=TWO) as session:
            return session.progress.note

    with Warehouse(root).lock(run_id, shard=ONE) as lock:
        lock.share()
        said = asyncio.run(note())
    assert said == (f"{path}: is not what was written: left as it is while other shards work; the next start mends it")
    assert asyncio.run(note()) == ""
    assert Warehouse(root).verify(run_id) == []
