"""A run's shards as processes of this machine: started, watched as one, started again where they were killed."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from constitution.errors import ConstitutionError, RunLocked
from constitution.pipeline.plan import Plan
from constitution.pipeline.progress import Progress, Spent, watcher
from constitution.pipeline.shard import PATIENCE, finish_run, run_shard
from constitution.pipeline.tasks import wait_for
from constitution.records import Run, Shard, Usage
from constitution.telemetry import apart

RESTARTS = 3
"""How often a shard that was killed is started again, at most."""
EVERY = 0.2
"""Seconds between two states of a shard's progress, at least."""

SPAWN = multiprocessing.get_context("spawn")
"""Not forked: threads of DuckDB and Arrow are at work in this process."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A shard's progress, to be sent; the fields are those of Progress and of its ledger."""

    total: int = 0
    done: int = 0
    open: int = 0
    lost: int = 0
    resumed: int = 0
    before: int = 0
    ended_calls: int = 0
    calls: int = 0
    written: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    usage: tuple[Usage, ...] = ()
    cost: float | None = None
    currency: str = "USD"
    note: str = ""

    @classmethod
    def of(cls, progress: Progress) -> Snapshot:
        ledger = progress.ledger
        own = {name: getattr(progress, name) for name in ("total", "done", "open", "lost", "resumed", "before")}
        return cls(
            **own,
            ended_calls=progress.ended_calls,
            calls=ledger.calls,
            written=ledger.written,
            rows=Counter(progress.rows),
            usage=ledger.usage(),
            cost=progress.cost,
            currency=progress.currency,
            note=progress.note,
        )


def joined(progress: Progress, found: list[Snapshot]) -> None:
    """Makes `progress`, of the run, what the shards' add up to."""
    for name in ("done", "open", "lost", "resumed", "before", "ended_calls"):
        setattr(progress, name, sum(getattr(each, name) for each in found))
    progress.rows = sum((each.rows for each in found), Counter())
    progress.ledger.join((each.usage, each.calls, each.written) for each in found)
    costs = [each.cost for each in found if each.cost is not None]
    progress.spent = Spent(sum(costs)) if costs else None
    for each in found:
        progress.note, progress.currency = progress.note or each.note, each.currency


class Worker:
    """One shard and its process."""

    def __init__(self, plan: Plan, shard: Shard, retry_failed: bool) -> None:
        self.shard = shard
        self.seen = Snapshot()
        self.result: dict[str, Any] | None = None
        """What `run_shard` returned."""
        self.error: BaseException | None = None
        self._of = (plan, shard, retry_failed)
        self._line: Connection
        self._process: BaseProcess

    def start(self) -> None:
        self._line, theirs = SPAWN.Pipe()
        self._process = SPAWN.Process(target=_work, args=(*self._of, theirs), name=f"shard {self.shard}")
        self._process.start()
        theirs.close()  # so that its end is heard here

    async def heard(self, tell: Callable[[], None]) -> int:
        """Takes what the process says until it ends; its exit code. tell: called after every state."""
        loop, more = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._line.fileno(), more.set)
        try:
            while True:
                await more.wait()
                more.clear()
                try:
                    while self._line.poll():
                        self._take(self._line.recv())
                        tell()
                except (EOFError, ConnectionResetError):
                    break
        finally:
            loop.remove_reader(self._line.fileno())
        await asyncio.to_thread(self._process.join)
        self._line.close()
        assert self._process.exitcode is not None
        return self._process.exitcode

    def _take(self, said: Snapshot | dict[str, Any] | BaseException) -> None:
        if isinstance(said, Snapshot):
            self.seen = said
        elif isinstance(said, BaseException):
            self.error = said
        else:
            self.result, prompts = said, said["counts"].get("prompts", 0)
            if said["done"]:
                self.seen = replace(self.seen, total=prompts, done=prompts, resumed=self.seen.resumed)

    def stop(self) -> None:
        if self._process.is_alive():
            self._process.terminate()


async def run_shards(plan: Plan, of: int, say: Callable[[str], None], retry_failed: bool = False) -> Run:
    """Works a run that is prepared in `of` processes, and finishes it. Those that are killed are started again, each
    RESTARTS times; cancelled, they end in good order first. say: gets a sentence on each that was killed.

    The progress of all is what the watcher sees. Raises what the first shard failed by, once the others have ended.
    """
    workers = [Worker(plan, Shard(number, of), retry_failed) for number in range(1, of + 1)]
    watch, progress = watcher.get(), Progress(plan.prompts, started=time.monotonic())

    def tell() -> None:
        before = progress.done
        joined(progress, [worker.seen for worker in workers])
        if watch and not before == progress.done == progress.total:
            watch(progress)

    async with asyncio.TaskGroup() as group:
        for worker in workers:
            group.create_task(_lived(worker, tell, say))
    if errors := [worker.error for worker in workers if worker.error]:
        raise errors[0]
    return await finish_run(plan)


async def _lived(worker: Worker, tell: Callable[[], None], say: Callable[[str], None]) -> None:
    """One shard to its end, however often its process is killed, and once another one lets go of it: that of a start
    whose own process was killed ends by itself."""
    killed, began = 0, time.monotonic()
    while True:
        worker.start()
        task = asyncio.ensure_future(worker.heard(tell))
        try:
            code = await asyncio.shield(task)
        except asyncio.CancelledError:
            worker.stop()
            await wait_for(task)
            raise
        if isinstance(worker.error, RunLocked) and time.monotonic() - began < PATIENCE:
            worker.error = None
            await asyncio.sleep(1.0)
            continue
        if worker.result is not None or worker.error is not None:
            return
        if code >= 0 and code != 128 + signal.SIGTERM:
            worker.error = ConstitutionError(f"shard {worker.shard} ended by itself with exit code {code}")
            return
        killed += 1
        how = f"Shard {worker.shard} was ended by {_ended(code)}"
        if killed > RESTARTS:
            say(f"{how} for the {killed}th time and is left as it is.")
            return
        say(f"{how} and is started again ({killed} of {RESTARTS}).")


def _ended(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else signal.SIGTERM.name


def _work(plan: Plan, shard: Shard, retry_failed: bool, line: Connection) -> None:
    """The process of a shard. It ends in good order when the one that started it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all: who started this decides
    apart(shard.number)
    threading.Thread(target=_end_with_parent, args=(line,), daemon=True).start()
    last = 0.0

    def send(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= EVERY or progress.done >= progress.total:
            last = now
            line.send(Snapshot.of(progress))

    watcher.set(send)
    try:
        line.send(asyncio.run(run_shard(plan, shard, retry_failed)))
    except ConstitutionError as error:
        line.send(error)
    except asyncio.CancelledError:
        os._exit(128 + signal.SIGTERM)
    except BrokenPipeError:
        os._exit(1)


def _end_with_parent(line: Connection) -> None:
    """Nothing is ever sent to a shard: what it hears is that the other end was closed."""
    try:
        line.recv()
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)
