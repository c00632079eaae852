"""A real chat model, and recipes/your-model.toml run on it: `make test-model`.

Nothing here is about how good the answers are. The model is the folder in CONSTITUTION_TEST_MODEL, any causal one with
a chat template.
"""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest_asyncio

from constitution.engines import Completion, Engine, Request
from constitution.engines.transformers import TransformersEngine
from constitution.pipeline import open_run, prepare
from constitution.recipe import TransformersModel, load_recipe
from constitution.records import Message, Row, Run, Sampling
from constitution.warehouse import Warehouse

ROOT = Path(__file__).parents[2]
FOLDER = os.environ["CONSTITUTION_TEST_MODEL"]
NAME = Path(FOLDER).name
RECIPE = ROOT / "recipes" / "your-model.toml"
PROMPTS = 12
TOKENS = 24
"""Enough for texts to differ; a real run takes more."""
STEPS = ("initial", "critique", "revision")
GREEDY = [f"revise.{step}.{set}" for step in STEPS for set in ("temperature=0.0", f"max_tokens={TOKENS}")]


class Noting:
    """The engine within, and a list of what went through. It is not closed: the tests share it."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.model, self.describe, self.stats = engine, engine.model, engine.describe, engine.stats
        self.heard: list[tuple[Request, Completion]] = []

    async def generate(self, request: Request) -> Completion:
        done = await self.engine.generate(request)
        self.heard.append((request, done))
        return done

    async def close(self) -> None: ...


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def transformers_engine() -> AsyncIterator[TransformersEngine]:
    opened = await TransformersEngine.open(TransformersModel(engine="transformers", model=FOLDER))
    yield opened
    await opened.close()


async def run(engine: Engine, warehouse: Path, overrides: Sequence[str] = ()) -> Run:
    """The recipe on `engine`, greedy and with few tokens."""
    recipe = load_recipe(RECIPE, [*GREEDY, *overrides]).with_engines({"policy": engine})
    async with open_run(prepare(recipe, RECIPE, warehouse)) as session:
        await session.walk()
        return await session.finish()


def rows(warehouse: Path, run_id: str) -> list[Row]:
    """Every row of the run; an id that is there twice is an error."""
    store = Warehouse(warehouse)
    prompts = [prompt.id for part in store.parts("prompts", run_id) for prompt in store.read_prompts(part)]
    assert len(prompts) == PROMPTS
    all_rows = [row for each in store.rows_of(run_id, prompts).values() for row in each]
    assert len({row.id for row in all_rows}) == len(all_rows)
    return all_rows


def question(*texts: str, choices: tuple[str, ...] = (), tokens: int = TOKENS) -> Request:
    """A greedy request; texts are the user's and the assistant's by turns."""
    messages = tuple(Message("assistant" if n % 2 else "user", text) for n, text in enumerate(texts))
    return Request(messages, Sampling(temperature=0.0, max_tokens=tokens), seed=1, choices=choices)


def p_first(request: Request, done: Completion) -> float:
    """P(first label), of the request's two; a mapping of log-probabilities has an order of its engine's."""
    assert done.choice_logprobs is not None
    first, second = (math.exp(done.choice_logprobs[label]) for label in request.choices)
    return first / (first + second)
