"""A server that is odd in one way after another, at moments that nobody knows, and sound at last: the same command with
--retry-failed brings every prompt to its end, and what was answered is not asked for again."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import Torture
from odd_modes import MODES
from odd_server import Body, OddServer, Reply, Role, project
from small_project import table
from test_pipeline import rows_of
from test_retry_failed import work

from constitution.engines.openai import endpoint as _endpoint
from constitution.engines.openai import fleet as _fleet
from constitution.records import Run
from constitution.warehouse import Warehouse

WINDOW = 8
"""Of the recipe in tests/odd_server.py. Of a prompt at most two calls are in flight at once."""
ALTERING = {
    name
    for name, mode in MODES.items()
    if mode.record or "room" in name or name in ("o-series: stop", "deepseek: max_tokens has a greatest value")
}
"""Modes after which other requests are sent, or shorter answers come, so that rows are others."""
QUIET = [name for name in MODES if name not in ALTERING]
PROMPTS = 6


class Moody:
    """Its mode changes after a few requests, so many times, and then it is sound. Every text is told by its request."""

    def __init__(self, draw: random.Random, names: list[str], changes: int) -> None:
        self._draw, self._names, self._left = draw, names, changes
        self._mode, self._until, self._asked = "", 0, 0
        self.answered: Counter[str] = Counter()
        """Requests that were answered soundly, by their bodies."""
        self.modes: Counter[str] = Counter()

    @property
    def sound(self) -> bool:
        return self._left == 0

    def settle(self) -> None:
        self._left, self._mode = 0, ""

    def __call__(self, body: Body, nth: int) -> Reply | None:
        self._asked += 1
        if self._asked > self._until and self._left:
            self._left -= 1
            self._mode = self._draw.choice(("", *self._names)) if self._left else ""
            self._until = self._asked + self._draw.randint(1, 12)
        odd = MODES[self._mode].odd(body, nth) if self._mode else None
        self.modes[self._mode] += 1
        if (
            odd is None
            or (isinstance(odd.body, dict) and _is_answer(body, odd))
            or (isinstance(odd.body, bytes) and odd.status == 200)
        ):
            self.answered[hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()] += 1
        return odd


def _is_answer(body: Body, reply: Reply) -> bool:
    choices = reply.body.get("choices")
    return bool(reply.status == 200 and choices and "error" not in choices[0]
                and (choices[0].get("logprobs") or not body.get("logprobs")))  # fmt: skip


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fleet, "BACKOFF_SECONDS", 0.005)
    monkeypatch.setattr(_fleet, "PROBE_MOST", 0.02)
    monkeypatch.setattr(_endpoint, "FIRST_PROBE_SECONDS", 0.005)


async def until_all_ended(recipe: Path, warehouse: Path, role: Role, moody: Moody, starts: int) -> tuple[Run, int]:
    """The same command again and again, and how often. After `starts` the server is sound."""
    settings = ["output.stop_at_failures=0.9", f"model.{role}.timeout_s=1"]
    for number in range(1, starts + 4):
        if number > starts:
            moody.settle()
        run = await work(recipe, warehouse, settings, retry_failed=True)
        if run.finished_at and not run.counts["lost"] and run.counts["done"] == PROMPTS:
            return run, number
    raise AssertionError(f"{run.counts} after {number} starts: {run.stopped}")


def said_nothing_else(bodies: list[dict[str, Any]], warehouse: Path, role: Role) -> None:
    """Texts are those of the server's replies: each names the request that it answers, or the seed."""
    known = {f"Text {hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:6]}." for body in bodies}
    known |= {f"Text {body['seed']}.{more}" for body in bodies for more in ("", " zzz and more") if "seed" in body}
    if role == "policy":
        texts = table(warehouse, "SELECT DISTINCT text FROM responses WHERE text <> ''")
        assert {text for [text] in texts} <= known


@pytest.mark.parametrize("role", ["policy", "judge"])
@pytest.mark.parametrize("names", [QUIET, list(MODES)], ids=["the same rows", "any mode"])
async def test_one_oddity_after_another(role: Role, names: list[str], tmp_path: Path, torture: Torture) -> None:
    if not torture.full and (role == "policy") == (names is not QUIET):
        pytest.skip("one role for each is enough for the short version")
    draw = random.Random(f"{torture.seed}/habits/{role}/{len(names)}")
    async with OddServer(lambda body, nth: None) as server:
        calm = await work(project(tmp_path / "calm", role, server.url, PROMPTS), tmp_path / "clean", [])
        calls = len(server.bodies)
    rows = rows_of(tmp_path / "clean", calm.run_id)
    for number in range(3 if torture.full else 1):
        moody = Moody(draw, [name for name in names if role in MODES[name].roles], draw.randint(2, 8))
        async with OddServer(moody) as server:
            recipe, where = project(tmp_path / str(number), role, server.url, PROMPTS), tmp_path / f"w{number}"
            done, starts = await until_all_ended(recipe, where, role, moody, 3 if torture.full else 1)
        assert done.run_id == calm.run_id
        assert Warehouse(where).verify(done.run_id) == []
        said_nothing_else(server.bodies, where, role)
        found = rows_of(where, done.run_id)
        if names is QUIET:
            assert found == rows, moody.modes
            assert {**done.counts, "failures": 0} == {**calm.counts, "failures": 0}
        else:
            assert found.keys() >= {id for id, row in rows.items() if type(row).__name__ == "Response"}
        # Each start that ends early may leave answers without a row, of what was in flight.
        assert moody.answered.total() <= calls + (starts - 1) * WINDOW * 2, (starts, moody.answered.total(), calls)
        torture.count("modes of a server that changes", len(moody.modes))
        torture.count("starts against a server that changes", starts)
