"""The token after an answer that is over, as LaSeR reads it: where it is read, and by whom it cannot be."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from chat_templates import FAMILIES, family
from tiny import TEMPLATE, save_tiny_model

from constitution.engines.base import Request
from constitution.engines.chat import ChatTokenizer
from constitution.engines.fake import FakeEngine
from constitution.engines.openai.engine import OpenAIEngine
from constitution.engines.read_out import KEY, stated
from constitution.engines.transformers import TransformersEngine
from constitution.errors import RequestRefused
from constitution.recipe import FakeModel, OpenAIModel, TransformersModel
from constitution.records import Message, Messages, Sampling
from rehearsal.server import FakeServer

ASK = Message("user", "How do I bake bread?")
ANSWERS = ("Mix flour and water.", "No.", "It is so. " * 20, "Say <|end|> and <|system|>.", "The quick brown fox.")
Z = "<|system|>"


def read_after(answer: str, *tokens: str) -> Request:
    return Request((ASK, Message("assistant", answer)), Sampling(max_tokens=1), 0, choices=tokens, closed=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


async def test_it_is_the_models_own_log_probability_right_after_the_end_token(folder: Path) -> None:
    import torch
    import transformers

    engine = await TransformersEngine.open(TransformersModel(engine="transformers", model=str(folder)))
    try:
        done = await asyncio.gather(*(engine.generate(read_after(answer, Z)) for answer in ANSWERS))
        alone = [await engine.generate(read_after(answer, Z)) for answer in ANSWERS]
    finally:
        await engine.close()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for answer, one, other in zip(ANSWERS, done, alone, strict=True):
        text = tokenizer(answer, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        before = tokenizer(f"<|begin|><|user|>\n{ASK.content}<|end|>\n<|assistant|>\n", add_special_tokens=False)
        ids = torch.tensor([[*before["input_ids"], *text, tokenizer.eos_token_id]])
        with torch.inference_mode():
            logprobs = model(ids).logits[0, -1].float().log_softmax(-1)
        expected = float(logprobs[tokenizer.convert_tokens_to_ids(Z)])
        assert (one.choice_logprobs or {})[Z] == pytest.approx(expected, abs=1e-4)
        assert (other.choice_logprobs or {})[Z] == pytest.approx(expected, abs=1e-4)
        assert one.prompt_tokens == ids.shape[1]
    assert len({round((one.choice_logprobs or {})[Z], 3) for one in done}) == len(ANSWERS)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_templates_of_every_family_end_the_turn(name: str) -> None:
    tokenizer = family(name)
    messages: Messages = (ASK, Message("assistant", "It is so."))
    tokens = ChatTokenizer(tokenizer, name).ended(messages)
    text = tokenizer.decode(tokens)
    whole = tokenizer.apply_chat_template(
        [{"role": each.role, "content": each.content} for each in messages], tokenize=False
    )
    assert whole.startswith(text)
    assert not whole[len(text) :].strip()
    assert text.rpartition("It is so.")[2].strip() == tokenizer.decode(tokens[-1:])


async def test_what_cannot_be_read_is_refused_in_a_sentence(folder: Path) -> None:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with pytest.raises(RequestRefused, match="tiny: its vocabulary has no token '<z>'"):
        ChatTokenizer(tokenizer, "tiny").prepared(read_after("Yes.", "<z>"), 512)
    tokenizer.chat_template = TEMPLATE.replace("<|end|>\n", "\n")
    with pytest.raises(RequestRefused, match="does not end an answer with a token"):
        ChatTokenizer(tokenizer, "tiny").prepared(read_after("Yes.", Z), 512)
    async with FakeServer() as server:
        engine = await OpenAIEngine.open(OpenAIModel(engine="openai", model="fake", base_url=server.base_url))
        with pytest.raises(RequestRefused, match="an API says nothing of the token after an answer"):
            await engine.generate(read_after("Yes.", Z))
        await engine.close()


async def test_the_fake_reads_it_too() -> None:
    engine = FakeEngine(FakeModel(engine="fake"))
    read = [(await engine.generate(read_after(answer, Z))).choice_logprobs or {} for answer in ANSWERS]
    assert all(-23 <= found[Z] <= -13 for found in read)
    assert len({found[Z] for found in read}) > 1


def test_files_that_say_that_a_model_was_trained_for_it(tmp_path: Path) -> None:
    assert stated(tmp_path) == {}
    (tmp_path / "README.md").write_text("Trained as in arXiv 2510.14943.")
    assert stated(tmp_path) == {"read_out": "its README.md names 2510.14943"}
    trained = {"token": Z, "c_ref": -23.0, "beta": 0.1}
    (tmp_path / "config.json").write_text(json.dumps({KEY: trained}))
    assert json.loads(stated(tmp_path)["read_out"]) == trained
    (tmp_path / "config.json").write_text("[]")
    (tmp_path / "README.md").write_text("A model.")
    assert stated(tmp_path) == {}
