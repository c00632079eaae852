"""Rewards by a scalar reward model: the place of a score in its prompt's group, whatever was missing or tried again."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_once import run_once, stop_midway
from small_project import table
from tiny import save_tiny_model

from constitution.ask.replay import replayed
from constitution.ask.stored import Stored
from constitution.engines.base import Completion, Engine, Request
from constitution.errors import ContextTooLong, EngineUnavailable, RecipeError
from constitution.judge.by_model import ROUNDING, Group, Scalar
from constitution.pipeline import open_run, prepare
from constitution.recipe import RewardSection, load_recipe
from constitution.records import Failure, Message, Messages, Prompt, Response, Reward, Row, Run, Score
from constitution.warehouse import Warehouse

RECIPE = """
name = "scores"
constitution = "small@1.0.0"
[prompts]
path = "prompts.jsonl"
answers = ["good", "bad"]
[model.policy]
engine = "fake"
[model.reward_model]
engine = "fake"
model = "scorer"
[sample.plain]
n = 3
[revise]
rounds = 1
[reward]
by = ["model"]
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
critique_request = "Is it unkind?"
revision_request = "Make it kind."
comparison_question = "Which answer is kinder?"
"""
PROMPTS = 8
ROWS = """
SELECT 'reward', id, response_id, source, value, raw, readings, missing, judges, reason FROM rewards
UNION ALL BY NAME
SELECT 'score', id, response_id, metric AS source, raw, p_yes, label_mass, grades, judge, calls FROM scores ORDER BY ALL
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "principles" / "small").mkdir(parents=True)
    (tmp_path / "principles" / "small" / "1.0.0.toml").write_text(CONSTITUTION, encoding="utf-8")
    rows = [{"prompt": f"How does thing {n} work?", "good": f"Like thing {n}.", "bad": "No."} for n in range(PROMPTS)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


# --- the place of a score


@pytest.mark.parametrize(
    ("scores", "score", "member", "value"),
    [
        ([1.0, 3.0], 2.0, False, 0.5), ([1.0, 3.0], 3.0, True, 0.7602499), ([1.0, 2.0, 3.0], 3.0, True, 0.8413447),
        ([1.0, 2.0, 3.0], 1.0, True, 0.1586553), ([-1000.0, -1001.0, -1002.0], -1000.0, True, 0.8413447),
        ([1.0, 3.0], 99.0, False, 1.0), ([1.0, 3.0], -99.0, False, 0.0), ([2.0, 2.0], 2.0, True, 0.5),
        ([2.0, 2.0], 2.0, False, None), ([2.0, 2.0], 9.0, False, None), ([2.0], 2.0, True, None),
        ([2.0], 3.0, False, None), ([2.0, 2.0 + 1e-7], 2.0, True, 0.5), ([5000.0, 5000.001], 5000.001, True, 0.5),
    ],
)  # fmt: skip
def test_places(scores: list[float], score: float, member: bool, value: float | None) -> None:
    found = Group.of(scores).place(score, member)
    assert found == (None if value is None else pytest.approx(value, abs=1e-7))


NUMBERS = st.floats(-1e4, 1e4)


@settings(max_examples=60, deadline=None)
@given(st.lists(NUMBERS, min_size=2, max_size=9), NUMBERS, st.floats(0.1, 50), st.randoms())
def test_a_place_has_neither_zero_nor_unit(scores: list[float], zero: float, unit: float, draws: Any) -> None:
    """Another model of the same opinions gives the same values; no order of the answers does another."""
    group = Group.of(scores)
    mixed = list(scores)
    draws.shuffle(mixed)
    assert Group.of(mixed) == group
    if not group.deviation:
        return
    values = [group.place(score, True) for score in scores]
    assert all(value is not None and 0 <= value <= 1 for value in values)
    assert sorted(values, key=lambda value: value or 0) == [group.place(score, True) for score in sorted(scores)]
    expected = statistics.NormalDist(statistics.fmean(scores), statistics.stdev(scores)).cdf(scores[0])
    assert values[0] == pytest.approx(expected, abs=1e-6)
    moved = Group.of([zero + unit * score for score in scores])
    if group.deviation > 1e3 * ROUNDING * max(1.0, abs(zero), abs(group.mean)) / min(unit, 1):
        assert moved.place(zero + unit * scores[0], True) == pytest.approx(values[0], abs=1e-3)


class Told:
    """Scores by the answer's text, or raises what it is told to."""

    model = "told"

    def __init__(self, says: Mapping[str, float | Exception]) -> None:
        self.says = says

    async def score(self, messages: Messages, *, step: str = "", affinity: str = "") -> float:
        said = self.says[messages[-1].content]
        if isinstance(said, Exception):
            raise said
        return said


KINDS = ("sample", "initial", "given", "revision", "reference")
OUTCOMES = st.one_of(NUMBERS, st.sampled_from(["away", "too long"]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(["", *"abcdef"])), max_size=8), st.data())
async def test_what_is_missing_never_becomes_a_number(answers: list[tuple[Any, str]], data: st.DataObject) -> None:
    """Whatever fails, in two starts of which the second meets no outage: as in one start that met none."""
    says: dict[str, Any] = {text: data.draw(OUTCOMES) for text in "abcdef"}
    errors = {"away": EngineUnavailable, "too long": ContextTooLong}
    first = {text: errors[said]("no") if isinstance(said, str) else said for text, said in says.items()}
    later = {text: 1.5 if isinstance(said, EngineUnavailable) else said for text, said in first.items()}
    prompt = Prompt((Message("user", "Hello?"),))
    rows = [response(f"{place}", kind, text) for place, (kind, text) in enumerate(answers)]

    async def start(have: dict[str, Row], number: int, told: Mapping[str, Any]) -> list[Failure]:
        async def emit(made: Any) -> None:
            have.update({row.id: row for row in made})

        scalar = Scalar("r", number, RewardSection(by=("model",)), Told(told))
        _, failures = await scalar.rewards(prompt, rows, have, emit, True)
        return failures

    have: dict[str, Row] = {}
    failures = await start(have, 1, first)
    for reward in (row for row in have.values() if isinstance(row, Reward)):
        text = next(row.text for row in rows if row.id == reward.response_id)
        if not text or isinstance(first[text], Exception):
            assert (reward.value, reward.raw) == (None, None)
            assert reward.reason == ("readings-missing" if text else "no-text")
        elif reward.value is not None:
            assert reward.raw == first[text]
    again = dict(have)
    await start(again, 2, later)
    whole: dict[str, Row] = {}
    await start(whole, 1, later)
    made = {id: row for id, row in again.items() if not isinstance(row, Failure)}
    assert made == {id: row for id, row in whole.items() if not isinstance(row, Failure)}
    assert sum(isinstance(row, Reward) for row in made.values()) == len(rows)
    asked = {row.text for row in rows if row.text}
    assert {failure.retryable for failure in failures} <= {True, False}
    assert len(failures) == sum(isinstance(first[text], Exception) for text in asked)


