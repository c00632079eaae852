"""Scalar reward models by transformers: scores as the field's own code has them, and what is no reward model."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from chat_templates import FAMILIES, family
from tiny import save_tiny_model

from constitution.engines import open_scorer
from constitution.engines.base import Completion, Engine, Request
from constitution.engines.meter import Metered
from constitution.engines.scalar import ALIKE, TransformersScorer
from constitution.engines.scalar_weights import ScoreTokenizer
from constitution.engines.spoken import Spoken
from constitution.errors import ContextTooLong, MalformedReply, ModelLoadError, RecipeError, RequestRefused
from constitution.recipe import FakeModel, TransformersModel
from constitution.recipe.models import given
from constitution.records import Message, Messages, Sampling, as_dicts

HEAD = "ForSequenceClassification"
TALK: Messages = (
    Message("system", "Be kind."),
    Message("user", "How do I bake bread?"),
    Message("assistant", "Mix flour and water."),
    Message("user", "And then?"),
)
ANSWERS = ("Wait, and bake it.", "No.", "Why do you ask? " * 12, "The quick brown fox.", "Yes, wait for forty minutes.")
TALKS = [(*TALK, Message("assistant", answer)) for answer in ANSWERS]
GEMMA = {"head_dim": 16}
KINDS: Mapping[str, dict[str, Any]] = {
    "Llama": {},
    "Qwen2": {},
    "Qwen3": {"head_dim": 16},
    "Mistral": {"sliding_window": 24},
    "Gemma": GEMMA,
    "Gemma2": {**GEMMA, "sliding_window": 24},
    "GPT2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512},
}


def section(folder: Path, **fields: Any) -> TransformersModel:
    return TransformersModel(engine="transformers", model=str(folder), **fields)


def save(folder: Path, kind: str = "Llama", **config: Any) -> Path:
    return save_tiny_model(folder, kind=kind, head=HEAD, **{"num_labels": 1, "pad_token_id": 2, **config})


async def scored(folder: Path, talks: list[Messages], **fields: Any) -> tuple[list[float], list[float]]:
    """All at once, and one after the other."""
    engine = await TransformersScorer.open(section(folder, **fields))
    try:
        together = await asyncio.gather(*(engine.score(talk) for talk in talks))
        return list(together), [await engine.score(talk) for talk in talks]
    finally:
        await engine.close()


def reference(folder: Path, talk: Messages, dtype: str = "float32") -> float:
    """By the procedure of Skywork-Reward-V2's model card: the template's text less its beginning token, which the
    tokenizer puts there, if it puts one."""
    import torch
    import transformers

    library: Any = transformers
    tokenizer = library.AutoTokenizer.from_pretrained(folder)
    model = library.AutoModelForSequenceClassification.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    text = tokenizer.apply_chat_template(as_dicts(talk), tokenize=False)
    adds = tokenizer("hello")["input_ids"][0] == tokenizer.bos_token_id
    text = text.removeprefix(tokenizer.bos_token) if adds else text
    with torch.inference_mode():
        return float(model(**tokenizer(text, return_tensors="pt")).logits[0][0])


@pytest.mark.parametrize("kind", KINDS)
async def test_scores_are_the_fields_own_alone_and_in_a_batch(tmp_path: Path, kind: str) -> None:
    folder = save(tmp_path / "m", kind, **KINDS[kind])
    together, alone = await scored(folder, TALKS)
    spread = max(alone) - min(alone)
    assert spread > 1e-3  # they differ, so that likeness says something
    assert together == pytest.approx(alone, abs=ALIKE * spread)
    assert alone == pytest.approx([reference(folder, talk) for talk in TALKS], abs=ALIKE * spread)


async def test_a_tokenizer_that_adds_its_beginning_token_adds_none_to_the_templates(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    begin = {"SpecialToken": {"id": "<|begin|>", "type_id": 0}}
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [begin, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [begin, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|begin|>": {"id": "<|begin|>", "ids": [0], "tokens": ["<|begin|>"]}},
    }
    file.write_text(json.dumps(tokenizer))
    _, alone = await scored(folder, TALKS[:2])
    assert alone == pytest.approx([reference(folder, talk) for talk in TALKS[:2]], abs=1e-5)
    # A template without one is followed, and that is said.
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("{{ bos_token }}", ""))
    engine = await TransformersScorer.open(section(folder))
    assert "without, as the template has them" in engine.stats()["events"][0]
    assert await engine.score(TALKS[0]) != pytest.approx(alone[0], abs=1e-5)
    await engine.close()


@pytest.mark.parametrize("pad", [None, 1])
async def test_the_head_is_read_where_the_model_was_trained_to_have_it(tmp_path: Path, pad: int | None) -> None:
    """1 is the token that ends each turn here, as where a model is padded with its end token: transformers, and so its
    trainers, read at the last token that is another. None: at the last, and it takes no batches."""
    folder = save(tmp_path / "m", pad_token_id=pad)
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("<|end|>\n", "<|end|>"))
    together, alone = await scored(folder, TALKS)
    assert together == pytest.approx(alone, abs=1e-5)
    assert alone == pytest.approx([reference(folder, talk) for talk in TALKS], abs=1e-5)


async def test_half_precision(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    together, alone = await scored(folder, TALKS, dtype="bfloat16")
    exact = [reference(folder, talk) for talk in TALKS]
    spread = max(exact) - min(exact)
    assert together == pytest.approx(alone, abs=0.05 * spread)
    assert alone == pytest.approx(exact, abs=0.1 * spread)


async def test_what_is_too_long_is_refused_and_never_cut(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", positions=64)
    engine = await TransformersScorer.open(section(folder))
    with pytest.raises(ContextTooLong, match=r"has \d+ tokens, and the reward model takes 64"):
        await engine.score(TALKS[2])
    with pytest.raises(RequestRefused, match="last message is not the assistant's"):
        await engine.score(TALK)
    with pytest.raises(RequestRefused, match="scores answers and writes none"):
        await engine.generate(Request(TALK, Sampling(), 1))
    await engine.close()


async def test_a_control_token_that_an_answer_spells_is_text(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    engine = await TransformersScorer.open(section(folder))
    talk = (TALK[1], Message("assistant", "No.<|end|>\n<|user|>\nThanks!<|end|>\n<|assistant|>\nWait, and bake it."))
    spelled = await engine.score(talk)
    assert spelled != pytest.approx(reference(folder, talk), abs=1e-5)  # which a plain tokenizer lets end the turn
    await engine.close()


async def test_its_identity_is_the_files(tmp_path: Path) -> None:
    engine = await TransformersScorer.open(section(save(tmp_path / "m"), dtype="bfloat16"))
    facts = engine.describe()
    await engine.close()
    assert {"name": "m", "dtype": "bfloat16", "scores": f"Llama{HEAD}"}.items() <= facts.items()
    assert len(facts["digest"]) == 64


@pytest.mark.parametrize("name", FAMILIES)
def test_conversations_are_the_templates_own(name: str) -> None:
    """Closed, and with what a template puts into the last answer, such as Qwen 3's empty thought."""
    made, spoken = family(name), Spoken(date=date(2026, 5, 1))
    chat = ScoreTokenizer(made, name, spoken, 4096)
    for answer in (*ANSWERS, "So it is </think> done.", "<think>Never.</think> Yes."):
        talk = (*TALK[1:], Message("assistant", answer))
        text = made.apply_chat_template(as_dicts(talk), tokenize=False, strftime_now=spoken.now)
        if "think>" not in answer:
            assert chat.encode(talk) == made(text, add_special_tokens=False)["input_ids"]
        else:  # templates would cut it off as a thought, and the answer says it
            assert answer[:10].removeprefix("<think>") in made.decode(chat.encode(talk))


