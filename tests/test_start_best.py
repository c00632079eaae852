"""Chains that start from a prompt's best sample: whole runs, and what is missing for one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from best_runs import RECIPE, START, STATES, Reads, Speaks, best_project, worked
from run_once import run_once
from small_project import table

from constitution.ask.replay import replayed
from constitution.ask.stored import Stored
from constitution.engines.base import Engine
from constitution.errors import EngineUnavailable, RecipeError, RequestRefused
from constitution.export import Settings, export
from constitution.generate.chain import best, chain_of
from constitution.pipeline import prepare
from constitution.recipe import load_recipe
from constitution.records import Failure, Judgement, Response, ResponseKind, Reward, Row, Score
from constitution.warehouse import Warehouse


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return best_project(tmp_path)


# --- which answers are a chain


def response(id: str, kind: ResponseKind, round: int, parent: str | None = None) -> Response:
    return Response(id, "r", "p", kind, round, id, "ok", "m", parent_id=parent)


def reward(of: str, value: float | None, source: str = "rubric", penalty: float | None = None) -> Reward:
    return Reward(f"{of} {source}", "r", "p", of, source, value, None, 1, 0, None, penalty)  # type: ignore[arg-type]


SAMPLES = [response(id, "sample", n) for n, id in enumerate("dcba")]
SAMPLE = response("x", "sample", 4)


@pytest.mark.parametrize(
    ("rows", "ids"),
    [
        ([], ""),
        ([reward("d", 0.5), reward("c", 0.9), reward("b", 0.9)], "b"),  # a tie goes by the id
        ([reward("d", 0.9, penalty=-0.5), reward("c", 0.5), reward("a", None)], "c"),
        ([reward("d", 0.9, "rule"), reward("c", 0.5)], "c"),  # another source does not say which is best
        ([reward("d", 0.9, "rule"), reward("c", None)], ""),
        ([reward("x", 0.9), response("x", "given", 0)], ""),
        # What is not whole starts a chain only where nothing else can.
        ([reward("x", 0.9), reward("d", 0.1), replace(SAMPLE, outcome="cut")], "d"),
        ([reward("x", 0.9), replace(SAMPLE, outcome="cut")], "x"),
        (
            [
                reward("x", 0.1),
                reward("y", 0.9),
                replace(SAMPLE, outcome="cut"),
                replace(SAMPLE, id="y", outcome="refused"),
            ],
            "x",
        ),
        ([reward("y", 0.9), replace(SAMPLE, id="y", outcome="filtered")], "y"),
        ([reward("x", 0.9), replace(SAMPLE, copied_from="system-prompt")], ""),
        # One that was made keeps its start, whatever is better now; and the initial answer is before any sample.
        ([reward("a", 0.9), response("1", "revision", 1, "c"), response("2", "revision", 2, "1")], "c12"),
        ([reward("a", 0.9), response("0", "initial", 0), response("1", "revision", 1, "0")], "01"),
        ([reward("a", 0.9), response("0", "initial", 0)], "0"),
    ],
)
def test_what_a_chain_is(rows: Sequence[Row], ids: str) -> None:
    assert "".join(answer.id for answer in chain_of([*rows, *SAMPLES], "rubric")) == ids
    assert "".join(answer.id for answer in chain_of([*SAMPLES, *rows])) == (ids if len(ids) > 1 or ids == "0" else "")


def test_the_best_of_equal_ones_has_the_least_id() -> None:
    assert best({"b": 0.5, "a": 0.5, "c": 0.4}) == "a"


# --- whole runs


async def test_every_chain_starts_from_the_best_sample(project: Path) -> None:
    run = await run_once(project / "recipe.toml", project / "w", [])
    assert run.finished_at
    root = project / "w"
    kinds = table(root, "SELECT kind, count(*) FROM responses WHERE kind <> 'perturbation' GROUP BY ALL ORDER BY ALL")
    assert kinds == [("revision", 20), ("sample", 50)]
    assert "initial" not in {used.stage for used in run.usage}
    started = """
        SELECT count(*), bool_and(parent_id = best_id) FROM responses JOIN groups USING (prompt_id)
        WHERE kind = 'revision' AND round = 1 AND source = 'rubric'"""
    assert table(root, started) == [(10, True)]
    assert len({row[1:] for row in table(root, START)}) > 2  # not always the same place
    assert table(root, "SELECT DISTINCT state, rounds, samples, responses, rewards FROM chains") == [
        ("complete", 2, 5, 7, 14)
    ]
    pairs = """
        SELECT p.kind, count(*), bool_and(a.kind = 'sample'), bool_and(b.round = 2), bool_and(a.id = best_id)
        FROM preferences AS p JOIN responses AS a ON a.id = a_id JOIN responses AS b ON b.id = b_id
        JOIN groups AS g ON g.prompt_id = p.prompt_id AND g.source = 'rubric'
        WHERE p.kind IN ('first-last', 'parent') GROUP BY ALL ORDER BY ALL"""
    found = table(root, pairs)
    assert found[0] == ("first-last", 10, True, True, True)
    assert [(row[0], row[1]) for row in found[1:]] == [("parent", 20)]
    spoiled = """
        SELECT count(*) > 0, bool_and(a.kind = 'revision' AND a.round = 2) FROM responses AS v
        JOIN responses AS a ON a.id = v.parent_id WHERE v.kind = 'perturbation'"""
    assert table(root, spoiled) == [(True, True)]
    # The views of chains know their start.
    assert table(root, "SELECT step, kind, count(*) FROM chain_answers GROUP BY ALL ORDER BY ALL") == [
        (0, "sample", 10), (1, "revision", 10), (2, "revision", 10)
    ]  # fmt: skip
    drawn = table(root, "SELECT sum(drawn), sum(judged) > 2, sum(judged) = sum(against_parent) FROM drawn")
    assert drawn == [(20, True, True)]
    whole = """
        SELECT DISTINCT list(DISTINCT what ORDER BY what) FROM (FROM preferences WHERE kind = 'first-last') AS p,
        LATERAL (SELECT kind AS what FROM responses WHERE id IN (p.a_id, p.b_id))"""
    assert table(root, whole) == [(["revision", "sample"],)]
    [(pair,)] = table(root, "SELECT id FROM preferences WHERE kind = 'first-last' LIMIT 1")
    parts = table(
        root, f"SELECT part, round, model_identity IS NOT NULL FROM provenance('{pair}') WHERE part = 'response'"
    )
    assert len(parts) == 3
    assert all(row[2] for row in parts)


async def test_what_was_asked_is_shown_again(project: Path) -> None:
    run = await run_once(project / "recipe.toml", project / "w", ["prompts.limit=2", "perturb.share=1.0"])
    kinds = set()
    for (prompt_id,) in table(project / "w", "SELECT id FROM prompts"):
        stored = Stored.load(Warehouse(project / "w"), run.run_id, prompt_id)
        asked = [row for row in stored.rows.values() if isinstance(row, Response | Judgement | Score)]
        for row in asked:
            replay = await replayed(stored, row)
            assert replay.doubt == ""
            assert replay.exchanges
            kinds.add(row.kind if isinstance(row, Response) else type(row).__name__)
            if isinstance(row, Response) and row.kind == "revision":
                parent = stored.rows[row.parent_id or ""]
                assert isinstance(parent, Response)
                assert parent.text in [turn.content for turn in replay.exchanges[0].messages]
    assert kinds == {"sample", "revision", "perturbation", "Judgement", "Score"}


async def test_its_answers_leave_as_those_of_any_chain(project: Path) -> None:
    run = await run_once(project / "recipe.toml", project / "w", [])
    start = "SELECT prompt_id, text FROM responses SEMI JOIN (FROM chain_answers WHERE step = 0) USING (id)"
    starts = dict(table(project / "w", start))

    def answers(rounds: Any) -> dict[str, str]:
        settings = Settings(format="sft", layout="messages", file_type="jsonl", rounds=rounds, test=0)
        done = export(project / "w", run.run_id, settings, project / f"out-{rounds}")
        lines = [line for file in done.files for line in (done.out / file.path).read_text("utf-8").splitlines()]
        return {row["prompt_id"]: row["messages"][-1]["content"] for row in map(json.loads, lines)}

    assert answers((0,)) == starts
    last = dict(table(project / "w", "SELECT prompt_id, text FROM responses WHERE kind = 'revision' AND round = 2"))
    assert answers("last") == last


# --- what is missing for a chain


NOTHING = "SELECT step, error, message, retryable FROM failures WHERE error = 'NothingToRevise'"


@pytest.mark.parametrize(
    ("policy", "judge", "why", "lost"),
    [
        (Speaks(lambda request: ""), Reads(), "none of 4 samples has text", 0),
        (Speaks(), Reads(fails={"brief?": RequestRefused("no")}), "none of 4 samples has a reward by rubric", 1),
        (Speaks(lambda request: RequestRefused("no")), Reads(), "there is no sample", 1),
    ],
)
async def test_where_no_sample_has_a_reward_there_is_no_chain(
    project: Path, policy: Engine, judge: Engine, why: str, lost: int
) -> None:
    run = await worked(project, policy, judge, 'judge.pairs=["first-last"]')
    root, message = project / "w", f"no chain starts: {why}"
    assert run.finished_at
    assert run.counts["lost"] == lost
    assert table(root, NOTHING) == [("start", "NothingToRevise", message, False)]
    [(state, at, by, rounds, samples, missing)] = table(root, STATES)
    assert (rounds, missing) == (None, [])
    if samples:
        assert (state, at, by) == ("stopped", "start", f"NothingToRevise: {message}")
    else:
        assert state == "failed"
    assert table(root, "SELECT count(*) FROM preferences") == [(0,)]
    assert table(root, "SELECT count(*) FROM responses WHERE kind NOT IN ('sample')") == [(0,)]
    stored = Stored.load(Warehouse(root), run.run_id, table(root, "SELECT id FROM prompts")[0][0])
    [row] = [row for row in stored.rows.values() if isinstance(row, Failure) and row.step == "start"]
    assert (await replayed(stored, row)).note == "no model was asked for it"


async def test_it_waits_for_every_sample_and_every_reward(project: Path) -> None:
    order = ["sample-hot-0", "sample-plain-1"]
    away = Speaks(lambda request: EngineUnavailable("away") if request.step == "sample-hot-0" else None)
    run = await worked(project, away, Reads(order))
    assert (run.counts["open"], run.finished_at) == (1, None)
    assert {request.step.partition("-")[0] for request in away.asked} == {"sample"}
    assert table(project / "w", STATES)[0][0] == "open"
    # The sample is there, and one of its readings is not: each is asked once in this start.
    judge = Reads(order, {"sample-hot-0": EngineUnavailable("away")})
    policy = Speaks()
    run = await worked(project, policy, judge)
    assert (run.counts["open"], run.finished_at) == (1, None)
    assert [request.step for request in policy.asked] == ["sample-hot-0"]
    failures = "SELECT step, count(*) FROM failures WHERE step LIKE 'reward-%' GROUP BY ALL"
    assert table(project / "w", failures) == [("reward-rubric", 1)]
    assert table(project / "w", STATES)[0][0] == "open"
    run = await worked(project, Speaks(), Reads(order))
    assert run.finished_at
    assert [row[1:] for row in table(project / "w", START)] == [("hot", 0)]
    assert table(project / "w", STATES)[0][0] == "complete"


async def test_a_chain_that_an_engine_failed_is_stopped_and_its_start_has_no_pair(project: Path) -> None:
    refuses = Speaks(lambda request: RequestRefused("no") if request.step == "critique-1" else None)
    run = await worked(project, refuses, Reads(["plain-2"]))
    assert (run.counts["lost"], bool(run.finished_at)) == (1, True)
    [(state, at, *_)] = table(project / "w", STATES)
    assert (state, at) == ("stopped", "critique-1")
    assert table(project / "w", "SELECT kind FROM training_pairs") == [("best-worst",)]
    spoiled = "SELECT DISTINCT a.sampler, a.round FROM responses AS v JOIN responses AS a ON a.id = v.parent_id"
    assert table(project / "w", spoiled) == [("plain", 2)]
    stored = Stored.load(Warehouse(project / "w"), run.run_id, table(project / "w", "SELECT id FROM prompts")[0][0])
    [row] = [row for row in stored.rows.values() if isinstance(row, Failure) and row.step == "critique-1"]
    [exchange] = (await replayed(stored, row)).exchanges
    assert any(turn.content.startswith("Said at sample-plain-2") for turn in exchange.messages)


async def test_a_sample_that_comes_later_changes_no_chain_that_was_begun(project: Path) -> None:
    order = ["sample-hot-0", "sample-plain-1"]
    fails = Speaks(lambda request: RequestRefused("no") if request.step == "sample-hot-0" else None)
    run = await worked(project, fails, Reads(order))
    assert (run.counts["lost"], bool(run.finished_at)) == (1, True)
    assert table(project / "w", STATES)[0][:2] == ("stopped", "sample-hot-0")
    assert [row[1:] for row in table(project / "w", START)] == [("plain", 1)]
    revisions = table(project / "w", "SELECT id, parent_id FROM responses WHERE kind = 'revision' ORDER BY round")
    policy = Speaks()
    run = await worked(project, policy, Reads(order), retry=True)
    assert (run.counts["lost"], bool(run.finished_at)) == (0, True)
    assert [request.step for request in policy.asked] == ["sample-hot-0"]
    # The better one is in the group, and in its pairs; the chain says what it was made from.
    assert table(
        project / "w", "SELECT sampler FROM groups JOIN responses AS r ON r.id = best_id WHERE source = 'rubric'"
    ) == [("hot",)]
    again = table(project / "w", "SELECT id, parent_id FROM responses WHERE kind = 'revision' ORDER BY round")
    assert again == revisions
    assert table(project / "w", STATES)[0][0] == "complete"
    stored = Stored.load(Warehouse(project / "w"), run.run_id, table(project / "w", "SELECT id FROM prompts")[0][0])
    for row in stored.responses:
        assert (await replayed(stored, row)).doubt == ""


async def test_a_chain_that_was_not_begun_starts_from_what_came_later(project: Path) -> None:
    order = ["sample-hot-0", "sample-plain-1"]
    fails = Speaks(lambda request: RequestRefused("no") if request.step in ("sample-hot-0", "critique-1") else None)
    await worked(project, fails, Reads(order))
    run = await worked(project, Speaks(), Reads(order), retry=True)
    assert run.counts["lost"] == 0
    assert [row[1:] for row in table(project / "w", START)] == [("hot", 0)]
    assert table(project / "w", STATES)[0][0] == "complete"
    # What failed was asked about another sample, and is not shown as if it were this one.
    stored = Stored.load(Warehouse(project / "w"), run.run_id, table(project / "w", "SELECT id FROM prompts")[0][0])
    [row] = [row for row in stored.rows.values() if isinstance(row, Failure) and row.step == "critique-1"]
    assert (await replayed(stored, row)).doubt.startswith("the chain starts from another sample")


async def test_readings_that_come_later_give_a_chain(project: Path) -> None:
    await worked(project, Speaks(), Reads(fails={"brief?": RequestRefused("no")}))
    run = await worked(project, Speaks(), Reads(["plain-1"]), retry=True)
    assert (run.counts["lost"], bool(run.finished_at)) == (0, True)
    assert table(project / "w", NOTHING)[0][3] is True  # it was tried again
    assert [row[1:] for row in table(project / "w", START)] == [("plain", 1)]
    assert table(project / "w", STATES)[0][0] == "complete"


async def test_a_revision_that_says_what_a_sample_said_has_its_reward(project: Path) -> None:
    """Also where a reading failed that the quorum does not wait for: it is not asked again for the same text."""
    says = {"revision-1": "Said by a sample.", "sample-plain-0": "Said by a sample."}
    policy = Speaks(lambda request: says.get(request.step))
    judge = Reads(["plain-1", "Said by"], {"Is it rude?": EngineUnavailable("away")})
    run = await worked(project, policy, judge, "reward.principles=[]", "reward.quorum=0.5")
    assert run.finished_at
    same = """
        SELECT kind, value, readings, missing FROM rewards JOIN responses AS r ON r.id = response_id
        WHERE text = 'Said by a sample.' AND source = 'rubric' ORDER BY kind"""
    first, second = table(project / "w", same)
    assert (first[0], second[0]) == ("revision", "sample")
    assert first[1:] == second[1:] == (pytest.approx(first[1]), 2, 1)
    calls = """
        SELECT kind, sum(scores.calls) FROM scores JOIN responses AS r ON r.id = response_id
        WHERE text LIKE 'Said by%' GROUP BY ALL ORDER BY ALL"""
    assert table(project / "w", calls) == [("revision", 0), ("sample", 2)]


# --- recipes


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("rounds = 2", "rounds = 0", r"revise: start: best needs rounds of 1 or more"),
        ("rounds = 2", "rounds = 2\ninitial = { max_tokens = 9 }", "revise: initial: with start = best no initial"),
        (
            "n = 3\n[sample.hot]\nn = 2\ntemperature = 1.5",
            "n = 1",
            r"(judge\.pairs|revise\.start): best.* needs two samples or more",
        ),
        ('"best"\nrounds', '"worst"\nrounds', r"revise\.start: has to be 'initial' or 'best'"),
    ],
)
def test_what_cannot_be_started_from_is_refused(project: Path, before: str, after: str, said: str) -> None:
    assert before in RECIPE
    (project / "recipe.toml").write_text(RECIPE.replace(before, after), encoding="utf-8")
    with pytest.raises(RecipeError, match=said):
        load_recipe(project / "recipe.toml")


def test_without_rewards_nothing_is_best(project: Path) -> None:
    head, _, rest = RECIPE.partition("[reward]")
    text = head + rest[rest.index("[judge]") :].replace(', "best-worst"', "")
    (project / "recipe.toml").write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=r"revise\.start: best goes by rewards, and there is no section \[reward\]"):
        load_recipe(project / "recipe.toml")


def test_where_chains_start_is_in_the_runs_id(project: Path) -> None:
    path = project / "recipe.toml"
    starts = [load_recipe(path, [f"revise.start={start}"]) for start in ("best", "initial")]
    assert len({prepare(recipe, path, project / "w").run_id for recipe in starts}) == 2
