"""Contrasted samplers, and labels that rewards or the way of making make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner
from run_once import run_once, stop_midway
from small_project import table
from test_rewards import Judge, project

from constitution.ask.replay import replayed
from constitution.ask.stored import Stored
from constitution.cli import app
from constitution.engines.base import Completion, Engine, Request
from constitution.errors import EngineUnavailable, InputError, RecipeError, RequestRefused
from constitution.judge.groups import chosen_pairs, contrasts
from constitution.judge.pairs import Pair, pairs
from constitution.labels.unvoted import label_unvoted
from constitution.pipeline import open_run, prepare
from constitution.recipe import Confirm, JudgeSection, load_recipe
from constitution.records import Judgement, Prompt, Response, Row, Run
from constitution.warehouse import Warehouse, Writer

__all__ = ["project"]

SAMPLED = """
name = "contrast"
constitution = "rewards@1.0.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "fake"
[sample.without]
n = 2
[sample.with]
n = 2
temperature = 0.9
[output]
window = 4
flush_seconds = 0.05
[judge]
pairs = ["contrast"]
contrast = ["with", "without"]
"""
REWARD = '[reward]\nby = ["rubric", "rule"]\nrules = { words = [3, 60] }\nlength = { limit = 40, ramp = 30 }\n'
BUILT = SAMPLED + 'confirm = "construction"\n'
BY_REWARD = SAMPLED + 'confirm = "reward"\n' + REWARD
GIVEN = SAMPLED[: SAMPLED.index("[sample.without]")] + (
    '[reward]\nby = ["rule"]\nrules = { words = [2, 60] }\n[judge]\npairs = ["given"]\nconfirm = "reward"\n'
)
ROWS = "SELECT id, kind, a_id, b_id, p_b, drop_reason, label_by, reward_a, reward_b FROM preferences ORDER BY ALL"
STATES = "SELECT state, pairs, pairs_missing FROM chains ORDER BY ALL"
UNKNOWN = (
    "SELECT count(*) FROM preferences WHERE votes + votes_missing + votes_spared + ties > 0 OR len(dissent) > 0 OR "
)
UNKNOWN += "p_mean IS NOT NULL OR agreement IS NOT NULL OR consistency IS NOT NULL OR label_mass IS NOT NULL"


def sample(sampler: str, number: int, text: str = "") -> Response:
    name = f"{sampler}{number}"
    return Response(name, "r", "p", "sample", number, text or f"Text {name}.", "ok", "m", sampler=sampler)


@pytest.fixture
def recipe(project: Path) -> Path:
    (project / "recipe.toml").write_text(BUILT, encoding="utf-8")
    return project / "recipe.toml"


@pytest.fixture
def rewarded(recipe: Path) -> Path:
    recipe.write_text(BY_REWARD, encoding="utf-8")
    return recipe


class Policy(Engine):
    """Says what it is asked for, but for what it is told."""

    model = "policy"

    def __init__(self, said: dict[str, str | Exception] | None = None) -> None:
        self.said = said or {}

    async def generate(self, request: Request) -> Completion:
        text = self.said.get(request.step, f"An answer of the step {request.step}.")
        if isinstance(text, Exception):
            raise text
        return Completion(text, "stop", 3, 2)


async def worked(path: Path, policy: Engine, judge: Engine | None = None, *given: str, retry: bool = False) -> Run:
    """The first prompt's run by these engines."""
    recipe = load_recipe(path, ["prompts.limit=1", *given])
    recipe = recipe.with_engines({"policy": policy} | ({"judge": judge} if judge else {}))
    async with open_run(prepare(recipe, path, path.parent / "w"), retry) as session:
        await session.walk()
        return await session.finish()


# --- one pair


