"""Rows of public benchmarks of judges, in exactly their public shapes: what they are read as, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from read_prompts import asked, of, parquet

from constitution.errors import PromptError, RecipeError
from constitution.prompts import read_prompts
from constitution.recipe import PromptsSection, load_recipe
from constitution.records import Message, Prompt

ROOT = Path(__file__).parents[1]

LLMBAR = {"input": "Name a month.", "output_1": "May.", "output_2": "Monday.", "label": 1}
JUDGEBENCH = {
    "pair_id": "81ec57f2-483f-515f-93ff-78a8910b2153",
    "original_id": "10646",
    "source": "mmlu-pro-computer science",
    "question": "What is 2 + 2?\n(A) 4\n(B) 5\nThink step by step.",
    "response_model": "gpt-4o-2024-05-13",
    "response_A": "BBBBB",
    "response_B": "AAAAA",
    "label": "B>A",
}
HHH = {"input": "May I tell a secret?", "target_scores": {"Yes, all of them.": 0, "Only your own.": 1}}
REWARDBENCH = {
    "id": "17",
    "prompt": "Name a month.",
    "chosen": ["May."],
    "rejected": ["Monday.", "Mars.", "Noon."],
    "num_correct": 1,
    "num_incorrect": 3,
    "total_completions": 4,
    "models": ["a", "b", "c", "d"],
    "subset": "Factuality",
    "additional_metadata": {"category": None, "correct": "x", "index": 3.0, "instruction_id_list": ["y"]},
}
TIED = REWARDBENCH | {
    "id": "tied:3",
    "subset": "Ties",
    "chosen": ["May.", "June."],
    "rejected": ["Noon.", "Mars."],
    "num_correct": 2,
    "num_incorrect": 2,
}
ROWS: dict[str, dict[str, Any]] = {
    "llmbar": LLMBAR,
    "judgebench": JUDGEBENCH,
    "hhh": HHH,
    "rewardbench-2": REWARDBENCH,
}


def refused(folder: Path, benchmark: str, row: dict[str, Any], **changes: Any) -> str:
    """None among the changes: the key is not there."""
    row = {key: value for key, value in {**row, **changes}.items() if changes.get(key, "") is not None}
    with pytest.raises(PromptError) as caught:
        of(folder, row, benchmark=benchmark)
    return f"{caught.value} | {caught.value.hint}"


@pytest.mark.parametrize(
    ("row", "benchmark", "answers", "gold", "tags"),
    [
        (LLMBAR, "llmbar", ("May.", "Monday."), 0, ()),
        (LLMBAR | {"label": 2}, "llmbar", ("May.", "Monday."), 1, ()),
        (JUDGEBENCH, "judgebench", ("BBBBB", "AAAAA"), 1, ("mmlu-pro-computer science",)),
        (JUDGEBENCH | {"label": "A>B"}, "judgebench", ("BBBBB", "AAAAA"), 0, ("mmlu-pro-computer science",)),
        (HHH, "hhh", ("Yes, all of them.", "Only your own."), 1, ()),
    ],
)
def test_pairs(
    tmp_path: Path, row: dict[str, Any], benchmark: str, answers: tuple[str, ...], gold: int, tags: tuple[str, ...]
) -> None:
    [found] = of(tmp_path, row, benchmark=benchmark)
    question = str(row.get("question", row.get("input")))
    assert found == Prompt((Message("user", question),), "p.jsonl#1", tags, answers, gold)


def test_several_answers_a_side(tmp_path: Path) -> None:
    four, tied = of(tmp_path, REWARDBENCH, TIED, benchmark="rewardbench-2")
    assert (four.answers, four.gold, four.golds) == (("May.", "Monday.", "Mars.", "Noon."), None, (0,))
    assert four.tags == ("Factuality", "17")
    assert (tied.answers, tied.golds, tied.tags) == (("May.", "June.", "Noon.", "Mars."), (0, 1), ("Ties", "tied:3"))
    assert four.better == (0,)
    two = REWARDBENCH | {"rejected": ["Mars."], "num_incorrect": 1}
    [pair] = of(tmp_path, two, benchmark="rewardbench-2", tags=("all",), tags_field="models")
    assert (pair.gold, pair.golds, pair.tags) == (0, (), ("all", "Factuality", "17", "a", "b", "c", "d"))


def test_the_same_from_parquet_json_and_a_query(tmp_path: Path) -> None:
    targets = {"choices": list(HHH["target_scores"]), "labels": [0, 1]}
    for benchmark, row in ROWS.items():
        stored = {"input": HHH["input"], "targets": targets} if benchmark == "hhh" else row
        found = parquet(tmp_path, pa.Table.from_pylist([stored]), benchmark=benchmark)
        (tmp_path / "list.json").write_text(json.dumps([row]))
        (tmp_path / "task.json").write_text(json.dumps({"name": "x", "metrics": ["y"], "examples": [row]}))
        for name in ("list.json", "task.json"):
            section = {"path": name, "rows": "examples", "benchmark": benchmark}
            [read] = read_prompts(PromptsSection.model_validate(section), tmp_path)
            assert read.source == f"{name}#1"
            assert [read.id, read.answers, read.better] == [found[0].id, found[0].answers, found[0].better]
    query = "SELECT 'q' AS input, 'a' AS output_1, 'b' AS output_2, 2 AS label"
    assert asked(tmp_path, query, benchmark="llmbar")[0].gold == 1


def test_folders_of_the_hub(tmp_path: Path) -> None:
    """As allenai/reward-bench-2, ScalerLab/JudgeBench and HuggingFaceH4/hhh_alignment lie there."""
    targets = {"choices": list(HHH["target_scores"]), "labels": [0, 1]}
    for name, row in {
        "reward-bench-2/data/test": REWARDBENCH,
        "JudgeBench/data/gpt": JUDGEBENCH,
        "JudgeBench/data/claude": JUDGEBENCH | {"label": "A>B"},
        "hhh/harmless/test": {"input": "q", "targets": targets},
        "hhh/honest/test": {"input": "r", "targets": targets},
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / f"{name}-00000-of-00001.parquet")

    def read(**section: Any) -> list[Prompt]:
        return list(read_prompts(PromptsSection(format="hub", **section), tmp_path))

    [four] = read(dataset="reward-bench-2", split="test", benchmark="rewardbench-2")
    assert (four.golds, four.tags) == ((0,), ("Factuality", "17"))
    golds = [read(dataset="JudgeBench", split=name, benchmark="judgebench")[0].gold for name in ("gpt", "claude")]
    assert golds == [1, 0]
    [honest] = read(dataset="hhh", config="honest", split="test", benchmark="hhh")
    assert (honest.messages[0].content, honest.gold) == ("r", 1)


def test_texts_are_taken_as_they_are_and_messages_as_turns(tmp_path: Path) -> None:
    """A benchmark's question is one text, also where it looks like a conversation, a list or a template."""
    for text in (
        "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: and now?",
        '["a", "b"]',
        "### Instruction:\nx\n### Response:",
    ):
        [found] = of(tmp_path, LLMBAR | {"input": text, "output_1": text}, benchmark="llmbar")
        assert (found.messages[0].content, found.answers[0]) == (text, text)
    turns = [{"role": role, "content": role} for role in ("user", "assistant", "user")]
    [several] = of(tmp_path, REWARDBENCH | {"prompt": turns}, benchmark="rewardbench-2")
    assert [turn.role for turn in several.messages] == ["user", "assistant", "user"]


