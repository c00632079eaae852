"""Scripted turns in a run: each is asked after the model's own answer, is a prompt like others, and is not asked where
there is no whole answer before it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chains import Scripted
from chains import said as completed
from pipeline_run import rows_of
from run_once import stop_midway
from small_project import small_project, table

from constitution.engines.base import Completion, Request
from constitution.errors import ContextTooLong, EngineUnavailable
from constitution.pipeline import lost, open_run, prepare
from constitution.recipe import load_recipe
from constitution.records import Run
from constitution.warehouse import Warehouse

RECIPE = """
name = "scripted"
constitution = "general@1.1.0"
[prompts]
path = "prompts.jsonl"
turns = "turns"
[model.policy]
engine = "fake"
[model.judge]
engine = "fake"
model = "fake-judge"
[revise]
rounds = 2
[judge]
principles = 1
pairs = ["first-last", "parent"]
[perturb]
share = 0.3
[output]
slice = 5
window = 4
flush_rows = 20
flush_seconds = 0.05
"""


def scripts(count: int) -> list[dict[str, Any]]:
    """Conversations of one to three turns; two begin alike, and two are the same."""
    rows = [
        {"turns": [f"How does {n} work?", f"Shorter, {n}.", f"And in verse, {n}."][: 1 + n % 3]} for n in range(count)
    ]
    rows[3] = {"turns": ["How does 2 work?", "In French."]}
    rows[4] = rows[1]
    return rows


async def work(recipe: Path, warehouse: Path, policy: Scripted | None = None, retry_failed: bool = False) -> Run:
    loaded = load_recipe(recipe)
    plan = prepare(loaded.with_engines({"policy": policy}) if policy else loaded, recipe, warehouse)
    if plan.finished and not (retry_failed and lost(plan)):
        return plan.run
    async with open_run(plan, retry_failed) as session:
        await session.walk()
        return await session.finish()


def told(odd: Callable[[Request], Completion | Exception | None]) -> Scripted:
    """A policy that says something else to every request, unless `odd` says otherwise."""

    def reply(request: Request) -> Completion | Exception:
        key = hashlib.sha256(repr((request.messages, request.seed)).encode()).hexdigest()[:8]
        return odd(request) or completed(f"Text {key}.")

    return Scripted(reply)


def asked(request: Request) -> str:
    """What the user said last, of an initial answer's request."""
    return request.messages[-1].content if request.step == "initial" else ""


async def test_each_turn_follows_the_last_answer_of_the_one_before(tmp_path: Path) -> None:
    recipe, root = small_project(tmp_path, scripts(12), RECIPE), tmp_path / "w"
    run = await work(recipe, root)
    assert run.finished_at
    assert (run.counts["prompts"], run.counts["turns"], run.counts["done"], run.counts["failures"]) == (12, 13, 12, 0)
    prompts = {
        (row[0], row[1]): row[2:]
        for row in table(root, "SELECT conversation_id, turn, id, messages, script FROM prompts")
    }
    assert len(prompts) == 25
    last = dict(table(root, "SELECT prompt_id, text FROM responses WHERE kind = 'revision' AND round = 2"))
    for (conversation, turn), (_, messages, script) in prompts.items():
        texts = [message["content"] for message in messages]
        assert [message["role"] for message in messages] == (["user", "assistant"] * turn)[:-1]
        if turn > 1:
            before, asked, before_script = prompts[conversation, turn - 1]
            assert texts[:-2] == [message["content"] for message in asked]
            assert texts[-2] == last[before]
            assert [texts[-1], *(script or [])] == before_script
        else:
            assert conversation == prompts[conversation, 1][0]
    states = table(root, "SELECT state, count(*) FROM chains GROUP BY ALL")
    assert states == [("complete", 25)]
    places = table(root, "SELECT count(DISTINCT (slice, position)), count(DISTINCT conversation_id) FROM prompts")
    assert places == [(12, 12)]
    assert table(root, "SELECT count(*) FROM perturbations")[0][0] > 0
    store = Warehouse(root)
    assert store.verify(run.run_id) == []
    assert (len(store.slices(run.run_id)), len(store.made("prompts", run.run_id))) == (3, 1)
    assert await work(recipe, root) == run, "nothing is left to do"


async def test_stopped_midway_it_comes_to_the_same_rows(tmp_path: Path) -> None:
    recipe = small_project(tmp_path, scripts(12), RECIPE)
    whole = await work(recipe, tmp_path / "whole")
    for done in (1, 6):
        await asyncio.to_thread(asyncio.run, stop_midway(recipe, tmp_path / "w", [], done))
    run = await work(recipe, tmp_path / "w")
    assert (run.run_id, run.starts) == (whole.run_id, 3)
    assert rows_of(tmp_path / "w", run.run_id, failures=True) == rows_of(tmp_path / "whole", run.run_id, failures=True)
    assert (run.counts, run.usage) == (whole.counts, whole.usage), "nothing was asked twice"
    columns = "SELECT * EXCLUDE (created_at) FROM prompts ORDER BY id"
    assert table(tmp_path / "w", columns) == table(tmp_path / "whole", columns)


