"""Public forms that are refused: the message names a setting, and that setting reads the file; nothing is guessed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from read_prompts import asked, of
from shapes_case import chat, said, sharegpt
from shapes_preferences import CASES as PREFERENCES
from shapes_prompts import CASES as PROMPTS
from test_prompts_public_shapes import printed, read, write

from constitution.errors import PromptError
from constitution.prompts import read_prompts
from constitution.prompts.inspect import inspect_file
from constitution.recipe import PromptsSection
from constitution.records import Prompt

SHARED = Path(__file__).parents[2] / "shared" / "cases"


def words(prompt: Prompt) -> list[str]:
    return [turn.content for turn in prompt.messages]


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], list[str]]] = {
    # huggingface.co/datasets/lmsys/lmsys-arena-human-preference-55k
    "lists of texts in a text": (
        {"id": 1, "prompt": '["q1", "q2"]', "response_a": '["a1", "a2"]', "winner_model_a": 1},
        {}, {"json_text": "text"}, ['["q1", "q2"]']),
    # huggingface.co/datasets/liuhaotian/LLaVA-Instruct-150K
    "pictures": (
        {"id": "1", "image": "1.jpg", "conversations": sharegpt("q")}, {}, {"ignore": ["image"]}, ["q"]),
    # huggingface.co/datasets/timdettmers/openassistant-guanaco
    "written out": (
        {"text": "### Human: q### Assistant: a"}, {"field": "text"}, {"json_text": "text"},
        ["### Human: q### Assistant: a"]),
    "transcripts": (
        {"chosen": said("q", "a"), "rejected": said("q", "b")}, {"answers": ["chosen", "rejected"]},
        {"format": "transcripts"}, ["q"]),
    "history": (
        {"instruction": "q2", "history": [["q1", "a1"]]}, {"field": "instruction"}, {"history": "history"},
        ["q1", "a1", "q2"]),
    "input": ({"instruction": "q", "input": "i"}, {"field": "instruction"}, {"join": ["input"]}, ["q\ni"]),
    "system": ({"prompt": "q", "system_prompt": "s"}, {}, {"system": "system_prompt"}, ["s", "q"]),
    # huggingface.co/datasets/OpenAssistant/oasst1
    "a turn a row": (
        {"message_id": "1", "parent_id": "0", "role": "prompter", "text": "q"}, {"field": "text"},
        {"ignore": ["parent_id"]}, ["q"]),
    "a tree": (
        {"prompt": {"message_id": "1", "role": "prompter", "text": "q", "replies": []}}, {}, {"trees": True}, ["q"]),
    # platform.openai.com/docs/guides/batch
    "tools": (
        {"body": {"messages": chat("q"), "tools": [{"type": "function"}]}}, {"field": "body.messages"},
        {"ignore": ["body.tools"]}, ["q"]),
    "a messages' text in a table": ({"prompt": json.dumps(chat("q"))}, {}, {"json_text": "messages"}, ["q"]),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_the_setting_that_the_message_names_reads_it(tmp_path: Path, name: str) -> None:
    row, settings, named, wanted = REFUSED[name]
    with pytest.raises(PromptError) as caught:
        of(tmp_path, row, **settings)
    for key, value in named.items():
        text = json.dumps(value)
        assert f"{key} = {text}" in caught.value.hint or (key == "json_text" and text in caught.value.hint)
    [found] = of(tmp_path, row, **{**settings, **named})
    assert words(found) == wanted


def test_a_context_that_comes_before_is_joined_by_a_query(tmp_path: Path) -> None:
    """As HarmBench has contextual behaviours."""
    path = write(tmp_path, PROMPTS["HarmBench"])
    with pytest.raises(PromptError, match="also has ContextString") as caught:
        read({"path": str(path), "field": "Behavior"})
    assert "format sql can join it" in caught.value.hint
    query = "SELECT concat_ws(e'\\n\\n---\\n\\n', ContextString, Behavior) AS prompt FROM 'rows.csv'"
    assert [words(each) for each in asked(tmp_path, query)] == [["q1"], ["c2\n\n---\n\nq2"]]


@pytest.mark.parametrize("json_text", ["refuse", "messages"])
def test_messages_as_datasets_prints_them_into_csv_are_not_taken_for_a_text(tmp_path: Path, json_text: str) -> None:
    for value in ({"role": ["user", "assistant"], "content": ["q", "a"]}, chat("q", "a"), {"messages": chat("q")}):
        with pytest.raises(PromptError, match="as Python prints them, which is no JSON") as caught:
            of(tmp_path, {"prompt": str(value)}, json_text=json_text)
        assert 'json_text = "text"' in caught.value.hint
        assert words(of(tmp_path, {"prompt": str(value)}, json_text="text")[0]) == [str(value)]
    for text in ("{'a': 1} is a dictionary", "{'role'} is a set", "['role']: why?"):
        assert words(of(tmp_path, {"prompt": text})[0]) == [text]


def test_columns_of_turns_in_a_cell(tmp_path: Path) -> None:
    cell = json.dumps({"role": ["user", "assistant", "user"], "content": ["q1", "a1", "q2"]})
    with pytest.raises(PromptError, match="holds messages"):
        of(tmp_path, {"prompt": cell})
    [found] = of(tmp_path, {"prompt": cell}, json_text="messages")
    assert words(found) == ["q1", "a1", "q2"]


def test_columns_of_answers(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(
        json.dumps({"prompt": "q", "answers": {"answer": ["x", "y"], "rank": [2.0, 1.0]}})
    )
    section = printed(tmp_path / "p.jsonl")
    [found] = read({**section, "gold_lowest": ["answers.rank[]"]})
    assert (words(found), found.answers, found.gold) == (["q"], ("x", "y"), 1)


def test_one_answer_with_a_thumb_makes_no_pair_and_two_rows_do(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "completion": f"a{n}", "label": bool(n)} for n in range(2)]
    path = tmp_path / "kto.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    [note] = inspect_file(path).notes
    query = note.partition("them: ")[2]
    [pair] = asked(tmp_path, query, answers=["chosen", "rejected"], gold="chosen")
    assert (words(pair), pair.answers, pair.gold) == (["q"], ("a1", "a0"), 0)
    path.write_text(json.dumps({"prompt": "q", "completion": "a", "label": "good"}))
    assert inspect_file(path).notes == []


@pytest.mark.parametrize("name", ["oasst2, flat", "HelpSteer3", "datasets, columns of turns", "UltraFeedback"])
def test_folders_and_queries_read_the_same(tmp_path: Path, name: str) -> None:
    case = {**PREFERENCES, **PROMPTS}[name]
    section = printed(write(tmp_path, case))
    wanted = read(section)
    del section["path"]
    (tmp_path / "set").mkdir()
    pq.write_table(pa.Table.from_pylist(case.rows), tmp_path / "set" / "train-00000-of-00001.parquet")
    query = {"format": "sql", "query": "SELECT * FROM 'set/train-00000-of-00001.parquet'"}
    for source in ({"format": "hub", "dataset": "set"}, query):
        found = list(read_prompts(PromptsSection.model_validate({**section, **source}), tmp_path))
        assert [(each.messages, each.answers, each.gold) for each in found] == [
            (each.messages, each.answers, each.gold) for each in wanted
        ]


SHARED_CASES: dict[str, list[tuple[list[str], tuple[str, ...], int | None]]] = {
    "alpaca-eval.jsonl": [(["Summarise this.\nThe river Elbe rises in the Giant Mountains and flows through Dresden "
                            "and Hamburg into the North Sea."], (), None)],
    "crlf-transcript.jsonl": [(["How do I bake?", "With flour.", "And salt?"], ("A little.",), None)],
    "fine-tuning.jsonl": [(["Be brief.", "Hi"], ("Hello",), None)],
    "gold-by-value.jsonl": [(["Which is a fruit?"], ("An apple.", "A brick."), 0),
                            (["Which floats?"], ("A brick.", "Cork."), 1)],
    "messages-as-json-text.jsonl": [(["be short", "hi"], (), None)],
    "mixed-content.jsonl": [(['Say "hi"\nto Bob'], (), None), (["Describe the tide"], (), None)],
    "parts.jsonl": [(["Hi there"], (), None)],
    "prompts.csv": [(["Hello there?"], (), None), (["How are\nyou?"], (), None)],
    "prompts.json": [(["Hello there?"], (), None), (["And then?"], (), None)],
    "sharegpt.json": [(["Hi", "Hello", "And?"], (), None)],
}  # fmt: skip
"""Read off the files by eye."""


@pytest.mark.parametrize("name", SHARED_CASES)
def test_files_on_which_we_were_wrong(name: str) -> None:
    if not (SHARED / name).exists():
        pytest.skip("outside the checkout")
    found = read(printed(SHARED / name))
    assert [(words(each), each.answers, each.gold) for each in found] == SHARED_CASES[name]


def test_every_such_file_is_one_of_them() -> None:
    if not SHARED.exists():
        pytest.skip("outside the checkout")
    names = {path.name for path in SHARED.iterdir() if path.suffix in (".jsonl", ".json", ".csv")}
    assert names == {*SHARED_CASES, "dropped-keys.jsonl"}
    found = inspect_file(SHARED / "dropped-keys.jsonl")
    assert (found.read, found.refusals) == (2, 1)
    assert 'prompts.ignore = ["tool_calls"]' in found.refused[0]
    section = {"path": str(SHARED / "dropped-keys.jsonl"), **found.settings, "ignore": ["tool_calls"]}
    assert [each.messages[0].role for each in read(section)] == ["system", "user", "user"]