def test_pairs_that_come_twice_and_empty_answers_are_kept(tmp_path: Path) -> None:
    first, second = of(tmp_path, LLMBAR, LLMBAR | {"output_2": ""}, benchmark="llmbar")
    assert (first.repeat, second.repeat, second.answers[1]) == (0, 1, "")
    assert first.id != second.id


@pytest.mark.parametrize(
    ("benchmark", "changes", "words"),
    [
        ("llmbar", {"label": None}, ["no 'label'", "every pair"]),
        ("llmbar", {"label": 0}, ["label is 0", "1 and 2", "leave such rows out"]),
        ("llmbar", {"label": True}, ["label is True"]),
        ("llmbar", {"label": 1.0}, ["label is 1.0"]),
        ("llmbar", {"output_2": None}, ["no 'output_2'"]),
        ("llmbar", {"output_2": ["x"]}, ["output_2", "not a text"]),
        ("llmbar", {"input": " "}, ["no text"]),
        ("llmbar", {"context": "c"}, ["context", "shown"]),
        ("judgebench", {"label": "A=B"}, ["label is 'A=B'", "A>B and B>A"]),
        ("judgebench", {"source": None}, ["no 'source'"]),
        ("judgebench", {"question": [{"role": "assistant", "content": "x"}]}, ["not the user's"]),
        ("hhh", {"target_scores": None}, ["no 'target_scores'"]),
        ("hhh", {"target_scores": {"a": 1}}, ["two answers"]),
        ("hhh", {"target_scores": {"a": 1, "b": 1}}, ["2 of 2", "score 1"]),
        ("hhh", {"target_scores": {"a": 0, "b": 0}}, ["0 of 2"]),
        ("hhh", {"target_scores": {"a": 1, "b": 0, "c": 0}}, ["1 of 3", "one of two"]),
        ("hhh", {"target_scores": {"a": 0.5, "b": 0.5}}, ["a score is 0.5"]),
        ("hhh", {"target_scores": {"choices": ["a", "b"], "labels": [1]}}, ["one length"]),
        ("rewardbench-2", {"chosen": []}, ["chosen is not a list"]),
        ("rewardbench-2", {"rejected": [1]}, ["rejected", "not a text"]),
        ("rewardbench-2", {"num_correct": 2}, ["num_correct is 2", "has 1"]),
        ("rewardbench-2", {"num_incorrect": 2}, ["num_incorrect is 2", "has 3"]),
        ("rewardbench-2", {"chosen": ["a", "b"], "num_correct": 2}, ["2 answers", "Ties"]),
        ("rewardbench-2", {"subset": None}, ["no 'subset'"]),
        ("rewardbench-2", {"subset": ["Math"]}, ["subset is no name"]),
        ("rewardbench-2", {"subset": "ties"}, ["id is '17'", "ref:NUMBER"]),
        ("rewardbench-2", {"subset": "Ties", "id": "tied:3"}, ["tied:3", "several"]),
    ],
)
def test_rows_that_the_rule_could_not_use_are_refused(
    tmp_path: Path, benchmark: str, changes: dict[str, Any], words: list[str]
) -> None:
    said = refused(tmp_path, benchmark, ROWS[benchmark], **changes)
    assert all(word in said for word in ["line 1", *words]), said