FAULTS = {
    "refusal": ("AnswerRefused", "refused by the server"),
    "content_filter": ("ContentFiltered", "held back by the server's content filter"),
    "length": (None, "cut"),
    "empty": ("EmptyOutput", "no text"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_turn_without_a_whole_answer_ends_its_conversation(fault: str, tmp_path: Path) -> None:
    def odd(request: Request) -> Completion | None:
        if asked(request) == "Shorter, 2.":
            return completed("" if fault == "empty" else "No.", "stop" if fault == "empty" else fault)
        return None

    recipe = small_project(
        tmp_path,
        scripts(6),
        RECIPE.replace("rounds = 2", "rounds = 0").replace('pairs = ["first-last", "parent"]', "pairs = []"),
    )
    run = await work(recipe, tmp_path / "w", told(odd))
    assert run.finished_at
    assert (run.counts["turns"], run.counts["lost"], run.counts["open"]) == (6, 0, 0)
    error, why = FAULTS[fault]
    failures = table(tmp_path / "w", "SELECT step, error, message, retryable FROM failures WHERE step LIKE 'turn-%'")
    assert failures == [("turn-3", "TurnNotAsked", failures[0][2], False)]
    assert failures[0][2].startswith("turn 3 is not asked: of turn 2, its last answer")
    assert why in failures[0][2]
    others = table(tmp_path / "w", "SELECT error FROM failures WHERE step = 'initial'")
    assert others == ([(error,)] if error else [])
    [(turn,)] = table(
        tmp_path / "w", "SELECT turn FROM prompts JOIN failures AS f ON f.prompt_id = prompts.id WHERE step = 'turn-3'"
    )
    assert turn == 2, "the failure is of the turn that has no whole answer"
    assert run.counts["unsaid"] == run.counts["failures"]
    assert await work(recipe, tmp_path / "w", told(odd)) == run


async def test_an_engine_that_fails_a_turn_for_good_can_be_asked_again(tmp_path: Path) -> None:
    full = True

    def odd(request: Request) -> Exception | None:
        return ContextTooLong("too long") if full and asked(request) == "Shorter, 2." else None

    recipe = small_project(tmp_path, scripts(6), RECIPE)
    run = await work(recipe, tmp_path / "w", told(odd))
    assert run.finished_at
    assert (run.counts["turns"], run.counts["lost"]) == (6, 1)
    query = "SELECT step, error, retryable FROM failures ORDER BY step"
    assert table(tmp_path / "w", query) == [("initial", "ContextTooLong", False), ("turn-3", "TurnNotAsked", False)]
    full = False
    again = await work(recipe, tmp_path / "w", told(odd), retry_failed=True)
    assert again.finished_at
    assert (again.counts["turns"], again.counts["lost"]) == (7, 0)
    assert table(tmp_path / "w", query) == [("initial", "ContextTooLong", True), ("turn-3", "TurnNotAsked", True)]
    clean = await work(recipe, tmp_path / "clean", told(odd))
    assert rows_of(tmp_path / "w", run.run_id) == rows_of(tmp_path / "clean", clean.run_id)
    assert Warehouse(tmp_path / "w").verify(run.run_id) == []


async def test_a_turn_that_could_not_be_reached_stays_open(tmp_path: Path) -> None:
    away = True

    def odd(request: Request) -> Exception | None:
        return EngineUnavailable("away") if away and asked(request).startswith("Shorter") else None

    recipe = small_project(tmp_path, scripts(6), RECIPE)
    run = await work(recipe, tmp_path / "w", told(odd))
    assert not run.finished_at
    assert run.counts["open"] == 4
    assert table(tmp_path / "w", "SELECT count(*) FROM failures WHERE error = 'TurnNotAsked'") == [(0,)]
    away = False
    policy = told(odd)
    done = await work(recipe, tmp_path / "w", policy)
    assert done.finished_at
    first = [request for request in policy.requests if request.step == "initial"]
    assert len(first) == 6, "4 second turns and 2 third ones; no first turn is asked again"
    clean = await work(recipe, tmp_path / "clean", told(odd))
    assert rows_of(tmp_path / "w", run.run_id) == rows_of(tmp_path / "clean", clean.run_id)


@pytest.mark.parametrize("harmed", ["turns", "responses", "both"])
async def test_what_is_damaged_is_made_again_with_what_rests_on_it(harmed: str, tmp_path: Path) -> None:
    """With a policy that answers otherwise the second time: no later turn keeps an answer that is gone."""
    recipe, root = small_project(tmp_path, scripts(6), RECIPE), tmp_path / "w"
    run = await work(recipe, root, told(lambda request: None))
    before = rows_of(root, run.run_id)
    store = Warehouse(root)
    paths = store.made("prompts", run.run_id) if harmed != "responses" else []
    paths += store.parts("responses", run.run_id) if harmed != "turns" else []
    for path in paths:
        path.write_bytes(path.read_bytes()[:-50])
    assert len(store.verify(run.run_id)) == len(paths)
    with store.lock(run.run_id):
        store.repair(run.run_id)
    text = "Text" if harmed == "turns" else "Other"
    policy = Scripted(lambda request: completed(f"{text} {len(request.messages)} {request.seed}."))
    again = await work(recipe, root, policy)
    assert again.finished_at
    assert store.verify(run.run_id) == []
    assert again.counts["turns"] == 7
    if harmed == "turns":
        assert policy.requests == []
        assert rows_of(root, run.run_id) == before
    last = dict(table(root, "SELECT prompt_id, text FROM responses WHERE kind = 'revision' AND round = 2"))
    prompts = table(root, "SELECT conversation_id, turn, id, messages FROM prompts")
    by_place = {(conversation, turn): id for conversation, turn, id, _ in prompts}
    for conversation, turn, _, messages in prompts:
        if turn > 1:
            assert messages[-2]["content"] == last[by_place[conversation, turn - 1]]
