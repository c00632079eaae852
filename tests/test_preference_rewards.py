"""A preference says what rewards its two answers had when its label was made."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_once import run_once, stop_midway
from small_project import table
from test_rewards import RECIPE, Judge, judged, project

from constitution.errors import EngineUnavailable
from constitution.labels import Rules
from constitution.pipeline.relabel import relabel_run
from constitution.warehouse import Warehouse

__all__ = ["project"]

JUDGED = (
    RECIPE
    + """
[judge]
principles = 1
pairs = ["first-last", "given", "best-worst", "all"]
[perturb]
share = 1.0
kinds = ["terse"]
"""
)
ROWS = "SELECT id, kind, a_id, b_id, p_b, reward_a, reward_b FROM preferences ORDER BY ALL"


@pytest.fixture
def recipe(project: Path) -> Path:
    path = project / "recipe.toml"
    path.write_text(JUDGED, encoding="utf-8")
    return path


async def test_it_is_the_total_by_the_first_source(project: Path, recipe: Path) -> None:
    run = await run_once(recipe, project / "w", [])
    by_hand = """
        SELECT kind = 'perturbation' AS spoiled, count(*) > 7, count(reward_a) = count(*), count(reward_b) = count(*),
            count(reward_b), max(abs(reward_a - round(a.value + a.length_penalty, 12))),
            max(abs(reward_b - round(b.value + b.length_penalty, 12)))
        FROM preferences AS p
        JOIN rewards AS a ON a.response_id = a_id AND a.source = 'rubric'
        LEFT JOIN rewards AS b ON b.response_id = b_id AND b.source = 'rubric' GROUP BY ALL ORDER BY ALL"""
    whole, spoiled = table(project / "w", by_hand)
    assert whole == (False, True, True, True, whole[4], 0.0, 0.0)
    assert spoiled == (True, True, True, False, 0, 0.0, None)
    gap = """
        SELECT count(*), bool_and(abs(reward_gap - (c.value + c.length_penalty - r.value - r.length_penalty)) < 1e-12)
        FROM pairs JOIN rewards AS c ON c.response_id = chosen_id AND c.source = 'rubric'
        JOIN rewards AS r ON r.response_id = rejected_id AND r.source = 'rubric'"""
    assert table(project / "w", gap) == [(whole[4], True)]
    rows = table(project / "w", "SELECT id, reward_a, reward_b FROM preferences ORDER BY ALL")
    warehouse = Warehouse(project / "w")
    with warehouse.lock(run.run_id):
        relabel_run(warehouse, run.run_id, Rules(aggregate="majority"))
    assert table(project / "w", "SELECT id, reward_a, reward_b FROM preferences ORDER BY ALL") == rows
    shown = """
        SELECT part, count(*), count(reward) FROM provenance((SELECT min(id) FROM preferences WHERE kind = 'given'))
        GROUP BY ALL ORDER BY ALL"""
    assert table(project / "w", shown) == [
        ("pair", 1, 0), ("prompt", 1, 0), ("response", 2, 0), ("reward", 6, 6), ("vote", 2, 0)
    ]  # fmt: skip


@pytest.fixture
def unrewarded(recipe: Path) -> Path:
    before, _, after = JUDGED.partition("[reward]")
    recipe.write_text(before + after[after.index("[output]") :], encoding="utf-8")
    return recipe


async def test_it_is_null_without_rewards(project: Path, unrewarded: Path) -> None:
    await run_once(unrewarded, project / "w", ['judge.pairs=["given"]'])
    assert table(project / "w", "SELECT count(*) > 7, count(reward_a), count(reward_b) FROM preferences") == [
        (True, 0, 0)
    ]


async def test_resumed_and_repaired_it_is_the_same(project: Path, recipe: Path) -> None:
    await run_once(recipe, project / "whole", [])
    whole = table(project / "whole", ROWS)
    await stop_midway(recipe, project / "cut", [], prompts=3)
    run = await run_once(recipe, project / "cut", [])
    assert table(project / "cut", ROWS) == whole
    warehouse = Warehouse(project / "cut")
    for name in ("rewards", "scores"):
        [part] = warehouse.parts(name, run.run_id)
        part.write_bytes(part.read_bytes()[:-9] + b"otherwise")
        with warehouse.lock(run.run_id):
            warehouse.repair(run.run_id)
        assert table(project / "cut", "SELECT count(*) FROM preferences") == [(0,)]
        assert table(project / "cut", "SELECT count(*) > 0 FROM judgements") == [(True,)]
        again = await run_once(recipe, project / "cut", [])
        assert table(project / "cut", ROWS) == whole
        assert again.counts["judgements"] == run.counts["judgements"]


async def test_a_label_waits_for_a_reward_that_may_still_come(project: Path, recipe: Path) -> None:
    settings = ('judge.pairs=["given"]', "perturb.share=0.001", 'judge.only=["plain"]')
    run = await judged(project, Judge({"Is it brief?": EngineUnavailable("away")}), *settings)
    assert run.finished_at is None
    assert run.counts["judgements"] == 2
    assert table(project / "w", "SELECT count(*) FROM preferences") == [(0,)]
    assert table(project / "w", "SELECT state, pairs_missing FROM chains") == [("open", ["given"])]
    judge = Judge()
    run = await judged(project, judge, *settings)
    assert run.finished_at
    assert judge.asked == {"reward-rubric": 3}
    assert table(project / "w", "SELECT count(reward_a), count(reward_b) FROM preferences") == [(1, 1)]
    assert table(project / "w", "SELECT state FROM chains") == [("complete",)]
