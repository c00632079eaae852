"""The rubric of a prompt, given with it: how public data have it, what becomes of it, and what rewards it makes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies
from read_prompts import of
from run_once import run_once, stop_midway
from small_project import table

from constitution.errors import PromptError, RecipeError
from constitution.judge.sources import Part, combine
from constitution.pipeline import prepare
from constitution.recipe import RewardSection, load_recipe
from constitution.records import Criterion
from constitution.warehouse import Warehouse

RECIPE = """
name = "given-rubrics"
constitution = "small@1.0.0"
[prompts]
path = "prompts.jsonl"
rubric = "rubric"
[model.policy]
engine = "fake"
[model.judge]
engine = "fake"
model = "fake-judge"
[sample.plain]
n = 3
[rubric]
from = ["given"]
at_least = 2
at_most = 3
[reward]
by = ["prompt-rubric", "rule"]
rules = { words = [1, 500] }
[output]
window = 4
flush_seconds = 0.05
"""
CONSTITUTION = """
name = "small"
version = "1.0.0"
description = "Of tests."
[[principles]]
id = "kind"
comparison_question = "Which answer is kinder?"
"""
HEALTH = [
    {"criterion": "Advises to read the label.", "points": 7, "tags": ["level:example"]},
    {"criterion": "Says that nobody reads labels.", "points": -5, "tags": []},
    {"criterion": "Advises to ask who knows.", "points": 3, "tags": []},
    {"criterion": "Is over the limit.", "points": 1, "tags": []},
]
ROWS = """
SELECT 'item', id, question, good, weight, drop_reason FROM rubrics
UNION ALL BY NAME
SELECT 'reward', id, source AS question, reason AS good, value AS weight, raw, readings, missing FROM rewards
UNION ALL BY NAME SELECT 'score', id, question, good, p_yes AS weight, rubric_id AS drop_reason FROM scores
UNION ALL BY NAME SELECT 'failure', id, message AS question, error AS good FROM failures ORDER BY ALL
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "principles" / "small").mkdir(parents=True)
    (tmp_path / "principles" / "small" / "1.0.0.toml").write_text(CONSTITUTION, encoding="utf-8")
    rows = [{"prompt": f"How does thing {n} work?", "rubric": HEALTH[: 4 - n % 4]} for n in range(8)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


def rubric(tmp_path: Path, value: Any) -> tuple[Criterion, ...]:
    return of(tmp_path, {"prompt": "Hi", "rubric": value}, rubric="rubric")[0].rubric


@pytest.mark.parametrize(
    ("value", "items"),
    [
        # ScaleAI/RaR-Medicine: `rubric`, and `rubric_list` without weights.
        (
            [
                {"description": "Essential Criteria: Names the CT scan.", "title": "Imaging", "weight": 5},
                {"description": "Pitfall Criteria: Fails to mention the risk.", "title": "Risk", "weight": -1},
                {"description": "Pitfall Criteria: Does not say why.", "good": "no", "weight": -1},
            ],
            [
                ("Names the CT scan.", "yes", 5, "essential"),
                ("Fails to mention the risk.", "no", -1, "pitfall"),
                ("Does not say why.", "no", -1, "pitfall"),
            ],
        ),
        (
            ["Important Criteria: Names the dose.", "Says when to stop: at once."],
            [("Names the dose.", "yes", 1, "important"), ("Says when to stop: at once.", "yes", 1, "")],
        ),
        # openai/healthbench: `rubrics`; RubricHub has the same keys.
        (HEALTH[:2], [("Advises to read the label.", "yes", 7, ""), ("Says that nobody reads labels.", "no", -5, "")]),
        # What we export.
        (
            [{"question": "Is it rude?", "good": "no", "weight": 2.5, "kind": "pitfall"}],
            [("Is it rude?", "no", 2.5, "pitfall")],
        ),
        ([{"requirement": "Names it.", "category": "Optional Criteria"}], [("Names it.", "yes", 1, "optional")]),
        ([{"criterion": "Names it.", "category": "accuracy"}], [("Names it.", "yes", 1, "")]),
        (json.dumps(["Names it."]), [("Names it.", "yes", 1, "")]),  # as a cell of a table has it
        ([], []),
        (None, []),
    ],
)  # fmt: skip
def test_public_shapes(tmp_path: Path, value: Any, items: Sequence[tuple[Any, ...]]) -> None:
    assert [(each.question, each.good, each.weight, each.kind) for each in rubric(tmp_path, value)] == items


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("1. Names it. 2. Is brief.", "is a text, and not the JSON of a list"),
        ({"a": 1}, "is not a list of items"),
        ([["a"]], "item 1 is neither a text nor an object"),
        ([{"title": "Dose", "weight": 5}], "item 1 has no words"),
        (["Essential Criteria: "], "item 1 has no words"),
        (["\u200b", "Names the dose."], "item 1 has no words"),
        ([{"criterion": "A.", "points": 5}, {"criterion": "B."}], "item 2 does not say what it counts"),
        ([{"criterion": "A.", "points": 0}], "item 1 counts 0"),
        ([{"criterion": "A.", "points": "5"}], "item 1 counts '5'"),
        ([{"criterion": "A.", "points": True}], "item 1 counts True"),
        ([{"criterion": "A.", "points": 5, "weight": 4}], "weight and points, and they are not the same"),
        ([{"criterion": "A.", "question": "B?"}], "question and criterion, and they are not the same"),
        ([{"description": "Essential Criteria: A.", "weight": -5}], "is essential, and its points are lost"),
        ([{"description": "Essential Criteria: A.", "kind": "optional"}], "is of two kinds, essential and optional"),
        ([{"question": "A?", "good": "yes", "weight": -2}], "good is 'yes'"),
        ([{"description": "Pitfall Criteria: Does not mention it.", "weight": -1}], "a fault or what avoids one"),
        ([{"description": "Pitfall Criteria: Avoids blame.", "weight": -1}], "a fault or what avoids one"),
        ([{"description": "The response shouldn't blame.", "kind": "pitfall"}], "a fault or what avoids one"),
        (["a\0b"], "holds a NUL character"),
    ],
)
def test_what_is_no_rubric_is_refused(tmp_path: Path, value: Any, said: str) -> None:
    with pytest.raises(PromptError, match=said):
        rubric(tmp_path, value)


