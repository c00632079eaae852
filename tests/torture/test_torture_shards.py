"""Shards and who started them killed at random moments, and resumed in other numbers: no row is lost or doubled."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import Torture
from processes import PATIENCE, _session
from shard_runs import same, whole
from small_project import RECIPE, small_project
from test_tournament import RECIPE as TOURNAMENT
from test_turns import RECIPE as TURNS
from test_turns import scripts

SLOW = "model.policy.latency_s=0.03"
KINDS: dict[str, tuple[str, Any, tuple[str, ...]]] = {
    "chain": (RECIPE, 60, ()),
    "turns": (TURNS, scripts(30), ()),
    "tournament": (TOURNAMENT, 30, ()),
    "settled": (RECIPE, 60, ("judge.aggregate=dawid-skene", "judge.control=style")),
}
KILLS = 16
"""A kind, in the long version: 64."""
COMMAND = (sys.executable, "-c", "from constitution.cli import main; main()", "run", "recipe.toml")


def children(pid: int) -> list[int]:
    """The processes of the shards that this one has started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = status.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z" and b"spawn_main" in status.with_name("cmdline").read_bytes():
                found.append(int(status.parent.name))
    return found


class Torment:
    def __init__(self, recipe: Path, root: Path, overrides: tuple[str, ...], seed: str) -> None:
        self.root, self.chance = root, random.Random(seed)
        self.kills: Counter[str] = Counter()
        self._words = [word for each in overrides for word in ("--set", each)]
        self._folder, self._log = recipe.parent, recipe.parent / "log.txt"

    def life(self, of: int, kills: int, most: float) -> bool:
        """One command, in which up to `kills` processes are killed, the last kill often its own; whether the run is
        finished. most: seconds between two kills."""
        words = [*COMMAND, "--warehouse", str(self.root), "--shards", str(of), *self._words]
        with self._log.open("ab") as log:
            process = subprocess.Popen(words, cwd=self._folder, stdout=log, stderr=log, start_new_session=True)
        expected = {0}
        for _ in range(kills):
            with suppress(subprocess.TimeoutExpired):
                process.wait(self.chance.uniform(0.2, most))
                break
            expected = self._kill(process) or expected
            if expected != {0}:
                break
        code = process.wait(PATIENCE)
        assert code in expected | {0}, f"exit code {code}\n{self._log.read_text()[-3000:]}"
        until = time.monotonic() + PATIENCE
        while left := _session(process.pid):
            assert time.monotonic() < until, f"left behind: {left}"
            time.sleep(0.05)
        return code == 0

    def _kill(self, process: subprocess.Popen[bytes]) -> set[int]:
        """What the command may end by; empty: it continues."""
        shards = children(process.pid)
        what = self.chance.choice(["a shard", "a shard", "who started them", "all", "who started them, in good order"])
        with suppress(ProcessLookupError):
            if what == "a shard":
                if not shards:
                    return set()
                os.kill(self.chance.choice(shards), self.chance.choice([signal.SIGKILL, signal.SIGTERM]))
            elif what == "all":
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.send_signal(signal.SIGTERM if what.endswith("order") else signal.SIGKILL)
            self.kills[what] += 1
        # A shard that was killed too often is left, and the run with it.
        return {"a shard": set[int](), "all": {-9}, "who started them": {-9}}.get(what, {143, -15})


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_any_moment_shards_come_to_the_same_end(kind: str, tmp_path: Path, torture: Torture) -> None:
    if not torture.full and kind != "chain":
        pytest.skip("part of `make torture`")
    text, prompts, more = KINDS[kind]
    recipe = small_project(tmp_path / "p", prompts if torture.full else 25, text)
    overrides = (SLOW, "output.slice=5", "output.flush_rows=8", "output.flush_seconds=0.05", *more)
    quiet, kills, lives = whole(recipe, tmp_path / "quiet", overrides), Counter[str](), 0
    while kills.total() < (KILLS if torture.full else 2):
        root = tmp_path / f"w{lives}"
        torment = Torment(recipe, root, overrides, f"{torture.seed}/{kind}/{lives}")
        most = 6.0 if torture.full else 3.0
        while not torment.life(torment.chance.randint(1, 3), torment.chance.randint(1, 3), most):
            pass
        same(root, quiet)
        kills, lives = kills + torment.kills, lives + 1
    torture.count("kills", kills.total())
    told = ", ".join(f"{count} of {what}" for what, count in sorted(kills.items()))
    torture.measure(f"kills of shards, {kind}", f"{kills.total()} in {lives} run(s): {told}")
