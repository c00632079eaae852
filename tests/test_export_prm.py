"""Answers by sentence for a process reward model: labels against the truth, columns, real steps."""

from __future__ import annotations

import asyncio
import random
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from export_runs import NO_CLEANING, ODD, make_export
from run_once import run_once
from small_project import small_project, table
from test_trainers import MODEL, STEPS, datasets, quick, tokenizer

from constitution.errors import InputError
from constitution.export import Exported
from constitution.pocket.world import World, truth
from constitution.records import Run

__all__ = ["datasets", "tokenizer"]

RECIPE = """
name = "steps"
constitution = "pocket-scorecard@1.0.0"
[prompts]
path = "prompts.jsonl"
answers = ["answer"]
[model.policy]
engine = "fake"
[model.judge]
engine = "transformers"
model = "pocket-scorer"
[reward]
by = ["sentence"]
principles = ["harm", "rudeness", "boasting", "preaching"]
"""
FAULTS = {"harm", "rude", "boast", "preach"}
FAULTLESS = 0.9
"""Share of the labels that are right at least; measured: 0.97."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """Answers of the pocket world, most of several sentences, read by its scorer; one of one sentence in odd signs."""
    world = World(random.Random(7))
    asked = [world.request("held-out") for _ in range(60)]
    answers = [world.answer(request) for request in asked if len(request.messages) == 1]
    rows: list[dict[str, Any]] = [
        {"prompt": each.request.text, "answer": each.text} for each in answers if len(each.sentences) > 1
    ][:12]
    rows += [{"prompt": ODD, "answer": ODD + "\u3000Is it?\u2028 É😀 So."}]
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    rows += [{"messages": turns, "answer": "So. And so."}]
    folder = tmp_path_factory.mktemp("steps")
    return folder, asyncio.run(run_once(small_project(folder, rows, RECIPE), folder / "w", []))


def exported(made: tuple[Path, Run], out: Path, **settings: Any) -> tuple[Exported, list[dict[str, Any]]]:
    return make_export(made[0] / "w", made[1], out, "prm", **{"cleaning": NO_CLEANING, **settings})


def test_labels_are_what_the_grammar_says_of_each_sentence_so_far(made: tuple[Path, Run], tmp_path: Path) -> None:
    done, rows = exported(made, tmp_path / "out")
    assert done.dropped == {"layout": 1}  # more than one turn, which TRL's trainer does not read
    texts = dict(table(made[0] / "w", "SELECT id, text FROM responses"))
    right, labels = 0, 0
    for row in rows:
        text, upto = texts[row["response_id"]], 0
        assert row["labels"] == [score >= 0.5 for score in row["scores"]]
        assert row["reward"] == pytest.approx(min(row["scores"]))
        for sentence, label in zip(row["completions"], row["labels"], strict=True):
            before, upto = upto, text.index(sentence, upto) + len(sentence)
            assert sentence == sentence.strip()
            assert not text[before : upto - len(sentence)].strip()
            broken = truth(row["prompt"], text[:upto])
            if broken is not None:
                right, labels = right + (label is not bool(broken & FAULTS)), labels + 1
        assert not text[upto:].strip()
    assert labels > 20
    assert right / labels >= FAULTLESS
    [odd] = [row for row in rows if row["prompt"] == ODD]
    assert odd["completions"][-1] == "É😀 So."


def test_where_a_bar_is_and_what_has_no_reading(made: tuple[Path, Run], tmp_path: Path) -> None:
    _, strict = exported(made, tmp_path / "strict", good=0.999)
    _, usual = exported(made, tmp_path / "usual")
    flat = [[label for row in rows for label in row["labels"]] for rows in (strict, usual)]
    assert sum(flat[0]) < sum(flat[1])
    done, rows = exported(made, tmp_path / "messages", layout="messages", where="reward > 0.5")
    assert [*done.dropped] == ["where"]
    assert all(set(row) >= {"messages", "completions", "labels"} and "prompt" not in row for row in rows)
    with pytest.raises(InputError, match="prm takes rewards by sentence, and no other"):
        exported(made, tmp_path / "no", source="rubric")
    with pytest.raises(InputError, match="--principles: the scores here are rewards"):
        exported(made, tmp_path / "no", principles=["harm"])


def test_the_lines_of_the_card_train(
    made: tuple[Path, Run], tokenizer: Any, datasets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they are, but for the model's and the folder's name and the settings of a few steps on a CPU."""
    done, rows = exported(made, tmp_path / "out", test=0.2)
    card = (done.out / "README.md").read_text(encoding="utf-8")
    [lines] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    few = ", ".join(f"{name}={value!r}" for name, value in quick(tmp_path).items())
    for name, value in (('"MODEL"', repr(str(MODEL))), ('"DATA"', repr(str(done.out)))):
        assert name in lines
        lines = lines.replace(name, value)
    names: dict[str, Any] = {}
    exec(re.sub(r"TrainingArguments\(.*?\)", f"TrainingArguments({few})", lines), names)
    trainer = names["trainer"]
    losses = [step["loss"] for step in trainer.state.log_history if "loss" in step]
    assert len(losses) == STEPS
    assert losses[-1] != losses[0]
    separator = tokenizer.encode("\n", add_special_tokens=False)
    rows = [row for row in rows if row["split"] == "train"]
    for row, tokens in zip(rows, trainer.train_dataset, strict=True):
        learnt = [label for label in tokens["labels"] if label != -100]
        assert learnt == [int(label) for label in row["labels"]]
        steps = [tokenizer.encode(step, add_special_tokens=False) + separator for step in row["completions"]]
        flat = [token for step in steps for token in step]
        assert tokens["input_ids"][-len(flat) :] == flat
        ends = [place for place, label in enumerate(tokens["labels"]) if label != -100]
        assert ends[-1] == len(tokens["labels"]) - 1
        assert [later - one for one, later in pairwise(ends)] == list(map(len, steps[1:]))


def test_a_run_without_readings_of_sentences(tmp_path: Path) -> None:
    recipe = RECIPE.partition("[model.judge]")[0] + '[reward]\nby = ["rule"]\nrules = { words = [1, 9] }\n'
    run = asyncio.run(
        run_once(small_project(tmp_path, [{"prompt": "Why?", "answer": "So."}], recipe), tmp_path / "w", [])
    )
    with pytest.raises(InputError, match="prm takes rewards by sentence"):
        make_export(tmp_path / "w", run, tmp_path / "out", "prm")