def response(id: str, kind: Any, text: str) -> Response:
    return Response(
        id=id, run_id="r", prompt_id="p", kind=kind, round=0, parent_id=None, outcome="ok", text=text, critique=None,
        principle_id=None, principle_digest=None, template_digest="", model="m", sampling=None, seed=None,
        finish_reason="stop", prompt_tokens=0, completion_tokens=0,
    )  # fmt: skip


# --- whole runs


class Policy(Engine):
    model = "policy"

    async def generate(self, request: Request) -> Completion:
        return Completion(f"Sample {request.seed}." if request.step.startswith("sample") else "First.", "stop", 3, 2)


class Scorer(Policy):
    """A user's own: longer is better; fails what it is told to."""

    model = "mine"

    def __init__(self, fails: Mapping[str, Exception] | None = None) -> None:
        self.asked: Counter[str] = Counter()
        self.fails = fails or {}

    async def score(self, messages: Messages) -> float:
        text = messages[-1].content
        self.asked[text] += 1
        for said, error in self.fails.items():
            if said in text:
                raise type(error)(str(error))
        return float(len(text))


async def scored(project: Path, scorer: Scorer, *overrides: str, retry: bool = False) -> Run:
    path = project / "recipe.toml"
    recipe = load_recipe(path, ["prompts.limit=1", "revise.rounds=0", *overrides])
    recipe = recipe.with_engines({"policy": Policy(), "reward_model": scorer})
    async with open_run(prepare(recipe, path, project / "w"), retry) as session:
        await session.walk()
        return await session.finish()


