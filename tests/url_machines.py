"""Machines that share a warehouse on a URL: each with a cache of its own, and processes of the command that can be
killed before any step.

    here = Machine("here", tmp_path / "here", server)
    here.do("run", "recipe.toml")                                # to its end
    dead = here.start("run", "recipe.toml", steps=12).wait()     # SIGKILL before its 12th step on the local disk
    here.rows("FROM responses")

A process is forked from one that has imported everything, which takes milliseconds where a start takes seconds.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.forkserver import set_forkserver_preload
from pathlib import Path
from typing import Any

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
        if self._process.is_alive():
            os.kill(self.pid, number)

    def wait(self) -> int:
        """Its exit code; by a signal, minus its number. Raises AssertionError where it does not end."""
        self._process.join(PATIENCE)
        if self._process.is_alive():
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
    environment: Mapping[str, str] = field(default_factory=dict)

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
            **self.environment,
        }
        words = (*words, "--warehouse", url or f"{self.server.url}/w")
        process = _FORKS.Process(target=_work, args=(words, environment, str(self.project), str(log), steps))
        process.start()
        return Started(process, log)

    def do(self, *words: str, code: int = 0) -> str:
        """What the command says; it must end with this code."""
        started = self.start(*words)
        ended = started.wait()
        assert ended == code, f"{words}: exit code {ended}\n{started.said()[-4000:]}"
        return started.said()

    def rows(self, query: str) -> list[dict[str, Any]]:
        out = self.folder / f"rows-{next(self._logs)}.json"
        self.do("sql", query, "--format", "json", "--out", str(out))
        return list(json.loads(out.read_text()))


def killing(number: int, machine: str, pid: list[int], requests: list[Request]) -> Any:
    """For `S3Server.before` or `after`: kills the process `pid` at the machine's request of this number, from 1."""

    def hear(request: Request) -> None:
        if request.client == machine and pid:
            requests.append(request)
            if len(requests) == number:
                os.kill(pid[0], signal.SIGKILL)

    return hear


def _work(words: tuple[str, ...], environment: dict[str, str], project: str, log: str, steps: int) -> None:
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(out, descriptor)
    os.environ.update(environment)
    os.chdir(project)
    if steps:
        _die_before(steps)
    from constitution.cli import main

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
