"""A server that refuses every request of a step stops the run, and no prompt is lost to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from odd_server import Body, OddServer, Reply, Seen, project, refusal
from pipeline_run import rows_of
from run_once import run_once
from small_project import table

from constitution.engines.base import Request
from constitution.errors import EngineError, EngineUnavailable, MalformedReply, RequestRefused
from constitution.pipeline.proven import ENOUGH, Proving
from constitution.records import Message, Sampling


def request(prompt: int, step: str = "initial") -> Request:
    return Request((Message("user", "Hi"),), Sampling(), 1, affinity=f"p{prompt}", step=step)


def flagged() -> EngineError:
    error = RequestRefused("content management policy")
    error.flagged = True
    return error


class Watched:
    """A step of one engine, as it is watched."""

    def __init__(self, earlier: tuple[str, ...] = (), able: bool = True) -> None:
        self.stopped: list[str] = []
        self.proving = Proving("judge", earlier, self.stopped.append, able=able)

    def refuse(
        self,
        *prompts: int,
        step: str = "initial",
        why: Callable[[], EngineError] = lambda: RequestRefused("no template"),
    ) -> EngineError:
        """The last one's error."""
        for prompt in prompts:
            self.proving.begun(request(prompt, step))
        errors = [why() for _ in prompts]
        for prompt, error in zip(prompts, errors, strict=True):
            self.proving.ended(request(prompt, step), error)
        return errors[-1]

    def answer(self, prompt: int, step: str = "initial") -> None:
        self.proving.begun(request(prompt, step))
        self.proving.ended(request(prompt, step), None)


def test_the_first_prompts_that_were_asked_decide() -> None:
    watched = Watched()
    watched.proving.begun(request(0))  # a slow one: it may yet be answered
    assert watched.refuse(*range(1, 30)).retryable
    assert watched.stopped == []
    watched.refuse(0)
    assert watched.stopped == []  # asked twice, and one of the two is in flight
    watched.proving.ended(request(0), RequestRefused("no template"))
    assert watched.stopped == [
        "servers: judge refused the step initial to all it was asked for (30 prompts): no template"
    ]
    sentence = Watched()
    sentence.refuse(*range(ENOUGH), why=lambda: RequestRefused("Use a template."))
    assert sentence.stopped[0].endswith(": Use a template")  # another sentence follows
    answered = Watched()
    answered.proving.begun(request(0))
    answered.refuse(*range(1, 30))
    answered.proving.ended(request(0), None)
    answered.proving.decide()
    assert answered.stopped == []
    assert not answered.refuse(31).retryable  # of that prompt alone


def test_prompts_count_and_not_requests_nor_outages() -> None:
    watched = Watched()
    for _ in range(3 * ENOUGH):
        watched.refuse(1)
    watched.refuse(*range(2, 99), why=lambda: EngineUnavailable("gone"))
    assert not watched.refuse(*range(100, 130), why=flagged).retryable
    assert watched.stopped == []
    for prompt in range(2, ENOUGH + 1):
        assert watched.stopped == []
        watched.refuse(prompt, why=lambda: MalformedReply("no log-probabilities"))
    assert len(watched.stopped) == 1


def test_steps_are_by_themselves_and_rounds_are_not() -> None:
    watched = Watched()
    watched.answer(1)
    watched.answer(1, "critique-1")
    assert not watched.refuse(2, step="critique-2").retryable
    assert watched.refuse(2, step="revision-1").retryable
    assert watched.refuse(2, step="").retryable is False  # nothing that a run asks for


def test_a_few_that_are_left_are_refused_for_good_where_earlier_starts_had_answers() -> None:
    for earlier, few, stops in (
        ((), 1, True),
        (("initial",), 1, False),
        (("initial",), ENOUGH - 1, False),
        (("vote",), 1, True),
    ):
        watched = Watched(earlier)
        watched.refuse(*range(few))
        assert watched.proving.early("p0")
        watched.proving.decide()
        assert bool(watched.stopped) is stops
        assert watched.refuse(0).retryable is stops
    assert not Watched(able=False).refuse(1).retryable


# --- whole runs


def number(body: Body) -> int:
    text = " ".join(message["content"] for message in body["messages"])
    return int(text.split("How does thing ")[1].split()[0])