async def test_every_answer_is_placed_in_its_prompts_group(project: Path) -> None:
    run = await run_once(project / "recipe.toml", project / "w", [])
    assert run.models["reward model"]["name"] == "scorer"
    assert run.counts["rewards"] == run.counts["scores"] == 7 * PROMPTS
    assert (run.counts["rewards_missing"], run.counts["scores_off_label"]) == (0, 0)
    assert table(project / "w", "SELECT DISTINCT state, rewards FROM chains") == [("complete", 7)]
    rows = table(
        project / "w",
        """SELECT w.prompt_id, kind, w.raw, w.value, s.raw FROM rewards AS w
        JOIN responses AS r ON r.id = w.response_id JOIN scores AS s ON s.response_id = w.response_id ORDER BY 1""",
    )
    for prompt in {row[0] for row in rows}:
        own = [row for row in rows if row[0] == prompt]
        group = [raw for _, kind, raw, _, _ in own if kind != "revision"]
        normal = statistics.NormalDist(statistics.fmean(group), statistics.stdev(group))
        assert [row[3] for row in own] == [pytest.approx(normal.cdf(row[2])) for row in own]
        assert [row[2] for row in own] == [row[4] for row in own]
    assert table(project / "w", "SELECT count(*), min(n), max(n) FROM groups WHERE source = 'model'") == [
        (PROMPTS, 3, 3)
    ]
    usage = {used.stage: used for used in run.usage}["reward-model"]
    texts = table(project / "w", "SELECT count(DISTINCT (prompt_id, text)) FROM responses")[0][0]
    assert (usage.model, usage.calls, usage.prompt_tokens, usage.cost) == ("scorer", texts, 0, None)
    [(prompt_id,)] = table(project / "w", "SELECT id FROM prompts LIMIT 1")
    stored = Stored.load(Warehouse(project / "w"), run.run_id, prompt_id)
    replays = [await replayed(stored, row) for row in stored.rows.values() if isinstance(row, Score)]
    assert {(replay.role, replay.doubt) for replay in replays} == {("reward model", "")}


async def test_beside_other_sources_it_is_as_alone(project: Path) -> None:
    await run_once(project / "recipe.toml", project / "w", ["prompts.limit=2"])
    over = ["prompts.limit=2", 'reward.by=["rule","model"]', "reward.rules.words=[3,60]", "name=both"]
    await run_once(project / "recipe.toml", project / "w", over)
    values = """SELECT source, r.kind, r.text, w.value, w.raw
        FROM rewards AS w JOIN responses AS r ON r.id = response_id WHERE w.run_id LIKE '{}-%' ORDER BY ALL"""
    alone = table(project / "w", values.format("scores"))
    both = table(project / "w", values.format("both"))
    assert [row for row in both if row[0] == "model"] == alone
    assert len(both) == 2 * len(alone) == 28
    assert table(project / "w", "SELECT DISTINCT state FROM chains") == [("complete",)]


async def test_resumed_it_is_the_same_and_so_it_is_after_damage(project: Path) -> None:
    over = ["revise.start=best", "model.reward_model.failure_rate=0.2"]
    await run_once(project / "recipe.toml", project / "whole", over[:1])
    await stop_midway(project / "recipe.toml", project / "cut", over[:1], prompts=3)
    await run_once(project / "recipe.toml", project / "cut", over)  # what failed is open
    run = await run_once(project / "recipe.toml", project / "cut", over[:1])
    whole = table(project / "whole", ROWS)
    assert table(project / "cut", ROWS) == whole
    warehouse = Warehouse(project / "cut")
    for name in ("scores", "rewards", "responses"):
        [part] = warehouse.parts(name, run.run_id)
        part.write_bytes(part.read_bytes()[:-9] + b"otherwise")
        with warehouse.lock(run.run_id):
            assert warehouse.repair(run.run_id)
        await run_once(project / "recipe.toml", project / "cut", over[:1])
        assert table(project / "cut", ROWS) == whole
        assert warehouse.verify(run.run_id) == []


