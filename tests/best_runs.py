"""Runs whose chains start from the best sample, and engines that say and read what a test wants."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from test_rewards import CONSTITUTION
from test_rewards import RECIPE as REWARDED

from constitution.engines.base import Completion, Engine, Request
from constitution.errors import EngineError
from constitution.pipeline import Plan, lost, open_run, prepare
from constitution.recipe import load_recipe
from constitution.records import Run
from constitution.warehouse import ask, connect

HEAD, _, _ = REWARDED.partition("[sample.plain]")
RECIPE = (
    HEAD.replace('answers = ["good", "bad"]\n', "")
    + """
[sample.plain]
n = 3
[sample.hot]
n = 2
temperature = 1.5
[revise]
start = "best"
rounds = 2
[reward]
by = ["rubric", "rule"]
rules = { words = [3, 60] }
length = { limit = 40, ramp = 30 }
[judge]
principles = 1
pairs = ["first-last", "parent", "best-worst"]
[perturb]
share = 0.5
[output]
window = 4
flush_seconds = 0.05
"""
)
ROWS = "SELECT * EXCLUDE (created_at, run_id) FROM {} ORDER BY id"
TABLES = ("responses", "scores", "rewards", "judgements", "preferences")
START = """
SELECT r.prompt_id, s.sampler, s.round FROM responses AS r JOIN responses AS s ON s.id = r.parent_id
WHERE r.round = 1 AND r.kind = 'revision' ORDER BY ALL"""
STATES = "SELECT state, stopped_at, stopped_by, rounds, samples, pairs_missing FROM chains"


def best_project(tmp_path: Path) -> Path:
    """A project whose recipe is RECIPE."""
    (tmp_path / "principles" / "rewards").mkdir(parents=True)
    (tmp_path / "principles" / "rewards" / "1.0.0.toml").write_text(CONSTITUTION, encoding="utf-8")
    rows = [{"prompt": f"How does thing {n} work?"} for n in range(10)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


def rows_of(root: Path) -> list[list[tuple[Any, ...]]]:
    with connect(root) as connection:
        return [list(ask(connection, ROWS.format(name)).rows) for name in TABLES]


class Killed(Exception):
    pass


async def killed_after(plan: Plan, rows: int) -> None:
    """A start that ends after this number of rows."""
    written = 0
    async with open_run(plan) as session:
        assert session._steps
        writer = session._steps.writer
        put = writer.put

        async def few(made: Sequence[Any]) -> None:
            nonlocal written
            left = max(rows - written, 0)
            written += len(made)
            await put(list(made)[:left])
            if written > rows:
                raise Killed

        writer.put = few  # type: ignore[method-assign,assignment]
        await session.walk()


class Speaks(Engine):
    """The policy: an answer that its request decides, unless `odd` says otherwise."""

    model = "policy"

    def __init__(self, odd: Callable[[Request], str | EngineError | None] = lambda request: None) -> None:
        self.odd = odd
        self.asked: list[Request] = []

    async def generate(self, request: Request) -> Completion:
        self.asked.append(request)
        said = self.odd(request)
        if isinstance(said, EngineError):
            raise said
        text = f"Said at {request.step}, {request.seed}." if said is None else said
        return Completion(text, "stop", 3, 2)


class Reads(Engine):
    """The judge: yes with a probability by the place in `order` of what is in the answer."""

    model = "judge"

    def __init__(self, order: Sequence[str] = (), fails: Mapping[str, EngineError] | None = None) -> None:
        self.order, self.fails = order, fails or {}

    async def generate(self, request: Request) -> Completion:
        shown = request.messages[0].content
        for said, error in self.fails.items():
            if said in shown:
                raise error
        place = next((place for place, said in enumerate(self.order) if said in shown), len(self.order))
        p = 0.9 / (place + 1)
        rest = (1 - p) / (len(request.choices) - 1)
        found = [p if label in ("Y", "A") else rest for label in request.choices]
        logs = dict(zip(request.choices, map(math.log, found), strict=True))
        return Completion("", "length", 10, 1, choice_logprobs=logs)


async def worked(project: Path, policy: Engine, judge: Engine, *overrides: str, retry: bool = False) -> Run:
    """A run of the first prompt by these engines, rewarded by whether it is brief."""
    path = project / "recipe.toml"
    own = ["prompts.limit=1", 'reward.principles=["brief"]', "sample.hot.n=1", "perturb.share=1.0",
           "output.stop_at_failures=1.0", *overrides]  # fmt: skip
    recipe = load_recipe(path, own).with_engines({"policy": policy, "judge": judge})
    plan = prepare(recipe, path, project / "w")
    if retry:
        assert lost(plan)
    async with open_run(plan, retry) as session:
        await session.walk()
        return await session.finish()