def test_numbers_of_two_samplers_are_contrasted_and_the_better_is_the_later_one() -> None:
    answers = [sample("with", 1), sample("with", 0), sample("other", 0), sample("without", 0), sample("with", 2)]
    assert contrasts(answers, "with", "without") == [("without0", "with0")]
    assert contrasts(answers[:3], "with", "without") == []
    section = JudgeSection(pairs=("contrast", "all"), contrast=("with", "without"))
    both = pairs("r", Prompt((), "s"), answers, section.pairs, None, chosen_pairs(answers, section, None, {}, 1))
    assert Counter(pair.kind for pair in both) == {"contrast": 1, "all": 9}
    assert len({frozenset((pair.a.id, pair.b.id)) for pair in both}) == 10


@pytest.mark.parametrize(
    ("confirm", "rewards", "margin", "p_b", "reason"),
    [
        ("construction", (None, None), 0.5, 1.0, None),
        ("reward", (0.25, 0.75), 0.25, 0.75, None),
        ("reward", (0.75, 0.25), 0.0, 0.25, None),
        ("reward", (0.5, 0.7), 0.125, 0.6, "margin"),
        ("reward", (0.5, 0.5), 0.0, 0.5, "tie"),
        ("reward", (0.1 + 0.2, 0.3), 0.0, 0.5, "tie"),
        # Length penalties make gaps of more than 1.
        ("reward", (-1.5, 1.0), 0.0, 1.0, None),
        ("reward", (0.9, -8.0), 0.0, 0.0, None),
        ("reward", (None, 0.5), 0.0, None, "reward-missing"),
        ("reward", (0.5, None), 0.4, None, "reward-missing"),
    ],
)
def test_what_makes_a_label_without_votes(
    confirm: Confirm, rewards: tuple[float | None, float | None], margin: float, p_b: float | None, reason: str | None
) -> None:
    pair = Pair("pair", "contrast", sample("without", 0), sample("with", 0), None, None, *rewards)
    label = label_unvoted(pair, confirm, margin)
    assert label.p_b == (p_b if p_b is None else pytest.approx(p_b))
    assert (label.drop_reason, label.label_by) == (reason, confirm)
    assert (label.reward_a, label.reward_b, label.votes, label.votes_missing) == (*rewards, 0, 0)
    same = label_unvoted(
        Pair("pair", "contrast", sample("a", 0, "x"), sample("b", 0, "x"), None, None, 1.0, 0.5), confirm, 0
    )
    assert (same.p_b, same.drop_reason) == (None, "identical")


# --- runs


async def test_by_construction_no_judge_is_asked_and_a_resumed_run_is_the_same(recipe: Path) -> None:
    root = recipe.parent
    run = await run_once(recipe, root / "w", [])
    assert run.finished_at
    assert [used.stage for used in run.usage] == ["sample-with", "sample-without"]
    assert list(run.models) == ["policy"]
    assert (run.counts["judgements"], run.counts["votes_missing"], run.counts["preferences"]) == (0, 0, 16)
    made = """
        SELECT c.sampler, r.sampler, p_b, count(*) FROM pairs AS p JOIN responses AS c ON c.id = chosen_id
        JOIN responses AS r ON r.id = rejected_id AND r.round = c.round WHERE p.kept GROUP BY ALL"""
    assert table(root / "w", made) == [("with", "without", 1.0, 16)]
    assert table(root / "w", UNKNOWN) == [(0,)]
    assert table(root / "w", STATES) == [("complete", 2, [])] * 8
    for prompts in (1, 3):
        cut = root / f"cut{prompts}"
        await stop_midway(recipe, cut, [], prompts=prompts)
        assert len(table(cut, ROWS)) < 16
        await run_once(recipe, cut, [])
        assert table(cut, ROWS) == table(root / "w", ROWS)


@pytest.fixture
def voted(recipe: Path) -> Path:
    recipe.write_text(SAMPLED + "principles = 1\n", encoding="utf-8")
    return recipe


