"""An engine fails a prompt for good in a later round: what its chain has is paired, voted on and exported."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from chains import PRINCIPLES, Rows, Scripted, answer, labeller, prompt, said
from export_runs import make_export
from run_once import run_once
from small_project import small_project, table

from constitution.engines.base import Request
from constitution.pipeline import open_run, prepare
from constitution.recipe import JudgeSection, load_recipe
from constitution.records import Judgement, Preference
from rehearsal.server import FakeServer, Fault

RECIPE = """
name = "stopped"
constitution = "general@1.1.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "openai"
model = "fake"
base_url = "URL"
[model.judge]
engine = "fake"
[revise]
rounds = 3
exemplars = 0
[judge]
principles = 2
pairs = ["first-last", "parent"]
[output]
window = 8
flush_seconds = 0.05
"""
LONG = '{"error": {"message": "This model\'s maximum context length is 10 tokens.", "code": "context_length_exceeded"}}'


class Full:
    """The calls of some prompts from one on do not fit: by the prompt, how many do."""

    def __init__(self, fits: Mapping[str, int], status: int = 400) -> None:
        self.fits, self.status = dict(fits), status
        self.calls: Counter[str] = Counter()

    def __call__(self, body: Mapping[str, Any]) -> Fault | None:
        thing = body["messages"][0]["content"]
        self.calls[thing] += 1
        return Fault(status=self.status, body=LONG) if self.calls[thing] > self.fits.get(thing, 99) else None


THINGS = [f"How does thing {n} work?" for n in range(4)]
# Thing 0 has only its initial answer, 1 one round and a critique, 2 two rounds, 3 all three.
FITS = {THINGS[0]: 1, THINGS[1]: 4, THINGS[2]: 5}
ROUNDS = dict(zip(THINGS, (0, 1, 2, 3), strict=True))


async def test_rounds_before_a_final_failure_are_paired_voted_on_and_exported(tmp_path: Path) -> None:
    async with FakeServer(faults=Full(FITS)) as server:
        recipe = small_project(tmp_path, 4, RECIPE.replace("URL", server.base_url))
        run = await run_once(recipe, tmp_path / "w", [])
        assert run.finished_at
        assert run.counts["lost"] == 3
        again = await run_once(recipe, tmp_path / "w", [])
    assert again.finished_at == run.finished_at
    w = tmp_path / "w"
    asked = "SELECT q.last_user, c.rounds, c.state, c.stopped_at, split_part(c.stopped_by, ':', 1), c.pairs_missing"
    assert table(w, f"{asked} FROM chains c JOIN prompts q ON q.id = c.prompt_id ORDER BY 1") == [
        (THINGS[0], 0, "failed", "critique-1", "ContextTooLong", []),
        (THINGS[1], 1, "stopped", "revision-2", "ContextTooLong", []),
        (THINGS[2], 2, "stopped", "critique-3", "ContextTooLong", []),
        (THINGS[3], 3, "complete", None, None, []),
    ]
    pairs = "SELECT p.last_user, p.kind, p.votes > 0 OR p.drop_reason = 'identical' FROM pairs p ORDER BY ALL"
    assert table(w, pairs) == sorted(
        [(thing, "first-last", True) for thing, rounds in ROUNDS.items() if rounds]
        + [(thing, "parent", True) for thing, rounds in ROUNDS.items() for _ in range(rounds if rounds > 1 else 0)]
    )
    _, rows = make_export(w, run, tmp_path / "sft", "sft", rounds="last", test=0.0)
    assert {row["prompt"][0]["content"]: row["round"] for row in rows} == ROUNDS
    _, rows = make_export(w, run, tmp_path / "dpo", "dpo", test=0.0)
    kept = table(w, "SELECT count(*) FROM preferences WHERE kept")
    assert [(len(rows),)] == kept
    assert kept[0][0] > 0


@pytest.mark.parametrize("start", [1, 2])
async def test_what_may_still_come_is_waited_for_and_comes_once(start: int, tmp_path: Path) -> None:
    full = Full({THINGS[2]: 5}, status=500)
    async with FakeServer(faults=full) as server:
        recipe = small_project(tmp_path, 4, RECIPE.replace("URL", server.base_url))
        for _ in range(start):
            run = await run_once(recipe, tmp_path / "w", ["model.policy.retries=0"])
            assert (run.finished_at, run.counts["open"]) == (None, 1)
            pairs = "SELECT count(*) FROM pairs WHERE last_user = 'How does thing 2 work?'"
            assert table(tmp_path / "w", pairs) == [(0,)]
        full.fits = {}
        run = await run_once(recipe, tmp_path / "w", [])
        full.calls.clear()
        clean = await run_once(recipe, tmp_path / "clean", [])
    assert run.finished_at
    for what in ("responses", "judgements", "preferences"):
        rows = f"SELECT count(*), count(DISTINCT id), list(id ORDER BY id) FROM {what}"
        assert table(tmp_path / "w", rows) == table(tmp_path / "clean", rows)
    assert clean.run_id == run.run_id


async def test_a_chain_that_is_tried_again_is_paired_by_its_whole(tmp_path: Path) -> None:
    full = Full(FITS)
    async with FakeServer(faults=full) as server:
        recipe = small_project(tmp_path, 4, RECIPE.replace("URL", server.base_url))
        run = await run_once(recipe, tmp_path / "w", [])
        assert run.counts["lost"] == 3
        full.fits = {}
        full.calls.clear()
        plan = prepare(load_recipe(recipe, []), recipe, tmp_path / "w")
        async with open_run(plan, retry_failed=True) as session:
            await session.walk()
            run = await session.finish()
        full.calls.clear()
        await run_once(recipe, tmp_path / "clean", [])
    assert run.finished_at
    assert table(tmp_path / "w", "SELECT DISTINCT state FROM chains") == [("complete",)]
    for what in ("responses", "preferences"):
        rows = f"SELECT * EXCLUDE created_at FROM {what} ORDER BY id"
        assert table(tmp_path / "w", rows) == table(tmp_path / "clean", rows)
    # Votes on the pair of the shorter chain stay, as votes on no pair: they were asked and paid for.
    asked = (
        "SELECT (SELECT count(*) FROM judgements), (SELECT sum(votes) FROM preferences), "
        "(SELECT count(*) FROM averaged_votes)"
    )
    [(votes, counted, averaged)] = table(tmp_path / "w", asked)
    assert votes >= counted == 2 * averaged


# --- pairs of one prompt together

SECTION = JudgeSection(pairs=("first-last", "parent"))


async def test_the_pairs_of_a_prompt_are_voted_on_together() -> None:
    """All votes of all pairs are asked before the first is answered: no pair waits for another."""
    everyone, asked = asyncio.Event(), 0

    class Waiting(Scripted):
        async def generate(self, request: Request) -> Any:
            nonlocal asked
            asked += 1
            if asked == 4 * 2 * len(PRINCIPLES):
                everyone.set()
            await asyncio.wait_for(everyone.wait(), 20)
            return await super().generate(request)

    judge = Waiting(lambda request: said("", logprobs={"A": -0.1, "B": -3.0}), "judge")
    rows = Rows()
    answers = [answer(n, f"Answer {n}.") for n in range(4)]
    assert await labeller(SECTION, judge).label(prompt(), answers, {}, rows.put) == []
    labels = [row for row in rows.all if isinstance(row, Preference)]
    assert sorted((label.a_id, label.b_id) for label in labels) == [
        ("r0", "r1"), ("r0", "r3"), ("r1", "r2"), ("r2", "r3")
    ]  # fmt: skip
    # A pair's label comes after its votes.
    for label in labels:
        before = rows.all[: rows.all.index(label)]
        assert sum(isinstance(row, Judgement) and row.pair_id == label.id for row in before) == label.votes
