"""`constitution prompts inspect`: the section that it prints reads the file."""

from __future__ import annotations

import json
import math
import tomllib
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from read_prompts import texts
from test_prompts_forms import ASKED, FORMS, table
from test_prompts_shapes import SHAPES, turns

from constitution.cli import app
from constitution.errors import PromptError
from constitution.prompts import read_prompts
from constitution.prompts.inspect import inspect_file
from constitution.recipe import PromptsSection
from constitution.records import Prompt

CASES = Path(__file__).parents[2] / "shared" / "cases"


def inspect(path: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["prompts", "inspect", str(path), *words])


def pasted(shown: Result) -> list[Prompt]:
    """The prompts by the section that was printed, as a recipe would have it."""
    section = tomllib.loads(shown.output[shown.output.index("\n[prompts]\n") :])["prompts"]
    return list(read_prompts(PromptsSection.model_validate(section), Path("/")))


@pytest.mark.parametrize("name", SHAPES)
def test_the_section_reads_each_public_shape(tmp_path: Path, name: str) -> None:
    row, _, (asked, answers, gold) = SHAPES[name]
    if name in ("two deep", "a key with a dot", "a boolean that says which", "system below a key"):
        pytest.skip("no public name")
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps(row))
    other = {"winner": "model_a", "better_response_id": 1, "safer_response_id": 0, "labels": 1}
    path.write_text(path.read_text() + "\n" + json.dumps(row | {k: v for k, v in other.items() if k in row}))
    shown = inspect(path)
    assert shown.exit_code == 0, shown.output
    found = pasted(shown)
    assert len(found) == 3
    assert [turn.content for turn in found[0].messages] == asked
    if answers:
        assert found[0].answers == answers
    # One says who is better and who is safer, the other has 1 for the first: what no name says is not guessed.
    if gold is not None and name not in ("safe rlhf", "shp"):
        assert found[0].gold == gold


@pytest.mark.parametrize("form", FORMS)
def test_every_form(tmp_path: Path, form: str) -> None:
    (tmp_path / "p").write_text(FORMS[form])
    assert texts(pasted(inspect(tmp_path / "p"))) == ASKED
    (tmp_path / "p.csv").write_text(table(";"))
    assert texts(pasted(inspect(tmp_path / "p.csv"))) == ASKED


COUNTS = {
    "alpaca-eval.jsonl": 1, "crlf-transcript.jsonl": 1, "fine-tuning.jsonl": 1, "gold-by-value.jsonl": 2,
    "messages-as-json-text.jsonl": 1, "mixed-content.jsonl": 2, "parts.jsonl": 1, "prompts.csv": 2, "prompts.json": 2,
    "sharegpt.json": 1,
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_cases_on_which_we_were_wrong(name: str) -> None:
    if not (CASES / name).exists():
        pytest.skip("outside the checkout")
    shown = inspect(CASES / name)
    assert (shown.exit_code, len(pasted(shown))) == (0, COUNTS[name])


def test_what_is_said_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows: list[dict[str, Any]] = [
        {"prompt": "Hi", "system": "Be kind.", "chosen": "A.", "rejected": "B.", "tools": ["x"]},
        {"prompt": "Hi", "system": "Be kind.", "chosen": "A.", "rejected": "B.", "id": 7},
        {"prompt": "", "chosen": "A.", "rejected": "B."},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    shown = inspect(path)
    assert shown.exit_code == 1
    for said in ("repeated conversations  1", "with a system turn      2", "chosen: 2", "1 of 3 rows are skipped",
                 "turn 1 has no text", 'ignore = ["tools"]', 'system = "system"', 'gold = "chosen"'):  # fmt: skip
        assert said in shown.output, said
    data = json.loads(inspect(path, "--json").output)
    assert (data["rows"], data["read"], data["refused"], data["turns"]) == (3, 2, 1, {"2": 2})
    assert data["settings"]["answers"] == ["chosen", "rejected"]


def test_a_conversation_that_ends_with_its_answer_or_without(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"messages": turns("a", "b", "c")}))
    assert "answers = " not in inspect(path).output
    path.write_text(json.dumps({"messages": turns("a", "b")}))
    [one] = pasted(inspect(path))
    assert one.answers == ("b",)
    section = PromptsSection(path=str(path), answers=("messages",))
    path.write_text(json.dumps({"messages": turns("a", "b", "c")}))
    with pytest.raises(PromptError, match="does not end with the assistant's turn"):
        list(read_prompts(section, tmp_path))


def test_an_error_about_a_file_ends_with_the_command(tmp_path: Path) -> None:
    command = "`constitution prompts inspect FILE` "
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": "q", "tools": ["t"]}))
    for section in ({"path": "p.jsonl"}, {"path": "p.jsonl", "field": "asked"}):
        with pytest.raises(PromptError) as caught:
            list(read_prompts(PromptsSection.model_validate(section), tmp_path))
        assert str(caught.value.hint).count(command) == 1
    with pytest.raises(PromptError) as caught:
        list(read_prompts(PromptsSection(format="sql", query="SELECT 'q' AS prompt, ['t'] AS tools"), tmp_path))
    assert command not in str(caught.value.hint)


