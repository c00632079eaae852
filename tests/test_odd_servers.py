"""Runs against servers that are odd as real ones are, as policy and as judge: what is stored, and what is said."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from odd_habits import HABITS
from odd_modes import MODES, stopped, well
from odd_server import Body, OddServer, Reply, Role, Seen, events, project, refusal
from run_once import run_once
from small_project import ROOT, table

from constitution.engines.openai import endpoint as _endpoint
from constitution.engines.openai import fleet as _fleet
from constitution.records import Run

CASES = ROOT.parent / "shared" / "cases" / "odd_server.py"


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fleet, "BACKOFF_SECONDS", 0.02)
    monkeypatch.setattr(_fleet, "PROBE_MOST", 0.1)
    monkeypatch.setattr(_endpoint, "FIRST_PROBE_SECONDS", 0.02)


async def ran(folder: Path, role: Role, url: str, more: str = "", prompts: int = 3) -> tuple[Run, Seen]:
    recipe = project(folder / role, role, url, prompts, more)
    run = await run_once(recipe, folder / f"w-{role}", [])
    return run, Seen.of(run, folder / f"w-{role}")


@pytest.mark.parametrize(("number", "name"), list(enumerate({**MODES, **HABITS})))
async def test_each_habit_ends_as_it_must(number: int, name: str, tmp_path: Path) -> None:
    mode = (MODES | HABITS)[name]
    role = mode.role(number)
    async with OddServer(mode.odd) as server:
        run, seen = await ran(tmp_path, role, server.base_url)
    assert seen == mode.ends(role)
    said = events(run)
    assert any(mode.told in event for event in said) if mode.told else not said, said
    assert len(said) == len(set(said))
    assert (mode.why in run.stopped) if mode.why else run.stopped == "", run.stopped
    assert mode.sent(server.bodies[-1])
    assert run.models["policy" if role == "both" else role].get("sent", "") == mode.record


async def test_what_a_server_refuses_is_asked_once(tmp_path: Path) -> None:
    """And not by every request again: those in flight when it was found out are the only ones that are refused."""
    async with OddServer(MODES["gemini: seed"].odd) as server:
        run, _ = await ran(tmp_path, "policy", server.base_url, prompts=30)
    assert run.finished_at
    assert server.statuses.count(400) <= 8  # the window


async def test_rows_say_what_was_sent(tmp_path: Path) -> None:
    def odd(body: Body, nth: int) -> Reply | None:
        for name in ("seed", "temperature"):
            if name in body:
                return refusal(f"Unknown parameter: '{name}'.", param=name)
        return None

    async with OddServer(odd) as server:
        await ran(tmp_path, "policy", server.base_url)
    rows = table(tmp_path / "w-policy", "SELECT DISTINCT kind, seed, sampling.temperature FROM responses ORDER BY 1")
    assert rows == [("initial", None, 1.0), ("revision", None, 1.0)]


async def test_texts_end_where_a_stop_that_is_not_sent_would_have_ended_them(tmp_path: Path) -> None:
    async with OddServer(MODES["o-series: stop"].odd) as server:
        await ran(tmp_path, "policy", server.base_url)
    texts = table(tmp_path / "w-policy", "SELECT text, finish_reason FROM responses WHERE kind = 'initial'")
    assert all(re.fullmatch(r"Text \d+\.", text) and reason == "stop" for text, reason in texts)


async def test_the_recipe_leaves_any_field_out(tmp_path: Path) -> None:
    more = 'omit = ["seed", "top_p", "max_tokens"]\nextra_body = { max_completion_tokens = 77 }'
    async with OddServer(lambda body, nth: None) as server:
        run, seen = await ran(tmp_path, "policy", server.base_url, more)
    assert seen == well()
    assert events(run) == []
    assert all(not {"seed", "top_p", "max_tokens"} & body.keys() for body in server.bodies)
    assert {body["max_completion_tokens"] for body in server.bodies} == {77}
    assert table(tmp_path / "w-policy", "SELECT DISTINCT seed FROM responses") == [(None,)]


async def test_what_the_recipe_itself_sends_is_not_taken_out(tmp_path: Path) -> None:
    more = "extra_body = { seed = 5 }"
    async with OddServer(MODES["gemini: seed"].odd) as server:
        run, seen = await ran(tmp_path, "policy", server.base_url, more)
    assert seen == stopped("policy", "RequestRefused")
    assert "Unknown name" in run.stopped


# --- the servers that the issue came with


@contextmanager
def served(mode: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, str(CASES), mode, str(port)])
    try:
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", port), 0.1).close()
                break
            except OSError:
                time.sleep(0.02)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


TEMPLATE = "HTTP 400: default chat template is no longer allowed, so you must provide a chat template"
SIXTEEN: dict[tuple[str, Role], tuple[Seen, str, str]] = {
    ("plain", "policy"): (well(), "", ""),
    ("plain", "judge"): (well(), "", ""),
    ("no-logprobs", "policy"): (well(), "", ""),
    ("no-logprobs", "judge"): (stopped("judge", "MalformedReply"), "", "the reply has no log-probabilities"),
    ("error-in-200", "policy"): (well(), "HTTP 429: Rate limit exceeded", ""),
    ("error-in-200", "judge"): (well(), "HTTP 429: Rate limit exceeded", ""),
    ("no-max-tokens", "policy"): (well(), "max_completion_tokens is sent for max_tokens", ""),
    ("no-max-tokens", "judge"): (well(), "max_completion_tokens is sent for max_tokens", ""),
    ("top5", "policy"): (well(), "", ""),
    ("top5", "judge"): (well(), "top_logprobs is at most 5", ""),
    ("context", "policy"): (well(), "requests had fewer tokens left in the context than max_tokens", ""),
    ("context", "judge"): (well(), "the server does not tell a label's tokens", ""),
    ("alternate", "policy"): (well(), "neighbouring turns of one role are merged, and system turns put into", ""),
    ("alternate", "judge"): (well(), "the server does not tell a label's tokens", ""),
    ("no-template", "policy"): (stopped("policy", "RequestRefused"), "", TEMPLATE),
    ("no-template", "judge"): (stopped("judge", "RequestRefused"), "the server does not tell", TEMPLATE),
    ("quota", "policy"): (stopped("policy", "AccessDenied"), "", "engines: "),
    ("quota", "judge"): (stopped("judge", "AccessDenied"), "", "engines: "),
    ("think", "policy"): (well(), "", ""),
    ("think", "judge"): (well(), "", ""),
    ("thinking-cut", "policy"): (Seen(True, 0, 0, {"cut": 3}, 0, {}), "", ""),
    ("thinking-cut", "judge"): (well(), "the server does not tell a label's tokens", ""),
    ("refusal", "policy"): (
        Seen(
            *(True, 0, 0, {"refused": 3, "skipped": 3}, 0),
            {("initial", "AnswerRefused", False): 3, ("critique-1", "CritiqueRefused", False): 3},
        ),
        "",
        "",
    ),
    ("refusal", "judge"): (well(), "", ""),
    ("cached", "policy"): (well(), "more tokens were cached than the prompt has", ""),
    ("cached", "judge"): (well(), "more tokens were cached than the prompt has", ""),
    ("impossible", "policy"): (well(), "", ""),
    ("impossible", "judge"): (stopped("judge", "MalformedReply"), "", "2 tokens add up to 2"),
    ("other-model", "policy"): (well(), "replies are by another model's name", ""),
    ("other-model", "judge"): (well(), "replies are by another model's name", ""),
    ("not-utf8", "policy"): (stopped("policy", "MalformedReply"), "out of service", "the reply is not UTF-8"),
    ("not-utf8", "judge"): (stopped("judge", "MalformedReply"), "out of service", "the reply is not UTF-8"),
}


@pytest.mark.skipif(not CASES.is_file(), reason="the servers are not in this checkout")
@pytest.mark.parametrize("mode", sorted({mode for mode, _ in SIXTEEN}))
async def test_servers_of_the_cases(mode: str, tmp_path: Path) -> None:
    roles: tuple[Role, Role] = ("policy", "judge")
    with served(mode) as url:
        for role in roles:
            run, seen = await ran(tmp_path, role, url)
            ends, told, why = SIXTEEN[mode, role]
            # Two texts of the server may be the same by chance.
            assert replace(seen, outcomes={}, votes=0) == replace(ends, outcomes={}, votes=0)
            assert sum(seen.outcomes.values()) == sum(ends.outcomes.values())
            assert any(told in event for event in events(run)) if told else not events(run)
            assert (why in run.stopped) if why else not run.stopped