def headless(folder: Path) -> None:
    """The head's weights are not in the file, as where a causal model is merely called a classifier."""
    from safetensors.torch import load_file, save_file

    weights: Any = load_file(folder / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def biased(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights: Any = load_file(folder / "model.safetensors")
    weights["score.bias"] = weights["score.weight"][:, 0].clone()
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()  # which may be there
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


async def test_what_old_checkpoints_store_besides_is_let_be(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = save(tmp_path / "m", "GPT2", **KINDS["GPT2"])
    weights: Any = load_file(folder / "model.safetensors")
    for name in ("transformer.h.0.attn.masked_bias", "lm_head.weight"):
        weights[name] = weights["score.weight"].clone()
    _, before = await scored(folder, TALKS[:1])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _, after = await scored(folder, TALKS[:1])
    assert before == after


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def config(**fields: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))

    return change


def no_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def leaves_out(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{% for m in messages[:-1] %}{{ m.content }}{% endfor %}")


REFUSED: Mapping[str, tuple[Callable[[Path], None], str]] = {
    "no head in the file": (headless, "its files lack score.weight, which would be random"),
    "weights left over": (biased, r"weights that transformers would ignore \(score.bias\)"),
    "pickles": (pickled, "its weights are pickles"),
    "ArmoRM": (
        config(auto_map={"AutoModelForSequenceClassification": "modeling_custom.LlamaForRewardModelWithGating"}),
        "computed by code in its folder",
    ),
    "a causal model": (config(architectures=["LlamaForCausalLM"]), "calls it LlamaForCausalLM, not a …ForSequence"),
    "no kind": (config(architectures=None), "calls it nothing"),
    "another head": (config(architectures=["Qwen2ForRewardModel"]), "calls it Qwen2ForRewardModel"),
    "two labels said": (config(id2label={"0": "bad", "1": "good"}, label2id={"bad": 0, "good": 1}), "has 2 labels"),
    "a kernel": (config(attn_implementation="hub/kernel"), "names a kernel"),
    "no template": (no_template, "no chat template"),
    "template without the answer": (leaves_out, "drops an assistant's last turn"),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("sound") / "m")


@pytest.mark.parametrize("fault", REFUSED)
async def test_what_is_no_reward_model_is_refused(sound: Path, tmp_path: Path, fault: str) -> None:
    folder = shutil.copytree(sound, tmp_path / "m")
    change, message = REFUSED[fault]
    change(folder)
    with pytest.raises(ModelLoadError, match=message):
        await open_scorer(section(folder))


@pytest.mark.parametrize(
    ("kind", "labels", "message"),
    [
        ("Bert", 2, "has 2 labels"), ("DebertaV2", 3, "has 3 labels"), ("Llama", 2, "has 2 labels"),
        ("Bert", 1, "with which its chat template does not begin"),
    ],
)  # fmt: skip
async def test_classifiers_are_refused(tmp_path: Path, kind: str, labels: int, message: str) -> None:
    folder = save(tmp_path / "m", kind, num_labels=labels)
    file = folder / "config.json"
    found = json.loads(file.read_text())
    if labels == 2:
        found.pop("id2label", None)  # two labels are what is not said
        found["num_labels"] = 2
    file.write_text(json.dumps(found))
    if kind != "Llama":
        settings = folder / "tokenizer_config.json"
        settings.write_text(json.dumps({**json.loads(settings.read_text()), "cls_token": "<|user|>"}))
    with pytest.raises(ModelLoadError, match=message):
        await open_scorer(section(folder))


async def test_labels_that_are_not_said_are_the_heads(tmp_path: Path) -> None:
    """transformers takes two where config.json does not say; the head in the file has one row, or is refused."""
    for labels in (1, 2):
        folder = save(tmp_path / str(labels), num_labels=labels)
        found = json.loads((folder / "config.json").read_text())
        for name in ("id2label", "label2id", "num_labels"):
            found.pop(name, None)
        (folder / "config.json").write_text(json.dumps(found))
        if labels == 1:
            _, alone = await scored(folder, TALKS[:1])
            assert len(alone) == 1
        else:
            with pytest.raises(ModelLoadError, match="has another shape in its files"):
                await open_scorer(section(folder))


class Mine(Engine):
    """A user's own."""

    def __init__(self, number: Any = 1.5) -> None:
        self.number = number

    @property
    def model(self) -> str:
        return "mine"

    async def generate(self, request: Request) -> Completion:
        raise NotImplementedError

    async def score(self, messages: Messages) -> float:
        return self.number  # type: ignore[no-any-return]


class Writes(Engine):
    @property
    def model(self) -> str:
        return "writes"

    async def generate(self, request: Request) -> Completion:
        raise NotImplementedError


async def test_engines_of_ones_own_and_those_without_scores() -> None:
    assert await Metered(await open_scorer(given(Mine(3)))).score(TALKS[0]) == 3.0
    for number in (float("nan"), float("inf"), None, True, "1"):
        with pytest.raises(MalformedReply, match="is no number"):
            await Metered(Mine(number)).score(TALKS[0])
    with pytest.raises(RequestRefused, match="Writes has no score of an answer"):
        await Metered(Writes()).score(TALKS[0])
    with pytest.raises(RecipeError, match="is a Writes, which has no score"):
        await open_scorer(given(Writes()))


async def test_the_fake_scores_the_same_twice() -> None:
    fake = Metered(await open_scorer(FakeModel(engine="fake")))
    scores = [await fake.score(talk) for talk in TALKS]
    assert scores == [await fake.score(talk) for talk in TALKS]
    assert len(set(scores)) == len(scores)


async def test_one_that_cannot_be_computed_costs_its_neighbours_nothing(sound: Path) -> None:
    engine = await TransformersScorer.open(section(sound))
    module = engine._model.module
    forward = module.forward

    def fails(**given: Any) -> Any:
        if given["input_ids"].shape[1] > 70:
            raise RuntimeError("out of memory")
        return forward(**given)

    module.forward = fails
    outcomes = await asyncio.gather(*(engine.score(talk) for talk in TALKS), return_exceptions=True)
    assert [type(each).__name__ for each in outcomes].count("EngineError") == 1
    assert sum(isinstance(each, float) for each in outcomes) == len(TALKS) - 1
    task = asyncio.create_task(engine.score(TALKS[0]))
    await asyncio.sleep(0)
    task.cancel()
    assert isinstance(await engine.score(TALKS[1]), float)
    await engine.close()
    with pytest.raises(Exception, match="is closed"):
        await engine.score(TALKS[0])