def test_files_that_cannot_be_looked_at(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("words\n")
    (tmp_path / "e.jsonl").write_text("")
    for name, said in (("p.txt", "neither the name"), ("e.jsonl", "no rows"), ("none", "no such file")):
        assert said in str(inspect(tmp_path / name).exception)
    (tmp_path / "t.json").write_text(json.dumps({"examples": [{"prompt": "a"}, {"prompt": "b"}]}))
    shown = inspect(tmp_path / "t.json", "--rows", "examples")
    assert texts(pasted(shown)) == ["a", "b"]


@pytest.mark.parametrize(
    ("values", "told"),
    [((1, 2), True), (("1", "2"), True), ((-2, -1, 1, 2), False), ((1, 2, 3, 4, 5), False), ((-1, 0, 1, 2), False)],
)
def test_a_scale_is_not_taken_for_the_number_of_an_answer(tmp_path: Path, values: tuple[Any, ...], told: bool) -> None:
    rows = [{"prompt": f"{n}?", "output_1": "a", "output_2": "b", "preference": n} for n in values * 3]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert ("gold_values" in inspect(path).output) is told


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (("model_a", "model_b"), True),
        (("A", "B", "tie"), True),
        (("not a", "not b"), False),
        (("worse_a", "worse_b"), False),
        (("a and b", "a"), False),
    ],
)
def test_words_that_may_mean_the_other_answer_are_no_gold(tmp_path: Path, values: tuple[str, ...], told: bool) -> None:
    rows = [{"prompt": f"{n}?", "response_a": "a", "response_b": "b", "winner": n} for n in values * 3]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert ("gold_values" in inspect(path).output) is told


def test_bad_rows_are_skipped_and_said(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    tool = {"messages": [*turns("a"), {"role": "tool", "tool_call_id": "c", "content": "18"}, *turns("b")]}
    path.write_text("\n".join(["{", *map(json.dumps, [{"messages": turns("a")}, tool, {"messages": turns("b")}] * 2)]))
    shown = inspect(path)
    assert shown.exit_code == 1
    assert "3 of 7 rows are skipped by the section below, and refused without on_bad_row" in shown.output
    skipped: list[str] = []
    section = tomllib.loads(shown.output[shown.output.index("\n[prompts]\n") :])["prompts"]
    found = read_prompts(PromptsSection.model_validate(section), Path("/"), skip=lambda row: skipped.append(row.source))
    assert texts(list(found)) == ["a", "b"] * 2
    assert skipped == [f"rows.jsonl#{line}" for line in (1, 3, 6)]
    path.write_text('{"prmt": "a"}\n{"prmt": "b"}\n')
    assert "on_bad_row" not in inspect(path).output, "what no row has is no fault of a row"


def test_what_only_names_a_role_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [[{"role": "developer", "content": "Be brief."}, *turns("a")], [{"role": "Human", "content": "b"}]]
    path.write_text("\n".join(json.dumps({"messages": each}) for each in rows))
    shown = inspect(path)
    assert 'roles = { "Human" = "user", "developer" = "system" }' in shown.output
    assert [[turn.role for turn in prompt.messages] for prompt in pasted(shown)] == [["system", "user"], ["user"]]
    path.write_text(json.dumps({"messages": [{"role": "narrator", "content": "b"}]}))
    assert "roles" not in json.loads(inspect(path, "--json").output)["settings"]


def test_last_answers_that_would_be_cut_off_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"messages": turns(*asked)}) for asked in ("a", "ab", "abc", "abcd", "c")))
    shown = inspect(path)
    assert "last answers cut off    2" in shown.output
    assert "cut off: b" in shown.output
    assert [prompt.cut_answer for prompt in pasted(shown)] == [None, "b", None, "d", None]


def test_keys_that_can_be_kept_are_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"id": number, "prompt": f"p{number}", "lang": "de", "when": None} for number in range(300)]
    path.write_text("\n".join(map(json.dumps, rows)))
    lines = [line.removeprefix("# ") for line in inspect(path).output.splitlines() if line.startswith("# ")]
    assert [line.partition(" = ")[0] for line in lines] == ["id_field", "metadata"]
    section = PromptsSection.model_validate({"path": str(path), **tomllib.loads("\n".join(lines))})
    assert [prompt.source_id for prompt in read_prompts(section, Path("/"))] == [str(number) for number in range(300)]
    path.write_text("\n".join(map(json.dumps, [*rows, {**rows[0], "prompt": "again"}])))
    assert "id_field" not in inspect(path).output, "two rows have one name"


