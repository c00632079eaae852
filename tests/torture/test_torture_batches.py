"""SIGKILL, SIGTERM and SIGINT at moments of real runs whose requests are in batches: no request of a batch is paid for
twice, and the rows are those of a plain run.

The first request of each step goes ahead alone. Of those, one whose answer was on its way when the run was killed is
asked for again: no server knows what was not received."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter, deque
from pathlib import Path

import pytest
from batch_servers import BATCHES, BatchServer
from conftest import Torture
from messages_server import KEY
from processes import Started
from run_once import run_once
from test_batch_runs import project, same_rows

from constitution.warehouse import Warehouse

FULL, SHORT = 20, 2
"""Kills, per API."""
CALLS = 30
"""Calls of an undisturbed run, each heard before and after it is done."""
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


class Torment:
    def __init__(self, kind: type[BatchServer], folder: Path, chance: random.Random) -> None:
        self.kind, self.folder, self.chance = kind, folder, chance
        self.kills: Counter[str] = Counter()
        self.twice = 0
        """Requests sent alone that were paid for twice."""
        self.on_their_way = 0
        """At most this many were, by what was under way at each kill."""

    async def run(self, kills: int) -> None:
        life = 0
        while self.kills.total() < kills:
            folder = self.folder / f"run-{life}"
            os.mkdir(folder)
            await self._live(folder, kills)
            life += 1

    async def _live(self, folder: Path, kills: int) -> None:
        """One run from its first start to its end."""
        async with self.kind() as server:
            quiet = project(folder / "quiet", server.base_url, "", "", about=server.about, method=server.method)
            await run_once(quiet, quiet.parent / "warehouse", [])
            plain = server.paid
        async with self.kind() as server:
            path = project(folder / "killed", server.base_url, about=server.about, method=server.method)
            for _ in range(200):
                mortal = self.kills.total() < kills
                if await self._start(path, server, mortal) == 0:
                    break
            else:
                raise AssertionError("the run does not end")
            assert not plain - server.paid
            twice = server.paid - plain
            assert server.batched <= plain, "no request of a batch is paid for twice"
            assert twice.total() <= self.on_their_way
            self.twice += twice.total()
        same_rows(path.parent / "warehouse", quiet.parent / "warehouse")
        [run] = Warehouse(path.parent / "warehouse").runs()
        assert run.finished_at
        assert Warehouse(path.parent / "warehouse").verify(run.run_id) == []
        assert not [each for each in (path.parent / "warehouse").rglob(".*") if each.name != ".lock"]
        assert not (path.parent / "warehouse" / "batches").exists()
        assert "Traceback" not in (folder / "log.txt").read_text()

    async def _start(self, path: Path, server: BatchServer, mortal: bool) -> int:
        """The exit code of one start, which may be killed at one of its calls."""
        started = await Started.start(["run", path.name], path.parent, path.parent.parent / "log.txt")
        left, by = self.chance.randrange(1, CALLS), self.chance.choice(SIGNALS)

        latest: deque[str] = deque(maxlen=6)

        def heard(call: str, when: str) -> None:
            nonlocal left
            left -= 1
            latest.append(call)
            if mortal and left < 0 and when == "before":
                self.on_their_way += call in server.alone  # sent while it ends
            if mortal and not left:
                self.on_their_way += sum(each in server.alone for each in latest)
                self.kills[f"{by.name} {when} {call}"] += 1
                started.send(by)

        server.heard = heard
        return await started.end()


@pytest.mark.parametrize("name", BATCHES)
async def test_killed_at_any_moment_a_run_pays_for_nothing_twice(
    name: str, tmp_path: Path, torture: Torture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESSAGES_KEY", KEY)
    torment = Torment(BATCHES[name], tmp_path, random.Random(f"{torture.seed}/batches of {name}"))
    await torment.run(FULL if torture.full else SHORT)
    torture.count("kills", torment.kills.total())
    torture.measure(f"paid twice, of requests sent alone ({name})", torment.twice)
    torture.measure(f"kills of batches ({name})", ", ".join(f"{n} {what}" for what, n in sorted(torment.kills.items())))