async def test_one_that_is_too_long_moves_no_other_and_is_placed_when_it_comes(project: Path) -> None:
    run = await scored(project, Scorer({"Like": ContextTooLong("too long")}))
    assert run.finished_at
    assert (run.counts["lost"], run.counts["rewards_missing"]) == (1, 1)
    missing = "SELECT value, raw, readings, missing, reason, judges FROM rewards WHERE value IS NULL"
    assert table(project / "w", missing) == [(None, None, 0, 1, "readings-missing", [])]
    values = "SELECT round(value, 6), raw FROM rewards WHERE value IS NOT NULL ORDER BY ALL"
    raws = [raw for _, raw in table(project / "w", values)]
    assert len(raws) == 4
    normal = statistics.NormalDist(statistics.fmean(raws), statistics.stdev(raws))
    assert table(project / "w", values) == [(round(normal.cdf(raw), 6), raw) for raw in raws]
    again = await scored(project, Scorer(), retry=True)
    assert (again.counts["lost"], again.counts["rewards_missing"], again.counts["rewards"]) == (0, 0, 5)
    await scored(project, Scorer(), "seed=1")  # the same run, which is finished
    raws = [raw for _, raw in table(project / "w", values)]
    normal = statistics.NormalDist(statistics.fmean(raws), statistics.stdev(raws))
    assert table(project / "w", values) == [(round(normal.cdf(raw), 6), raw) for raw in raws]


async def test_one_that_may_still_come_is_waited_for_by_all(project: Path) -> None:
    run = await scored(project, Scorer({"Like": EngineUnavailable("away")}))
    assert (run.finished_at, run.counts["open"]) == (None, 1)
    assert table(project / "w", "SELECT count(*) FROM rewards") == [(0,)]
    assert table(project / "w", "SELECT state FROM chains") == [("open",)]
    scorer = Scorer()
    assert (await scored(project, scorer)).finished_at
    assert sum(scorer.asked.values()) == 1
    assert table(project / "w", "SELECT count(value) FROM rewards") == [(5,)]


async def test_the_run_is_by_the_models_files(project: Path) -> None:
    """Real weights: scored, and another training of them is another run."""
    save_tiny_model(project / "rm", head="ForSequenceClassification", num_labels=1, pad_token_id=2)
    over = [
        'model.reward_model={ engine = "transformers", model = "rm" }', "prompts.limit=2", "revise.rounds=0",
        "sample.plain.n=1",
    ]  # fmt: skip
    path = project / "recipe.toml"
    inside = [
        over[0].replace('"rm"', f'"{project / "rm"}"'),
        *over[1:],
    ]
    run = await run_once(path, project / "w", inside)
    assert run.finished_at
    assert len(run.models["reward model"]["digest"]) == 64
    assert table(project / "w", "SELECT count(value), count(DISTINCT judges) FROM rewards") == [(6, 1)]
    config = project / "rm" / "config.json"
    config.write_text(config.read_text().replace("}", ', "more": 1}', 1))
    other = prepare(load_recipe(path, inside), path, project / "w")
    assert other.run_id != run.run_id


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (['reward.by=["rule"]', "reward.rules.words=[1,9]"], "come together"),
        (['model.reward_model={ engine = "openai", model = "m", base_url = "http://a", batch = true }'], "in batches"),
        (["model.reward_model.price.input=1.0"], "its tokens are not counted"),
        (["model.reward_model.method=label"], "method is for members of a jury"),
        (["reward.combine=veto"], "veto is for rubric and rule"),
        (["sample={}", 'prompts.answers=["good"]', "prompts.path=prompts.jsonl", "revise.rounds=0"], "one answer of a"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(project: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        prepare(load_recipe(project / "recipe.toml", overrides), project / "recipe.toml", project / "w")


def test_an_engine_without_scores_is_refused(project: Path) -> None:
    recipe = load_recipe(project / "recipe.toml").with_engines({"reward_model": Scorer()})
    assert recipe.model.reward_model is not None
    assert math.isfinite(len(recipe.model.reward_model.model))
    with pytest.raises(RecipeError, match="the recipe has no model reward"):
        recipe.with_engines({"reward": Scorer()})