@pytest.mark.parametrize(
    ("pitfalls", "read"),
    [
        ("fault", [("Does not name the dose.", "no", -2, "pitfall"), ("Fails to cite.", "no", -1, "pitfall")]),
        ("avoided", [("Does not name the dose.", "yes", 2, ""), ("Fails to cite.", "no", -1, "pitfall")]),
    ],
)
def test_pitfalls_are_what_the_recipe_says_of_them(tmp_path: Path, pitfalls: str, read: Sequence[Any]) -> None:
    value = [
        {"description": "Pitfall Criteria: Does not name the dose.", "title": "Dose", "weight": -2},
        {"description": "Pitfall Criteria: Fails to cite.", "title": "Source", "weight": -1},
    ]
    [prompt] = of(tmp_path, {"prompt": "Hi", "rubric": value}, rubric="rubric", pitfalls=pitfalls)
    assert [(each.question, each.good, each.weight, each.kind) for each in prompt.rubric] == read
    with pytest.raises(PromptError, match="a fault or what avoids one"):
        rubric(tmp_path, value)
    with pytest.raises(ValueError, match="about the items of"):
        of(tmp_path, {"prompt": "Hi"}, pitfalls=pitfalls)


def test_a_key_inside_a_value_and_one_that_no_row_has(tmp_path: Path) -> None:
    row = {"prompt": "Hi", "reward_model": {"rubrics": HEALTH[:1]}}
    [prompt] = of(tmp_path, row, rubric="reward_model.rubrics")
    assert [each.weight for each in prompt.rubric] == [7]
    with pytest.raises(PromptError, match="no row has the key 'rubric'"):
        of(tmp_path, row, rubric="rubric")


PARTS = strategies.lists(
    strategies.tuples(strategies.floats(0, 1), strategies.floats(0.1, 9), strategies.booleans()), min_size=1
)


@given(PARTS)
def test_lost_points_are_those_of_healthbench(parts: list[tuple[float, float, bool]]) -> None:
    """Points of what is met over those that can be had; of a negative item what is met is its yes."""
    made = [Part(1 - yes if lost else yes, -weight if lost else weight) for yes, weight, lost in parts]
    found = combine(RewardSection(), made, 0, (0.0, 1.0))
    most = math.fsum(weight for _, weight, lost in parts if not lost)
    if not most:
        assert found.value is None  # never a number of nothing
        return
    points = math.fsum(yes * (-weight if lost else weight) for yes, weight, lost in parts)
    assert found.raw == pytest.approx(points / most)
    lost = math.fsum(weight for _, weight, lost in parts if lost)
    assert found.value == pytest.approx((points + lost) / (most + lost))


def test_of_two_answers_that_lose_more_than_they_have_the_better_one_has_the_higher_reward() -> None:
    worse, better = (combine(RewardSection(), [Part(0, 1), Part(lost, -3)], 0, (0.0, 1.0)) for lost in (0.0, 0.5))
    assert (worse.raw, better.raw) == (-3, -1.5)
    assert (worse.value, better.value) == (0, 0.375)