async def test_contrasts_are_voted_on_where_nothing_else_is_said(voted: Path) -> None:
    root = voted.parent / "w"
    run = await run_once(voted, root, ["prompts.limit=3"])
    made = """
        SELECT bool_and(a.sampler = 'without' AND b.sampler = 'with' AND a.round = b.round), count(*), max(votes),
            any_value(label_by)
        FROM preferences JOIN responses AS a ON a.id = a_id JOIN responses AS b ON b.id = b_id"""
    assert table(root, made) == [(True, 6, 2, "mean")]
    assert table(root, STATES) == [("complete", 2, [])] * 3
    [(prompt_id,)] = table(root, "SELECT min(id) FROM prompts")
    stored = Stored.load(Warehouse(root), run.run_id, prompt_id)
    votes = [row for row in stored.rows.values() if isinstance(row, Judgement)]
    assert [(await replayed(stored, vote)).doubt for vote in votes] == [""] * 4


async def test_by_reward_the_label_is_the_gap(rewarded: Path) -> None:
    root = rewarded.parent
    run = await run_once(rewarded, root / "w", ["judge.margin=0.02"])
    assert {used.stage for used in run.usage} == {"sample-with", "sample-without", "reward-rubric"}
    gap = """
        SELECT count(*), max(abs(p_b - 0.5 - (b.value + b.length_penalty - a.value - a.length_penalty) / 2)),
            bool_and(kept = (abs(p_b - 0.5) >= 0.02)), count(*) FILTER (drop_reason = 'margin') > 0, max(label_by)
        FROM preferences JOIN rewards AS a ON a.response_id = a_id AND a.source = 'rubric'
        JOIN rewards AS b ON b.response_id = b_id AND b.source = 'rubric'"""
    assert table(root / "w", gap) == [(16, pytest.approx(0, abs=1e-12), True, True, "reward")]
    assert table(root / "w", UNKNOWN) == [(0,)]
    assert table(root / "w", "SELECT bool_and(reward_gap >= 0) FROM training_pairs") == [(True,)]
    await stop_midway(rewarded, root / "cut", ["judge.margin=0.02"], prompts=3)
    await run_once(rewarded, root / "cut", ["judge.margin=0.02"])
    assert table(root / "cut", ROWS) == table(root / "w", ROWS)


