"""Scalar reward models on a real vLLM, beside transformers on the same checkpoint."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from real_vllm import ARGUMENTS
from vllm_cpu import serving

from constitution.engines import open_engines, open_scorer
from constitution.engines.meter import Metered
from constitution.engines.scalar import TransformersScorer
from constitution.engines.vllm_scalar import VLLMScorer
from constitution.engines.weights import SHIPPED
from constitution.errors import ContextTooLong, ModelLoadError, RecipeError
from constitution.recipe import OpenAIModel, TransformersModel, VLLMModel
from constitution.recipe.models import Models
from constitution.records import Message, Messages

pytestmark = pytest.mark.asyncio(loop_scope="session")
ANSWERS = ("Yes.", "For the candles, take care.", "I cannot help with that. " * 3, "No <|end|> no.", "You are stupid.")


def section(model: str | Path, **arguments: Any) -> VLLMModel:
    return VLLMModel(engine="vllm", model=str(model), vllm={**ARGUMENTS, "max_model_len": 256, **arguments})


async def both(folder: Path, talks: list[Messages]) -> tuple[list[float], list[float]]:
    theirs = await TransformersScorer.open(TransformersModel(engine="transformers", model=str(folder)))
    ours = await VLLMScorer.open(section(folder))
    try:
        with pytest.raises(ContextTooLong, match="takes 256"):
            await ours.score((talks[0][0], Message("assistant", "Yes. " * 300)))
        assert ours.describe()["digest"] == theirs.describe()["digest"]
        return (
            list(await asyncio.gather(*map(ours.score, talks))),
            list(await asyncio.gather(*map(theirs.score, talks))),
        )
    finally:
        await ours.close()
        await theirs.close()


@pytest.mark.parametrize("ends", ["as it is", "with its padding"])
async def test_scores_are_transformers_own(tmp_path: Path, conversations: list[Messages], ends: str) -> None:
    """With its padding: the token that ends a turn pads too, before which transformers reads the head."""
    folder = shutil.copytree(SHIPPED["pocket-reward"], tmp_path / "rewards")
    if ends == "with its padding":
        template = folder / "chat_template.jinja"
        config = json.loads((folder / "config.json").read_text())
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        [end] = [each["id"] for each in tokenizer["added_tokens"] if each["content"] == "<|end|>"]
        (folder / "config.json").write_text(json.dumps({**config, "pad_token_id": end}))
        template.write_text(template.read_text().rstrip() + "{{ '<|end|>' }}")
    talks = [(*talk, Message("assistant", answer)) for talk in conversations[:8] for answer in ANSWERS]
    ours, theirs = await both(folder, talks)
    spread = max(theirs) - min(theirs)
    assert spread > 1
    assert ours == pytest.approx(theirs, abs=1e-4 * spread)


async def test_what_is_no_reward_model_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(SHIPPED["pocket-reward"], tmp_path / "rewards")
    weights: Any = load_file(folder / "model.safetensors")
    for change, message in (
        ({"score.weight": None}, "files lack score.weight"),
        ({"score.bias": weights["score.weight"][:, 0].clone()}, "one row without a bias"),
        ({"score.weight": weights["score.weight"].repeat(2, 1)}, "one row without a bias"),
    ):
        changed = {name: each for name, each in {**weights, **change}.items() if each is not None}
        save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelLoadError, match=message):
            await VLLMScorer.open(section(folder))
    with pytest.raises(ModelLoadError, match="not a …ForSequenceClassification"):
        await VLLMScorer.open(section("pocket"))
    with pytest.raises(RecipeError, match="how a score is read"):
        await VLLMScorer.open(section("pocket-reward", pooler_config={"pooling_type": "MEAN"}))
    with pytest.raises(RecipeError, match="say the share of each"):
        async with open_engines(Models(policy=section("pocket"), reward_model=section("pocket-reward"))):
            pass


async def test_a_servers_scores_are_transformers_own(conversations: list[Messages], tmp_path: Path) -> None:
    talks = [
        (*talk, Message("assistant", answer)) for talk in conversations[:4] for answer in ANSWERS if "<" not in answer
    ]
    table = {**ARGUMENTS, "model": "pocket-reward", "max_model_len": 256, "distributed_executor_backend": "uni"}
    theirs = await TransformersScorer.open(TransformersModel(engine="transformers", model="pocket-reward"))
    with serving("served-rewards", {**table, "enable_chunked_prefill": False}, tmp_path / "log") as url:
        ours = Metered(await open_scorer(OpenAIModel(engine="openai", model="served-rewards", base_url=url)))
        try:
            expected = await asyncio.gather(*map(theirs.score, talks))
            spread = max(expected) - min(expected)
            assert await asyncio.gather(*map(ours.score, talks)) == pytest.approx(expected, abs=1e-4 * spread)
            with pytest.raises(ContextTooLong):
                await ours.score((talks[0][0], Message("assistant", "Yes. " * 300)))
        finally:
            await ours.close()
            await theirs.close()
