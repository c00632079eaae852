"""Scalar reward models behind a server: the raw number, or a refusal of what may be none."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from constitution.engines import open_scorer
from constitution.engines.meter import Metered
from constitution.errors import ConstitutionError, ContextTooLong, EngineUnavailable, ModelLoadError, RequestRefused
from constitution.recipe import FakeModel, OpenAIModel
from constitution.recipe.models import Models
from constitution.records import Message, Messages

ANSWERED: Messages = (Message("user", "How?"), Message("assistant", "Like <|im_end|> this."))
Answer = Callable[[dict[str, Any]], Any]


def raw(body: Mapping[str, Any]) -> float:
    """Longer is better; around 0."""
    return sum(len(turn["content"]) for turn in body["messages"]) / 10 - 2


def sigmoid(number: float) -> float:
    return 1 / (1 + math.exp(-number))


def numbers(*found: float) -> dict[str, Any]:
    return {"data": [{"index": 0, "label": "LABEL_0", "probs": list(found), "num_classes": len(found)}]}


def sound(body: dict[str, Any]) -> Any:
    return numbers(sigmoid(raw(body)) if body["use_activation"] else raw(body))


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[tuple[OpenAIModel, list[dict[str, Any]]]]:
    """A server with a model `rm`, in vLLM's words; the bodies that its /classify was sent are kept."""
    asked: list[dict[str, Any]] = []

    async def models(request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "rm", "root": "rm", "owned_by": "vllm"}]})

    async def tokenize(request: web.Request) -> web.Response:
        body = await request.json()
        text = body.get("prompt", "")
        return web.json_response({"tokens": [1] if text == "<|im_end|>" else [ord(letter) + 10 for letter in text]})

    async def classify(request: web.Request) -> web.Response:
        asked.append(await request.json())
        said = answer(asked[-1])
        return said if isinstance(said, web.Response) else web.json_response(said)

    app = web.Application()
    app.router.add_get("/v1/models", models)
    app.router.add_post("/tokenize", tokenize)
    app.router.add_post("/classify", classify)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        url = f"http://127.0.0.1:{port}/v1"
        yield OpenAIModel(engine="openai", model="rm", base_url=url, retries=0, timeout_s=5.0), asked
    finally:
        await runner.cleanup()


async def test_the_raw_number_of_the_whole_conversation() -> None:
    async with serving(sound) as (section, asked):
        engine = await open_scorer(section)
        scorer = Metered(engine)
        try:
            short = (ANSWERED[0], Message("assistant", "No."))
            found = await asyncio.gather(scorer.score(short), scorer.score(ANSWERED))
            assert found[0] == pytest.approx(-1.3)
            last = asked[-1]
            assert (last["add_generation_prompt"], last["use_activation"], last["model"]) == (False, False, "rm")
            assert [turn["role"] for turn in last["messages"]] == ["user", "assistant"]
            # A control token that the answer spells is broken for the server.
            assert "<|im_end|>" not in last["messages"][1]["content"]
            assert engine.describe()["scores"] == "/classify"
            with pytest.raises(RequestRefused, match="last message is not the assistant's"):
                await scorer.score(ANSWERED[:1])
        finally:
            await scorer.close()


async def test_a_model_without_an_activation_gives_the_raw_number_either_way() -> None:
    async with serving(lambda body: numbers(raw(body))) as (section, _):
        scorer = await open_scorer(section)
        await scorer.close()


def too_long(body: dict[str, Any]) -> Any:
    if len(body["messages"][-1]["content"]) < 100:
        return sound(body)
    said = "This model's maximum context length is 64 tokens. However, your prompt contains 300 input tokens."
    return web.json_response({"error": {"message": said, "type": "BadRequestError", "code": 400}}, status=400)


async def test_what_is_too_long_is_refused() -> None:
    async with serving(too_long) as (section, _):
        scorer = Metered(await open_scorer(section))
        try:
            with pytest.raises(ContextTooLong):
                await scorer.score((ANSWERED[0], Message("assistant", "x" * 200)))
        finally:
            await scorer.close()


def failing(status: int) -> Answer:
    return lambda body: web.json_response({"error": {"message": "no", "code": status}}, status=status)


REFUSED: Mapping[str, tuple[Answer, type[ConstitutionError], str]] = {
    "ignores use_activation": (lambda body: numbers(sigmoid(raw(body))), ModelLoadError, "may be probabilities"),
    "no head in the checkpoint, zeros": (
        lambda body: numbers(0.5 if body["use_activation"] else 0.0),
        ModelLoadError,
        "no trained",
    ),
    "no head, what was in memory": (
        lambda body: numbers(0.0 if body["use_activation"] else -2.5e31 * raw(body) ** 2),
        ModelLoadError,
        "no trained",
    ),
    "two labels": (lambda body: numbers(0.3, 0.7), ModelLoadError, "no single number"),
    "another reply": (lambda body: [{"embedding": [0.3]}], ModelLoadError, "no single number"),
    "no such path": (failing(404), ModelLoadError, "no score of rm by /classify"),
    "a text model": (failing(400), ModelLoadError, "no score of rm by /classify"),
    "down": (failing(503), EngineUnavailable, "503"),
}


@pytest.mark.parametrize("fault", REFUSED)
async def test_a_server_without_scores_is_refused(fault: str) -> None:
    answer, error, message = REFUSED[fault]
    async with serving(answer) as (section, _):
        with pytest.raises(error, match=message):
            await open_scorer(section)


@pytest.mark.parametrize("fields", [{"batch": True}, {"dialect": "anthropic"}, {"dialect": "openai"}])
def test_what_no_server_scores_by_is_refused(fields: dict[str, Any]) -> None:
    section = {"engine": "openai", "model": "rm", "base_url": "http://127.0.0.1:1/v1", **fields}
    with pytest.raises(ValueError, match="of servers only vLLM's give scores"):
        Models.model_validate({"policy": FakeModel(engine="fake"), "reward_model": section})