def test_languages_are_counted_by_their_frequent_words(tmp_path: Path) -> None:
    said = [
        "How can I tell whether the bread that is in the oven is done, and what if it is not?",
        "Wie kann ich das Brot backen, das meine Mutter mir gemacht hat, als ich ein Kind war?",
        "我怎么做我妈妈在我小时候做的面包？这是我的问题，你可以告诉我吗",
        "ok",
    ]
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": text}) for text in said), encoding="utf-8")
    assert inspect_file(path).languages == {"English": 1, "German": 1, "Chinese": 1, "": 1}


EXCEL = '\ufeffFrage;Antwort alt;Antwort neu\r\n"Was kostet; ein Paket?";3,90 €;4 €\r\n'


def test_a_file_whose_keys_have_no_public_name_says_which_settings_name_them(tmp_path: Path) -> None:
    (tmp_path / "excel.csv").write_text(EXCEL)
    shown = inspect(tmp_path / "excel.csv")
    assert shown.exit_code == 1
    assert (
        "note: no key is called as public data sets call a prompt: name the key that holds it in field" in shown.output
    )
    assert "finds the settings" not in shown.output  # this is the command that finds them


def test_no_metadata_is_offered_that_a_run_refuses(tmp_path: Path) -> None:
    day = datetime(2024, 1, 2)
    columns = {
        "prompt": ["Hi", "Yo"],
        "when": [None, day],
        "raw": [b"1", None],
        "score": [0.5, math.nan],
        "lang": ["en", "de"],
    }
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    shown = inspect(tmp_path / "rows.parquet")
    assert '# metadata = ["lang"]  #' in shown.output
    for number, key in ((2, "when"), (1, "raw"), (2, "score")):
        assert f"note: {tmp_path / 'rows.parquet'}, row {number}: {key} is nothing that JSON has" in shown.output
    section = tomllib.loads(shown.output[shown.output.index("\n[prompts]\n") :].replace("# metadata", "metadata"))[
        "prompts"
    ]
    read = list(read_prompts(PromptsSection.model_validate(section), Path("/")))
    assert [prompt.metadata for prompt in read] == ['{"lang": "en"}', '{"lang": "de"}']


@pytest.mark.parametrize("pattern", ["data/rows.jsonl", "data/*.jsonl"])
def test_a_path_as_inspect_prints_it_is_told_as_the_recipe_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "recipes").mkdir()
    (tmp_path / "data/rows.jsonl").write_text('{"prompt": "Hi"}\n')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PromptError, match="there is no such file") as refused:
        list(read_prompts(PromptsSection(path=pattern), tmp_path / "recipes"))
    told = refused.value.hint.partition("prompts.path = ")[2]
    assert told == f'"../{pattern}"'
    assert list(read_prompts(PromptsSection(path=json.loads(told)), tmp_path / "recipes"))


def test_a_line_that_was_cut_is_said_to_be_open(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "Hi"}\r\n{"prompt": "cut of\r\n')
    shown = inspect(tmp_path / "rows.jsonl")
    assert "line 2: not valid JSON: Unterminated string starting at" in shown.output


RUBRICS: list[tuple[dict[str, Any], list[str]]] = [
    (
        {"reference_answer": "It floats.", "rubric": [{"description": "Essential Criteria: Says why.", "weight": 5}]},
        ['# reference = "reference_answer"  # the answer', '# rubric = "rubric"  # the rubric of each row'],
    ),
    (
        {"rubrics": [{"criterion": "Says why", "points": 7, "tags": ["axis:accuracy"]}], "tags": ["x"]},
        ['# rubric = "rubrics"  # the rubric of each row', '# metadata = ["tags"]  #'],
    ),
    ({"rubric": "Is it good?", "solution": ["7"]}, ['# metadata = ["rubric", "solution"]  #']),
    ({"truth": True}, ['# metadata = ["truth"]  #']),
]  # fmt: skip


@pytest.mark.parametrize(("row", "said"), RUBRICS)
def test_rubrics_and_references_are_offered_where_they_can_be_read(
    row: dict[str, Any], said: list[str], tmp_path: Path
) -> None:
    rows = [{"prompt": "Why do ships float?", **row}, {"prompt": "And why not?", **dict.fromkeys(row)}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    shown = inspect(tmp_path / "rows.jsonl")
    offered = [line for line in shown.output.splitlines() if line.startswith("# ")]
    assert len(offered) == len(said)
    assert all(line.startswith(begins) for line, begins in zip(offered, said, strict=True))
    text = shown.output[shown.output.index("\n[prompts]\n") :].replace("\n# ", "\n")
    section = PromptsSection.model_validate(tomllib.loads(text)["prompts"])
    first, _ = read_prompts(section, Path("/"))
    assert (section.rubric is not None, section.reference is not None) == (bool(first.rubric), bool(first.reference))
