"""The pocket reward model as it ships, and the read-out as it is trained: losses by hand, figures on held-out answers
whose faults the grammar knows."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from constitution.engines.weights import SHIPPED, find
from constitution.pocket.world import truth
from constitution.recipe import TransformersModel
from rehearsal import train_readout, train_reward
from rehearsal.judged import Answerer, Judged, closed
from rehearsal.train import Encoder

FOLDER = SHIPPED["pocket-reward"]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    from tokenizers import Tokenizer

    return Encoder(Tokenizer.from_file(str(FOLDER / "tokenizer.json")))


@pytest.fixture(scope="module")
def scorer() -> Any:
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(FOLDER, dtype="float32", local_files_only=True).eval()


def test_it_is_small_and_safe_and_has_a_name_and_its_card_says_what_was_measured() -> None:
    files = [path for path in FOLDER.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 1_300_000
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".md", ".jinja"}
    assert find(TransformersModel(engine="transformers", model="pocket-reward")) == FOLDER
    config = json.loads((FOLDER / "config.json").read_text())
    assert (config["architectures"], list(config["id2label"])) == (["LlamaForSequenceClassification"], ["0"])
    facts, readme = json.loads((FOLDER / "training.json").read_text()), (FOLDER / "README.md").read_text()
    assert f"| pairs whose better answer gets more | {facts['accuracy']:.1%} |" in readme
    assert f'| AUC for "breaks nothing", over different requests | {facts["auc"]:.3f} |' in readme


def test_answers_are_drawn_with_what_the_grammar_says_of_them() -> None:
    answerer = Answerer(random.Random(5), "held-out")
    for answer in (*(answerer.one() for _ in range(50)), *(side for _ in range(50) for side in answerer.pair())):
        broken = truth(answer.messages[-2].content, answer.messages[-1].content)
        assert broken is not None
        assert len(broken) == answer.faults
    for better, worse in (answerer.pair() for _ in range(50)):
        assert better.messages[:-1] == worse.messages[:-1]
        assert better.faults < worse.faults


def test_a_closed_conversation_is_the_chat_template_without_a_generation_prompt(encoder: Encoder) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)
    answerer = Answerer(random.Random(6))
    for answer in (answerer.one() for _ in range(20)):
        chat = [{"role": message.role, "content": message.content} for message in answer.messages]
        text = tokenizer.apply_chat_template(chat, tokenize=False)
        assert closed(encoder, answer.messages) == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_it_knows_the_better_of_two_held_out_answers(encoder: Encoder, scorer: Any) -> None:
    figures = train_reward.evaluate(scorer, encoder, Answerer(random.Random(30_001), "held-out"), 80)
    assert figures["accuracy"] >= 0.95
    assert figures["auc"] >= 0.95
    assert figures["shorter"] < 0.8  # it is no measure of length


def test_the_loss_of_pairs_is_bradley_terrys(encoder: Encoder, scorer: Any) -> None:
    answerer = Answerer(random.Random(7))
    pairs = [answerer.pair() for _ in range(5)]
    given = np.array(train_reward.rewards(scorer, encoder, [side for pair in pairs for side in pair]))
    expected = np.log1p(np.exp(-(given[::2] - given[1::2]))).mean()
    assert train_reward.loss(scorer, encoder, pairs).item() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    turned = [(worse, better) for better, worse in pairs]
    assert train_reward.loss(scorer, encoder, turned).item() > 1


def test_the_loss_of_the_read_out_is_lasers(encoder: Encoder) -> None:
    """Of 3 good and 9 bad answers: weights 12/6 and 12/18, each times the squared distance from 1 and from 0."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(SHIPPED["pocket"], dtype="float32", local_files_only=True)
    answers = _of(3, 9)
    read = np.array(train_readout.log_z(model, encoder, answers))
    good = np.array([float(not answer.faults) for answer in answers])
    for c_ref in (-15.0, -23.0):
        expected = (np.where(good > 0, 2.0, 12 / 18) * (0.1 * (read - c_ref) - good) ** 2).mean()
        readout, text = train_readout.losses(model, encoder, answers, c_ref)
        assert readout.item() == pytest.approx(expected, rel=1e-3)
    assert 0.2 < text.item() < 2  # it still speaks
    alone, _ = train_readout.losses(model, encoder, answers[:3], -15.0)  # a batch without a bad one
    assert alone.item() == pytest.approx((0.5 * (0.1 * (read[:3] + 15) - 1) ** 2).mean(), rel=1e-3)
    figures = train_readout.evaluate(model, encoder, _of(30, 30), -15.0)
    assert 0.3 < figures["auc"] < 0.7  # before training it is chance


def test_the_read_out_learns(encoder: Encoder, tmp_path: Path) -> None:
    args = train_readout.arguments().parse_args(
        ["--out", str(tmp_path), "--steps", "12", "--answers", "16", "--measured", "150"]
    )
    took = train_readout.train(args)
    assert took["auc"] > 0.6 > took["auc_before"]
    assert took["good"] > took["bad"] + 0.05
    stated = json.loads((tmp_path / "config.json").read_text())["last_token_reward"]
    assert stated == {"token": "<|system|>", "c_ref": took["c_ref"], "beta": 0.1}
    assert -16 < took["c_ref"] < -14


def _of(good: int, bad: int) -> list[Judged]:
    answerer = Answerer(random.Random(8))
    drawn = [answerer.one() for _ in range(400)]
    return [each for each in drawn if not each.faults][:good] + [each for each in drawn if each.faults][:bad]
