"""`constitution show`: the messages of every stored row are those that the server received for it, byte for byte."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from batch_servers import ChatBatchServer, Fate
from fingerprints import ALL, Body, Fingerprints, body_of, body_of_messages, mark_of, probabilities, shown
from messages_server import KEY, MessagesServer
from run_once import run_once, stop_midway
from shown_runs import CHAIN, METHODS, NEIGHBOURS, PROMPTS, RECIPE, TALK, Ran, project, runs, show
from small_project import table

from constitution.ask.stored import Exchange
from constitution.generate.failures import unsaid
from constitution.identity import seed
from constitution.pipeline import open_run, prepare
from constitution.recipe import load_recipe
from constitution.records import Failure, Judgement, Score
from constitution.warehouse import Warehouse
from rehearsal.faults import Fault
from rehearsal.server import FakeServer


@pytest.fixture(scope="module", params=METHODS)
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return asyncio.run(runs(tmp_path_factory.mktemp("shown"), request.param))


def came_back(body: Body, exchange: Exchange) -> bool:
    """Whether the reply that is shown is the one that the server gave."""
    mark, labels, reply = mark_of(body), exchange.request.choices, exchange.reply
    assert reply is not None
    if not labels:
        return reply.text is not None and mark in reply.text
    told = probabilities(mark, labels).values()
    shares = [probability / sum(told) for probability in told]
    return reply.shares == pytest.approx(shares) and reply.label_mass in (None, pytest.approx(sum(told)))


async def check(ran: Ran) -> Counter[str]:
    """Every row shows the bodies that it came of, and every body that was received is shown by the row that it is of.
    Returns what there was."""
    ledger, claimed = ran.ledger(), Counter[Body]()
    kinds: Counter[str] = Counter()
    for stored, row in ran.rows():
        replay = await show(stored, row)
        assert replay.doubt == ""
        showed = [ran.seen(shown(exchange)) for exchange in replay.exchanges]
        kinds[row.step.partition("-")[0] if isinstance(row, Failure) else type(row).__name__] += 1
        if not isinstance(row, Failure):
            assert showed == ledger.of(row)
            assert all(map(came_back, showed, replay.exchanges))
            # Answers of one text are asked of once for all.
            claimed = claimed | Counter(showed) if isinstance(row, Score) else claimed + Counter(showed)
            continue
        of = next((each for each in stored.responses if (said := unsaid(each)) and said.id == row.id), None)
        if of is not None:  # it follows from an answer that is stored
            kinds["unsaid"] += 1
            assert showed == ledger.of(of)
            continue
        [failed] = ledger.of(row)
        if "holds what a call before it had replied" in replay.note:
            kinds["not built"] += 1
            assert failed not in showed
            showed.append(failed)
        assert failed in showed
        claimed.update(showed)
    assert claimed == ran.received
    return kinds


async def test_every_row_shows_the_bodies_that_it_came_of(ran: Ran) -> None:
    kinds = await check(ran)
    assert {"Response", "Judgement"} <= kinds.keys()
    if ran.method == "label":
        assert {"Score", "Counterfactual", "vote", "unsaid", "not built"} <= kinds.keys()


async def test_every_row_shows_what_the_messages_api_received(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESSAGES_KEY", KEY)
    async with MessagesServer(engine=Fingerprints()) as server:
        recipe = RECIPE.replace("{url}", server.base_url).replace(
            "retries = 0", 'retries = 0\ndialect = "anthropic"\napi_key_env = "MESSAGES_KEY"'
        )
        path = project(tmp_path, recipe, [*PROMPTS, NEIGHBOURS])
        run = await run_once(path, tmp_path / "warehouse", list(METHODS["verdict"]))
    ran = Ran(tmp_path, run.run_id, "messages", Counter(map(body_of_messages, server.bodies)))
    assert (await check(ran)).keys() >= {"Response", "Judgement"}
    votes = [(stored, row) for stored, row in ran.rows() if isinstance(row, Judgement)]
    assert {(await show(stored, row)).unsent for stored, row in votes} == {("seed",)}


async def test_every_row_shows_what_batches_had(tmp_path: Path) -> None:
    fates = (Fate("expired", answered=3),)
    async with ChatBatchServer(fates=fates, fake=FakeServer(Fingerprints(), prefix="continue")) as server:
        batch = "retries = 2\nbatch = true\nbatch_wait_s = 0.02\nbatch_poll_s = 0.005\n" + server.about
        recipe = RECIPE.replace("{url}", server.base_url).replace("retries = 0", batch)
        run = await run_once(project(tmp_path, recipe), tmp_path / "warehouse", [])
        received = Counter({body_of(json.loads(body)): times for body, times in server.paid.items()})
        assert server.batched
    assert (await check(Ran(tmp_path, run.run_id, "label", received))).keys() >= {"Response", "Judgement"}


class Strict:
    """A chat template that takes turns in alternation alone; the bodies that it refused."""

    def __init__(self) -> None:
        self.refused: list[Body] = []

    def __call__(self, body: Mapping[str, Any]) -> Fault | None:
        roles = [turn["role"] for turn in body["messages"] if turn["role"] != "system"]
        if all(one != other for one, other in pairwise(roles)) and "system" not in [
            t["role"] for t in body["messages"][1:]
        ]:
            return None
        self.refused.append(body_of(body))
        return Fault(400, body='{"error": {"message": "Conversation roles must alternate user/assistant/user/..."}}')


async def test_turns_are_shown_as_a_strict_template_had_them(tmp_path: Path) -> None:
    strict = Strict()
    async with FakeServer(Fingerprints(), labels=ALL, faults=strict) as server:
        path = project(tmp_path, RECIPE.replace("{url}", server.base_url), [NEIGHBOURS, TALK])
        run = await run_once(path, tmp_path / "warehouse", [])
        received = Counter(body_of(each.body) for each in server.requests)
    assert strict.refused
    await check(Ran(tmp_path, run.run_id, "label", received - Counter(strict.refused)))


NO = Fault(400, body='{"error": {"message": "no"}}')


async def test_rows_of_chains_that_failed_and_were_tried_again(tmp_path: Path) -> None:
    """They fail twice in their second round, and what there was by then is spoiled and voted on."""
    lost: set[int] = set()
    async with FakeServer(
        Fingerprints(), labels=ALL, faults=lambda body: NO if body["seed"] in lost else None
    ) as server:
        path = project(tmp_path, RECIPE.replace("{url}", server.base_url), PROMPTS[:4])
        for fails in (True, True, False):
            plan = prepare(load_recipe(path, CHAIN), path, tmp_path / "warehouse")
            prompts = [prompt for part in plan.parts for prompt in Warehouse(plan.warehouse).read_prompts(part)]
            lost = {seed(plan.recipe.seed, prompt.id, "critique", 2) for prompt in prompts if fails}
            async with open_run(plan, retry_failed=True) as session:
                await session.walk()
                run = await session.finish()
        received = {body_of(each.body) for each in server.requests}
    ran = Ran(tmp_path, run.run_id, "label", Counter(received))
    kinds: Counter[str] = Counter()
    for stored, row in ran.rows():
        replay = await show(stored, row)
        assert replay.doubt == ""
        assert {shown(exchange) for exchange in replay.exchanges} <= received
        kinds[row.error if isinstance(row, Failure) else type(row).__name__] += 1
    assert kinds["RequestRefused"] >= 8
    [(earlier,)] = table(ran.root, "SELECT count(*) FROM judgements WHERE pair_id NOT IN (SELECT id FROM preferences)")
    assert earlier > 0


async def test_rows_of_a_run_that_was_stopped_and_resumed(tmp_path: Path) -> None:
    async with FakeServer(Fingerprints(), labels=ALL) as server:
        path = project(tmp_path, RECIPE.replace("{url}", server.base_url), [f"Of {n}?" for n in range(10)])
        await stop_midway(path, tmp_path / "warehouse", ["output.window=3"], 3)
        run = await run_once(path, tmp_path / "warehouse", ["output.window=6"])
        assert run.starts == 2
        received = Counter(body_of(each.body) for each in server.requests)
    # Those whose replies did not become rows were sent twice.
    kinds = await check(Ran(tmp_path, run.run_id, "label", Counter(received.keys())))
    assert kinds["Response"] == 10 * 4
    assert kinds["Judgement"] > 10 * 2
