"""A run as a whole and in shards, and whether they are the same."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from small_project import table

from constitution.pipeline import open_run
from constitution.pipeline.shard import prepare_run, work_shard
from constitution.records import Run, Usage
from constitution.warehouse import Warehouse
from constitution.warehouse.damage import ROWS

SMALL = ("output.slice=2", "output.flush_rows=4", "output.flush_seconds=0.05")
"""Many slices, and many parts."""


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
    assert run.counts == quiet.counts
    assert [_rounded(one) for one in run.usage] == [_rounded(one) for one in quiet.usage]
    assert run.labels.get("applied") == quiet.labels.get("applied")
    assert [bool(each.finished_at) for each in (run, quiet)] == [True, True]
    assert Warehouse(one).verify(run.run_id) == []


def _rounded(one: Usage) -> Usage:
    """Sums of costs differ by the order that they are added in."""
    return replace(one, cost=one.cost and round(one.cost, 9))


def whole(recipe: Path, warehouse: Path, overrides: Sequence[str] = SMALL) -> Path:
    async def work() -> None:
        async with open_run(prepare_run(recipe, warehouse, overrides)) as session:
            await session.walk()
            await session.finish()

    asyncio.run(work())
    return warehouse
