"""Scripts: lists of what the user says, as public data sets have them, and what is refused of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError
from read_prompts import asked, of, parquet

from constitution.errors import PromptError
from constitution.prompts import read_prompts
from constitution.prompts.inspect import inspect_file
from constitution.recipe import PromptsSection, Recipe
from constitution.records import Prompt

MT_BENCH = {
    "question_id": 81,
    "category": "writing",
    "turns": ["Compose a post.", "Rewrite it."],
    "reference": ["A", "B"],
}
"""lm-sys/FastChat, fastchat/llm_judge/data/mt_bench/question.jsonl; lighteval/mt-bench on the hub has the same keys."""
HUB = {"prompt": ["Compose a post.", "Rewrite it."], "prompt_id": 1, "category": "writing", "reference": []}
"""HuggingFaceH4/mt_bench_prompts."""
ARENA = {"question_id": "a1", "category": "hard", "cluster": "x", "turns": [{"content": "Compose a post."}]}
"""lmarena/arena-hard-auto, v0.1: one turn a row."""
ONE_O_ONE = {
    "task": "CM",
    "id": 1,
    "history": [{"user": "Compose a post.", "bot": "Here it is."}, {"user": "Rewrite it.", "bot": "So."}],
}
"""mtbench101/mt-bench-101, data/subjective/mtbench101.jsonl."""
TALK = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Compose a post."},
        {"role": "assistant", "content": "Here it is."},
        {"role": "user", "content": "Rewrite it."},
    ]
}
READ: dict[str, tuple[dict[str, Any], dict[str, Any], list[str], list[str]]] = {
    # row, settings, texts of the first prompt's messages, script
    "MT-bench": (MT_BENCH, {"turns": "turns"}, ["Compose a post."], ["Rewrite it."]),
    "the hub's": (HUB, {"turns": "prompt"}, ["Compose a post."], ["Rewrite it."]),
    "Arena-Hard": (ARENA, {"turns": "turns"}, ["Compose a post."], []),
    "MT-Bench-101": (ONE_O_ONE, {"turns": "history", "ignore": ["bot"]}, ["Compose a post."], ["Rewrite it."]),
    "messages": (
        TALK,
        {"turns": "messages", "ignore": ["assistant"]},
        ["Be brief.", "Compose a post."],
        ["Rewrite it."],
    ),
    "ShareGPT": (
        {"conversations": [{"from": "human", "value": "One."}, {"from": "human", "value": "Two."}]},
        {"turns": "conversations"},
        ["One."],
        ["Two."],
    ),
    "pairs": (
        {"history": [["Compose a post.", "Here it is."], ["Rewrite it.", None]]},
        {"turns": "history", "ignore": ["assistant"]},
        ["Compose a post."],
        ["Rewrite it."],
    ),
    "dotted": ({"body": {"turns": ["One.", "Two."]}}, {"turns": "body.turns"}, ["One."], ["Two."]),
    "a key of the system's": (
        {"system": "Be brief.", "turns": ["One.", "Two."]},
        {"turns": "turns", "system": "system"},
        ["Be brief.", "One."],
        ["Two."],
    ),
    "a cell": ({"turns": '["One.", "Two."]'}, {"turns": "turns", "json_text": "messages"}, ["One."], ["Two."]),
}


@pytest.mark.parametrize("name", READ)
def test_scripts_are_read(name: str, tmp_path: Path) -> None:
    row, settings, texts, script = READ[name]
    (prompt,) = of(tmp_path, row, **settings)
    assert ([turn.content for turn in prompt.messages], list(prompt.script)) == (texts, script)


@pytest.mark.parametrize("name", ["MT-bench", "the hub's", "Arena-Hard", "MT-Bench-101"])
def test_inspect_finds_the_settings(name: str, tmp_path: Path) -> None:
    row, settings, _, script = READ[name]
    of(tmp_path, row, **settings)  # which writes the file
    found = inspect_file(tmp_path / "p.jsonl")
    assert (found.settings, found.read, found.scripted) == (settings, 1, bool(script))


def test_other_sources_have_them_too(tmp_path: Path) -> None:
    by_column = parquet(tmp_path, pa.table({"turns": [["One.", "Two."]]}), turns="turns")
    by_query = asked(tmp_path, "SELECT ['One.', 'Two.'] AS said", turns="said")
    (tmp_path / "p.csv").write_text('id,turns\n1,"[""One."", ""Two.""]"\n')
    by_cell = list(read_prompts(PromptsSection(path="p.csv", turns="turns", json_text="messages"), tmp_path))
    assert [[prompt.id for prompt in each] for each in (by_column, by_query, by_cell)] == [[by_column[0].id]] * 3


REFUSED = {
    "answers of the file": (TALK, {"turns": "messages"}, 'ignore = ["assistant"] leaves the answers'),
    "another key of an item": (ONE_O_ONE, {"turns": "history"}, "also has bot"),
    "a text": ({"turns": "One."}, {"turns": "turns"}, "json_text"),
    "an empty list": ({"turns": []}, {"turns": "turns"}, "no list of turns"),
    "an empty turn": ({"turns": ["One.", " "]}, {"turns": "turns"}, "turn 2 has no text"),
    "a number": ({"turns": ["One.", 2]}, {"turns": "turns"}, "turn 2: expected a text"),
    "a system turn in between": (
        {"turns": ["One.", {"role": "system", "content": "Be brief."}]},
        {"turns": "turns"},
        "other than the user's turns",
    ),
    "no such key": ({"turn": ["One."]}, {"turns": "turns"}, "there is no 'turns'"),
    "a context beside them": ({"turns": ["One."], "context": "C."}, {"turns": "turns"}, "also has context"),
    "not asked for": (MT_BENCH, {"field": "turns"}, 'prompts.turns = "turns" asks each'),
    "not named": (MT_BENCH, {}, 'prompts.turns = "turns"'),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_script_is_refused(name: str, tmp_path: Path) -> None:
    row, settings, message = REFUSED[name]
    with pytest.raises(PromptError) as refused:
        of(tmp_path, row, **settings)
    assert message in f"{refused.value} {refused.value.hint}"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"field": "question"}, "takes the place of `field`"),
        ({"join": ["input"]}, "nothing can be joined"),
        ({"history": "history"}, "are no script"),
        ({"answers": ["a", "b"]}, "belong to one turn"),
        ({"format": "transcripts"}, "a transcript is whole"),
        ({"benchmark": "llmbar"}, "says what its keys hold"),
        ({"ignore": ["turns"]}, "'turns' is used"),
    ],
)
def test_what_does_not_go_with_scripts_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PromptsSection.model_validate({"path": "p.jsonl", "turns": "turns", **settings})


def test_ids_follow_from_conversation_and_place(tmp_path: Path) -> None:
    one, other, again, alone = of(
        tmp_path, *({"turns": turns} for turns in (["A", "B", "C"], ["A", "B"], ["A", "B"], ["A"])), turns="turns"
    )
    plain = of(tmp_path, {"prompt": "A"})[0]
    assert len({one.id, other.id, again.id, alone.id}) == 4
    assert (alone.id, alone.later_ids(), alone.conversation_id) == (plain.id, (), plain.id)
    assert (other.repeat, again.repeat) == (0, 1)

    def walked(prompt: Prompt, *answers: str) -> list[str]:
        ids = []
        for answer in answers:
            prompt = prompt.next_turn(answer)
            ids.append(prompt.id)
        return ids

    assert tuple(walked(one, "x", "y")) == one.later_ids() == tuple(walked(one, "z", "z"))
    assert not {*one.later_ids()} & {*other.later_ids(), *again.later_ids()}
    last = one.next_turn("x").next_turn("y")
    assert [turn.content for turn in last.messages] == ["A", "x", "B", "y", "C"]
    assert (last.turn, last.script, last.conversation_id) == (3, (), one.id)


def test_a_recipe_of_samplers_alone_has_no_answer_to_go_on_from() -> None:
    recipe = {
        "name": "r",
        "constitution": "general@1.1.0",
        "prompts": {"path": "p.jsonl", "turns": "turns"},
        "model": {"policy": {"engine": "fake"}},
        "sample": {"one": {"n": 2}},
    }
    assert Recipe.model_validate({**recipe, "revise": {"rounds": 1}}).prompts.turns == "turns"
    with pytest.raises(ValidationError, match="there are samplers alone"):
        Recipe.model_validate({**recipe, "revise": {"rounds": 0}})
