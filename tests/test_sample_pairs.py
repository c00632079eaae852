"""Pairs of samples: by which answers, and whole runs of them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from run_once import run_once, stop_midway
from small_project import table
from test_rewards import CONSTITUTION, RECIPE

from constitution.ask.replay import replayed
from constitution.ask.stored import Stored
from constitution.errors import RecipeError
from constitution.judge.groups import sample_pairs
from constitution.recipe import load_recipe
from constitution.records import Judgement, PairKind, Response, Reward
from constitution.warehouse import Warehouse
from constitution.warehouse.views import _text

KINDS: Sequence[PairKind] = ("best-worst", "best-random", "best-low", "all")
JUDGED = (
    RECIPE.replace("[revise]\nrounds = 1\n", "").replace("n = 3", "n = 5")
    + """
[judge]
principles = 1
pairs = ["best-worst", "best-random", "best-low"]
"""
)


def sample(name: str, text: str) -> Response:
    return Response(name, "r", "p", "sample", 0, text, "ok", "m", sampler="s")


def chosen(kinds: Sequence[PairKind], rewards: dict[str, float | None], texts: dict[str, str] | None = None,
           seed: int = 1) -> list[tuple[PairKind, tuple[str, str]]]:  # fmt: skip
    return sample_pairs([sample(name, (texts or {}).get(name, name)) for name in rewards], kinds, rewards, seed)


def test_the_best_against_the_worst_and_what_is_far_below_the_mean() -> None:
    rewards: dict[str, float | None] = {"e": 0.1, "d": 0.9, "c": 0.5, "b": 0.55, "a": 0.45}
    assert chosen(["best-worst"], rewards) == [("best-worst", ("e", "d"))]
    # The mean is 0.5 and two standard deviations 0.57.
    assert chosen(["best-low"], rewards) == [("best-low", ("e", "d"))]
    few: dict[str, float | None] = {"x": 1.0, "v": 0.0, **{f"y{n}": 0.6 for n in range(30)}}
    assert chosen(["best-low"], few) == [("best-low", ("x", "y0"))]  # 0.34 is nearer to 0.6 than to 0
    many: dict[str, float | None] = {"w": 0.0, "x": 1.0, "v": 0.25, **{f"y{n}": 0.6 for n in range(9)}}
    assert chosen(["best-low"], many) == [("best-low", ("w", "x"))]  # 0.08 is nearer to 0 than to 0.25
    drawn = {chosen(["best-random"], rewards, seed=seed)[0][1] for seed in range(60)}
    assert drawn == {("e", "d"), ("d", "c"), ("d", "b"), ("d", "a")}


def test_pairs_are_of_whole_samples_where_two_of_these_differ() -> None:
    rewards: dict[str, float | None] = {"a": 0.9, "b": 0.8, "c": 0.3, "d": 0.1}
    cut = replace(sample("a", "cut"), outcome="cut")
    copied = replace(sample("d", "recited"), copied_from="system-prompt")
    whole = [sample("b", "two"), sample("c", "three")]
    for kind in ("best-worst", "best-random", "best-low"):
        assert sample_pairs([cut, *whole, copied], [kind], rewards, 1) == [(kind, ("b", "c"))]
        assert sample_pairs([cut, whole[0], copied], [kind], rewards, 1)[0][1][0] == "a", "its row says why it is none"
    assert sample_pairs([cut, *whole], ["best-worst"], {**rewards, "c": 0.8}, 1) == [("best-worst", ("a", "b"))]


def test_sums_that_are_the_same_number_are_the_same_reward() -> None:
    rewards = [
        Reward(id, "r", "p", id, "rule", value, value, 0, 0, None, penalty)
        for id, value, penalty in (("a", 0.9, -0.3), ("b", 0.6, 0.0), ("c", 2 / 3, None), ("d", 1 - 1 / 3, -0.0))
    ]
    assert 0.9 - 0.3 != 0.6
    assert len({reward.total for reward in rewards[:2]}) == len({reward.total for reward in rewards[2:]}) == 1
    known = {reward.response_id: reward.total for reward in rewards[:2]}
    assert chosen(["best-worst", "best-low"], known) == []
    with duckdb.connect() as connection:
        macro = re.search(r"CREATE OR REPLACE MACRO total_reward.*?;", _text("views.sql"), re.DOTALL)
        assert macro
        connection.execute(macro.group())
        for reward in rewards:
            asked = connection.execute("SELECT total_reward($1, $2)", [reward.value, reward.length_penalty])
            assert asked.fetchall() == [(reward.total,)]


def test_ties_equal_texts_and_missing_values() -> None:
    assert chosen(["best-worst"], {"b": 0.5, "a": 0.5}) == []
    assert chosen(["best-low"], {"b": 0.5, "a": 0.5}) == []
    assert chosen(["best-random"], {"b": 0.5, "a": 0.5}) == [("best-random", ("b", "a"))]
    # By the id, a digest, and not by the place.
    assert chosen(["best-worst"], {"d": 0.9, "c": 0.1, "b": 0.1, "a": 0.9}) == [("best-worst", ("b", "a"))]
    same = {"b": "one", "a": "one"}
    assert chosen(KINDS, {"b": 0.9, "a": 0.1}, same) == []
    assert chosen(KINDS[:3], {"b": 0.9, "a": None}) == []
    assert chosen(["all"], {"b": None, "a": None, "c": None}) == [
        ("all", ("b", "a")), ("all", ("b", "c")), ("all", ("a", "c"))
    ]  # fmt: skip
    assert sample_pairs([sample("a", "one"), sample("b", "")], KINDS, {"a": 1.0, "b": 0.5}, 1) == []
    assert sample_pairs([sample("a", "one"), sample("b", "two")], KINDS[:3], None, 1) == []
    # While the best is not known, it is not known either which kind a pair is of.
    assert sample_pairs([sample("a", "one"), sample("b", "two")], ("best-worst", "all"), {"a": 0.5}, 1) == []


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "principles" / "rewards").mkdir(parents=True)
    (tmp_path / "principles" / "rewards" / "1.0.0.toml").write_text(CONSTITUTION, encoding="utf-8")
    rows = [{"prompt": f"How does thing {n} work?", "good": f"Like thing {n}.", "bad": "No."} for n in range(8)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(JUDGED, encoding="utf-8")
    return tmp_path


async def test_a_run_judges_its_best_against_others_and_resumes(project: Path) -> None:
    run = await run_once(project / "recipe.toml", project / "w", [])
    assert run.finished_at
    assert table(project / "w", "SELECT DISTINCT state FROM chains") == [("complete",)]
    pairs = """
        SELECT count(*) > 8, bool_and(best_id IN (a_id, b_id)), bool_and(a_id <> b_id),
            bool_and(worst_id IN (a_id, b_id)) FILTER (kind = 'best-worst'),
            count(*) FILTER (kind = 'best-worst') = (SELECT count(worst_id) FROM groups WHERE source = 'rubric')
        FROM preferences JOIN groups USING (prompt_id) WHERE source = 'rubric'"""
    assert table(project / "w", pairs) == [(True, True, True, True, True)]
    rows = "SELECT id, kind, a_id, b_id, p_b FROM preferences ORDER BY ALL"
    await stop_midway(project / "recipe.toml", project / "cut", [], prompts=3)
    await run_once(project / "recipe.toml", project / "cut", [])
    assert table(project / "cut", rows) == table(project / "w", rows)
    [(prompt_id,)] = table(project / "w", "SELECT prompt_id FROM judgements LIMIT 1")
    stored = Stored.load(Warehouse(project / "w"), run.run_id, prompt_id)
    for row in [row for row in stored.rows.values() if isinstance(row, Judgement)]:
        assert (await replayed(stored, row)).doubt == ""


async def test_every_two_need_no_reward(project: Path) -> None:
    text = JUDGED.replace('["best-worst", "best-random", "best-low"]', '["all"]').replace("n = 5", "n = 3")
    before, _, after = text.partition("[reward]")
    text = before + after[after.index("[output]") :]
    (project / "recipe.toml").write_text(text, encoding="utf-8")
    await run_once(project / "recipe.toml", project / "w", [])
    wanted = (
        "SELECT sum(n * (n - 1) / 2)::INT FROM (SELECT count(DISTINCT text) AS n FROM responses GROUP BY prompt_id)"
    )
    assert table(project / "w", "SELECT count(*), bool_and(kind = 'all') FROM preferences") == [
        (*table(project / "w", wanted)[0], True)
    ]
    assert table(project / "w", "SELECT DISTINCT state FROM chains") == [("complete",)]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("n = 5", "n = 1", "judge: ?.*needs two samples or more|needs two samples or more"),
        ('by = ["rubric"', 'by = ["rubric"', ""),
    ],
)
def test_what_cannot_be_paired_is_refused(project: Path, before: str, after: str, said: str) -> None:
    text = JUDGED.replace(before, after)
    if not said:
        head, _, rest = text.partition("[reward]")
        text, said = head + rest[rest.index("[output]") :], "goes by rewards, and there is no section"
    (project / "recipe.toml").write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=said):
        load_recipe(project / "recipe.toml")
