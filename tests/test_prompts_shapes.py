"""Rows as public data sets have them, written from their documentation: each is read by a few settings, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from read_prompts import of, parquet

from constitution.errors import PromptError
from constitution.prompts import read_prompts
from constitution.recipe import PromptsSection


def turns(*texts: str, names: tuple[str, str] = ("role", "content")) -> list[dict[str, str]]:
    """User and assistant in turn."""
    return [dict(zip(names, (("user", "assistant")[n % 2], text), strict=True)) for n, text in enumerate(texts)]


SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[list[str], tuple[str, ...], int | None]]] = {
    # stanford_alpaca; LLaMA-Factory joins instruction and input by a line break
    "alpaca": (
        {"instruction": "Sum up.", "input": "The Elbe.", "output": "A river."},
        {"field": "instruction", "join": ["input"], "answers": ["output"]},
        (["Sum up.\nThe Elbe."], ("A river.",), None),
    ),
    "alpaca, no input": (
        {"instruction": "Say hi.", "input": "", "output": "Hi."},
        {"field": "instruction", "join": ["input"]},
        (["Say hi."], (), None),
    ),
    # OpenAI, batch input: https://platform.openai.com/docs/guides/batch
    "openai batch": (
        {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {
            "model": "gpt-4o-mini", "messages": turns("Hi"), "max_tokens": 1000}},
        {"field": "body.messages"},
        (["Hi"], (), None),
    ),
    # OpenAI, preference fine-tuning: https://platform.openai.com/docs/guides/direct-preference-optimization
    "openai preference": (
        {"input": {"messages": turns("Hi"), "tools": [], "parallel_tool_calls": True},
         "preferred_output": [{"role": "assistant", "content": "Hello."}],
         "non_preferred_output": [{"role": "assistant", "content": "What?"}]},
        {"field": "input.messages", "answers": ["preferred_output", "non_preferred_output"],
         "gold": "preferred_output", "ignore": ["input.parallel_tool_calls"]},
        (["Hi"], ("Hello.", "What?"), 0),
    ),
    # lmsys/chatbot_arena_conversations
    "arena": (
        {"question_id": "1", "model_a": "x", "model_b": "y", "winner": "model_b", "turn": 1,
         "conversation_a": turns("Hi", "A."), "conversation_b": turns("Hi", "B."), "language": "English"},
        {"answers": ["conversation_a", "conversation_b"], "gold": "winner", "gold_values": {
            "model_a": "conversation_a", "model_b": "conversation_b", "tie": "", "tie (bothbad)": ""}},
        (["Hi"], ("A.", "B."), 1),
    ),
    # PKU-Alignment/PKU-SafeRLHF
    "safe rlhf": (
        {"prompt": "Hi", "response_0": "A.", "response_1": "B.", "better_response_id": 0, "safer_response_id": 1},
        {"answers": ["response_0", "response_1"], "gold": "safer_response_id",
         "gold_values": {"0": "response_0", "1": "response_1"}},
        (["Hi"], ("A.", "B."), 1),
    ),
    # stanfordnlp/SHP
    "shp": (
        {"post_id": "a", "history": "Why?", "human_ref_A": "A.", "human_ref_B": "B.", "labels": 0, "score_A": 3},
        {"field": "history", "answers": ["human_ref_A", "human_ref_B"], "gold": "labels",
         "gold_values": {"1": "human_ref_A", "0": "human_ref_B"}},
        (["Why?"], ("A.", "B."), 1),
    ),
    # openai/webgpt_comparisons
    "webgpt": (
        {"question": {"dataset": "triviaqa", "id": "1", "full_text": "Who?"}, "answer_0": "A.", "answer_1": "B.",
         "score_0": 0.5, "score_1": -0.5},
        {"field": "question.full_text", "answers": ["answer_0", "answer_1"]},
        (["Who?"], ("A.", "B."), None),
    ),
    # HuggingFaceH4/ultrafeedback_binarized
    "ultrafeedback": (
        {"prompt": "Hi", "prompt_id": "x", "messages": turns("Hi", "A."), "chosen": turns("Hi", "A."),
         "rejected": turns("Hi", "B."), "score_chosen": 9.0, "score_rejected": 2.0},
        {"answers": ["chosen", "rejected"], "gold": "chosen"},
        (["Hi"], ("A.", "B."), 0),
    ),
    # argilla, distilabel's preference
    "argilla": (
        {"instruction": "Hi", "chosen_response": "A.", "rejected_response": "B.", "metadata": {"system": ""}},
        {"field": "instruction", "answers": ["chosen_response", "rejected_response"], "gold": "chosen_response"},
        (["Hi"], ("A.", "B."), 0),
    ),
    "a boolean that says which": (
        {"prompt": "Hi", "a": "A.", "b": "B.", "a_is_better": False},
        {"answers": ["a", "b"], "gold": "a_is_better", "gold_values": {"true": "a", "false": "b"}},
        (["Hi"], ("A.", "B."), 1),
    ),
    "two deep": ({"x": {"y": {"q": "Hi"}}}, {"field": "x.y.q"}, (["Hi"], (), None)),
    "a key with a dot": ({"x.y": "Hi", "x": {"y": "no"}}, {"field": "x.y"}, (["Hi"], (), None)),
    "system below a key": (
        {"prompt": "Hi", "meta": {"system": "Be kind."}},
        {"system": "meta.system"},
        (["Be kind.", "Hi"], (), None),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_each_is_read(tmp_path: Path, name: str) -> None:
    row, settings, (asked, answers, gold) = SHAPES[name]
    [found] = of(tmp_path, row, **settings)
    assert ([turn.content for turn in found.messages], found.answers, found.gold) == (asked, answers, gold)
    [again] = parquet(tmp_path, pa.Table.from_pylist([row]), **settings)
    assert (again.messages, again.answers, again.gold) == (found.messages, found.answers, found.gold)
    (tmp_path / "p.json").write_text(json.dumps([row, row], indent=1))
    both = list(read_prompts(PromptsSection(path="p.json", **settings), tmp_path))
    assert [(each.messages, each.answers, each.gold) for each in both] == [(found.messages, answers, gold)] * 2


REFUSED: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("alpaca", {}, {"field": "instruction", "join": []}, "also has input"),
    ("alpaca", {"input": ["x"]}, {}, "input is not a text"),
    ("alpaca", {"history": [["a", "b"]]}, {}, "also has history"),
    ("alpaca", {}, {"join": ["inptu", "input"]}, "no row has the key 'inptu'"),
    ("openai batch", {"body": {"messages": turns("Hi"), "tools": [{"type": "function"}]}}, {}, "also has body.tools"),
    ("openai batch", {"body": {"message": "Hi"}}, {}, "there is no 'body.messages'"),
    ("openai batch", {"body": None}, {}, "there is no 'body.messages'"),
    ("openai preference", {"input": {"messages": turns("Hi"), "tools": [{"a": 1}]}}, {}, "also has input.tools"),
    ("arena", {"winner": "model_c"}, {}, "winner is 'model_c', which prompts.gold_values does not have"),
    ("arena", {"winner": None}, {}, "winner is null"),
    ("safe rlhf", {"safer_response_id": 2}, {}, "is '2', which prompts.gold_values"),
    ("safe rlhf", {"safer_response_id": True}, {}, "is 'true', which prompts.gold_values"),
    ("system below a key", {"meta": {"system": "Be kind.", "tools": ["x"]}}, {}, "also has meta.tools"),
]


@pytest.mark.parametrize(("name", "changes", "settings", "said"), REFUSED)
def test_what_would_be_lost_or_guessed_is_refused(
    tmp_path: Path, name: str, changes: dict[str, Any], settings: dict[str, Any], said: str
) -> None:
    row, usual, _ = SHAPES[name]
    with pytest.raises(PromptError, match=said):
        of(tmp_path, {**row, **changes}, **{**usual, **settings})


def test_a_row_without_gold_says_so(tmp_path: Path) -> None:
    row, settings, _ = SHAPES["arena"]
    first, second = of(tmp_path, row, {**row, "winner": "tie"}, **settings)
    assert (first.gold, second.gold) == (1, None)
    [left] = of(tmp_path, {**SHAPES["openai batch"][0], "body": {"messages": turns("Hi"), "tools": ["x"]}},
                field="body.messages", ignore=["body.tools"])  # fmt: skip
    assert left.messages[0].content == "Hi"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"answers": ["a"], "gold_values": {"1": "a"}}, "`gold` names the key"),
        ({"answers": ["a"], "gold": "label"}, "gold_values = "),
        ({"answers": ["a"], "gold": "label", "gold_values": {"1": "b"}}, "'b' is not one of"),
        ({"join": ["x"], "format": "transcripts"}, "a transcript is whole"),
        ({"join": ["x"], "ignore": ["x"]}, "'x' is used"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PromptsSection.model_validate({"path": "p.jsonl", **settings})


def test_the_hint_for_rows_of_alpaca(tmp_path: Path) -> None:
    with pytest.raises(PromptError) as caught:
        of(tmp_path, SHAPES["alpaca"][0])
    assert 'prompts.join = ["input"]' in str(caught.value.hint)