async def test_stopped_before_a_row_it_resumes_to_the_same(rewarded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, small = rewarded.parent, ["prompts.limit=1", "sample.with.n=1", "sample.without.n=1", "output.window=1"]
    put, written, left = Writer.put, 0, -1

    async def counted(self: Writer, made: Sequence[Row]) -> None:
        nonlocal written, left
        if made and left == 0:
            raise OSError("the machine stops here")
        left -= bool(made)
        written += bool(made)
        await put(self, made)

    monkeypatch.setattr(Writer, "put", counted)
    await run_once(rewarded, root / "whole", small)
    every = written
    assert every > 8
    for stop in (1, every // 2, every - 2, every - 1):
        left = stop
        with pytest.raises(OSError, match="the machine stops here"):
            await run_once(rewarded, root / f"cut{stop}", small)
        left = -1
        assert table(root / f"cut{stop}", "SELECT state, pairs FROM chains") == [("open", 0)]
        await run_once(rewarded, root / f"cut{stop}", small)
        assert table(root / f"cut{stop}", ROWS) == table(root / "whole", ROWS)


async def test_repaired_it_is_the_same(rewarded: Path) -> None:
    root = rewarded.parent / "w"
    run = await run_once(rewarded, root, [])
    whole, warehouse = table(root, ROWS), Warehouse(root)
    for name in ("rewards", "preferences", "responses"):
        [part] = warehouse.parts(name, run.run_id)
        part.write_bytes(part.read_bytes()[:-9] + b"otherwise")
        with warehouse.lock(run.run_id):
            assert warehouse.repair(run.run_id)
        assert table(root, "SELECT count(*) FROM preferences") == [(0,)]
        assert (await run_once(rewarded, root, [])).finished_at
        assert table(root, ROWS) == whole
        assert warehouse.verify(run.run_id) == []


@pytest.fixture
def ruled(recipe: Path) -> Path:
    server = GIVEN.replace('engine = "fake"', 'engine = "openai"\nmodel = "m"\nbase_url = "http://127.0.0.1:9/v1"')
    recipe.write_text(server.replace("[model.policy]", 'answers = ["good", "bad"]\n[model.policy]'), encoding="utf-8")
    return recipe


async def test_rules_alone_open_no_model(ruled: Path) -> None:
    run = await run_once(ruled, ruled.parent / "w", [])
    assert run.finished_at
    assert (run.engines, run.counts["preferences"], run.counts["kept"]) == ({}, 8, 8)
    assert table(ruled.parent / "w", "SELECT DISTINCT p_b, label_by FROM preferences") == [(0.0, "reward")]
    assert table(ruled.parent / "w", "SELECT DISTINCT state FROM chains") == [("complete",)]


async def test_a_pair_whose_answer_has_no_text_or_the_same_one_is_dropped_with_the_reason(recipe: Path) -> None:
    said: dict[str, str | Exception] = {"sample-with-0": "", "sample-with-1": "Same.", "sample-without-1": "Same."}
    run = await worked(recipe, Policy(said))
    assert run.finished_at
    found = "SELECT p_b, drop_reason, kept FROM preferences ORDER BY drop_reason"
    assert table(recipe.parent / "w", found) == [(None, "empty", False), (None, "identical", False)]
    assert table(recipe.parent / "w", STATES) == [("complete", 2, [])]


async def test_a_pair_waits_for_an_answer_that_may_still_come(recipe: Path) -> None:
    root = recipe.parent / "w"
    run = await worked(recipe, Policy({"sample-with-1": EngineUnavailable("away")}))
    assert run.finished_at is None
    assert table(root, STATES) == [("open", 0, ["contrast"])]
    assert (await worked(recipe, Policy())).finished_at
    assert table(root, STATES) == [("complete", 2, [])]


async def test_without_an_answer_the_others_are_paired_and_a_retry_adds_it(recipe: Path) -> None:
    root = recipe.parent / "w"
    run = await worked(recipe, Policy({"sample-with-1": RequestRefused("no")}))
    assert run.finished_at
    assert table(root, STATES) == [("stopped", 1, [])]
    [(first,)] = table(root, "SELECT id FROM preferences")
    assert (await worked(recipe, Policy(), retry=True)).finished_at
    assert table(root, STATES) == [("complete", 2, [])]
    assert first in {id for (id,) in table(root, "SELECT id FROM preferences")}


async def test_of_answers_that_all_failed_there_is_no_pair_to_miss(recipe: Path) -> None:
    await worked(recipe, Policy({f"sample-with-{n}": RequestRefused("no") for n in (0, 1)}))
    assert table(recipe.parent / "w", STATES) == [("stopped", 0, [])]


async def test_a_label_that_is_still_to_be_made_shows(recipe: Path) -> None:
    """As a kill between two rows leaves it."""
    root = recipe.parent / "w"
    await worked(recipe, Policy())
    warehouse = Warehouse(root)
    [run] = warehouse.runs()
    labels = warehouse.table("preferences", run.run_id)
    with warehouse.lock(run.run_id):
        warehouse.replace_rows("preferences", run.run_id, labels.slice(0, 1))
    assert table(root, STATES) == [("open", 1, ["contrast"])]


async def test_without_a_reward_there_is_no_label_and_a_retry_makes_it(rewarded: Path) -> None:
    root = rewarded.parent / "w"
    judge = Judge({"sample-with-1": RequestRefused("no")})
    run = await worked(rewarded, Policy(), judge)
    assert set(judge.asked) == {"reward-rubric"}
    assert (run.finished_at is not None, run.counts["lost"], run.counts["preferences"]) == (True, 1, 2)
    found = "SELECT p_b IS NULL, drop_reason, reward_a IS NULL, reward_b IS NULL FROM preferences ORDER BY ALL"
    assert table(root, found) == [(False, "tie", False, False), (True, "reward-missing", False, True)]
    await worked(rewarded, Policy(), Judge(), retry=True)
    assert table(root, found) == [(False, "tie", False, False)] * 2


async def test_a_reward_that_may_still_come_is_waited_for(rewarded: Path) -> None:
    root = rewarded.parent / "w"
    run = await worked(rewarded, Policy(), Judge({"sample-with-1": EngineUnavailable("away")}))
    assert run.finished_at is None
    assert table(root, STATES) == [("open", 1, ["contrast"])]
    assert (await worked(rewarded, Policy(), Judge())).finished_at
    assert table(root, STATES) == [("complete", 2, [])]


# --- what reads labels


async def test_what_needs_votes_is_refused_in_one_sentence(rewarded: Path, tmp_path: Path) -> None:
    root = rewarded.parent / "w"
    run = await run_once(rewarded, root, [])
    export = ["export", run.run_id, "--format", "dpo", "--out", str(tmp_path / "out"), "--warehouse", str(root)]
    for arguments, said in (
        (["relabel", run.run_id, "--margin", "0.1", "--warehouse", str(root)], "by reward, and there are no votes"),
        (["relabel", run.run_id, "--replay", "--warehouse", str(root)], "by reward, and there are no votes"),
        ([*export, "--principles", "kind"], "--principles: is about votes"),
        ([*export, "--min-agreement", "0.5"], "--min-agreement: is about votes"),
        ([*export, "--consistent-only"], "--consistent-only: is about votes"),
        ([*export, "--drop-broken"], "--drop-broken: is about votes"),
    ):
        refused = CliRunner().invoke(app, arguments)
        assert isinstance(refused.exception, InputError), refused.output
        assert said in str(refused.exception)
    assert CliRunner().invoke(app, export).exit_code == 0
    with duckdb.connect() as connection:
        found = connection.execute(f"SELECT DISTINCT label_by FROM '{tmp_path}/out/**/*.parquet'").fetchall()
    assert found == [("reward",)]
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "the one with the higher reward is `chosen`" in card
    assert "voted" not in card
    assert "votes of language models" not in card


JUDGED = "is about votes, and with confirm = 'construction' there are none"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('contrast = ["with", "without"]', "", "contrast: names the two samplers of pairs"),
        ('pairs = ["contrast"]', 'pairs = ["all"]\nmargin = 0.1', "contrast: names the two samplers of pairs"),
        ('["with", "without"]', '["with", "with"]', "a sampler is compared with another one"),
        ('["with", "without"]', '["with", "wihtout"]', "judge.contrast: there is no sampler 'wihtout'"),
        ("[sample.with]\nn = 2", "[sample.with]\nn = 3", "the samplers make 3 and 2 answers"),
        ('["contrast"]', '["contrast", "all"]', "confirm: only of pairs"),
        ('confirm = "construction"', 'confirm = "reward"', "there is no section .reward"),
        ("[judge]", "[judge]\nrepeats = 2", f"repeats: {JUDGED}"),
        ("[judge]", '[judge]\nvotes = "adaptive"', f"votes: {JUDGED}"),
        ("[judge]", '[judge]\ncalibrate = "temperature"', f"calibrate: {JUDGED}"),
        (
            "[judge]",
            '[model.jury.a]\nengine = "fake"\nmethod = "score"\n[judge]',
            "model.jury: method says how a member",
        ),
        ("[judge]", "[revise]\nrounds = 1\n[perturb]\n[judge]", "perturb: spoiled answers show how judges vote"),
    ],
)
def test_what_cannot_be_is_refused(recipe: Path, before: str, after: str, said: str) -> None:
    assert before in BUILT
    recipe.write_text(BUILT.replace(before, after), encoding="utf-8")
    with pytest.raises(RecipeError, match=said):
        load_recipe(recipe)


def test_a_judge_that_nothing_asks_is_refused(recipe: Path) -> None:
    recipe.write_text(BUILT + '[model.judge]\nengine = "fake"\nmodel = "other"\n', encoding="utf-8")
    with pytest.raises(
        RecipeError, match=r"model\.judge: there would be no votes, for with judge.confirm = 'construction'"
    ):
        prepare(load_recipe(recipe), recipe, recipe.parent / "w")
