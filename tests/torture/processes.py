"""The servers and the commands that are killed: a command is a process group, a server goes with its connections."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from constitution.engines.fake import FakeEngine
from constitution.recipe import FakeModel
from constitution.templates import LABELS
from rehearsal.server import Chance, FakeServer, Fault

ENDS = {signal.SIGKILL: {-9}, signal.SIGTERM: {143, -15}, signal.SIGINT: {130, -2}}
"""Exit codes of what a signal ended; with any other the process had come to its end by itself."""
PATIENCE = 60.0
"""Seconds that a start may take to end after it was told to."""


class Server:
    """A fake server on a port that it keeps. `heard` is called for every request with its body's digest, or with None
    for one that met a fault, before the answer."""

    def __init__(
        self, section: Mapping[str, Any], share: float, seed: int, heard: Callable[[str | None], None]
    ) -> None:
        self._heard, self._faults = heard, Chance(share, seed)
        fields = {name: section[name] for name in section.keys() - {"labels"}}
        engine = FakeEngine(FakeModel(engine="fake", **fields))
        self._server = FakeServer(engine, faults=self._plan, labels=section.get("labels", LABELS))

    @property
    def address(self) -> str:
        return self._server.base_url

    async def start(self) -> None:
        await self._server.__aenter__()

    async def kill(self) -> None:
        """What it has not answered by now is never answered. Again: does nothing."""
        runner = self._server._runner
        if runner is not None and runner.server is not None:
            for connection in runner.server.connections:
                if connection.transport is not None:
                    connection.transport.abort()
            await runner.cleanup()

    def _plan(self, body: Mapping[str, Any]) -> Fault | None:
        fault = self._faults(body)
        sound = fault is None or fault.sound
        self._heard(hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest() if sound else None)
        return fault


class Started:
    """`constitution WORDS` at work, in a process group with a Prefect home that all starts of the run share."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.pid = process.pid
        self.ended = asyncio.create_task(process.wait())

    @classmethod
    async def start(cls, words: list[str], folder: Path, log: Path) -> Started:
        unset = {"PREFECT_API_URL", "PREFECT_PROFILE"}
        environment = {name: value for name, value in os.environ.items() if name not in unset}
        with log.open("ab") as out:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", "from constitution.cli import main; main()", *words),
                cwd=folder,
                env=environment | {"PREFECT_HOME": str(log.parent / "prefect")},
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=_hear_interrupts,
            )
        return cls(process)

    def send(self, number: signal.Signals) -> None:
        """SIGINT and SIGKILL to the whole group: a terminal does so with the one, and by the other nothing of a
        machine that goes down is left. SIGTERM as a scheduler sends it."""
        with suppress(ProcessLookupError):
            if not self.ended.done():
                (os.kill if number == signal.SIGTERM else os.killpg)(self.pid, number)

    async def end(self) -> int:
        """Its exit code. Raises AssertionError where it does not end, or leaves a process behind."""
        try:
            code = await asyncio.wait_for(asyncio.shield(self.ended), PATIENCE)
        except TimeoutError:
            os.killpg(self.pid, signal.SIGKILL)
            raise AssertionError("a run that was told to stop did not") from None
        for _ in range(100):  # Prefect's server takes a moment to end
            if not _session(self.pid):
                return code
            await asyncio.sleep(0.05)
        raise AssertionError(f"exit code {code}, and left behind: {_session(self.pid)}")


def seeded(text: str) -> int:
    return random.Random(text).randrange(2**31)


def _session(leader: int) -> list[str]:
    """Commands of the processes of the leader's session, without zombies."""
    commands = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, session = status.read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state != "Z":
                commands.append(status.with_name("cmdline").read_text().replace("\0", " "))
    return commands


def _hear_interrupts() -> None:
    """What a shell has started in the background does not hear SIGINT, and passes that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
