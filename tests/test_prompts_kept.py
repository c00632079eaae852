"""What is kept with a prompt: its name, metadata, tags, an answer that was cut off; and whose turns are whose."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError
from read_prompts import of, parquet

from constitution.errors import PromptError
from constitution.prompts import read_prompts
from constitution.recipe import PromptsSection
from constitution.warehouse import Warehouse

USER = {"role": "user", "content": "hi"}
ANSWER = {"role": "assistant", "content": "Hello."}
BESIDE = ("source_id", "metadata", "cut_answer")


@pytest.mark.parametrize(
    ("value", "name"),
    [("q-1", "q-1"), (17, "17"), (2**70, str(2**70)), (1.5, "1.5"), (1.0, "1.0"), (" a", " a"), ("ü", "ü"), (0, "0")],
)
def test_a_row_is_named_by_a_text_or_a_number(tmp_path: Path, value: Any, name: str) -> None:
    [prompt] = of(tmp_path, {"prompt": "a", "id": value}, id_field="id")
    assert prompt.source_id == name


@pytest.mark.parametrize("value", [None, "", "  ", True, [1], {"a": 1}, "a\x00"])
def test_what_names_no_row(tmp_path: Path, value: Any) -> None:
    with pytest.raises(PromptError, match=r"line 2: .*id"):
        of(tmp_path, {"prompt": "a", "id": "x"}, {"prompt": "b", "id": value}, id_field="id")
    with pytest.raises(PromptError, match="line 2: there is no 'id'"):
        of(tmp_path, {"prompt": "a", "id": "x"}, {"prompt": "b"}, id_field="id")


def test_two_rows_of_one_name_are_refused_with_both_places(tmp_path: Path) -> None:
    for name, rows in (("a", ["x", 7]), ("b", ["y", "7"])):
        text = "".join(json.dumps({"prompt": f"{name}{row}", "id": row}) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(text)
    section = PromptsSection(path=("a.jsonl", "b.jsonl"), id_field="id")
    with pytest.raises(PromptError, match=r"b\.jsonl, line 2: id is '7', and that of .*a\.jsonl, line 2 too"):
        list(read_prompts(section, tmp_path))
    section = section.model_copy(update={"limit": 3})
    assert [prompt.source_id for prompt in read_prompts(section, tmp_path)] == ["x", "7", "y"]


def test_metadata_is_json_of_the_keys_in_the_recipes_order(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "lang": "de", "n": 1, "deep": {"x": [1, None]}}, {"prompt": "b", "n": 2.5, "deep": None}]
    keys = ("n", "lang", "deep", "deep.x")
    prompts = of(tmp_path, *rows, metadata=keys[:3])
    assert [json.loads(prompt.metadata or "") for prompt in prompts] == [
        {"n": 1, "lang": "de", "deep": {"x": [1, None]}},
        {"n": 2.5, "lang": None, "deep": None},
    ]
    assert list(json.loads(prompts[0].metadata or "")) == ["n", "lang", "deep"]
    [inner, _] = of(tmp_path, *rows, metadata=("deep.x",))
    assert json.loads(inner.metadata or "") == {"deep.x": [1, None]}
    [both] = of(tmp_path, rows[0], metadata=keys)
    assert json.loads(both.metadata or "")["deep"] == {"x": json.loads(both.metadata or "")["deep.x"]}
    with pytest.raises(PromptError, match="no row has the key 'lag'") as caught:
        of(tmp_path, *rows, metadata=("lag",))
    assert "prompts.metadata" in caught.value.hint
    with pytest.raises(PromptError, match="no row has the key 'lag'") as caught:
        of(tmp_path, *rows, metadata=("lag",), limit=1)
    assert caught.value.hint.endswith("where a row behind the first 1 has it: a higher prompts.limit")


def test_metadata_counts_as_used(tmp_path: Path) -> None:
    row = {"prompt": "a", "context": "told", "tools": [{"name": "f"}]}
    with pytest.raises(PromptError, match="also has context, tools"):
        of(tmp_path, row)
    [prompt] = of(tmp_path, row, metadata=("context", "tools"))
    assert prompt.metadata == '{"context": "told", "tools": [{"name": "f"}]}'


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.array([math.nan]), "kind is nothing that JSON has"),
        (pa.array([{"x": math.inf}]), "kind is nothing that JSON has"),
        (pa.array([b"\xff"]), "kind is of the type binary"),
        (pa.array([0], pa.timestamp("us")), "kind is of the type timestamp"),
        (pa.array([[b"x"]]), "kind is of the type binary"),
    ],
)
def test_values_that_json_has_not_are_refused_by_name(tmp_path: Path, column: pa.Array, said: str) -> None:
    with pytest.raises(PromptError, match=said):
        parquet(tmp_path, pa.table({"prompt": ["a"], "kind": column}), metadata=("kind",))


def test_values_of_parquet(tmp_path: Path) -> None:
    table = pa.table({"prompt": ["a"], "n": [2**60], "part": pa.array([{"x": [1.5]}]), "no": pa.nulls(1)})
    [prompt] = parquet(tmp_path, table, metadata=("n", "part", "no"), id_field="n")
    assert (prompt.source_id, prompt.metadata) == (str(2**60), f'{{"n": {2**60}, "part": {{"x": [1.5]}}, "no": null}}')


def test_half_of_a_pair_in_metadata(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "a", "m": "\\ud800"}\n')
    with pytest.raises(PromptError, match="half of a surrogate pair"):
        list(read_prompts(PromptsSection(path="p.jsonl", metadata=("m",)), tmp_path))


@pytest.mark.parametrize(("own", "tags"), [("x", ("x",)), (["x", "y"], ("x", "y")), ("", ()), ("[x]", ("[x]",))])
def test_one_text_is_one_tag(tmp_path: Path, own: Any, tags: tuple[str, ...]) -> None:
    [prompt] = of(tmp_path, {"prompt": "a", "kind": own}, tags_field="kind")
    assert prompt.tags == tags


# --- a last answer


@pytest.mark.parametrize(
    ("turns", "asked", "cut"),
    [
        ([USER, ANSWER], 1, "Hello."),
        ([USER, ANSWER, ANSWER], 1, "Hello.\n\nHello."),
        ([USER, ANSWER, USER, ANSWER], 3, "Hello."),
        ([USER, {**ANSWER, "content": " \n"}], 1, None),
        ([USER], 1, None),
    ],
)
def test_a_last_answer_is_cut_off_and_kept(tmp_path: Path, turns: list[Any], asked: int, cut: str | None) -> None:
    [prompt] = of(tmp_path, {"messages": turns})
    assert (len(prompt.messages), prompt.cut_answer) == (asked, cut)
    [alone] = of(tmp_path, {"messages": turns[:asked]})
    assert alone.id == prompt.id
    if cut:
        with pytest.raises(PromptError, match="the last turn is not the user's"):
            of(tmp_path, {"messages": turns}, last_answer="refuse")


def test_a_transcripts_last_answer_is_kept_too(tmp_path: Path) -> None:
    told = "\n\nHuman: a\n\nAssistant: b"
    [prompt] = of(tmp_path, {"prompt": told}, format="transcripts")
    assert (prompt.messages[-1].content, prompt.cut_answer) == ("a", "b")
    for settings in ({}, {"last_answer": "refuse"}):
        [prompt] = of(tmp_path, {"prompt": f"{told[:10]}\n\nAssistant:"}, format="transcripts", **settings)
        assert prompt.cut_answer is None
    with pytest.raises(PromptError, match="the last turn is not the user's"):
        of(tmp_path, {"prompt": told}, format="transcripts", last_answer="refuse")


def test_an_answer_that_the_recipe_names_is_not_cut(tmp_path: Path) -> None:
    [prompt] = of(tmp_path, {"messages": [USER, ANSWER]}, answers=("messages",))
    assert (prompt.answers, prompt.cut_answer) == (("Hello.",), None)
    row = {"messages": [USER, ANSWER], "chosen": [USER, {**ANSWER, "content": "Good day."}]}
    [prompt] = of(tmp_path, row, answers=("chosen",))
    assert (prompt.answers, prompt.cut_answer) == (("Good day.",), "Hello.")


@pytest.mark.parametrize("turns", [[ANSWER], [{"role": "system", "content": "s"}, ANSWER],
                                   [USER, ANSWER, {"role": "system", "content": "s"}]])  # fmt: skip
def test_nothing_is_left_to_answer(tmp_path: Path, turns: list[Any]) -> None:
    with pytest.raises(PromptError, match="user's"):
        of(tmp_path, {"messages": turns})


# --- roles


def test_the_developers_turn_is_the_systems_where_the_recipe_says_so(tmp_path: Path) -> None:
    turns = [{"role": "developer", "content": "Be brief."}, USER]
    with pytest.raises(PromptError, match="messages, turn 1: role is 'developer'") as caught:
        of(tmp_path, {"messages": turns})
    assert 'prompts.roles = { "developer" = "system" }' in caught.value.hint
    [prompt] = of(tmp_path, {"messages": turns}, roles={"developer": "system"})
    assert [turn.role for turn in prompt.messages] == ["system", "user"]
    [prompt] = of(tmp_path, {"conversations": [{"from": "prompter", "value": "a"}]}, roles={"prompter": "user"})
    assert prompt.messages[0].role == "user"
    for roles in ({"user": "assistant"}, {"robot": "tool"}):
        with pytest.raises(ValidationError):
            PromptsSection(path="p", roles=roles)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "tool", "tool_call_id": "c1", "content": "18 °C"},
        {"role": "function", "name": "f", "content": "18 °C"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function"}]},
        {"from": "observation", "value": "18 °C"},
        {"from": "function_call", "value": "{}"},
    ],
)
def test_turns_of_tools_are_refused_with_the_way_out(tmp_path: Path, turn: Any) -> None:
    asked = USER if "role" in turn else {"from": "human", "value": "hi"}
    with pytest.raises(PromptError, match="turn 2: ") as caught:
        of(tmp_path, {"messages": [asked, turn, asked]})
    assert 'prompts.on_bad_row = "skip"' in caught.value.hint


# --- stored


def test_what_is_kept_is_stored_and_read_again(tmp_path: Path) -> None:
    rows = [{"id": n, "messages": [USER, *[ANSWER] * n], "lang": "ü"} for n in range(2)]
    prompts = of(tmp_path, *rows, id_field="id", metadata=("lang",))
    store = Warehouse(tmp_path / "warehouse")
    assert store.read_prompts(store.write_prompts("run-1", 0, prompts)) == prompts
    assert [tuple(getattr(prompt, name) for name in BESIDE) for prompt in prompts] == [
        ("0", '{"lang": "ü"}', None),
        ("1", '{"lang": "ü"}', "Hello."),
    ]
