"""What a chat template makes of stored messages and of a trial's examples: the text whose tokens the model is given."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from run_once import run_once
from shown_runs import RECIPE, TALK, project
from small_project import table
from tiny import save_tiny_model

from constitution.cli import app
from constitution.engines.base import Request
from constitution.engines.chat import ChatTokenizer
from constitution.records import Message, Sampling

TINY = RECIPE.replace(
    'engine = "openai"\nmodel = "fake"\nbase_url = "{url}"\nretries = 0', 'engine = "transformers"\nmodel = "{folder}"'
).replace(
    "exemplars = 1",
    "exemplars = 0\n" + "\n".join(f"{step}.max_tokens = 4" for step in ("initial", "critique", "revision")),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    save_tiny_model(folder / "model", positions=8_192)
    project(folder, TINY.replace("{folder}", str(folder / "model")), [TALK, "Say <|end|> twice."])
    asyncio.run(run_once(folder / "recipe.toml", folder / "w", []))
    return folder


def told(*words: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def tokens_of(folder: Path, text: str) -> list[int]:
    from transformers import AutoTokenizer

    tokens: list[int] = AutoTokenizer.from_pretrained(folder / "model")(text, add_special_tokens=False)["input_ids"]
    return tokens


def chat_of(folder: Path) -> ChatTokenizer:
    from transformers import AutoTokenizer

    return ChatTokenizer(AutoTokenizer.from_pretrained(folder / "model"), "tiny")


@pytest.mark.parametrize("rows", ["responses WHERE kind <> 'given'", "judgements WHERE true"])
def test_a_stored_rows_text_has_the_tokens_that_the_model_was_given(folder: Path, rows: str) -> None:
    ids = table(
        folder / "w", f"SELECT id FROM {rows} AND prompt_id IN (SELECT id FROM prompts WHERE len(messages) > 1)"
    )
    assert ids
    for [id] in ids:
        for request in told("show", id, "--templated", "--warehouse", str(folder / "w"))["requests"]:
            messages = tuple(Message(turn["role"], turn["content"]) for turn in request["messages"])
            given = chat_of(folder).encode(messages, think=not request["choices"])
            assert tokens_of(folder, request["text"]) == given
            assert request["text"].startswith("<|begin|><|")
            assert request["text"].endswith("<|assistant|>\n" if not request["choices"] else "The answer is: (")


def test_a_spelled_control_token_is_in_the_text_as_it_is_spelled(folder: Path) -> None:
    short = "SELECT id FROM prompts WHERE len(messages) = 1"
    [(id,)] = table(folder / "w", f"SELECT id FROM responses WHERE kind = 'initial' AND prompt_id IN ({short})")
    said = CliRunner().invoke(app, ["show", id, "--templated", "--warehouse", str(folder / "w")])
    assert said.exit_code == 0
    assert (
        "--- in the chat template that the model has now\n<|begin|><|user|>\nSay <|end|> twice.<|end|>" in said.stdout
    )
    assert "the model may have been given each with a blank" not in said.stdout


def test_a_served_model_has_no_text_here(folder: Path, tmp_path: Path) -> None:
    path = project(tmp_path, TINY.replace('"transformers"\nmodel = "{folder}"', '"fake"'), ["Hello."])
    asyncio.run(run_once(path, tmp_path / "w", []))
    [(id,), *_] = table(tmp_path / "w", "SELECT id FROM judgements")
    said = CliRunner().invoke(app, ["show", id, "--templated", "--warehouse", str(tmp_path / "w")])
    assert "makes no text of messages here" in str(said.exception)


def test_a_trials_examples_have_their_text(folder: Path, tmp_path: Path) -> None:
    found = told("try", str(folder / "recipe.toml"), "--prompts", "1", "--show", "--warehouse", str(tmp_path / "w"))
    assert {example["step"] for example in found["examples"]} >= {"initial", "vote (label)"}
    for example in found["examples"]:
        messages = tuple(Message(turn["role"], turn["content"]) for turn in example["messages"])
        request = Request(messages, Sampling(), 0, choices=tuple(example["choices"]))
        assert example["text"] == chat_of(folder).text(request)