async def test_given_rubrics_make_rewards(project: Path) -> None:
    run = await run_once(project / "recipe.toml", project / "w", [])
    assert (run.counts["rubrics"], run.counts["rubrics_dropped"], run.counts["lost"]) == (20, 2, 0)
    assert run.finished_at
    items = "SELECT drop_reason, writer, source, count(*) FROM rubrics GROUP BY ALL ORDER BY ALL"
    assert table(project / "w", items) == [("over-limit", "given", "given", 2), (None, "given", "given", 18)]
    # Of the rows that are asked, what the readings come to.
    by_hand = """
        SELECT count(*), max(abs(raw - r)), max(abs(value - (r + lost) / (1 + lost))), max(abs(readings - n))
        FROM rewards JOIN (
            SELECT response_id, count(*) AS n, sum(weight * p_yes) / sum(weight) FILTER (weight > 0) AS r,
                   coalesce(-sum(weight) FILTER (weight < 0), 0) / sum(weight) FILTER (weight > 0) AS lost
            FROM scores JOIN (SELECT id, weight AS w FROM rubrics WHERE drop_reason IS NULL) AS i ON i.id = rubric_id
            WHERE metric = 'prompt-rubric' AND principle_id = '' AND w = weight GROUP BY ALL
        ) USING (response_id) WHERE source = 'prompt-rubric'"""
    assert table(project / "w", by_hand) == [(18, pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-9), 0)]
    # Two prompts have one item each, which is not enough.
    none = "SELECT count(*), count(value) FROM rewards WHERE source = 'prompt-rubric' AND reason = 'no-rubric'"
    assert table(project / "w", none) == [(6, 0)]
    assert table(project / "w", "SELECT DISTINCT error, message, retryable FROM failures") == [
        ("NoRubric", "1 of 1 items are left, and at least 2 must be", False)
    ]
    assert table(project / "w", "SELECT DISTINCT state, rewards FROM chains") == [("complete", 6)]
    assert table(project / "w", "SELECT count(value) FROM rewards WHERE source = 'rule'") == [(24,)]
    assert table(project / "w", "SELECT rubric[1].weight FROM prompts LIMIT 1") == [(7.0,)]


async def test_resumed_it_is_the_same_and_so_it_is_after_damage(project: Path) -> None:
    await run_once(project / "recipe.toml", project / "whole", [])
    await stop_midway(project / "recipe.toml", project / "cut", [], prompts=3)
    whole = table(project / "whole", ROWS)
    assert len(table(project / "cut", ROWS)) < len(whole)
    run = await run_once(project / "recipe.toml", project / "cut", [])
    assert table(project / "cut", ROWS) == whole
    warehouse = Warehouse(project / "cut")
    for name in ("rubrics", "responses", "failures"):
        [part] = warehouse.parts(name, run.run_id)
        part.write_bytes(part.read_bytes()[:-9] + b"otherwise")
        assert [each.table for each in warehouse.verify(run.run_id)] == [name]
        with warehouse.lock(run.run_id):
            assert warehouse.repair(run.run_id)
        await run_once(project / "recipe.toml", project / "cut", [])
        assert table(project / "cut", ROWS) == whole
        assert warehouse.verify(run.run_id) == []


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('rubric = "rubric"\n', "", "rubric.from: given reads the key"),
        ('by = ["prompt-rubric", "rule"]', 'by = ["rule"]', "rubric: nothing asks it"),
        ('[rubric]\nfrom = ["given"]\nat_least = 2\nat_most = 3\n', "", "there is no section"),
        ("at_least = 2", "at_least = 4", "rubric: at_least: is more than at_most"),
        ('from = ["given"]', 'fro = ["given"]', r"rubric\.fro: unknown field; did you mean from"),
        ('from = ["given"]', 'from = ["gifts"]', r"rubric\.from"),
        ('rubric = "rubric"', 'rubric = "rubric"\nturns = "prompt"', "turns: a rubric is about the answer to one turn"),
    ],
)
def test_what_cannot_be_is_refused(project: Path, before: str, after: str, said: str) -> None:
    assert before in RECIPE
    (project / "recipe.toml").write_text(RECIPE.replace(before, after), encoding="utf-8")
    with pytest.raises(RecipeError, match=said):
        prepare(load_recipe(project / "recipe.toml"), project / "recipe.toml", project / "w")


async def test_another_rubric_is_another_run(project: Path) -> None:
    def plan() -> str:
        return prepare(load_recipe(project / "recipe.toml"), project / "recipe.toml", project / "w").run_id

    first, path = plan(), project / "prompts.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace('"points": 7', '"points": 8'), encoding="utf-8")
    assert plan() != first
