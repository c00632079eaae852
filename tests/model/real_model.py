"""A real chat model, and what the README's section "Your model" says to type for it: `make test-model`.

Nothing here is about how good the answers are. The model is the folder in CONSTITUTION_TEST_MODEL, any causal one with
a chat template.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest_asyncio
from readme_section import ROOT, commands

from constitution.engines import Completion, Engine, Request, open_engine
from constitution.pipeline import open_run, prepare
from constitution.recipe import ModelSection, load_recipe
from constitution.records import Message, Row, Run, Sampling
from constitution.warehouse import Warehouse

FOLDER = os.environ["CONSTITUTION_TEST_MODEL"]
NAME = Path(FOLDER).name
RECIPE = ROOT / "recipes" / "your-model.toml"
PROMPTS = 12
TOKENS = 40
"""Enough for a sentence, at whose end an answer stops here; a real run takes more."""
STOP = "."
WRITTEN = 64
"""Tokens for a judge to write."""
STEPS = ("initial", "critique", "revision")
BRIEF = [
    *(f"revise.{step}.temperature=0.0" for step in STEPS),
    *(
        f"revise.{step}.{set}"
        for step in ("initial", "revision")
        for set in (f"max_tokens={TOKENS}", f'stop=["{STOP}"]')
    ),
    "revise.critique.max_tokens=24",
]
"""What the tests set beyond the README's commands: greedy and short."""


def command(name: str, engine: str = "transformers", address: str = "") -> list[str]:
    """The README's command for the model on this engine; the model's place and the server's address are filled in."""
    places = {"FOLDER": FOLDER, "NAME": NAME, ADDRESS: address}

    def fitting(words: list[str]) -> bool:
        named = next((word.removeprefix(ENGINE) for word in words if word.startswith(ENGINE)), "transformers")
        return words[:2] == [name, f"recipes/{RECIPE.name}"] and named == engine

    (words,) = filter(fitting, commands("Your model"))
    for place, value in places.items():
        words = [value.join(word.rsplit(place, 1)) if word.endswith(f"={place}") else word for word in words]
    return words


ENGINE = "model.policy.engine="
ADDRESS = "http://localhost:8000/v1"


def section(engine: str, address: str = "") -> ModelSection:
    """The model as the README's command has it."""
    words = command("run", engine, address)
    return load_recipe(ROOT / words[1], words[3::2]).model.policy


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def transformers_engine() -> AsyncIterator[Engine]:
    opened = await open_engine(section("transformers"))
    yield opened
    await opened.close()


Heard = list[tuple[Request, Completion]]
"""What was asked of an engine, and what it said."""


class Lent:
    """The engine within, which is not closed: the tests share it. `heard` is what went through."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.model, self.describe, self.stats = engine, engine.model, engine.describe, engine.stats
        self.heard: Heard = []

    async def generate(self, request: Request) -> Completion:
        done = await self.engine.generate(request)
        self.heard.append((request, done))
        return done

    async def close(self) -> None: ...


async def run(engine: Engine, warehouse: Path, settings: Sequence[str] = ()) -> tuple[Run, Heard]:
    """The recipe on an engine that is open, greedy and short."""
    lent = Lent(engine)
    recipe = load_recipe(RECIPE, [*BRIEF, *settings]).with_engines({"policy": lent})
    async with open_run(prepare(recipe, RECIPE, warehouse)) as session:
        await session.walk()
        return await session.finish(), lent.heard


def judging(folder: Path) -> list[str]:
    """Settings with which the recipe judges two prompts with two answers each, by one principle, and answers none."""
    path = folder / "given.jsonl"
    lines = [
        {"prompt": "How do I boil an egg?", "a": "Put it into boiling water for eight minutes.", "b": "Don't, idiot."},
        {"prompt": "Say hello in French.", "a": "Bonjour !", "b": "I do not know; ask a dictionary."},
    ]
    path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    answers = [f"prompts.path={path}", 'prompts.answers=["a","b"]', 'judge.pairs=["given"]']
    return [*answers, "revise.rounds=0", "judge.principles=1"]


def rows(warehouse: Path, run_id: str) -> list[Row]:
    """Every row of the run; an id that is there twice is an error."""
    store = Warehouse(warehouse)
    prompts = [prompt.id for part in store.parts("prompts", run_id) for prompt in store.read_prompts(part)]
    assert len(prompts) == PROMPTS
    all_rows = [row for each in store.rows_of(run_id, prompts).values() for row in each]
    assert len({row.id for row in all_rows}) == len(all_rows)
    return all_rows


def question(*texts: str, choices: tuple[str, ...] = (), tokens: int = 24) -> Request:
    """A greedy request; texts are the user's and the assistant's by turns."""
    messages = tuple(Message("assistant" if n % 2 else "user", text) for n, text in enumerate(texts))
    return Request(messages, Sampling(temperature=0.0, max_tokens=tokens), seed=1, choices=choices)


def p_first(request: Request, done: Completion) -> float:
    """P(first label), of the request's two; a mapping of log-probabilities has an order of its engine's."""
    assert done.choice_logprobs is not None
    first, second = (math.exp(done.choice_logprobs[label]) for label in request.choices)
    return first / (first + second)
