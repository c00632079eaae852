"""A whole run against three servers, one of which is killed in the middle and started again."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pipeline_run import one, rows_of
from run_once import run_once
from small_project import small_project

from constitution.engines.base import Request
from constitution.engines.openai import metrics as _metrics
from constitution.engines.openai.engine import OpenAIEngine
from constitution.pipeline import Progress, watcher
from constitution.pipeline.report import report
from constitution.recipe import OpenAIModel
from constitution.records import Message, Run, Sampling
from rehearsal.server import FakeServer

ROOT = Path(__file__).parents[1]
PROMPTS = 200

RECIPE = """
name = "fleet"
constitution = "general@1.0.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "openai"
model = "fake"
base_url = [{urls}]
concurrency = 8
timeout_s = 30
[revise]
rounds = 2
[judge]
principles = 2
[output]
slice = 60
window = 32
flush_rows = 200
flush_seconds = 0.1
"""


class Server:
    """The fake server in its own process, on a port that it keeps."""

    def __init__(self, starts: int = 1) -> None:
        """starts: how often it can be started; each has its process, which only waits to be told, so that a busy
        machine does not put it off."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        code = "from rehearsal.server import main; print(flush=True); input(); main()"
        command = [sys.executable, "-c", code, "--port", str(self.port), "--latency", "0.03"]
        pipe = subprocess.PIPE
        self._waiting = [subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe) for _ in range(starts)]
        for process in self._waiting:
            assert process.stdout is not None
            process.stdout.readline()
        self.start()

    def start(self) -> None:
        self.process = self._waiting.pop()
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    async def up(self) -> None:
        for _ in range(200):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                return
            except OSError:
                await asyncio.sleep(0.05)
        raise AssertionError("the server did not come up")


def project(folder: Path, urls: list[str]) -> Path:
    return small_project(folder, PROMPTS, RECIPE.format(urls=", ".join(map(json.dumps, urls))))


async def hurt(servers: list[Server], recipe: Path, warehouse: Path) -> Run:
    """The run, with the second server killed after an eighth of the prompts and started again 0.3 s later."""
    due = asyncio.Event()

    def watch(progress: Progress) -> None:
        if progress.done >= PROMPTS // 8:
            due.set()

    async def outage() -> None:
        await due.wait()
        servers[1].kill()
        await asyncio.sleep(0.3)
        servers[1].start()

    token = watcher.set(watch)
    try:
        run, _ = await asyncio.gather(run_once(recipe, warehouse, []), outage())
    finally:
        watcher.reset(token)
    return run


async def test_a_frozen_server_is_given_up_long_before_its_requests_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_metrics, "EVERY_SECONDS", 0.1)
    monkeypatch.setattr(_metrics, "READ_SECONDS", 0.3)
    server = Server()
    try:
        await server.up()
        async with FakeServer() as other:
            section = OpenAIModel(engine="openai", model="fake", base_url=(server.url, other.base_url))
            engine = await OpenAIEngine.open(section)
            server.process.send_signal(signal.SIGSTOP)
            requests = [Request((Message("user", "?"),), Sampling(), seed) for seed in range(20)]
            start = time.monotonic()
            completions = await asyncio.gather(*map(engine.generate, requests))
            assert len(completions) == len(other.requests) == 20
            assert time.monotonic() - start < 10  # and not the 600 s of a request
            [event] = engine.stats()["events"]
            assert event.startswith(f"{server.url} out of service at ")
            assert "it answers nothing any more" in event
            server.process.send_signal(signal.SIGCONT)
            for _ in range(100):
                await asyncio.sleep(0.1)
                if engine.stats()["endpoints"][0]["state"] == "in service":
                    break
            assert "back at" in engine.stats()["events"][0]
            await engine.close()
    finally:
        server.kill()


async def test_a_server_killed_and_started_again_in_mid_run_leaves_no_trace_in_the_rows(tmp_path: Path) -> None:
    servers = [Server(), Server(starts=2), Server()]
    try:
        await asyncio.gather(*(server.up() for server in servers))
        recipe = project(tmp_path / "hurt", [server.url for server in servers])
        run = await hurt(servers, recipe, tmp_path / "warehouse")
    finally:
        for server in servers:
            server.kill()
    assert run.finished_at
    assert (run.counts["done"], run.counts["open"], run.counts["lost"]) == (PROMPTS, 0, 0)
    assert run.counts["failures"] == run.counts["unsaid"]
    assert one(tmp_path / "warehouse", "SELECT count(*), count(*) FILTER (complete) FROM chains") == (PROMPTS, PROMPTS)
    # Nothing twice (rows_of looks), and nothing but what a calm run against one server says.
    rows = rows_of(tmp_path / "warehouse", run.run_id)
    async with FakeServer() as calm:
        clean = await run_once(project(tmp_path / "calm", [calm.base_url]), tmp_path / "clean", [])
    assert clean.run_id == run.run_id
    assert rows == rows_of(tmp_path / "clean", clean.run_id)
    # The record says what happened.
    told = next(iter(run.engines.values()))
    [outage] = [event for event in told["events"] if "out of service" in event]
    assert outage.startswith(f"{servers[1].url} out of service at ")
    assert "; back at " in outage
    stats = {each["base_url"]: each for each in told["endpoints"]}
    assert stats[servers[1].url]["outages"] == 1
    assert stats[servers[1].url]["failures"] > 0
    assert sum(each["retries"] for each in stats.values()) > 0
    assert stats[servers[0].url]["outages"] == stats[servers[2].url]["outages"] == 0
    shown = report(run)
    for url, each in stats.items():
        assert f"- policy at {url}: {each['calls']:,} calls ({each['failures']:,} failed), " in shown
    assert shown.count(" calls (") == 4
    assert shown.count(", out of service for ") == 1
