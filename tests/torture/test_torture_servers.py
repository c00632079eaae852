"""Faults of servers, seen from the run: what its tables say at the end, how often a server was asked, when it stops.

What one engine or one fleet does with a fault is tested in tests/test_engine_openai.py and tests/test_fleet*.py; a
fleet that loses a server in mid-run in tests/test_fleet_run.py.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import wild_server as wild
from click.testing import CliRunner
from conftest import Torture
from fleet_servers import until
from pipeline_run import rows_of
from run_once import run_once
from small_project import table
from wild_server import Act, WildServer, edits, project, says, thing, top

from constitution.cli import run as run_command
from constitution.engines.openai import endpoint as _endpoint
from constitution.engines.openai import fleet as _fleet
from constitution.engines.openai import http as _http
from constitution.pipeline import admission as intake
from constitution.records import Judgement, Run
from rehearsal.server import FakeServer

CALLS = 5
"""Of a prompt: answer, critique, revision, and two votes."""


@dataclass(frozen=True)
class Case:
    act: Act
    ends: str = "well"
    """well: asked again at once, and nothing is to be seen in the tables; open: a Failure, tried again by the next
    start; lost: a Failure for good; by the class of the error where it is not `well`, e.g. `open MalformedReply`."""
    vote: bool = False
    """It befalls the prompt's first vote, and not its first request."""


def message(text: str) -> str:
    return json.dumps({"error": {"message": text}})


