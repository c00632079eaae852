"""Rows and files that nothing of ours would write: none ends in a traceback or in silence."""

from __future__ import annotations

import decimal
import gzip
import json
import time
import tomllib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from read_prompts import of

from constitution.cli import app
from constitution.errors import PromptError
from constitution.prompts import read_prompts, user_texts
from constitution.prompts.inspect import inspect_file
from constitution.recipe import PromptsSection
from constitution.records import SkippedRow
from constitution.warehouse.convert import skipped_to_arrow

ASKED = {"role": "user", "content": "q"}


def file(folder: Path, *rows: Any, name: str = "p.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


def deep(depth: int, form: str) -> str:
    before, after = ("[", "]") if form == "list" else ('{"a":', "}")
    return f'{before * depth}"x"{after * depth}'


# --- deep and wide


@pytest.mark.parametrize("form", ["list", "object"])
@pytest.mark.parametrize("depth", [480, 800, 5000])
def test_deep_values(tmp_path: Path, depth: int, form: str) -> None:
    """Python's own limit is 1,000 calls; deeper JSON is refused by its parser."""
    value = deep(depth, form)
    path = file(tmp_path, f'{{"prompt": "a", "m": {value}}}\n', '{"prompt": "b", "m": 1}\n')
    skipped: list[SkippedRow] = []
    section = PromptsSection(path="p.jsonl", metadata=("m",), on_bad_row="skip")
    read = list(read_prompts(section, tmp_path, skip=skipped.append))
    kept = [json.loads(prompt.metadata or "")["m"] for prompt in read]
    assert kept == ([json.loads(value), 1] if depth < 1000 else [1])
    assert len(skipped) == (depth > 1000)
    assert inspect_file(path).read == len(read)
    file(tmp_path, f'{{"context": {value}}}\n')
    with pytest.raises(PromptError, match=r"nested too deeply|no text of a prompt"):
        list(user_texts(path))


def test_many_keys(tmp_path: Path) -> None:
    keys = ", ".join(f'"k{number}": 1' for number in range(100_000))
    started = time.process_time()
    with pytest.raises(PromptError, match="the key 'k99999' is there twice"):
        list(read_prompts(PromptsSection(path=file(tmp_path, f'{{{keys}, "k99999": 2}}\n').name), tmp_path))
    assert time.process_time() - started < 10, "the time grows with the square of the keys"
    with pytest.raises(PromptError, match="and 99,900 more") as caught:
        list(read_prompts(PromptsSection(path=file(tmp_path, f"{{{keys}}}\n").name), tmp_path))
    assert len(str(caught.value)) < 2000


# --- halves of surrogate pairs


def test_a_cut_answer_is_a_text_too(tmp_path: Path) -> None:
    for bad in ("\ud800", "\x00"):
        with pytest.raises(PromptError, match="line 1: the answer that is cut off"):
            of(tmp_path, {"messages": [ASKED, {"role": "assistant", "content": f"a{bad}"}]})


def test_reasons_that_name_a_key_can_be_stored(tmp_path: Path) -> None:
    file(tmp_path, {"prompt": "a", "\ud800 context": "b"}, {"\udfff": "x"}, {"prompt": "c"})
    skipped: list[SkippedRow] = []
    list(read_prompts(PromptsSection(path="p.jsonl", on_bad_row="skip"), tmp_path, skip=skipped.append))
    stored = skipped_to_arrow("run", skipped).to_pylist()
    assert [row["source"] for row in stored] == ["p.jsonl#1", "p.jsonl#2"]
    assert "\\ud800 context" in stored[0]["reason"]
    assert "\\udfff" in stored[1]["reason"]
    shown = inspect(tmp_path / "p.jsonl")
    assert shown.exit_code == 1
    assert "\\udfff" in shown.output


# --- keys inside values


@pytest.mark.parametrize("inner", ["", "INNER", None])
def test_a_key_of_the_same_name_is_not_lost(tmp_path: Path, inner: str | None) -> None:
    row = {"body.context": "OUTER", "body": {"messages": [ASKED], "context": inner}}
    with pytest.raises(PromptError, match=r"line 1: has body\.context as a key and inside a value"):
        of(tmp_path, row, field="body.messages", ignore=("body.context",))
    assert of(tmp_path, row | {"body.context": inner}, field="body.messages", ignore=("body.context",))


def test_metadata_of_a_value_whose_keys_are_read(tmp_path: Path) -> None:
    rows = [{"info": {"post": "q", "id": 3}}, {"info": "text", "info.post": "r"}]
    found = of(tmp_path, *rows, field="info.post", metadata=("info", "info.id"))
    assert [json.loads(prompt.metadata or "") for prompt in found] == [
        {"info": {"post": "q", "id": 3}, "info.id": 3},
        {"info": "text", "info.id": None},
    ]


# --- trees


@pytest.mark.parametrize("key", ["message_id", "parent_id"])
@pytest.mark.parametrize("value", [["a"], {"a": 1}])
def test_ids_of_turns_are_names(tmp_path: Path, key: str, value: Any) -> None:
    row = {"message_id": "a", "parent_id": None, "role": "prompter", "text": "q", key: value}
    with pytest.raises(PromptError, match=f"line 1: .*{key} "):
        of(tmp_path, row, trees=True)
    with pytest.raises(PromptError, match=f"line 1: .*{key} "):
        list(user_texts(tmp_path / "p.jsonl"))


def test_a_reply_of_no_role(tmp_path: Path) -> None:
    reply = {"role": ["assistant"], "text": "a", "replies": []}
    with pytest.raises(PromptError, match="line 1: a turn of the tree has the role"):
        of(tmp_path, {"prompt": {"role": "prompter", "text": "q", "replies": [reply]}}, trees=True)


@pytest.mark.parametrize("role", ["assistant", "prompter"])
def test_a_turn_whose_parent_is_not_there_is_not_passed_over(tmp_path: Path, role: str) -> None:
    root = {"message_id": 1, "parent_id": None, "role": "prompter", "text": "q"}
    rows = [root, {"message_id": 2, "parent_id": 99, "role": role, "text": "a"}]
    with pytest.raises(PromptError, match="line 2: parent_id 99 is no turn of the file"):
        of(tmp_path, *rows, trees=True)
    skipped: list[SkippedRow] = []
    section = PromptsSection(path="p.jsonl", trees=True, on_bad_row="skip")
    assert len(list(read_prompts(section, tmp_path, skip=skipped.append))) == 1
    assert [row.source for row in skipped] == ["p.jsonl#2"]


# --- several files


def test_files_of_one_name_in_two_folders_are_told_apart(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        file(tmp_path / name, {"prompt": name}, {"text": name})
    file(tmp_path, {"prompt": "three"}, name="q.jsonl")
    skipped: list[SkippedRow] = []
    section = PromptsSection(path=("one/p.jsonl", "two/p.jsonl", "q.jsonl"), on_bad_row="skip")
    read = list(read_prompts(section, tmp_path, skip=skipped.append))
    assert [prompt.source for prompt in read] == ["one/p.jsonl#1", "two/p.jsonl#1", "q.jsonl#1"]
    assert [row.source for row in skipped] == ["one/p.jsonl#2", "two/p.jsonl#2"]


# --- inspect


def inspect(path: Path) -> Result:
    shown = CliRunner().invoke(app, ["prompts", "inspect", str(path)])
    assert shown.exception is None or isinstance(shown.exception, SystemExit | PromptError), shown.exception
    return shown


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{**ASKED, "answer": "x"}], "answer": "yo"},
        {"text": [{**ASKED, "text": "x"}]},
        {"turns": [{"user": "a", "turns": 1}]},
        {"prompt": "\n\nHuman: hi\n\nAssistant:", "history": [["a", "b"]]},
        {"instruction": "\n\nHuman: hi\n\nAssistant:", "input": "k"},
    ],
)
def test_settings_that_no_recipe_takes_are_not_tried(tmp_path: Path, row: dict[str, Any]) -> None:
    shown = inspect(file(tmp_path, row))
    section = tomllib.loads(shown.output[shown.output.index("\n[prompts]\n") :])["prompts"]
    reads = list(read_prompts(PromptsSection.model_validate(section), tmp_path)) if shown.exit_code == 0 else []
    assert all(not prompt.answers for prompt in reads), "an answer that is still to come is none"


