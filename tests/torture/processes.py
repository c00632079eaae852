"""The servers and the commands that are killed, each in a process of its own.

To start a process and import everything takes two seconds, so all but Prefect's are forked from a process that has
imported the modules and done nothing else (multiprocessing's forkserver): no loop, no file of the warehouse, no
connection, no thread but the allocator's, which is made to be forked. Each start looks at that. What is forked is
killed, resumed and judged as any other process.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from constitution.cli import main as constitution
from constitution.engines.fake import FakeEngine
from constitution.recipe import FakeModel
from constitution.templates import LABELS
from rehearsal.server import Chance, FakeServer, Fault

FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["constitution.cli.run", "constitution.pipeline", "rehearsal.server"])

MARK = 32
"""Bytes of what a server says of a request: its body's digest, or zeros for one that met a fault."""
FAULT = bytes(MARK)
ENDS = {signal.SIGKILL: {-9}, signal.SIGTERM: {143, -15}, signal.SIGINT: {130, -2}}
"""Exit codes of what a signal ended; with any other the process had come to its end by itself."""
PATIENCE = 60.0
"""Seconds that a start may take to end after it was told to."""


# --- in processes of their own


class Told:
    """A plan of faults that tells who started the server of every request."""

    def __init__(self, plan: Chance, out: int) -> None:
        self._plan = plan
        self._out = out

    def __call__(self, body: Mapping[str, Any]) -> Fault | None:
        fault = self._plan(body)
        sound = fault is None or fault.sound
        # Of fewer bytes than a pipe takes at once: whole or not at all, and before the answer.
        os.write(self._out, key(body) if sound else FAULT)
        return fault


def key(body: Mapping[str, Any]) -> bytes:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()


def serve(told: Connection, port: int, section: Mapping[str, Any], share: float, seed: int) -> None:
    """A server that first tells its address, and then of every request whether it is answered soundly."""
    check_parent()
    parent = os.getppid()

    async def serving() -> None:
        labels, fields = section.get("labels", LABELS), {name: section[name] for name in section.keys() - {"labels"}}
        engine, plan = FakeEngine(FakeModel(engine="fake", **fields)), Told(Chance(share, seed), told.fileno())
        async with FakeServer(engine, faults=plan, labels=labels, port=port) as server:
            os.write(told.fileno(), server.base_url.encode().ljust(MARK))
            while os.getppid() == parent:  # noqa: ASYNC110 -- should the tests be killed, nothing of theirs goes on
                await asyncio.sleep(1)

    asyncio.run(serving())


def command(ready: Connection, words: list[str], folder: str, log: str) -> None:
    """`constitution WORDS`, as from a terminal."""
    check_parent()
    os.setsid()
    os.chdir(folder)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for descriptor in (1, 2):
        os.dup2(out, descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.argv = ["constitution", *words]
    ready.send_bytes(b"ready")
    try:
        constitution()
    except KeyboardInterrupt:  # before or after the command's own handling of it
        os._exit(130)


def check_parent() -> None:
    """What this process was forked from had not begun to do anything."""
    assert threading.active_count() == 1
    tasks = Path(f"/proc/{os.getppid()}/task")
    names = {(task / "comm").read_text().strip() for task in tasks.iterdir()}
    assert len(names) <= 2, names
    assert len(names - {"jemalloc_bg_thd"}) == 1, names


# --- what is killed


class Server:
    """A fake server in a process of its own, on a port that it keeps."""

    def __init__(self, section: Mapping[str, Any], share: float, seed: int, heard: Callable[[bytes], None]) -> None:
        self._section, self._share, self._seed, self._heard = section, share, seed, heard
        self._port = 0
        self.address = ""

    async def start(self) -> None:
        self._in, out = FORK.Pipe(duplex=False)
        arguments = (out, self._port, self._section, self._share, self._seed)
        self._process = FORK.Process(target=serve, args=arguments, daemon=True)
        self._process.start()
        out.close()
        first = await asyncio.to_thread(os.read, self._in.fileno(), MARK)
        self.address = first.decode().strip()
        self._port = int(self.address.rpartition(":")[2].removesuffix("/v1"))
        asyncio.get_running_loop().add_reader(self._in.fileno(), self._read)

    def kill(self) -> None:
        """Again: does nothing."""
        if self._in.closed:
            return
        self._process.kill()
        self._process.join()
        while self._read():  # what it had answered before
            pass
        asyncio.get_running_loop().remove_reader(self._in.fileno())
        self._in.close()

    def _read(self) -> bool:
        marks = os.read(self._in.fileno(), 1024 * MARK)
        for place in range(0, len(marks), MARK):
            self._heard(marks[place : place + MARK])
        if not marks:
            asyncio.get_running_loop().remove_reader(self._in.fileno())
        return bool(marks)


class Started:
    """The command at work, in a process group of its own."""

    def __init__(self, pid: int, ended: asyncio.Task[int]) -> None:
        self.pid = pid
        self.ended = ended

    @classmethod
    async def forked(cls, words: list[str], folder: Path, log: Path) -> Started:
        ready, told = FORK.Pipe(duplex=False)
        process = FORK.Process(target=command, args=(told, words, str(folder), str(log)))
        process.start()
        told.close()
        with suppress(EOFError):  # it did not get so far: its exit code says more
            await asyncio.to_thread(ready.recv_bytes)

        async def ended() -> int:
            await asyncio.to_thread(process.join)
            assert process.exitcode is not None
            return process.exitcode

        assert process.pid is not None
        return cls(process.pid, asyncio.create_task(ended()))

    @classmethod
    async def anew(cls, words: list[str], folder: Path, log: Path) -> Started:
        """With all its imports, and a Prefect home that all starts share."""
        with log.open("ab") as out:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", "from constitution.cli import main; main()", *words),
                cwd=folder,
                env=os.environ | {"PREFECT_HOME": str(log.parent / "prefect")},
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=_hear_interrupts,
            )
        return cls(process.pid, asyncio.create_task(process.wait()))

    def send(self, number: signal.Signals) -> None:
        """SIGINT and SIGKILL to the whole group: a terminal does so with the one, and by the other nothing of a
        machine that goes down is left. SIGTERM as a scheduler sends it."""
        with suppress(ProcessLookupError):
            if not self.ended.done():
                (os.kill if number == signal.SIGTERM else os.killpg)(self.pid, number)

    async def end(self) -> int:
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


def _session(leader: int) -> list[str]:
    """Commands of the processes of the leader's session, zombies left out."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, session = status.read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state != "Z":
                found.append(status.with_name("cmdline").read_text().replace("\0", " "))
    return found


def _hear_interrupts() -> None:
    """What a shell has started in the background does not hear SIGINT, and passes that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
