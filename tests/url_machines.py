"""Machines that share a warehouse on a URL: each with its own cache, and processes of the command that can be
killed before any step.

    here = Machine("here", tmp_path / "here", server)
    here.do("run", "recipe.toml")                                # to its end
    here.start("run", "recipe.toml", steps=12).wait()            # SIGKILL before its 12th step on the local disk
    here.rows("FROM responses")

A process is forked from one that has imported everything, which takes milliseconds where a start takes seconds.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
from dataclasses import dataclass
from itertools import count
from multiprocessing.forkserver import set_forkserver_preload
from pathlib import Path
from typing import Any, NamedTuple

from s3_server import Request, S3Server

_PRELOADED = (
    "cli.run",
    "engines.fake.engine",
    "engines.openai",
    "pipeline.session",
    "pipeline.reopen",
    "prompts.jsonl",
)
set_forkserver_preload(["url_machines", "rich.progress", "obstore", *(f"constitution.{name}" for name in _PRELOADED)])
_FORKS = multiprocessing.get_context("forkserver")
_STEPS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "shutil.rmtree"}
"""Of Python's audit events, those that change a disk; so does `open` for writing."""
PATIENCE = 60.0
"""Seconds that a process may take."""


class Started:
    """A process at work."""

    def __init__(self, process: Any, log: Path) -> None:
        self._process = process
        self.pid: int = process.pid
        self.log = log

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.alive:
            os.kill(self.pid, number)

    @property
    def alive(self) -> bool:
        return bool(self._process.is_alive())

    def wait(self) -> int:
        """Its exit code; by a signal, minus its number. Raises AssertionError where it does not end."""
        self._process.join(PATIENCE)
        if self.alive:
            self.kill()
            raise AssertionError(f"the process does not end:\n{self.said()}")
        return int(self._process.exitcode)

    def said(self) -> str:
        return self.log.read_text()


@dataclass
class Machine:
    name: str
    """Its access key: `Request.client`."""
    folder: Path
    server: S3Server
    project: Path
    """Where its commands run."""
    lease: float = 60.0
    """Seconds of its leases."""
    timeout: str = "30s"
    """After which it gives up a request."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._logs = count(1)

    def start(self, *words: str, steps: int = 0, url: str = "") -> Started:
        """`constitution WORDS --warehouse URL`. steps: of those that change its disk, it is killed before this one."""
        log = self.folder / f"log-{next(self._logs)}.txt"
        environment = {
            **self.server.environment,
            "AWS_ACCESS_KEY_ID": self.name,
            "CONSTITUTION_CACHE": str(self.folder / "cache"),
            "DO_NOT_TRACK": "1",
        }
        words = (*words, "--warehouse", url or f"{self.server.url}/w")
        process = _FORKS.Process(
            target=_work,
            args=(words, environment, _Limits(str(self.project), str(log), steps, self.lease, self.timeout)),
        )
        process.start()
        return Started(process, log)

    def do(self, *words: str, code: int = 0, url: str = "") -> str:
        """What the command says; it must end with this code."""
        started = self.start(*words, url=url)
        ended = started.wait()
        assert ended == code, f"{words}: exit code {ended}\n{started.said()[-4000:]}"
        return started.said()

    def rows(self, query: str, url: str = "") -> list[dict[str, Any]]:
        out = self.folder / f"rows-{next(self._logs)}.json"
        self.do("sql", query, "--format", "json", "--out", str(out), url=url)
        return list(json.loads(out.read_text()))


class Fate:
    """What befalls a machine's process at its request of this number, from 1, of those with `what` in their keys: as
    `S3Server.before` before anything is done, as `S3Server.after` when it is done, before it hears of it."""

    def __init__(self, machine: Machine, at: int, number: signal.Signals = signal.SIGKILL, what: str = "") -> None:
        self._machine, self._left, self._number, self._what = machine, at, number, what
        self._started: Started | None = None
        self._known = threading.Event()
        self.met = threading.Event()

    def start(self, *words: str) -> Started:
        self._started = self._machine.start(*words)
        self._known.set()
        return self._started

    def __call__(self, request: Request) -> None:
        if request.client != self._machine.name or self._what not in request.key:
            return
        self._left -= 1
        if not self._left:
            self._known.wait()
            assert self._started
            self._started.kill(self._number)
            self.met.set()


class _Limits(NamedTuple):
    project: str
    log: str
    steps: int
    lease: float
    timeout: str


def _work(words: tuple[str, ...], environment: dict[str, str], limits: _Limits) -> None:
    out = os.open(limits.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(out, descriptor)
    os.environ.update(environment)
    os.chdir(limits.project)
    if limits.steps:
        _die_before(limits.steps)
    from constitution.cli import main
    from constitution.warehouse.remote import lease, objects

    lease.SECONDS = limits.lease
    objects._CLIENT["read_timeout"] = limits.timeout
    sys.argv = ["constitution", *words]
    main()


def _die_before(steps: int) -> None:
    left = steps

    def hear(event: str, args: tuple[Any, ...]) -> None:
        nonlocal left
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in _STEPS:
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hear)
