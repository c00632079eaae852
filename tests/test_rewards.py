"""Rewards: what is read of every answer, what it comes to, and what becomes of it where a reading is missing."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from run_once import run_once, stop_midway
from small_project import table

from constitution.ask.replay import replayed
from constitution.ask.stored import Stored
from constitution.engines.base import Completion, Engine, Request
from constitution.errors import EngineUnavailable, RecipeError, RequestRefused
from constitution.pipeline import open_run, prepare
from constitution.principles.files import read_constitution
from constitution.principles.toml_writer import write_toml
from constitution.recipe import load_recipe
from constitution.records import Failure, Run, Score
from constitution.warehouse import Warehouse

CONSTITUTION = """
name = "rewards"
version = "1.0.0"
description = "Of tests."
[[principles]]
id = "kind"
critique_request = "Is it unkind?"
revision_request = "Make it kind."
comparison_question = "Which answer is kinder?"
weight = 2.0
[[principles.criteria]]
question = "Is it kind?"
kind = "essential"
[[principles.criteria]]
question = "Is it rude?"
good = "no"
weight = 0.5
kind = "pitfall"
[[principles]]
id = "brief"
comparison_question = "Which answer is briefer?"
[[principles.criteria]]
question = "Is it brief?"
[[principles]]
id = "plain"
comparison_question = "Which answer is plainer?"
"""
RECIPE = """
name = "rewards"
constitution = "rewards@1.0.0"
[prompts]
path = "prompts.jsonl"
answers = ["good", "bad"]
[model.policy]
engine = "fake"
price = { input = 1.0, output = 2.0 }
[model.judge]
engine = "fake"
model = "fake-judge"
price = { input = 2.0, output = 8.0 }
[sample.plain]
n = 3
[revise]
rounds = 1
[reward]
by = ["rubric", "grade", "rule"]
rules = { words = [3, 60], refusal = "unwanted", unwanted = ["(?i)as an ai"] }
length = { limit = 40, ramp = 30 }
[output]
window = 4
flush_seconds = 0.05
"""
PROMPTS = 8
ROWS = """
SELECT 'reward', id, response_id, source, value, raw, readings, missing, least_essential, length_penalty, judges, reason
FROM rewards
UNION ALL BY NAME
SELECT 'score', id, response_id, metric AS source, p_yes AS value, weight AS raw, label_mass AS least_essential
FROM scores ORDER BY ALL
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "principles" / "rewards").mkdir(parents=True)
    (tmp_path / "principles" / "rewards" / "1.0.0.toml").write_text(CONSTITUTION, encoding="utf-8")
    rows = [{"prompt": f"How does thing {n} work?", "good": f"Like thing {n}.", "bad": "No."} for n in range(PROMPTS)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


class Judge(Engine):
    """Says yes with a probability that follows from the answer, and fails what it is told to."""

    model = "judge"

    def __init__(self, fails: Mapping[str, Exception] | None = None) -> None:
        self.asked: Counter[str] = Counter()
        self.fails = fails or {}

    async def generate(self, request: Request) -> Completion:
        shown = request.messages[0].content
        self.asked[request.step] += 1
        for said, error in self.fails.items():
            if said in shown:
                raise error
        found = [math.log(0.9 * 2**-place) for place, _ in enumerate(request.choices, 1)]
        if "No." in shown:
            found.reverse()
        return Completion("", "length", 10, 1, choice_logprobs=dict(zip(request.choices, found, strict=True)))


class Policy(Engine):
    model = "policy"

    async def generate(self, request: Request) -> Completion:
        return Completion("The same." if request.step.startswith("sample") else "", "stop", 3, 2)


async def judged(project: Path, judge: Judge, *overrides: str, retry: bool = False) -> Run:
    """A run of the first prompt by these engines."""
    path = project / "recipe.toml"
    recipe = load_recipe(path, ["prompts.limit=1", "revise.rounds=0", *overrides])
    recipe = recipe.with_engines({"policy": Policy(), "judge": judge})
    async with open_run(prepare(recipe, path, project / "w"), retry) as session:
        await session.walk()
        return await session.finish()


async def test_every_answer_has_a_reward_by_each_source(project: Path) -> None:
    run = await run_once(project / "recipe.toml", project / "w", [])
    kinds = table(project / "w", "SELECT kind, count(*) FROM responses GROUP BY ALL ORDER BY ALL")
    assert kinds == [("given", 16), ("initial", 8), ("revision", 8), ("sample", 24)]
    assert run.counts["rewards"] == 3 * 56
    assert run.counts["scores"] == 6 * 56
    assert table(project / "w", "SELECT DISTINCT state, rewards, pairs FROM chains") == [("complete", 21, 0)]
    # What a row says is what its readings come to.
    rubric = """
        SELECT count(*), max(abs(value - v)), max(abs(least_essential - least))
        FROM rewards JOIN (
            SELECT response_id, sum(weight * p) / sum(weight) AS v, max(p) FILTER (question = 'Is it kind?') AS least
            FROM (SELECT *, CASE good WHEN 'yes' THEN p_yes ELSE 1 - p_yes END AS p FROM scores
                  WHERE metric = 'rubric') GROUP BY ALL
        ) USING (response_id) WHERE source = 'rubric' AND readings = 3"""
    assert table(project / "w", rubric) == [(56, pytest.approx(0, abs=1e-12), pytest.approx(0, abs=1e-12))]
    grade = """
        SELECT count(*), max(abs(raw - g)), max(abs(value - (g - 1) / 8)) FROM rewards JOIN (
            SELECT response_id, sum(weight * list_sum(list_transform(grades, lambda p, i: p * i)) / list_sum(grades))
                / sum(weight) AS g
            FROM scores WHERE metric = 'grade' GROUP BY ALL
        ) USING (response_id) WHERE source = 'grade'"""
    assert table(project / "w", grade) == [(56, pytest.approx(0, abs=1e-12), pytest.approx(0, abs=1e-12))]
    short = (
        "SELECT DISTINCT value FROM rewards JOIN responses AS r ON r.id = response_id WHERE text = 'No.' AND source = "
    )
    assert table(project / "w", short + "'rule'") == [(pytest.approx(2 / 3),)]
    lost = "SELECT count(DISTINCT length_penalty) > 3, max(length_penalty) FROM rewards WHERE length_penalty >= -1"
    assert table(project / "w", lost) == [(True, 0.0)]


async def test_groups_are_of_samples_and_advantages_within_them(project: Path) -> None:
    await run_once(project / "recipe.toml", project / "w", [])
    groups = """
        SELECT count(*), min(n), max(n), count(*) FILTER (worst_id = best_id), bool_and(unanimous = (worst_id IS NULL))
        FROM groups"""
    assert table(project / "w", groups) == [(24, 3, 3, 0, True)]
    by_hand = """
        WITH own AS (
            SELECT prompt_id, source, response_id, value + length_penalty AS total
            FROM rewards SEMI JOIN (FROM responses WHERE kind = 'sample') AS r ON r.id = response_id
        )
        SELECT prompt_id, source, avg(total), stddev_samp(total), max(total) - min(total) FROM own GROUP BY ALL
        ORDER BY ALL"""
    stored = table(project / "w", "SELECT prompt_id, source, mean, std, range FROM groups ORDER BY ALL")
    assert stored == [(*row[:2], *map(pytest.approx, row[2:])) for row in table(project / "w", by_hand)]
    best = """
        SELECT bool_and(a.rank = 1), bool_and(z.rank = last), max(abs(s)) FROM groups AS g
        JOIN advantages AS a ON a.source = g.source AND a.response_id = best_id
        JOIN advantages AS z ON z.source = g.source AND z.response_id = worst_id
        JOIN (SELECT prompt_id, source, sum(advantage) AS s, max(rank) AS last FROM advantages GROUP BY ALL) AS t
            ON t.source = g.source AND t.prompt_id = g.prompt_id"""
    assert table(project / "w", best) == [(True, True, pytest.approx(0, abs=1e-9))]


async def test_what_it_costs_is_in_the_stage_of_its_source(project: Path) -> None:
    run = await run_once(project / "recipe.toml", project / "w", [])
    found = {used.stage: used for used in run.usage}
    assert list(found)[-2:] == ["reward-grade", "reward-rubric"]
    texts = table(project / "w", "SELECT count(DISTINCT (prompt_id, text)) FROM responses")[0][0]
    assert found["reward-rubric"].calls == found["reward-grade"].calls == 3 * texts < 3 * 56
    view = table(project / "w", "SELECT calls, prompt_tokens, cost FROM usage WHERE stage = 'reward-rubric'")
    rubric = found["reward-rubric"]
    assert view == [(rubric.calls, rubric.prompt_tokens, pytest.approx(rubric.cost))]
    assert rubric.cost == pytest.approx((rubric.prompt_tokens * 2 + rubric.completion_tokens * 8) / 1e6)


async def test_resumed_it_is_the_same_and_so_it_is_after_damage(project: Path) -> None:
    await run_once(project / "recipe.toml", project / "whole", [])
    await stop_midway(project / "recipe.toml", project / "cut", [], prompts=3)
    whole = table(project / "whole", ROWS)
    assert len(table(project / "cut", ROWS)) < len(whole)
    run = await run_once(project / "recipe.toml", project / "cut", [])
    assert table(project / "cut", ROWS) == whole
    warehouse = Warehouse(project / "cut")
    for name in ("scores", "rewards", "responses"):
        [part] = warehouse.parts(name, run.run_id)
        part.write_bytes(part.read_bytes()[:-9] + b"otherwise")
        assert [each.table for each in warehouse.verify(run.run_id)] == [name]
        with warehouse.lock(run.run_id):
            assert warehouse.repair(run.run_id)
        await run_once(project / "recipe.toml", project / "cut", [])
        assert table(project / "cut", ROWS) == whole
        assert warehouse.verify(run.run_id) == []


async def test_the_same_text_is_asked_once(project: Path) -> None:
    judge = Judge()
    await judged(project, judge)
    assert judge.asked == {"reward-rubric": 9, "reward-grade": 9}  # three texts
    assert table(project / "w", "SELECT sum(calls), count(*), count(DISTINCT response_id) FROM scores") == [(18, 30, 5)]
    same = "SELECT count(DISTINCT (w.source, value)) FROM rewards AS w JOIN responses AS r ON r.id = response_id "
    assert table(project / "w", same + "WHERE r.sampler = 'plain'") == [(3,)]


async def test_a_reading_that_fails_for_good_leaves_no_reward(project: Path) -> None:
    run = await judged(project, Judge({"Is it brief?": RequestRefused("no")}))
    assert run.finished_at
    assert (run.counts["lost"], run.counts["rewards_missing"]) == (1, 5)
    missing = "SELECT value, raw, readings, missing, reason, count(*) FROM rewards WHERE source = 'rubric' GROUP BY ALL"
    assert table(project / "w", missing) == [(None, None, 2, 1, "readings-missing", 5)]
    failed = "SELECT DISTINCT step, error, judge, message FROM failures WHERE NOT retryable"
    assert table(project / "w", failed) == [("reward-rubric", "RequestRefused", "judge", "criterion 1 of brief: no")]
    assert table(project / "w", "SELECT count(value) FROM rewards WHERE source <> 'rubric'") == [(10,)]
    assert table(project / "w", "SELECT state FROM chains") == [("complete",)]
    again = await judged(project, Judge(), retry=True)
    assert (again.counts["lost"], again.counts["rewards_missing"], again.counts["rewards"]) == (0, 0, 15)
    assert table(project / "w", "SELECT count(value) FROM rewards") == [(15,)]


async def test_with_a_quorum_it_is_made_of_what_there_is(project: Path) -> None:
    run = await judged(project, Judge({"Is it rude?": RequestRefused("no")}), "reward.quorum=0.6")
    assert run.counts["lost"] == 0
    found = "SELECT DISTINCT round(value, 6), readings, missing FROM rewards WHERE source = 'rubric' ORDER BY 1"
    assert table(project / "w", found) == [(round(1 / 3, 6), 2, 1), (round(2 / 3, 6), 2, 1)]


async def test_one_that_may_still_come_is_waited_for(project: Path) -> None:
    run = await judged(project, Judge({"Is it brief?": EngineUnavailable("away")}))
    assert run.finished_at is None
    assert run.counts["open"] == 1
    assert table(project / "w", "SELECT source, count(*) FROM rewards GROUP BY ALL ORDER BY ALL") == [
        ("grade", 5), ("rule", 5)
    ]  # fmt: skip
    assert table(project / "w", "SELECT state, rewards FROM chains") == [("open", 10)]
    judge = Judge()
    run = await judged(project, judge)
    assert judge.asked == {"reward-rubric": 3}
    assert run.finished_at
    assert table(project / "w", "SELECT state, rewards FROM chains") == [("complete", 15)]


async def test_a_veto_waits_for_an_essential_reading_over_the_quorum_too(project: Path) -> None:
    over = ("reward.quorum=0.6", 'reward.combine="veto"', 'reward.by=["rubric"]', "reward.rules={}")
    run = await judged(project, Judge({"Is it kind?": EngineUnavailable("away")}), *over)
    assert run.finished_at is None
    assert table(project / "w", "SELECT count(*) FROM rewards") == [(0,)]
    assert (await judged(project, Judge(), *over)).finished_at
    assert table(project / "w", "SELECT count(value), min(readings) FROM rewards") == [(5, 3)]


async def test_an_answer_without_text_has_no_value_and_says_why(project: Path) -> None:
    class Silent(Policy):
        async def generate(self, request: Request) -> Completion:
            return Completion("", "stop", 3, 0)

    path, judge = project / "recipe.toml", Judge()
    recipe = load_recipe(path, ["prompts.limit=1", "revise.rounds=0"]).with_engines(
        {"policy": Silent(), "judge": judge}
    )
    async with open_run(prepare(recipe, path, project / "w")) as session:
        await session.walk()
        assert (await session.finish()).finished_at
    assert judge.asked.total() == 12
    rows = "SELECT readings, missing, length_penalty, reason, count(*) FROM rewards WHERE value IS NULL GROUP BY ALL"
    assert table(project / "w", rows) == [(0, 0, None, "no-text", 9)]


async def test_an_essential_criterion_under_the_bar_vetoes(project: Path) -> None:
    await judged(project, Judge(), 'reward.combine="veto"')
    found = (
        "SELECT DISTINCT source, text, value, round(raw, 6) FROM rewards JOIN responses r ON r.id = response_id WHERE "
    )
    rows = table(project / "w", found + "text IN ('No.', 'The same.') AND source <> 'grade' ORDER BY ALL")
    # Kind 2/3, not rude 1/3, brief 2/3, by weights 2, 1, 1; of `No.` the other way round, and it has too few words.
    assert rows == [
        ("rubric", "No.", 0.0, round((2 / 3 + 2 / 3 + 1 / 3) / 4, 6)),
        ("rubric", "The same.", pytest.approx((4 / 3 + 1 / 3 + 2 / 3) / 4), round((4 / 3 + 1 / 3 + 2 / 3) / 4, 6)),
        ("rule", "No.", 0.0, round(2 / 3, 6)),
        ("rule", "The same.", 0.0, round(2 / 3, 6)),
    ]


async def test_a_jury_reads_and_what_it_reads_is_shown_again(project: Path) -> None:
    two = '[model.jury.one]\nengine = "fake"\n[model.jury.two]\nengine = "fake"\nmodel = "other"\n'
    path = project / "recipe.toml"
    before, _, after = RECIPE.partition("[model.judge]")
    path.write_text(before + two + after[after.index("[sample.plain]") :], encoding="utf-8")
    run = await run_once(path, project / "w", ["prompts.limit=1", "sample.plain.n=1"])
    assert table(project / "w", "SELECT DISTINCT source, readings, judges FROM rewards ORDER BY ALL") == [
        ("grade", 6, ["one", "two"]), ("rubric", 6, ["one", "two"]), ("rule", 0, [])
    ]  # fmt: skip
    [(prompt_id,)] = table(project / "w", "SELECT id FROM prompts")
    stored = Stored.load(Warehouse(project / "w"), run.run_id, prompt_id)
    scores = [row for row in stored.rows.values() if isinstance(row, Score)]
    assert len(scores) == 12 * 5
    for row in scores:
        replay = await replayed(stored, row)
        assert (replay.doubt, replay.role) == ("", f"judge {row.judge}")
        [exchange] = replay.exchanges
        assert row.question in exchange.messages[0].content
        assert exchange.reply is not None
        assert exchange.request.seed == row.seed


async def test_a_failed_reading_is_shown(project: Path) -> None:
    run = await judged(project, Judge({"Is it brief?": RequestRefused("no")}))
    [(prompt_id,)] = table(project / "w", "SELECT id FROM prompts")
    stored = Stored.load(Warehouse(project / "w"), run.run_id, prompt_id)
    # A recipe with engines of a program cannot be opened again, but what was asked can be shown.
    for row in [row for row in stored.rows.values() if isinstance(row, Failure) and row.judge]:
        [exchange] = (await replayed(stored, row)).exchanges
        assert "Is it brief?" in exchange.messages[0].content


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('"rule"]', '"rules"]', r"reward\.by\.2: has to be 'rubric', 'grade', 'rule'"),
        ('"grade", "rule"]', '"grade"]', r'reward: rules and "rule" in `by` come together'),
        ('["rubric", "grade", "rule"]', '["rubric", "rubric", "rule"]', r"reward: by: a source is there twice"),
        ("limit = 40", "limit = 30", r"reward\.length: ramp: is to be shorter"),
        ("[3, 60]", "[60, 3]", r"reward\.rules: words: \[least, most\]"),
        ("(?i)as an ai", "(?=a)", r"reward\.rules\.unwanted: '\(\?=a\)' is no regular expression of RE2"),
        ('"rule"]', '"rule"]\nprinciples = ["plain"]', r"reward\.principles .*with criteria\): no principle .*'plain'"),
        ('"rule"]', '"rule"]\ncombine = "veto"\nprinciples = ["brief"]', r"reward\.combine: no criterion .* vetoed"),
        ('["rubric", "grade", "rule"]', '["rule"]', r"model\.judge: there .* and nothing in reward\.by asks a judge"),
    ],
)  # fmt: skip
def test_what_cannot_be_rewarded_is_refused(project: Path, before: str, after: str, said: str) -> None:
    assert before in RECIPE
    (project / "recipe.toml").write_text(RECIPE.replace(before, after), encoding="utf-8")
    with pytest.raises(RecipeError, match=said):
        prepare(load_recipe(project / "recipe.toml"), project / "recipe.toml", project / "w")
    assert not (project / "w").exists()


async def test_given_answers_alone_and_rules_alone_need_no_model_that_answers(project: Path) -> None:
    path = project / "recipe.toml"
    text = RECIPE.replace("[sample.plain]\nn = 3\n[revise]\nrounds = 1\n", "")
    path.write_text(text, encoding="utf-8")
    run = await run_once(path, project / "w", [])
    assert set(run.models) == {"judge"}
    assert table(project / "w", "SELECT DISTINCT state, responses, rewards FROM chains") == [("complete", 2, 6)]


def test_the_kind_of_a_criterion_is_of_the_digest_and_none_changes_no_old_one(project: Path) -> None:
    path = project / "principles" / "rewards" / "1.0.0.toml"
    read = read_constitution(path)
    assert [each.kind for each in read.principles[0].criteria] == ["essential", "pitfall"]
    path.write_text(write_toml(read), encoding="utf-8")
    assert read_constitution(path) == read
    path.write_text(CONSTITUTION.replace('kind = "essential"\n', ""), encoding="utf-8")
    assert read_constitution(path).digest != read.digest
    path.write_text(CONSTITUTION.replace('good = "no"\n', ""), encoding="utf-8")
    with pytest.raises(Exception, match="a pitfall is asked about as it is"):
        read_constitution(path)
