"""`constitution show`: the messages of every stored row are those that the server received for it, byte for byte."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from fingerprints import ALL, Body, Fingerprints, body_of, body_of_messages, shown
from messages_server import KEY, MessagesServer
from run_once import run_once, stop_midway
from shown_runs import METHODS, RECIPE, Ran, project, runs, show

from constitution.generate.failures import unsaid
from constitution.records import Failure, Judgement, Score
from rehearsal.server import FakeServer


@pytest.fixture(scope="module", params=METHODS)
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return asyncio.run(runs(tmp_path_factory.mktemp("shown"), request.param))


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
        run = await run_once(project(tmp_path, recipe), tmp_path / "warehouse", list(METHODS["verdict"]))
    ran = Ran(tmp_path, run.run_id, "messages", Counter(map(body_of_messages, server.bodies)))
    assert (await check(ran)).keys() >= {"Response", "Judgement"}
    votes = [(stored, row) for stored, row in ran.rows() if isinstance(row, Judgement)]
    assert {(await show(stored, row)).unsent for stored, row in votes} == {("seed",)}


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
