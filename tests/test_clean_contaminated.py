"""Contaminated prompts: overlap with files of evaluation prompts."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from export_rows import Row, dropped

from constitution.errors import InputError

TEST = "Natalia sold clips to forty eight of her friends in April and then she sold half as many clips in May"
"""20 words and one: 21."""
OTHER = "A train leaves the station at noon and travels north at sixty miles an hour for three hours"


def words(text: str, first: int, last: int) -> str:
    return " ".join(text.split()[first:last])


def test_a_prompt_with_more_than_half_of_a_test_prompt_is_contaminated(tmp_path: Path) -> None:
    path = tmp_path / "gsm.jsonl"
    path.write_text(json.dumps({"question": OTHER}) + "\n" + json.dumps({"question": TEST}) + "\n")
    rows = [
        Row(f"Solve this: {TEST}! How many in all?"),
        Row(TEST.upper().replace(" ", "  ")),
        Row("Consider that " + words(TEST, 0, 11) + " of the year"),
        Row("Consider that " + words(TEST, 0, 10) + " of the year"),
        Row(words(TEST, 0, 8) + " or " + words(TEST, 13, 21)),
        Row("How do I bake bread without an oven in the mountains?"),
        Row([("user", "Hello"), ("assistant", TEST), ("user", "And now?")]),
        Row([("user", words(TEST, 0, 12)), ("assistant", "Yes?"), ("user", "Go on")]),
    ]
    assert dropped(rows, decontaminate=(path,)) == {f"r{n}": ("contaminated", "gsm.jsonl#2") for n in (0, 1, 2, 4, 7)}


def test_shared_words_count_once_and_for_one_prompt_alone(tmp_path: Path) -> None:
    """Overlapping 8-grams cover their words once; two prompts do not add up, nor do two test prompts."""
    path = tmp_path / "test.txt"
    path.write_text(f"{TEST}\n{OTHER}\n")
    ten, eight = words(TEST, 0, 10), words(OTHER, 0, 8)
    assert (
        dropped([Row(f"{ten} x {ten} y {ten}"), Row(words(TEST, 10, 20)), Row(f"{ten} {eight}")], decontaminate=(path,))
        == {}
    )
    assert dropped([Row(f"{ten} x")], decontaminate=(path,), overlap=0.4) == {"r0": ("contaminated", "test.txt#1")}


def test_short_test_prompts_match_equal_texts_alone(tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text("What is love?\n\n2 + 2\n🙂\n")
    rows = [Row("what is LOVE"), Row("What is love to you?"), Row("2+2"), Row("🙂"), Row("🙃")]
    found = dropped(rows, decontaminate=(path,), overlap=1.0)
    assert {id: detail for id, (_, detail) in found.items()} == {
        "r0": "short.txt#1", "r2": "short.txt#3", "r3": "short.txt#4",
    }  # fmt: skip


def test_a_template_of_many_test_prompts_hides_none_of_them(tmp_path: Path) -> None:
    """Each test prompt by its own words, and prompts that are little but the template by the template alone."""
    template = "The following are multiple choice questions with answers about"
    subjects = [f"subject{n} of year{n} in place{n} for school{n} by author{n} with key{n}" for n in range(150)]
    path = tmp_path / "template.txt"
    path.write_text("\n".join([*(f"{template} {subject}" for subject in subjects), f"{template} art", ""]))
    rows = [
        Row(f"{template} {subjects[120]}"),
        Row(f"{template} nothing that anybody asks"),
        Row(f"On {subjects[90]}"),
        Row("The following are multiple choice questions with other things"),
    ]
    found = dropped(rows, decontaminate=(path,))
    assert {id: detail for id, (_, detail) in found.items()} == {
        "r0": "template.txt#121", "r1": "template.txt#151", "r2": "template.txt#91",
    }  # fmt: skip


def test_all_rows_of_a_conversation_go(tmp_path: Path) -> None:
    path = tmp_path / "test.txt"
    path.write_text(TEST)
    assert dropped(
        [Row(TEST, "One.", prompt_id="p0"), Row(TEST, "Two.", prompt_id="p0"), Row()], decontaminate=(path,)
    ) == {f"r{n}": ("contaminated", "test.txt#1") for n in (0, 1)}


def test_files_of_every_kind_are_read(tmp_path: Path) -> None:
    tests = [f"{TEST} number {n}" for n in ("one", "two", "three", "four")]
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": OTHER}]
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as file:
        file.write(json.dumps({"instruction": words(TEST, 0, 21)}) + "\n")
    pq.write_table(pa.table({"text": ["Nothing that is asked of anybody here, really not"]}), tmp_path / "c.parquet")
    names = ("a.jsonl", "b.jsonl.gz", "c.parquet")
    found = dropped([Row(OTHER), Row(tests[0]), Row("x")], decontaminate=tuple(tmp_path / name for name in names))
    assert {id: detail for id, (_, detail) in found.items()} == {"r0": "a.jsonl#1", "r1": "b.jsonl.gz#1"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("no.jsonl", None),
        ("no.txt", None),
        ("keys.jsonl", '{"x": "y"}\n'),
        ("what.xyz", "text"),
        ("empty.jsonl", ""),
        ("empty.txt", "\n \n"),
        ("later.jsonl", '{"question": "Why?"}\n{"x": "y"}\n'),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, name: str, content: str | None) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=f"--decontaminate .*{name}") as caught:
        dropped([Row()], decontaminate=(tmp_path / name,))
    assert "Parquet" in str(caught.value.hint)


def test_all_that_the_user_says_in_a_row_is_compared(tmp_path: Path) -> None:
    """Short instructions with long inputs: a set finds every one of its own prompts, and not those of other inputs."""
    inputs = [
        f"The river number {n} rises in the mountains of land {n} and flows through town {n} to sea {n}"
        for n in range(30)
    ]
    path = tmp_path / "eval.jsonl"
    rows = [{"instruction": "Summarise this.", "input": text, "output": "An answer. " * 60} for text in inputs]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = [Row(f"Summarise this.\n\n{text}") for text in inputs]
    others = [
        Row("Summarise this.\n\nQuite another text about bread and how it is baked at home in winter"),
        Row("Hm?"),
    ]
    assert dropped([*asked, *others, Row("Summarise this.")], decontaminate=(path,)) == {
        **{f"r{n}": ("contaminated", f"eval.jsonl#{n + 1}") for n in range(30)},
        "r32": ("contaminated", "eval.jsonl#1"),
    }


@pytest.mark.parametrize(
    "row",
    [
        {"context": OTHER, "question": "When does it arrive?"},
        {
            "instruction": "When does it arrive?",
            "input": OTHER,
            "text": f"{OTHER} When does it arrive? " + "An answer. " * 90,
        },
        {"prompt": "Hello", "messages": [{"role": "user", "content": "Hello"}, {"role": "user", "content": OTHER}]},
        {
            "messages": [
                {"role": "system", "content": [{"type": "text", "text": "S " * 90}]},
                {"role": "user", "content": [{"type": "text", "text": OTHER}]},
            ]
        },
        {"conversations": [{"from": "human", "value": OTHER}, {"from": "gpt", "value": "An answer. " * 90}]},
        {"chosen": f"\n\nHuman: {OTHER}\n\nAssistant: " + "An answer. " * 90},
        {"prompt": json.dumps([{"role": "user", "content": OTHER}])},
        {"turns": [OTHER, "And then?"]},
        {"Question": OTHER, "choices": {"text": ["one", "two"], "label": ["A", "B"]}},
        {"definition": "Say when.", "inputs": OTHER, "examples": ["An example. " * 90]},
        {"userInput": OTHER},
        {"messages": {"role": ["user", "assistant"], "content": [OTHER, "An answer. " * 90]}},
        {"conversation": [{"input": OTHER, "output": "An answer. " * 90}]},
        {"items": [{"from": "human", "value": OTHER}, {"from": "gpt", "value": "An answer. " * 90}]},
        {"custom_id": "1", "body": {"model": "m", "messages": [{"role": "user", "content": OTHER}]}},
        {"input": {"messages": [{"role": "user", "content": OTHER}]}, "preferred_output": [{"content": "a " * 90}]},
        {"question": {"dataset": "eli5", "full_text": OTHER}, "answer_0": "An answer. " * 90},
        {"info": {"post": OTHER, "title": "t"}, "summaries": [{"text": "An answer. " * 90}]},
        {"messages": [{"role": "user", "parts": [{"text": OTHER}]}, {"role": "model", "parts": [{"text": "a " * 90}]}]},
        {"transcript": f"\n\nHuman: {OTHER}\n\nAssistant: " + "An answer. " * 90},
        {"Behavior": OTHER, "SemanticCategory": "x"},
        {"goal": OTHER, "target": "An answer. " * 90},
        {"instruction": "When does it arrive?", "input": OTHER, "history": [["Hello", "An answer. " * 90]]},
    ],
)
def test_rows_of_every_kind_are_compared(tmp_path: Path, row: dict[str, object]) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    pq.write_table(pa.Table.from_pylist([row | {"made": b"x"}]), tmp_path / "b.parquet")
    for name in ("a.jsonl", "b.parquet"):
        assert dropped(
            [Row(f"{OTHER}. When does it arrive?"), Row("Something else")], decontaminate=(tmp_path / name,)
        ) == {"r0": ("contaminated", f"{name}#1")}


def test_turns_of_trees_are_compared_by_what_users_say(tmp_path: Path) -> None:
    answer = {"message_id": "2", "parent_id": "1", "role": "assistant", "text": f"{TEST}. " * 9}
    root = {"message_id": "1", "parent_id": None, "role": "prompter", "text": OTHER}
    (tmp_path / "flat.jsonl").write_text(json.dumps(root) + "\n" + json.dumps(answer))
    (tmp_path / "trees.jsonl").write_text(json.dumps({"message_tree_id": "1", "prompt": {**root, "replies": [answer]}}))
    for name, source in (("flat.jsonl", "flat.jsonl#1"), ("trees.jsonl", "trees.jsonl#1/1")):
        found = dropped([Row(OTHER), Row(TEST)], decontaminate=(tmp_path / name,))
        assert found == {"r0": ("contaminated", source)}


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": [OTHER, "An answer. " * 90]},
        {"text": f"<|im_start|>user\n{OTHER}<|im_end|>\n<|im_start|>assistant\n" + "An answer. " * 90},
        {"text": f"### Human: {OTHER}### Assistant: " + "An answer. " * 90},
        {"prompt": f"USER: {OTHER} ASSISTANT: " + "An answer. " * 90},
    ],
)
def test_a_row_whose_answers_cannot_be_told_from_its_prompt_is_refused(tmp_path: Path, row: dict[str, object]) -> None:
    """Among the words of the answers too few of the prompt's would be shared, and no row would be left out."""
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, match="line 1") as caught:
        dropped([Row(OTHER)], decontaminate=(tmp_path / "a.jsonl",))
    assert "give its turns as messages" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["e.jsonl", "e.parquet", "e.txt"])
def test_a_pipe_is_refused_at_once(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match=f"--decontaminate .*{name}.*pipe"):
        dropped([Row()], decontaminate=(tmp_path / name,))
