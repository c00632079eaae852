"""Rewards by the votes of a tournament: relabelled, exported, shown and audited."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from adaptive_run import command, reopened
from export_runs import make_export
from pipeline_run import rows_of
from run_once import run_once
from small_project import small_project, table
from test_tournament import RECIPE, Judge, judged

from constitution.audit import audit
from constitution.errors import InputError
from constitution.export import Settings
from constitution.labels import Rules
from constitution.labels.standings import standings_of
from constitution.pipeline.relabel import relabel_run
from constitution.records import Preference, Response, Reward
from constitution.warehouse import Warehouse

STANDINGS = "SELECT * EXCLUDE created_at FROM rewards ORDER BY ALL"


async def test_relabelled_its_rewards_follow_and_its_rounds_do_not_change(tmp_path: Path) -> None:
    path = small_project(tmp_path, 5, RECIPE)
    run = await run_once(path, tmp_path / "w", [])
    warehouse, before = Warehouse(tmp_path / "w"), table(tmp_path / "w", STANDINGS)
    for rules in (Rules(aggregate="majority"), Rules()):
        with warehouse.lock(run.run_id):
            relabel_run(warehouse, run.run_id, rules)
        now = table(tmp_path / "w", STANDINGS)
        assert (now == before) == (rules == Rules())
        rows = rows_of(tmp_path / "w", run.run_id).values()
        for prompt_id in {row.prompt_id for row in rows}:
            own = [row for row in rows if row.prompt_id == prompt_id]
            texts = {row.id: row.text for row in own if isinstance(row, Response)}
            made = standings_of(texts, [(row.a_id, row.b_id, row.p_b) for row in own if isinstance(row, Preference)])
            for row in own:
                if isinstance(row, Reward):
                    stood = made[row.response_id]
                    assert (row.value, row.raw, row.low, row.high, row.readings) == stood[:5]
    # Rounds go by the plain mean: a run whose labels were made again has the same ones.
    with warehouse.lock(run.run_id):
        relabel_run(warehouse, run.run_id, Rules(aggregate="majority"))
    pairs = "SELECT id, p_b FROM preferences ORDER BY ALL"
    stored, rewards = table(tmp_path / "w", pairs), warehouse.table("rewards", run.run_id)
    warehouse.replace_rows("rewards", run.run_id, rewards.slice(0, 0))
    reopened(tmp_path / "w", run)
    await run_once(path, tmp_path / "w", [])
    assert table(tmp_path / "w", pairs) == stored
    assert len(warehouse.table("rewards", run.run_id)) == len(rewards)


async def test_with_labels_of_a_whole_run_its_rewards_are_of_these(tmp_path: Path) -> None:
    path = small_project(tmp_path, 5, RECIPE)
    run = await run_once(path, tmp_path / "w", ["judge.aggregate=dawid-skene"])
    rows = rows_of(tmp_path / "w", run.run_id).values()
    assert {row.label_by for row in rows if isinstance(row, Preference)} == {"dawid-skene"}
    for prompt_id in {row.prompt_id for row in rows}:
        own = [row for row in rows if row.prompt_id == prompt_id]
        texts = {row.id: row.text for row in own if isinstance(row, Response)}
        made = standings_of(texts, [(row.a_id, row.b_id, row.p_b) for row in own if isinstance(row, Preference)])
        assert all(row.value == made[row.response_id].value for row in own if isinstance(row, Reward))


async def test_the_best_by_votes_is_exported(tmp_path: Path) -> None:
    run = await judged(small_project(tmp_path, 5, RECIPE), Judge())
    _, rows = make_export(tmp_path / "w", run, tmp_path / "sft", "sft", select="best", source="votes", test=0.0)
    best = "SELECT text FROM groups JOIN responses ON id = best_id WHERE source = 'votes' ORDER BY ALL"
    assert sorted(row["completion"][0]["content"] for row in rows) == [text for (text,) in table(tmp_path / "w", best)]


async def test_votes_are_exported_by_name_alone(tmp_path: Path) -> None:
    run = await judged(small_project(tmp_path, 1, RECIPE.replace("n = 7", "n = 2")), Judge())
    assert Settings(format="dpo").source_of(run) is None
    assert Settings(format="sft", select="best", source="votes").source_of(run) == "votes"
    with pytest.raises(InputError, match="no rewards to choose by") as caught:
        Settings(format="sft", select="best").source_of(run)
    assert "--source votes" in caught.value.hint
    with pytest.raises(InputError, match="has no rewards by rubric, but those by votes"):
        Settings(format="sft", select="best", source="rubric").source_of(run)


async def test_it_is_shown_with_its_pairs_and_audited_beside_rewards(tmp_path: Path) -> None:
    text = RECIPE.replace("general@1.1.0", "general@1.2.0").replace("[judge]", '[reward]\nby = ["rubric"]\n[judge]')
    await run_once(small_project(tmp_path, 4, text), tmp_path / "w", [])
    sql = "SELECT id, response_id, readings FROM rewards WHERE source = 'votes' ORDER BY readings DESC, id LIMIT 1"
    [(id, response_id, readings)] = table(tmp_path / "w", sql)
    shown = command("show", id, "--warehouse", tmp_path / "w")
    lines = [line for line in shown.splitlines() if "tournament, a " in line]
    assert len(lines) == readings
    assert all(response_id[:12] in line and "p_b" in line for line in lines)
    figures = audit(tmp_path / "w", table(tmp_path / "w", "SELECT run_id FROM runs")[0][0], replicates=20)
    agreed = [figure for figure in figures if figure.figure == "reward_tau" and figure.subject == "rubric/votes"]
    assert [figure.value is not None for figure in agreed] == [True]
    # They are no source of rewards here: it would be held against itself.
    assert {figure.subject for figure in figures if figure.figure == "reward_votes"} == {"rubric"}


def test_standings_without_labels_are_missing() -> None:
    texts = {"a": "one", "b": "two", "c": "three", "d": "one", "e": ""}
    made = standings_of(texts, [("a", "b", 0.9), ("b", "c", None), ("a", "x", 0.1)])
    assert made["c"] == (None, None, None, None, 0, 1, "no-label")
    assert made["e"] == (None, None, None, None, 0, 0, "no-text")
    assert made["a"] == made["d"]
    assert (made["a"].readings, made["b"].missing) == (1, 1)
    low, high = cast(float, made["a"].value), cast(float, made["b"].value)
    assert low + high == pytest.approx(1)
    assert low < high < 0.9  # the prior holds it back
    assert standings_of({"a": "one", "d": "one"}, [])["a"].reason == "no-label"
