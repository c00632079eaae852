"""Chains that start from a prompt's best sample: kills, damage, and turns of a conversation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from best_runs import RECIPE, Killed, Reads, Speaks, best_project, killed_after, rows_of, worked
from run_once import run_once, stop_midway
from small_project import table

from constitution.errors import EngineUnavailable, RequestRefused
from constitution.pipeline import prepare
from constitution.recipe import load_recipe
from constitution.warehouse import Warehouse


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return best_project(tmp_path)


async def test_killed_anywhere_it_resumes_with_equal_rows(project: Path) -> None:
    one = ["prompts.limit=1", "perturb.share=1.0"]
    await run_once(project / "recipe.toml", project / "whole", one)
    whole = rows_of(project / "whole")
    recipe = load_recipe(project / "recipe.toml", one)
    for rows in range(4, sum(map(len, whole)), 23):
        root = project / f"cut-{rows}"
        with pytest.raises(Killed):
            await killed_after(prepare(recipe, project / "recipe.toml", root), rows)
        assert 0 < sum(map(len, rows_of(root))) <= rows
        assert (await run_once(project / "recipe.toml", root, one)).finished_at
        assert rows_of(root) == whole


async def test_stopped_midway_it_resumes_and_so_it_does_after_damage(project: Path) -> None:
    await run_once(project / "recipe.toml", project / "whole", [])
    whole = rows_of(project / "whole")
    await stop_midway(project / "recipe.toml", project / "cut", [], prompts=4)
    run = await run_once(project / "recipe.toml", project / "cut", [])
    assert rows_of(project / "cut") == whole
    warehouse = Warehouse(project / "cut")
    for name in ("scores", "rewards", "responses"):
        [part] = warehouse.parts(name, run.run_id)
        part.write_bytes(part.read_bytes()[:-9] + b"otherwise")
        with warehouse.lock(run.run_id):
            assert warehouse.repair(run.run_id)
        await run_once(project / "recipe.toml", project / "cut", [])
        assert rows_of(project / "cut") == whole


LOST = {
    "id IN (SELECT parent_id FROM responses WHERE kind = 'revision' AND round = 1)": 0,
    "kind = 'revision' AND round = 1": 0,
    "kind = 'revision' AND round = 2": 1,
    "kind = 'sample' AND id NOT IN (SELECT id FROM chain_answers)": 2,
}
"""Answers → the rounds that are left of every chain that lost them."""


async def test_what_rests_on_lost_answers_goes_with_them(project: Path) -> None:
    one = ["prompts.limit=1", "perturb.share=1.0"]
    run = await run_once(project / "recipe.toml", project / "w", one)
    whole, warehouse = rows_of(project / "w"), Warehouse(project / "w")
    for which, left in LOST.items():
        gone = {id for (id,) in table(project / "w", f"SELECT id FROM responses WHERE {which}")}
        answers = warehouse.table("responses", run.run_id)
        stays = [id not in gone for id in answers["id"].to_pylist()]
        assert 0 < sum(stays) < len(stays)
        # Two parts, of which one is damaged.
        [part] = warehouse.parts("responses", run.run_id)
        warehouse.replace_rows("responses", run.run_id, answers.filter(stays))
        part.with_name("part-broken-0.parquet").write_bytes(b"no Parquet")
        with warehouse.lock(run.run_id):
            assert warehouse.repair(run.run_id)
        assert table(project / "w", "SELECT coalesce(rounds, 0), state FROM chains") == [(left, "open")]
        assert (await run_once(project / "recipe.toml", project / "w", one)).finished_at
        assert rows_of(project / "w") == whole


# --- turns


async def test_the_next_turn_is_said_after_the_revised_sample(project: Path) -> None:
    rows = [{"turns": [f"How does {n} work?", f"Shorter, {n}."]} for n in range(3)]
    (project / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    path = project / "recipe.toml"
    path.write_text(
        RECIPE.replace('path = "prompts.jsonl"', 'path = "prompts.jsonl"\nturns = "turns"'), encoding="utf-8"
    )
    run = await run_once(path, project / "w", [])
    assert run.finished_at
    said = """
        SELECT count(*), bool_and(q.messages[2].content = r.text) FROM prompts AS q
        JOIN prompts AS p ON p.conversation_id = q.conversation_id AND p.turn = 1
        JOIN responses AS r ON r.prompt_id = p.id AND r.kind = 'revision' AND r.round = 2 WHERE q.turn = 2"""
    assert table(project / "w", said) == [(3, True)]
    warehouse = Warehouse(project / "w")
    whole = rows_of(project / "w")
    [part] = warehouse.parts("rewards", run.run_id)
    part.write_bytes(b"no Parquet")
    with warehouse.lock(run.run_id):
        assert warehouse.repair(run.run_id)
    await run_once(path, project / "w", [])
    assert rows_of(project / "w") == whole


async def test_without_a_chain_no_turn_follows(project: Path) -> None:
    (project / "prompts.jsonl").write_text(json.dumps({"turns": ["How?", "Shorter."]}), encoding="utf-8")
    path = project / "recipe.toml"
    path.write_text(
        RECIPE.replace('path = "prompts.jsonl"', 'path = "prompts.jsonl"\nturns = "turns"'), encoding="utf-8"
    )
    away = Reads(fails={"brief?": EngineUnavailable("away")})
    run = await worked(project, Speaks(), away)
    assert run.counts["open"] == 1
    assert table(project / "w", "SELECT count(*) FROM failures WHERE error = 'TurnNotAsked'") == [(0,)]
    run = await worked(project, Speaks(), Reads(fails={"brief?": RequestRefused("no")}))
    assert run.finished_at
    unasked = "SELECT step, message FROM failures WHERE error = 'TurnNotAsked'"
    assert table(project / "w", unasked) == [("turn-2", "turn 2 is not asked: of turn 1, no sample can be revised")]
