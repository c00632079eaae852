"""Labels of a stored run, and what changed of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import pytest
from votes_run import RUN, Voter

from constitution.labels import Rules
from constitution.labels.relabel import Relabelled
from constitution.pipeline.relabel import relabel_run
from constitution.recipe import JudgeSection
from constitution.records import Preference
from constitution.warehouse import Warehouse, ask, connect


def stored(warehouse: Warehouse) -> dict[str, Preference]:
    rows = warehouse.rows_of(RUN, warehouse.ids("preferences", RUN, "prompt_id"))
    return {row.id: row for prompt in rows.values() for row in prompt if isinstance(row, Preference)}


def table(warehouse: Warehouse, query: str) -> list[tuple[Any, ...]]:
    with connect(warehouse.root) as connection:
        return list(ask(connection, query).rows)


def same(found: Preference, expected: Preference, **other: Any) -> None:
    for name, value in {**asdict(expected), **other}.items():
        wanted = pytest.approx(value, abs=1e-9) if isinstance(value, float) else value
        assert getattr(found, name) == wanted, (name, expected)


def unchanged(warehouse: Warehouse, rows: Iterable[Preference]) -> None:
    now = stored(warehouse)
    for row in rows:
        same(now[row.id], row)


def changes(before: dict[str, Preference], after: dict[str, Preference]) -> tuple[int, int, int]:
    """Labels that prefer the other answer now, pairs kept now, pairs dropped now."""
    turned = sum(((before[id].p_b or 0.5) - 0.5) * ((after[id].p_b or 0.5) - 0.5) < 0 for id in after)
    gained = sum(after[id].kept and not before[id].kept for id in after)
    return turned, gained, sum(before[id].kept and not after[id].kept for id in after)


def section(**settings: Any) -> JudgeSection:
    return JudgeSection(**settings)


def relabelled(warehouse: Warehouse, **settings: Any) -> Relabelled:
    return relabel_run(warehouse, RUN, Rules(**settings))


JURY = (Voter("one", position=0.8), Voter("three", length=1.5, noise=1.0), Voter("two", sharpness=2.0))
