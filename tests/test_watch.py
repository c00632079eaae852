"""`constitution watch`: what it says of a run at work, stopped, killed and finished, and when it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from small_project import ROOT, small_project
from warehouse_rows import run as stored

from constitution.cli.watch import watch
from constitution.errors import InputError
from constitution.pipeline.standing import SPAN, Looking
from constitution.records import Run, ShardRecord
from constitution.warehouse import Warehouse

BEAT = 30.0


def at(done: int, *, seconds: float = 0.0, finished: bool = False, **counts: int) -> Run:
    whole = stored(finished=finished)
    return replace(whole, counts={"prompts": 100, "done": done, **counts}, seconds=seconds)


@pytest.fixture
def store(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "warehouse")


def test_pace_and_time_left_are_of_the_changes_that_were_seen(store: Warehouse) -> None:
    looking = Looking(store, at(0).run_id, BEAT)
    store.write_run(at(10, seconds=5.0))
    first = looking.look(0.0)
    assert (first.rate, first.left, first.changed) == (2.0, 45.0, True)  # by the record's own time
    store.write_run(at(20, seconds=50.0))
    assert looking.look(10.0).rate == 0.4  # one change was seen: how long it took is not known
    assert looking.look(12.0).changed is False
    store.write_run(at(50, seconds=60.0))
    seen = looking.look(20.0)
    assert (seen.rate, seen.left) == (3.0, 50 / 3)
    for step in range(1, 50):  # then a prompt every ten seconds: the fast beginning is soon forgotten
        store.write_run(at(50 + step, seconds=60.0 + 10 * step))
        seen = looking.look(20.0 + 10 * step)
    assert seen.rate == pytest.approx(0.1)
    assert SPAN < 490
    store.write_run(at(100, seconds=600.0, finished=True))
    assert (looking.look(600.0).status, looking.look(600.0).left) == ("finished", 0.0)


def test_a_run_on_another_machine_is_seen_at_work_by_its_record(store: Warehouse) -> None:
    """Its lock does not reach here; and no clock of another machine is read."""
    looking = Looking(store, at(0).run_id, BEAT)
    store.write_run(at(1))
    assert looking.look(0.0).status == "open"
    store.write_run(at(2))
    assert looking.look(10.0).status == "running"
    assert looking.look(10.0 + BEAT - 1).status == "running"
    gone = looking.look(10.0 + BEAT)
    assert (gone.status, gone.silent) == ("open", BEAT)
    store.write_run(replace(at(3), stopped="budget: 1.00 of 1.00 USD spent"))
    assert looking.look(50.0).status == "stopped"


def test_a_process_with_the_lock_is_running_however_silent_it_is(store: Warehouse) -> None:
    run = at(1)
    store.write_run(run)
    looking = Looking(store, run.run_id, BEAT)
    with store.lock(run.run_id):
        assert looking.look(0.0).status == "running"
        assert looking.look(10_000.0).status == "running"
    assert looking.look(10_001.0).status == "open"


def shard(number: int, done: int, **more: Any) -> ShardRecord:
    started = "2026-11-30T12:00:00+00:00"
    record = ShardRecord(at(0).run_id, number, 2, f"node-{number}", 70 + number, "ada", started, started)
    return replace(record, counts={"prompts": 50, "done": done}, seconds=5.0, **more)


def test_a_run_in_shards_is_what_they_add_up_to_and_one_that_falls_silent_is_named(store: Warehouse) -> None:
    run = replace(at(0), shards=2)
    store.write_run(run)
    for record in (shard(0, 0), shard(1, 10), shard(2, 20)):
        store.write_shard(record if record.number else replace(record, counts={}, seconds=0.0))
    looking = Looking(store, run.run_id, BEAT)
    first = looking.look(0.0)
    assert (first.run.counts["done"], first.run.counts["prompts"], first.status) == (30, 100, "open")
    assert first.rate == 6.0  # 30 prompts in the 5 seconds that both have worked
    for step in range(1, 5):
        store.write_shard(shard(1, 10 + 10 * step))
        seen = looking.look(10.0 * step)
        assert seen.status == "running"
    assert (seen.run.counts["done"], seen.rate) == (70, 1.0)
    assert seen.lost == ["shard 2/2 on node-2 has been silent for 40 s"]
    assert [each.lost for each in seen.shards] == [False, True]
    store.write_shard(shard(1, 50, ended_at="2026-11-30T12:01:00+00:00"))
    store.write_shard(shard(2, 30))
    looking.look(50.0)
    ended = looking.look(50.0 + BEAT)
    assert [each.lost for each in ended.shards] == [False, True]  # the first is at its end
    told = watched(store, run.run_id, "--once", "--json")
    assert [(each["shard"], each["host"], each["done"]) for each in json.loads(told.stdout)["shards"]] == [
        ("1/2", "node-1", 50), ("2/2", "node-2", 30)]  # fmt: skip


def test_shards_that_are_left_are_named_at_the_end(store: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("constitution.cli.watch.SILENT", 0.2)
    store.write_run(replace(at(0), shards=2))
    store.write_shard(replace(shard(0, 0), counts={}))
    store.write_shard(shard(2, 30))
    result = watched(store)
    assert result.exit_code == 1
    assert "Shard 1/2: not begun" in result.output
    assert "Shard 2/2: 30 of 50 prompts, last seen 2026-11-30T12:00:00+00:00 on node-2" in result.output


def watched(store: Warehouse, *words: str) -> Result:
    return CliRunner().invoke(watch, [*words, "--every", "0.05", "--warehouse", str(store.root)])


@pytest.mark.parametrize(
    ("run", "code", "said"),
    [
        (at(100, finished=True, responses=300), 0, "finished · 100/100 prompts · 300 responses · 0 failures · 0:"),
        (at(100, finished=True, lost=3, failures=9, unsaid=2), 1, "7 failures · 3 failed for good · 0:"),
        (replace(at(40), stopped="engines: gone"), 1, "Stopped by its engines: gone. The command that started it"),
        (replace(at(40), stopped="x \x1b[2J"), 1, "Stopped by its x \\x1b[2J."),
    ],
)
def test_how_it_ends(store: Warehouse, run: Run, code: int, said: str) -> None:
    store.write_run(run)
    result = watched(store, run.run_id[:6])
    assert result.exit_code == code
    assert said in result.output
    once = watched(store, "--once")
    assert (once.exit_code, len(once.output.splitlines())) == (code, 1)


def test_a_run_that_no_process_works_is_given_up_in_time(store: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("constitution.cli.watch.SILENT", 0.2)
    store.write_run(at(40))
    result = watched(store)
    assert result.exit_code == 1
    assert "open · 40/100 prompts" in result.output
    assert "No process is seen at work on it, and nothing has changed for 0:00:0" in result.output


def test_what_there_is_not(store: Warehouse) -> None:
    assert isinstance(watched(store).exception, InputError)
    store.write_run(at(1))
    assert isinstance(watched(store, "other").exception, InputError)


def test_without_a_name_it_is_the_run_that_was_started_last(store: Warehouse) -> None:
    store.write_run(at(1))
    later = replace(at(2), run_id="later-0a7d1f1e5b5c", started_at="2999-01-01T00:00:00+00:00")
    store.write_run(later)
    assert json.loads(watched(store, "--once", "--json").stdout)["run_id"] == later.run_id


KEYS = {*("run_id", "status", "stopped", "prompts", "done", "open", "lost", "kept", "failures", "tokens_in"),
        *("tokens_out", "cost", "currency", "seconds", "prompts_per_second", "left_seconds", "silent_seconds"),
        *("started_at", "finished_at", "shards")}  # fmt: skip


@pytest.fixture
def process(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[str], Warehouse]]:
    """A run at work in its own process; the parameter is its number of prompts."""
    recipe = small_project(tmp_path / "p", request.param)
    line = [sys.executable, str(ROOT / "tests" / "run_once.py"), str(recipe), str(recipe.parent / "warehouse")]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "working\n"
        yield running, Warehouse(recipe.parent / "warehouse")
        running.kill()


@pytest.mark.parametrize("process", [60], indirect=True)
def test_a_run_at_work_until_it_is_finished(process: tuple[subprocess.Popen[str], Warehouse]) -> None:
    running, store = process
    result = watched(store, "--json")
    assert result.exit_code == 0, result.output
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert all(each.keys() == KEYS for each in told)
    assert told[0]["status"] == "running"
    [run] = store.runs()
    assert told[-1]["finished_at"] == run.finished_at
    assert (told[-1]["status"], told[-1]["done"], told[-1]["kept"]) == ("finished", 60, run.counts["kept"])
    assert running.wait(30) == 0


@pytest.mark.parametrize("process", [1000], indirect=True)
def test_a_run_that_is_killed_is_open(process: tuple[subprocess.Popen[str], Warehouse]) -> None:
    running, store = process
    assert json.loads(watched(store, "--once", "--json").stdout)["status"] == "running"
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert json.loads(watched(store, "--once", "--json").stdout)["status"] == "open"
