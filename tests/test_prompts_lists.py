"""Answers in lists, gold by scores and ranks, turns before the prompt, and turns in other forms than messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from read_prompts import of, parquet
from test_prompts_shapes import turns

from constitution.errors import PromptError
from constitution.prompts import read_prompts
from constitution.recipe import PromptsSection
from constitution.records import Prompt

ITEMS = [{"text": "a", "score": 1.5}, {"text": "b", "score": 4}, {"text": "c", "score": 4.5}]
LISTED = {"prompt": "q", "completions": ITEMS}
TWO = {"prompt": "q", "x": "a", "y": "b", "sx": 1, "sy": 2}
BY_SCORE = {"answers": ["completions[].text"], "gold_highest": ["completions[].score"]}
PLAIN = {"answers": ["x", "y"], "gold_highest": ["sx", "sy"]}
TRANSCRIPT = "\n\nHuman: q\n\nAssistant:"
CHOSEN = {"format": "transcripts", "answers": ["chosen"]}

READ: list[tuple[dict[str, Any], dict[str, Any], list[str], tuple[str, ...], int | None]] = [
    (LISTED, BY_SCORE, ["q"], ("a", "b", "c"), 2),
    (LISTED, {"answers": ["completions[].text"], "gold_lowest": ["completions[].score"]}, ["q"], ("a", "b", "c"), 0),
    (LISTED, {"answers": ["completions[0].text", "completions[2].text"]}, ["q"], ("a", "c"), None),
    ({"prompt": "q", "responses": ["a", "b"], "scores": [2, 1]},
     {"answers": ["responses[]"], "gold_highest": ["scores[]"]}, ["q"], ("a", "b"), 0),
    ({"prompt": "q", "texts": ["a", "b"], "choice": 1}, {"answers": ["texts[0]", "texts[1]"], "gold": "choice",
     "gold_values": {"0": "texts[0]", "1": "texts[1]"}}, ["q"], ("a", "b"), 1),
    ({"prompt": "q", "r": {"text": ["a", "b"]}}, {"answers": ["r.text[]"]}, ["q"], ("a", "b"), None),
    ({"prompt": "q", "r": [{"m": {"text": "a"}}, {"m": {"text": "b"}}]},
     {"answers": ["r[].m.text"]}, ["q"], ("a", "b"), None),
    ({"prompt": "q", "r": [[{"role": "assistant", "content": "a"}], [{"role": "assistant", "content": "b"}]]},
     {"answers": ["r[]"]}, ["q"], ("a", "b"), None),
    (TWO, PLAIN, ["q"], ("a", "b"), 1),
    ({**TWO, "sx": 2.0}, PLAIN, ["q"], ("a", "b"), None),
    ({**TWO, "sx": None}, PLAIN, ["q"], ("a", "b"), None),
    ({**TWO, "sx": "10", "sy": "9"}, PLAIN, ["q"], ("a", "b"), 0),
    ({"prompt": "q", "r": [{"t": "a", "n": 1}]},
     {"answers": ["r[].t"], "gold_highest": ["r[].n"]}, ["q"], ("a",), None),
    ({"instruction": "q", "input": "i", "history": [["a", "b"], ["c", "d"]]},
     {"field": "instruction", "join": ["input"], "history": "history"}, ["a", "b", "c", "d", "q\ni"], (), None),
    ({"prompt": "q", "history": turns("a", "b"), "system": "s"}, {"history": "history", "system": "system"},
     ["s", "a", "b", "q"], (), None),
    ({"prompt": "q", "history": []}, {"history": "history"}, ["q"], (), None),
    ({"messages": {"role": ["user", "assistant", "user"], "content": ["a", "b", "c"]}}, {}, ["a", "b", "c"], (), None),
    ({"conversation": [{"input": "a", "output": "b"}, {"input": "c", "output": "d"}]},
     {"field": "conversation", "answers": ["conversation"]}, ["a", "b", "c"], ("d",), None),
    ({"messages": [{"role": "user", "text": "a"}]}, {}, ["a"], (), None),
    ({"messages": [{"role": "user", "content": [{"type": "input_text", "text": "a"}, {"text": "b"}]}]}, {},
     ["ab"], (), None),
    ({"prompt": TRANSCRIPT, "chosen": "a", "rejected": "b"},
     {"format": "transcripts", "answers": ["chosen", "rejected"], "gold": "chosen"}, ["q"], ("a", "b"), 0),
    ({"prompt": "q", "chosen": TRANSCRIPT + " a", "rejected": TRANSCRIPT + " b"},
     {"format": "transcripts", "answers": ["chosen", "rejected"]}, ["q"], ("a", "b"), None),
    ({"prompt": TRANSCRIPT, "answers": [{"answer": "a", "rank": 2}, {"answer": "b", "rank": 1}]},
     {"format": "transcripts", "answers": ["answers[].answer"], "gold_lowest": ["answers[].rank"]},
     ["q"], ("a", "b"), 1),
]  # fmt: skip


def said(prompt: Prompt) -> tuple[list[str], tuple[str, ...], int | None]:
    return [turn.content for turn in prompt.messages], prompt.answers, prompt.gold


@pytest.mark.parametrize(("row", "settings", "asked", "answers", "gold"), READ)
def test_read(
    tmp_path: Path, row: Any, settings: Any, asked: list[str], answers: tuple[str, ...], gold: int | None
) -> None:
    [found] = of(tmp_path, row, **settings)
    assert said(found) == (asked, answers, gold)
    [again] = parquet(tmp_path, pa.Table.from_pylist([row]), **settings)
    assert again.messages == found.messages
    assert (again.answers, again.gold) == (answers, gold)
    if "format" not in settings:
        query = PromptsSection(format="sql", query="SELECT * FROM 'p.parquet'", **settings)
        assert said(next(read_prompts(query, tmp_path))) == (asked, answers, gold)


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({**LISTED, "completions": [{"text": "a", "system_prompt": "s"}]}, BY_SCORE, r"completions\[\].system_prompt"),
    ({**LISTED, "completions": [{"text": None, "score": 1}]}, BY_SCORE, "item 1 is null"),
    ({**LISTED, "completions": [{"score": 1}]}, BY_SCORE, r"no 'completions\[\].text'"),
    ({**LISTED, "completions": "a"}, BY_SCORE, r"no 'completions\[\].text'"),
    ({**LISTED, "completions": [{"text": "a", "score": "N/A"}]}, BY_SCORE, "is 'N/A' and no number"),
    ({**LISTED, "completions": [{"text": "a", "score": True}]}, BY_SCORE, "is True and no number"),
    ({"prompt": "q", "r": ["a", "b"], "s": [1]},
     {"answers": ["r[]"], "gold_highest": ["s[]"]}, "2 answers and 1 numbers"),
    ({"prompt": "q", "x": "a", "y": "b", "sx": 1}, PLAIN, "no 'sy'"),
    ({"messages": turns("a", "b", "c")}, {"field": "messages[0].content"}, r"messages\[1\]"),
    ({"prompt": "q", "history": [["a", "b", "c"]]}, {"history": "history"}, "expected {role, content}"),
    ({"prompt": "q", "history": [["a", None]]}, {"history": "history"}, "does not end with an answer"),
    ({"prompt": "q", "history": "hi, hello"}, {"history": "history"}, "does not say who speaks"),
    ({"prompt": turns("a", "b", "c"), "history": [["a", "b"]]}, {"history": "history"},
     "is a conversation, and history"),
    ({"prompt": "q"}, {"history": "histroy"}, "no row has the key 'histroy'"),
    ({"conversation": [{"input": "a", "output": "b", "tools": ["t"]}]}, {"field": "conversation"},
     "also has input, output, tools"),
    ({"messages": {"role": ["user"], "content": ["a", "b"]}}, {}, "neither a text nor a list"),
    ({"messages": {"role": ["user"], "content": ["a"], "tool_calls": ["t"]}}, {}, "also has tool_calls"),
    ({"messages": [{"role": "user", "text": "a", "content": "b"}]}, {}, "also has text"),
    ({"prompt": TRANSCRIPT + " x", "chosen": "a"}, CHOSEN, "ends with an answer"),
    ({"prompt": "other", "chosen": TRANSCRIPT + " a"}, CHOSEN, "begin with"),
    ({"prompt": TRANSCRIPT, "chosen": "a", "system": "s"}, CHOSEN, "also has system"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "settings", "says"), REFUSED)
def test_refused(tmp_path: Path, row: Any, settings: Any, says: str) -> None:
    with pytest.raises(PromptError, match=says):
        of(tmp_path, row, **settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"answers": ["a", "b"], "gold_highest": ["x"]}, "name one key for each"),
        ({"answers": ["a[].t"], "gold_highest": ["x"]}, "name one key for each"),
        ({"answers": ["a", "b"], "gold": "a", "gold_lowest": ["x", "y"]}, "one of them says"),
        ({"answers": ["a[].t"], "gold": "a[].t"}, r"one of them is 'a\[0\].t'"),
        ({"answers": ["a[]"], "families": {"a[]": "x"}}, "is several answers"),
        ({"history": "h", "format": "transcripts"}, "a transcript is whole"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        PromptsSection.model_validate({"path": "p", **settings})


def test_a_transcript_that_is_left_out(tmp_path: Path) -> None:
    row = {"prompt": "other", "chosen": TRANSCRIPT + " a"}
    with pytest.raises(PromptError) as caught:
        of(tmp_path, row, **CHOSEN)
    assert caught.value.hint.startswith('prompts.field = "chosen" and prompts.ignore = ["prompt"] leave it out; ')
    [found] = of(tmp_path, row, **CHOSEN, field="chosen", ignore=["prompt"])
    assert said(found) == (["q"], ("a",), None)


def test_columns_of_turns_in_one_object_are_not_columns_of_rows(tmp_path: Path) -> None:
    row = {"messages": {"role": ["user"], "content": ["a"]}}
    (tmp_path / "p.json").write_text(json.dumps(row, indent=1))
    [found] = read_prompts(PromptsSection(path="p.json"), tmp_path)
    assert said(found)[0] == ["a"]