LOGPROB_FAULTS: dict[str, Any] = {
    "no log-probabilities": wild.choice(logprobs=None),
    "no content in them": wild.choice(logprobs={"content": []}),
    "no top tokens": top(),
    "NaN for a log-probability": top(("A", math.nan), ("B", -1.0)),
    "infinity for a log-probability": top(("A", math.inf), ("B", -1.0)),
    "a log-probability above zero": top(("A", 0.5), ("B", -1.0)),
    "a log-probability of 400 digits": top(("A", 10**400), ("B", -1.0)),
    "a word for a log-probability": top(("A", "likely"), ("B", -1.0)),  # type: ignore[arg-type]
}
CASES = [
    *(Case(says(f"{status}", status), "well") for status in (408, 500, 502, 503, 504, 529)),
    Case(says("429", 429)),
    Case(says("429, seconds", 429, Retry_After="0.1")),
    Case(says("429, a date", 429, Retry_After="DATE")),
    Case(says("429, nonsense", 429, Retry_After="soon")),
    Case(says("503, not a number of seconds", 503, Retry_After="nan")),
    Case(says("500, deep JSON", 500, "[" * 100_000)),
    Case(says("500, thousands of digits", 500, '{"error": ' + "9" * 5000 + "}")),
    Case(wild.reset),
    Case(wild.cut),
    Case(wild.hang),
    Case(wild.trickle),
    Case(wild.no_http),
    Case(wild.giant),
    Case(wild.bomb),
    Case(wild.badly_packed),
    Case(wild.packed, "sound"),
    Case(wild.twice_headed, "sound"),
    Case(says("an HTML page with 200", 200, "<html><body>Bad gateway</body></html>")),
    Case(says("an empty body", 200, "")),
    Case(says("half of a JSON", 200, '{"choices": [{"message": {"content": "Li')),
    Case(says("deep JSON", 200, "[" * 100_000)),
    Case(says("thousands of digits", 200, "9" * 5000)),
    Case(says("404, once", 404, message("The model `fake` does not exist."))),
    Case(edits("null", lambda reply: "null"), "open MalformedReply"),
    Case(edits("a list", lambda reply: [reply]), "open MalformedReply"),
    Case(edits("no choices", lambda reply: reply.update(choices=[])), "open MalformedReply"),
    Case(edits("choices null", lambda reply: reply.update(choices=None)), "open MalformedReply"),
    Case(edits("choices a word", lambda reply: reply.update(choices="x")), "open MalformedReply"),
    Case(edits("message null", wild.choice(message=None)), "open MalformedReply"),
    Case(edits("content a number", wild.choice(message={"content": 7})), "open MalformedReply"),
    Case(edits("no finish_reason", wild.choice(finish_reason=None)), "open MalformedReply"),
    *(Case(edits(name, edit), "open MalformedReply", vote=True) for name, edit in LOGPROB_FAULTS.items()),
    Case(edits("log-probabilities of other tokens", top(("X", -0.1), ("Y", -2.0))), "lost MalformedReply", vote=True),
    Case(edits("impossible labels", top(("A", -math.inf), ("B", -math.inf))), "lost MalformedReply", vote=True),
    Case(says("401", 401), "open AccessDenied"),
    Case(says("402", 402), "open AccessDenied"),
    Case(says("403", 403), "lost RequestRefused"),
    Case(says("400", 400), "lost RequestRefused"),
    Case(says("302", 302, "", Location="http://127.0.0.1:1/v1"), "lost RequestRefused"),
    Case(says("context too long", 400, message("maximum context length is 10 tokens")), "lost ContextTooLong"),
    Case(says("413, context", 413, message("prompt is too long")), "lost ContextTooLong"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of milliseconds, and small bodies for giant ones: what is waited for is the same."""
    monkeypatch.setattr(_fleet, "BACKOFF_SECONDS", 0.02)
    monkeypatch.setattr(_fleet, "BACKOFF_MOST", 0.2)
    monkeypatch.setattr(_fleet, "PROBE_MOST", 0.1)
    monkeypatch.setattr(_endpoint, "FIRST_PROBE_SECONDS", 0.02)
    monkeypatch.setattr(_http, "REPLY_MOST", 2**20)


def once(acts: Mapping[int, Case]) -> Callable[[Mapping[str, Any]], Act | None]:
    """Each prompt's act on its first request, or on its first vote."""
    left = dict(acts)

    def play(body: Mapping[str, Any]) -> Act | None:
        case = left.get(thing(body))
        if case is None or case.vote != bool(body.get("logprobs")):
            return None
        return left.pop(thing(body)).act

    return play


CALM: dict[int, tuple[Path, Run, dict[str, Any]]] = {}


async def clean(folder: Path, prompts: int) -> tuple[Path, Run, dict[str, Any]]:
    """The undisturbed run of so many prompts, made once: its warehouse, its record and its rows."""
    if prompts not in CALM:
        async with FakeServer() as calm:
            run = await run_once(project(folder / "calm", [calm.base_url], prompts), folder / "clean", [])
        assert run.finished_at
        CALM[prompts] = folder / "clean", run, rows_of(folder / "clean", run.run_id)
    return CALM[prompts]


def prompt_ids(warehouse: Path, run_id: str) -> dict[int, str]:
    rows = table(warehouse, f"SELECT id, messages[1].content FROM prompts WHERE run_id = '{run_id}'")
    return {int(text.split()[3]): id for id, text in rows}


async def test_each_fault_leaves_what_it_must_in_the_tables_and_no_more(tmp_path: Path, torture: Torture) -> None:
    """One fault for each prompt of a run but every third."""
    cases = random.Random(f"{torture.seed}/faults of servers").sample(CASES, len(CASES) if torture.full else 12)
    prompts = 2 * len(cases)  # as not all of them are voted on
    kept, calm, rows = await clean(tmp_path, prompts)
    voted = {row.prompt_id for row in rows.values() if isinstance(row, Judgement)}
    acts: dict[int, Case] = {}
    for number, id in sorted(prompt_ids(kept, calm.run_id).items()):
        if number % 3 and cases and (id in voted or not cases[-1].vote):
            acts[number] = cases.pop()
    assert not cases
    async with WildServer(once(acts)) as server:
        recipe = project(tmp_path / "hurt", [server.base_url], prompts)
        run = await run_once(recipe, tmp_path / "w", [])
        assert run.stopped == ""
        assert server.served == Counter(case.act.__name__ for case in acts.values())
        torture.count("faults of servers", server.served.total())
        per_thing = server.per_thing.copy()
        assert server.sent < 2**24  # of 2**28 bytes
        ids = prompt_ids(tmp_path / "w", run.run_id)
        failed = defaultdict(set)
        for id, error, retryable in table(tmp_path / "w", "SELECT prompt_id, error, retryable FROM failures"):
            failed[id].add(f"{'open' if retryable else 'lost'} {error}")
        complete = dict(table(tmp_path / "w", "SELECT prompt_id, complete FROM chains"))
        early: list[int] = []
        for number, id in ids.items():
            case = acts.get(number, Case(wild.packed, "sound"))
            name = f"{number}: {case.act.__name__}"
            if case.ends in ("well", "sound"):
                assert failed[id] <= {"lost EmptyOutput", "lost CritiqueRefused"}, name
                assert complete[id], name
                assert CALLS + (case.ends == "well") - 2 <= per_thing[number], name
                assert per_thing[number] <= CALLS + 4, name  # others' faults may take the server away in between
            else:
                # A step that no prompt has got through yet is asked again, now or by the next start.
                is_early = case.ends not in failed[id] and case.ends.replace("lost", "open") in failed[id]
                early += [number] if is_early else []
                assert is_early or case.ends in failed[id], name
                assert per_thing[number] == (CALLS if case.vote else 1), name  # it was not asked again
        assert len(early) <= 8, "no more than a window of prompts"
        opened = {number for number, case in acts.items() if case.ends.startswith("open")}
        opened |= {number for number in early if not complete[ids[number]]}
        assert (run.counts["open"], run.finished_at) == (len(opened), None)
        done = await run_once(recipe, tmp_path / "w", [])
    assert done.finished_at
    lost = {ids[number] for number, case in acts.items() if case.ends.startswith("lost")}
    assert calm.run_id == done.run_id
    hurt = rows_of(tmp_path / "w", done.run_id)
    assert {id: row for id, row in hurt.items() if row.prompt_id not in lost} == {
        id: row for id, row in rows.items() if row.prompt_id not in lost
    }
    assert hurt.keys() <= rows.keys()


# --- servers that are gone, keys that are refused


class Switch:
    """Whether the server plays `act` for every request from now on: after `sound` sound ones."""

    def __init__(self, act: Act, sound: int) -> None:
        self.act, self.sound, self.on = act, sound, True

    def __call__(self, body: Mapping[str, Any]) -> Act | None:
        self.sound -= 1
        return self.act if self.on and self.sound < 0 else None


def failures(warehouse: Path) -> Counter[str]:
    rows = table(warehouse, "SELECT error, count(DISTINCT prompt_id) FROM failures GROUP BY ALL")
    return Counter(dict(rows)) - Counter(EmptyOutput=10**6, CritiqueRefused=10**6)


PROMPTS = 16
GONE = [
    (wild.reset, "EngineGone", " out of service since "),
    (says("500 for ever", 500), "EngineGone", " out of service since "),
    (
        says("404 for ever", 404, message("The model `fake` does not exist.")),
        "EngineGone",
        "HTTP 404: The model `fake`",
    ),
    (says("401 for ever", 401, message("Incorrect API key")), "AccessDenied", "HTTP 401: Incorrect API key"),
    (says("402 for ever", 402, message("No money")), "AccessDenied", "HTTP 402: No money"),
    (says("429 for an hour", 429, message("Quota"), Retry_After="3600"), "EngineGone", "it asks to wait 3600 s"),
]


@pytest.mark.parametrize(("act", "error", "words"), GONE, ids=lambda value: getattr(value, "__name__", None))
async def test_a_run_whose_servers_are_gone_stops_and_goes_on_later(
    tmp_path: Path, torture: Torture, act: Act, error: str, words: str
) -> None:
    if not torture.full and act.__name__ not in ("reset", "401 for ever"):
        pytest.skip("one of each kind is enough for the short version")
    switch = Switch(act, 12)
    async with WildServer(switch) as server:
        recipe = project(tmp_path / "hurt", [server.base_url], PROMPTS)
        run = await run_once(recipe, tmp_path / "w", ["model.policy.timeout_s=0.5"])
        torture.count("faults of servers", server.served.total())
        assert server.served[act.__name__]
        assert run.finished_at is None
        assert run.stopped.startswith("engines: ")
        assert words in run.stopped
        assert server.base_url in run.stopped
        failed = failures(tmp_path / "w")
        assert failed[error]
        assert failed.total() <= 2 * 8  # the window, and what was taken up until it was known
        assert run.counts["done"] < PROMPTS
        # Each of these had one request in flight, and that its six retries.
        assert server.served.total() <= 2 * 8 * 7
        switch.on = False
        done = await run_once(recipe, tmp_path / "w", [])
    assert (done.stopped, done.counts["done"], done.counts["open"], done.counts["lost"]) == ("", PROMPTS, 0, 0)
    assert done.finished_at
    _, _, rows = await clean(tmp_path, PROMPTS)
    assert rows_of(tmp_path / "w", done.run_id) == rows


async def test_a_server_that_comes_back_with_other_weights_stays_out(tmp_path: Path, torture: Torture) -> None:
    switch = Switch(wild.reset, 12)
    async with WildServer(switch) as server:
        recipe = project(tmp_path / "hurt", [server.base_url], PROMPTS)
        task = asyncio.create_task(run_once(recipe, tmp_path / "w", ["model.policy.timeout_s=1"]))
        await until(lambda: bool(server.served))
        server.root = "another"
        switch.on = False
        run = await task
        torture.count("faults of servers", server.served.total())
        assert "serves other weights than before, another and not fake" in run.stopped
        server.root = "fake"
        assert (await run_once(recipe, tmp_path / "w", [])).finished_at


async def test_one_of_a_fleet_that_has_no_such_model_any_more_is_left_and_the_run_goes_on(
    tmp_path: Path, torture: Torture
) -> None:
    act = says("404 for ever", 404)
    async with WildServer(Switch(act, 12)) as first, FakeServer() as second:
        recipe = project(tmp_path / "hurt", [first.base_url, second.base_url], PROMPTS)
        run = await run_once(recipe, tmp_path / "w", [])
        torture.count("faults of servers", first.served.total())
    assert first.served
    assert run.finished_at
    assert run.counts["lost"] == 0
    assert any("HTTP 404" in event for event in run.engines["policy"]["events"])
    _, _, rows = await clean(tmp_path, PROMPTS)
    assert rows_of(tmp_path / "w", run.run_id) == rows


def test_the_command_says_which_servers_are_gone_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def flow(path: str, warehouse: str, *_: object) -> Run:
        async with WildServer(Switch(wild.reset, 12)) as server:
            recipe = project(tmp_path / "hurt", [server.base_url], PROMPTS)
            return await run_once(recipe, Path(warehouse), ["model.policy.timeout_s=0.3"])

    monkeypatch.setattr(run_command, "load_flow", lambda *_, **__: flow)
    (tmp_path / "any").mkdir()
    recipe = project(tmp_path / "any" / "p", ["http://127.0.0.1:1/v1"], 1)
    shown = CliRunner().invoke(run_command.run, [str(recipe), "--warehouse", str(tmp_path / "w")])
    assert shown.exit_code == 1, shown.output
    [line] = [line for line in shown.output.splitlines() if line.startswith("Stopped")]
    assert line.startswith("Stopped by its engines: http://127.0.0.1:")
    assert " out of service since 20" in line
    assert line.endswith("the same command resumes the run.")
    assert "Why they failed:" in shown.output


# --- too many failures


async def test_a_run_stops_when_more_than_a_share_of_its_prompts_failed(
    tmp_path: Path, torture: Torture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "LEAST", 30)
    act = edits("choices null", lambda reply: reply.update(choices=None))

    def play(body: Mapping[str, Any]) -> Act | None:
        return act if thing(body) % 10 < 6 and failing else None

    failing = True
    async with WildServer(play) as server:
        recipe = project(tmp_path / "hurt", [server.base_url], 60, wild.ANSWERS)
        run = await run_once(recipe, tmp_path / "w", [])
        torture.count("faults of servers", server.served.total())
        assert 30 <= run.counts["done"] <= 30 + 20
        assert run.finished_at is None
        assert run.stopped.startswith("failures: engines failed ")
        found = run.stopped.split()
        failed, of = int(found[3]), int(found[7])
        assert 30 <= of <= 30 + 12
        assert failed > of / 2
        assert f"{failed} of them by MalformedReply: {server.base_url}: the reply has no choices" in run.stopped
        whole = await run_once(recipe, tmp_path / "other", ["output.stop_at_failures=0.9"])
        assert (whole.stopped, whole.counts["done"], whole.counts["open"]) == ("", 60, 36)
        failing = False
        assert (await run_once(recipe, tmp_path / "w", [])).finished_at


async def test_a_run_whose_last_prompts_fail_for_good_is_finished_and_not_stopped(
    tmp_path: Path, torture: Torture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left to stop, and no restart could add a row."""
    monkeypatch.setattr(intake, "LEAST", PROMPTS)
    act = says("context", 400, message("This model's maximum context length is 10 tokens."))
    async with WildServer(lambda body: act if thing(body) else None) as server:
        run = await run_once(project(tmp_path / "hurt", [server.base_url], PROMPTS), tmp_path / "w", [])
        torture.count("faults of servers", server.served.total())
    assert (run.counts["lost"], run.counts["open"], run.stopped) == (PROMPTS - 1, 0, "")
    assert run.finished_at