@pytest.mark.parametrize("value", [decimal.Decimal("1.5"), b"a"])
def test_a_label_of_another_type_is_no_gold(tmp_path: Path, value: Any) -> None:
    columns = {"prompt": ["q"], "response_a": ["a"], "response_b": ["b"], "label": [value]}
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    found = inspect_file(tmp_path / "p.parquet")
    assert found.read == 1
    assert "gold" not in found.settings


def test_a_file_that_is_cut_is_no_row(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"prompt": f"q{number}"}) + "\n" for number in range(1000))
    (tmp_path / "p.jsonl.gz").write_bytes(gzip.compress(rows.encode())[:-10])
    with pytest.raises(PromptError, match="cannot be read"):
        inspect_file(tmp_path / "p.jsonl.gz")


def test_names_of_files_in_the_section(tmp_path: Path) -> None:
    for name in ("a b.jsonl", "new\nline.jsonl", "br[1].jsonl", 'quo"te.jsonl', "del\x7f.jsonl", "漢.jsonl"):
        shown = inspect(file(tmp_path, {"prompt": "q"}, name=name))
        section = tomllib.loads(shown.output[shown.output.index("\n[prompts]\n") :])["prompts"]
        assert len(list(read_prompts(PromptsSection.model_validate(section), tmp_path))) == 1


def test_empty_columns_of_a_spreadsheet(tmp_path: Path) -> None:
    path = file(tmp_path, "prompt,,\na,,\n", name="p.csv")
    assert inspect_file(path).read == len(list(user_texts(path))) == 1


# --- what is compared


@pytest.mark.parametrize(
    ("row", "question"),
    [
        ({"question_stem": "Who?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}}, "Who?"),  # OpenBookQA
        ({"question": {"stem": "Who?", "choices": [{"text": "a", "label": "A"}]}}, "Who?"),  # ARC's own files
        ({"text": "Who?", "options": ["a", "b"]}, "Who?"),
        ({"sentence": "Who?", "options": ["a", "b"]}, None),
        ({"sentence": "Who?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}}, None),
    ],
)
def test_options_are_no_question(tmp_path: Path, row: dict[str, Any], question: str | None) -> None:
    path = file(tmp_path, row)
    if question is None:
        with pytest.raises(PromptError, match="there is no text of a prompt"):
            list(user_texts(path))
    else:
        [(_, whole, asked)] = user_texts(path)
        assert asked == question
        assert question in whole