class Switch:
    """A server that refuses what `refuses` says, as long as it is on."""

    def __init__(self, refuses: Mapping[str, Any]) -> None:
        self.on, self._refuses = True, refuses

    def __call__(self, body: Body, nth: int) -> Reply | None:
        things, steps = self._refuses.get("things"), self._refuses.get("steps")
        text = body["messages"][-1]["content"]
        step = "critique" if "critique" in text.lower() else "initial" if text.startswith("How") else "other"
        if self.on and (things is None or number(body) in things) and (steps is None or step in steps):
            return refusal("default chat template is no longer allowed, so you must provide a chat template")
        return None


@pytest.mark.parametrize("window", [1, 8])
async def test_no_prompt_is_lost_to_a_server_without_a_template(window: int, tmp_path: Path) -> None:
    switch = Switch({})
    settings = [f"output.window={window}"]
    async with OddServer(switch) as server:
        recipe = project(tmp_path / "p", "policy", server.base_url, 30)
        run = await run_once(recipe, tmp_path / "w", settings)
        assert run.stopped.startswith("servers: policy refused the step initial to all it was asked for (")
        assert run.stopped.endswith("so you must provide a chat template")
        assert (run.counts["lost"], run.finished_at) == (0, None)
        assert ENOUGH <= len(server.bodies) <= ENOUGH + window
        switch.on = False
        done = await run_once(recipe, tmp_path / "w", settings)
        clean = await run_once(recipe, tmp_path / "clean", settings)
    assert (done.stopped, done.counts["open"], done.counts["lost"]) == ("", 0, 0)
    assert done.finished_at
    assert rows_of(tmp_path / "w", done.run_id) == rows_of(tmp_path / "clean", clean.run_id)


async def test_a_later_step_that_is_refused_stops_before_many_answers_are_paid_for(tmp_path: Path) -> None:
    async with OddServer(Switch({"steps": ["critique"]})) as server:
        run = await run_once(project(tmp_path / "p", "policy", server.base_url, 40), tmp_path / "w", [])
    assert "policy refused the step critique" in run.stopped
    assert run.counts["lost"] == 0
    assert run.counts["responses"] <= ENOUGH + 8 + 8


async def test_prompts_that_were_refused_too_early_to_know_are_asked_again_and_lost_then(tmp_path: Path) -> None:
    async with OddServer(Switch({"things": [0, 1, 20]})) as server:
        recipe = project(tmp_path / "p", "policy", server.base_url, 24)
        run = await run_once(recipe, tmp_path / "w", ["output.window=2"])
        asked = [number(body) for body in server.bodies]
    seen = Seen.of(run, tmp_path / "w")
    assert (seen.finished, seen.open, seen.lost) == (True, 0, 3)
    assert seen.failures == {("initial", "RequestRefused", True): 2, ("initial", "RequestRefused", False): 3}
    assert [asked.count(thing) for thing in (0, 1, 20)] == [2, 2, 1]
    assert run.counts["done"] == 24


async def test_with_stop_at_failures_1_all_is_final_at_once(tmp_path: Path) -> None:
    async with OddServer(Switch({})) as server:
        recipe = project(tmp_path / "p", "policy", server.base_url, 10)
        run = await run_once(recipe, tmp_path / "w", ["output.stop_at_failures=1"])
        assert len(server.bodies) == 10
    assert (run.stopped, run.counts["lost"], run.counts["open"]) == ("", 10, 0)
    assert run.finished_at


async def test_the_last_open_prompt_of_a_run_does_not_keep_it_open(tmp_path: Path) -> None:
    """It was open for an outage, and is refused now: earlier starts had answers of the step."""
    away = {7}

    def odd(body: Body, nth: int) -> Reply | None:
        if number(body) != 7:
            return None
        return Reply({"choices": []}) if away else refusal("no")

    async with OddServer(odd) as server:
        recipe = project(tmp_path / "p", "policy", server.base_url, 10)
        run = await run_once(recipe, tmp_path / "w", [])
        assert (run.counts["open"], run.stopped) == (1, "")
        away.clear()
        done = await run_once(recipe, tmp_path / "w", [])
    assert done.finished_at
    assert (done.counts["open"], done.counts["lost"]) == (0, 1)
    assert table(tmp_path / "w", "SELECT count(*) FROM failures WHERE NOT retryable") == [(1,)]