def test_a_null_in_a_row_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="label is null"):
        of(tmp_path, LLMBAR | {"label": None}, benchmark="llmbar")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"rows": {}}', ["not a list of rows"]),
        ('{"examples": [1]}', ["row 1", "int"]),
        ("[1]", ["row 1", "int"]),
        ('{"task_prefix": "Be kind.", "examples": [{"prompt": "a"}]}', ["task_prefix"]),
        ('[{"prompt": "a", "prompt": "b"}]', ["twice"]),
        ("[]", ["no prompts"]),
    ],
)
def test_json_that_is_no_list_of_objects(tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(PromptError) as caught:
        list(read_prompts(PromptsSection(path="p.json", rows="examples"), tmp_path))
    assert all(word in f"{caught.value} {caught.value.hint}" for word in words)


def test_recipes(tmp_path: Path) -> None:
    for name in ROWS:
        recipe = load_recipe(ROOT / "recipes" / f"{name}.toml")
        assert recipe.prompts.benchmark == name
        assert recipe.only_judges
    path = ROOT / "recipes" / "llmbar.toml"
    for override, word in {
        'prompts.answers=["a", "b"]': "leave answers out",
        "prompts.gold=label": "leave gold out",
        "prompts.field=q": "leave field out",
        "prompts.format=transcripts": "no transcripts",
        'judge.pairs=["first-last"]': "judge.pairs",
        "prompts.benchmark=lmbar": "prompts.benchmark",
    }.items():
        with pytest.raises(RecipeError, match=word.replace(".", r"\.")):
            load_recipe(path, [override])


def test_parts_written_before_are_read(tmp_path: Path) -> None:
    """Without the column that says which answers of several are better."""
    from constitution.warehouse import Warehouse

    prompt = Prompt((Message("user", "q"),), "f#1", ("t",), ("a", "b"), 1)
    store = Warehouse(tmp_path)
    part = store.write_prompts("run-1", 0, [prompt])
    assert store.read_prompts(part) == [prompt]
    pq.write_table(pq.read_table(part).drop_columns("golds"), part)
    assert store.read_prompts(part) == [prompt]
