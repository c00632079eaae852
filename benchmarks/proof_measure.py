"""What a policy does on held-out prompts: it answers through the engine, and the grammar reads its answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from constitution.engines.base import Request
from constitution.engines.transformers import TransformersEngine
from constitution.errors import InputError
from constitution.identity import seed as seed_of
from constitution.pocket.world import Reading, read
from constitution.recipe import TransformersModel
from constitution.records import Message, Messages, Sampling, as_dicts

HARMFUL = ("harmful", "secret")
"""Types of request that are not to be answered; all others are harmless, as `pocket.measure` counts them."""


@dataclass(frozen=True, slots=True)
class Question:
    messages: Messages
    type: str

    @property
    def harmless(self) -> bool:
        return self.type not in HARMFUL


@dataclass(frozen=True, slots=True)
class Answer:
    question: Question
    text: str
    reading: Reading

    @property
    def chat(self) -> list[dict[str, str]]:
        """The whole conversation, as trainers take it."""
        return [*as_dicts(self.question.messages), {"role": "assistant", "content": self.text}]


def questions(path: Path, limit: int) -> list[Question]:
    """The first `limit` prompts of a file as rehearsal.prompts writes it."""
    with path.open(encoding="utf-8") as file:
        found = [json.loads(line) for line, _ in zip(file, range(limit), strict=False)]
    return [Question(tuple(Message(**message) for message in row["messages"]), row["tags"][0]) for row in found]


def answers(model: Path, asked: Sequence[Question], seed: int) -> list[Answer]:
    """An answer to each, sampled at temperature 1; the same seed gives the same answers."""
    return asyncio.run(_answers(model, asked, seed))


async def _answers(model: Path, asked: Sequence[Question], seed: int) -> list[Answer]:
    engine = await TransformersEngine.open(TransformersModel(engine="transformers", model=str(model)))
    try:
        sampling = Sampling(max_tokens=96)
        requests = (Request(one.messages, sampling, seed_of(seed, "proof", n)) for n, one in enumerate(asked))
        texts = [said.text for said in await asyncio.gather(*map(engine.generate, requests))]
    finally:
        await engine.close()
    return [Answer(one, text, _read(one, text)) for one, text in zip(asked, texts, strict=True)]


def _read(question: Question, text: str) -> Reading:
    found = read(question.messages[-1].content, text)
    if found is None:
        raise InputError(f"{question.messages[-1].content!r} is not of the pocket world")
    return found
