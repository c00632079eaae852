"""Constitutions without a side that the recipe asks for, and what is said of revisions that no pair was made of."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_once import run_once
from small_project import RECIPE, small_project, table

from constitution.errors import RecipeError
from constitution.pipeline import prepare
from constitution.recipe import load_recipe
from constitution.records import Usage

ONE_SIDED = """
name = "{name}"
version = "1.0.0"
description = "One side alone."
[[principles]]
id = "calm"
{fields}
"""
REVISES = 'critique_request = "Say where it is not calm."\nrevision_request = "Make it calm."'
COMPARES = 'comparison_question = "Which is calmer?"'


def one_sided(folder: Path, fields: str, recipe: str) -> Path:
    path = small_project(folder, 3, recipe.replace("general@1.1.0", "sided@1.0.0"))
    (folder / "principles").unlink()
    (folder / "principles" / "sided").mkdir(parents=True)
    text = ONE_SIDED.format(name="sided", fields=fields)
    (folder / "principles" / "sided" / "1.0.0.toml").write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("fields", "said", "remedy"),
    [(REVISES, "judge: no principle of sided@1.0.0 has a comparison_question", "leave [judge]"),
     (COMPARES, "revise: no principle of sided@1.0.0 has a critique_request", "revise.rounds = 0")],
)  # fmt: skip
def test_what_a_constitution_has_no_words_for_is_refused(tmp_path: Path, fields: str, said: str, remedy: str) -> None:
    path = one_sided(tmp_path, fields, RECIPE)
    with pytest.raises(RecipeError) as caught:
        prepare(load_recipe(path), path, tmp_path / "w")
    assert said in str(caught.value)
    assert remedy in caught.value.hint
    assert not (tmp_path / "w").exists()


async def test_revisions_are_judged_in_the_default_set_up(tmp_path: Path) -> None:
    """Pairs first-last over two rounds: no revision but the first is compared with its parent."""
    recipe = RECIPE.replace('principles = 2\npairs = ["first-last", "given"]', "")
    await run_once(small_project(tmp_path, recipe=recipe), tmp_path / "w", [])
    found = table(tmp_path / "w", "SELECT win_rate, judged, changed, against_parent FROM drawn WHERE changed > 0")
    assert len(found) > 3
    assert all(win_rate is not None and judged for win_rate, judged, _, _ in found)
    assert sum(judged for _, judged, _, _ in found) <= sum(changed for _, _, changed, _ in found)
    assert {type(against) for *_, against in found} == {int}


async def test_each_judge_of_a_jury_has_its_own_cost(tmp_path: Path) -> None:
    judge = '[model.judge]\nengine = "fake"\nmodel = "fake-judge"\nprice = { input = 2.0, output = 8.0 }'
    jury = (
        '[model.jury."a.1"]\nengine = "fake"\nprice = { input = 9.0 }\n[model.jury.free]\nengine = "fake"\nmodel = "f"'
    )
    assert judge in RECIPE
    run = await run_once(small_project(tmp_path, 3, RECIPE.replace(judge, jury)), tmp_path / "w", [])
    costs = {one.model: one.cost for one in run.usage if one.stage == "vote"}
    assert costs["a.1"] == pytest.approx(sum(one.prompt_tokens for one in run.usage if one.model == "a.1") * 9e-6)
    assert costs["free"] is None
    query = (
        "SELECT stage, model, calls, prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens, cost FROM usage"
    )
    assert {Usage(*row) for row in table(tmp_path / "w", query)} == set(run.usage)
