"""Rows that cannot be read: refused, or skipped, counted and stored with the reason."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import ValidationError
from run_once import run_once, stop_midway
from small_project import RECIPE, numbered, small_project, table

from constitution.cli import app
from constitution.errors import DamagedPart, PromptError
from constitution.pipeline import prepare
from constitution.prompts import read_prompts
from constitution.recipe import PromptsSection, load_recipe
from constitution.records import Prompt, SkippedRow
from constitution.warehouse import Warehouse

BAD: dict[str, str | bytes] = {
    "no JSON": '{"prompt": "a',
    "no object": "[1]",
    "a key twice": '{"prompt": "a", "prompt": "b"}',
    "no UTF-8": b'{"prompt": "\xff"}',
    "no prompt": '{"text": "a"}',
    "null": '{"prompt": null}',
    "no text": '{"prompt": " "}',
    "a number": '{"prompt": 3}',
    "something beside": '{"prompt": "a", "context": "b"}',
    "NUL": '{"prompt": "a\\u0000"}',
    "half of a pair": '{"prompt": "a\\ud800"}',
    "a tool's turn": '{"messages": [{"role": "tool", "content": "a"}]}',
}
SKIP = 'path = "prompts.jsonl"\non_bad_row = "skip"'


def taken(folder: Path, **settings: Any) -> tuple[list[Prompt], list[SkippedRow]]:
    skipped: list[SkippedRow] = []
    section = PromptsSection(on_bad_row="skip", **settings)
    return list(read_prompts(section, folder, skip=skipped.append)), skipped


@pytest.mark.parametrize("name", BAD)
def test_a_row_is_skipped_with_the_words_that_refuse_it(tmp_path: Path, name: str) -> None:
    row = BAD[name]
    bad = row if isinstance(row, bytes) else row.encode()
    (tmp_path / "p.jsonl").write_bytes(b'{"prompt": "one"}\n' + bad + b'\n{"prompt": "two"}\n')
    with pytest.raises(PromptError) as refused:
        list(read_prompts(PromptsSection(path="p.jsonl"), tmp_path))
    with pytest.raises(PromptError, match="line 2"):  # nothing would say that it was skipped
        list(read_prompts(PromptsSection(path="p.jsonl", on_bad_row="skip"), tmp_path))
    prompts, skipped = taken(tmp_path, path="p.jsonl")
    assert [(prompt.source, prompt.messages[-1].content) for prompt in prompts] == [
        ("p.jsonl#1", "one"),
        ("p.jsonl#3", "two"),
    ]
    assert [(row.source, row.reason) for row in skipped] == [("p.jsonl#2", str(refused.value))]
    assert refused.value.hint.startswith(skipped[0].hint)


@pytest.mark.parametrize(
    ("name", "text", "places"),
    [
        ("p.json", '[{"prompt": "one"}, 3, {"prompt": "two"}, {"text": "a"}]', ["p.json#2", "p.json#4"]),
        ("p.csv", "prompt,kind\none,x\ntwo\ntwo,y\n,z\n", ["p.csv#2", "p.csv#4"]),
        ("p.ndjson", '{"prompt": "one"}\n{"prompt": "two"}\n{"prompt": "tw', ["p.ndjson#3"]),
    ],
)
def test_other_forms(tmp_path: Path, name: str, text: str, places: list[str]) -> None:
    (tmp_path / name).write_text(text)
    prompts, skipped = taken(tmp_path, path=name)
    assert [prompt.messages[0].content for prompt in prompts] == ["one", "two"]
    assert [row.source for row in skipped] == places


@pytest.mark.parametrize(
    ("text", "settings", "said"),
    [
        ('{"promt": "a"}\n{"promt": "b"}\n', {}, "line 1: there is no 'prompt'.*none of all 2 rows"),
        ('{"prompt": "a', {}, "line 1: not valid JSON"),
        ("", {}, "no prompts in it"),
        ('{"prompt": "a"}\n3\n', {"system": "rule"}, "no row has the key 'rule'"),
        ('{"prompt": "a"}\n3\n', {"metadata": ("rule",)}, "no row has the key 'rule'"),
        ('[{"prompt": "a"}, {"prompt": "b"', {"format": "json"}, "not valid JSON"),
    ],
)
def test_what_is_wrong_with_all_of_a_source_is_refused(
    tmp_path: Path, text: str, settings: dict[str, Any], said: str
) -> None:
    (tmp_path / "p.jsonl").write_text(text)
    with pytest.raises(PromptError, match=said) as caught:
        taken(tmp_path, path="p.jsonl", **settings)
    assert ("prompts inspect" in caught.value.hint) is ("line 1" in said)
    (tmp_path / "p.parquet").write_bytes(b"PAR1 and then nothing of the kind PAR1")
    for path in ("p.parquet", "none.jsonl"):
        with pytest.raises(PromptError):
            taken(tmp_path, path=path)


def test_a_benchmark_is_scored_on_all_of_its_rows() -> None:
    with pytest.raises(ValidationError, match="on_bad_row: a benchmark is scored on all of its rows"):
        PromptsSection(path="p.jsonl", benchmark="llmbar", on_bad_row="skip")


def test_a_limit_counts_prompts_and_a_name_that_is_there_twice_is_a_bad_row(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a", "id": 1},
        3,
        {"prompt": "b", "id": 1},
        {"prompt": "a", "id": 2},
        {"prompt": "c", "id": 3},
        4,
    ]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prompts, skipped = taken(tmp_path, path="p.jsonl", limit=3, id_field="id")
    assert [(prompt.source, prompt.repeat) for prompt in prompts] == [
        ("p.jsonl#1", 0),
        ("p.jsonl#4", 1),
        ("p.jsonl#5", 0),
    ]
    assert [row.source for row in skipped] == ["p.jsonl#2", "p.jsonl#3"], "what follows the last prompt is not read"
    assert "line 3: id is '1', and that of" in skipped[1].reason
    assert "line 1 too" in skipped[1].reason


# --- a run


def project(folder: Path, prompts: int = 8) -> tuple[Path, Path]:
    """Every fourth line is bad, the first among them."""
    recipe = small_project(folder, 0, RECIPE.replace('path = "prompts.jsonl"', SKIP))
    lines = [json.dumps(row) for row in numbered(prompts)]
    for place in range(0, prompts + prompts // 4, 4):
        lines.insert(place, f'{{"prompt": {place}, "good": "a", "bad": "b"}}')
    (folder / "prompts.jsonl").write_text("\n".join(lines))
    return recipe, folder / "warehouse"


def stored(warehouse: Path) -> list[str]:
    return [source for (source,) in table(warehouse, "SELECT source FROM skipped")]


def test_a_run_that_is_killed_and_started_again_has_each_skipped_row_once(tmp_path: Path) -> None:
    recipe, warehouse = project(tmp_path)
    asyncio.run(stop_midway(recipe, warehouse, [], prompts=2))
    [begun] = Warehouse(warehouse).runs()
    assert begun.counts["skipped"] == 3
    run = asyncio.run(run_once(recipe, warehouse, []))
    assert (run.run_id, run.starts, run.counts["skipped"], run.counts["prompts"]) == (begun.run_id, 2, 3, 8)
    assert stored(warehouse) == [f"prompts.jsonl#{n}" for n in (1, 5, 9)]
    assert table(warehouse, "SELECT DISTINCT hint <> '', reason LIKE '%line%prompt is neither%' FROM skipped") == [
        (True, True)
    ]
    assert Warehouse(warehouse).verify(run.run_id) == []
    shown = CliRunner().invoke(app, ["runs", run.run_id, "--warehouse", str(warehouse)])
    assert "rows of the source that were skipped" in shown.output

    # Without the bad rows it is the same run: no model was asked for them. And it is told which were skipped now.
    lines = (tmp_path / "prompts.jsonl").read_text().splitlines()
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines[1:]))
    plan = prepare(load_recipe(recipe), recipe, warehouse)
    assert (plan.run_id, plan.finished, plan.run.counts["skipped"]) == (run.run_id, True, 2)
    assert stored(warehouse) == [f"prompts.jsonl#{n}" for n in (4, 8)]
    good = [line for line in lines if "How" in line]
    (tmp_path / "prompts.jsonl").write_text("\n".join(good))
    plan = prepare(load_recipe(recipe), recipe, warehouse)
    assert (plan.run_id, plan.run.counts.get("skipped")) == (run.run_id, None)
    assert stored(warehouse) == []
    assert Warehouse(warehouse).verify(run.run_id) == []


def test_skipped_rows_that_are_lost_are_missed_and_made_again(tmp_path: Path) -> None:
    recipe, warehouse = project(tmp_path)
    run = asyncio.run(run_once(recipe, warehouse, []))
    [part] = Warehouse(warehouse).parts("skipped", run.run_id)
    part.unlink()
    assert [damage.table for damage in Warehouse(warehouse).verify(run.run_id)] == ["skipped"]
    with pytest.raises(DamagedPart, match="skipped"):
        prepare(load_recipe(recipe), recipe, warehouse)
    assert CliRunner().invoke(app, ["verify", "--repair", "--warehouse", str(warehouse)]).exit_code == 1
    again = asyncio.run(run_once(recipe, warehouse, []))
    assert (again.run_id, again.counts["responses"]) == (run.run_id, run.counts["responses"])
    assert len(stored(warehouse)) == 3


def test_metadata_that_is_asked_for_later_is_added_to_the_run(tmp_path: Path) -> None:
    recipe, warehouse = small_project(tmp_path, [{**row, "id": n} for n, row in enumerate(numbered(3))]), tmp_path / "w"
    first = prepare(load_recipe(recipe), recipe, warehouse)
    assert first.run.beside == ""
    again = prepare(load_recipe(recipe, ['prompts.metadata=["id"]']), recipe, warehouse)
    assert again.run_id == first.run_id
    found = table(warehouse, "SELECT metadata, source_id FROM prompts ORDER BY position")
    assert found == [(f'{{"id": {n}}}', None) for n in range(3)]
    named = prepare(load_recipe(recipe, ["prompts.id_field=id"]), recipe, warehouse)
    assert (named.run_id, named.run.beside != again.run.beside) == (first.run_id, True)
    assert table(warehouse, "SELECT metadata, source_id FROM prompts ORDER BY position") == [
        (None, str(n)) for n in range(3)
    ]
    [prompt, *_] = Warehouse(warehouse).read_prompts(named.parts[0])
    shown = CliRunner().invoke(app, ["show", prompt.id, "--warehouse", str(warehouse)])
    assert "source_id" in shown.output


def test_a_tree_that_cannot_be_read_is_skipped_whole(tmp_path: Path) -> None:
    turn = {"text": "a", "role": "prompter", "message_id": "1"}
    reply = {"text": "b", "role": "assistant", "message_id": "2"}
    lost = {**reply, "deleted": True, "message_id": "3"}
    trees = [{"prompt": {**turn, "replies": [each]}} for each in (reply, lost, reply)]
    lines = ["{", *map(json.dumps, trees)]
    (tmp_path / "p.jsonl").write_text("\n".join(lines))
    prompts, skipped = taken(tmp_path, path="p.jsonl", trees=True)
    assert [prompt.source for prompt in prompts] == ["p.jsonl#2/1", "p.jsonl#4/1"]
    assert [row.source for row in skipped] == ["p.jsonl#1", "p.jsonl#3"]


def test_later_turns_stay_when_other_rows_are_skipped(tmp_path: Path) -> None:
    """Of scripted turns the later ones are in the table `prompts` too, which is then not written again."""
    head = f'name = "scripted"\nconstitution = "general@1.1.0"\n[prompts]\n{SKIP}\nturns = "turns"\n'
    recipe = small_project(tmp_path, 0, head + '[model.policy]\nengine = "fake"\n[revise]\nrounds = 0\n')
    rows = [json.dumps({"id": n, "turns": [f"What is {n}?", "And then?"]}) for n in range(3)]
    (tmp_path / "prompts.jsonl").write_text("\n".join([*rows, '{"turns": 3}']))
    run = asyncio.run(run_once(recipe, tmp_path / "w", []))
    prompts = "SELECT turn, count(*) FROM prompts GROUP BY ALL ORDER BY ALL"
    assert (run.counts["skipped"], table(tmp_path / "w", prompts)) == (1, [(1, 3), (2, 3)])
    (tmp_path / "prompts.jsonl").write_text("\n".join(rows))
    plan = prepare(load_recipe(recipe), recipe, tmp_path / "w")
    assert (plan.run_id, plan.finished, plan.run.counts.get("skipped")) == (run.run_id, True, None)
    assert (stored(tmp_path / "w"), table(tmp_path / "w", prompts)) == ([], [(1, 3), (2, 3)])
    assert Warehouse(tmp_path / "w").verify(run.run_id) == []
    named = asyncio.run(run_once(recipe, tmp_path / "w", ["prompts.id_field=id"]))
    assert named.run_id != run.run_id, "later turns have the name of their first one"
    query = f"SELECT source_id, count(*) FROM prompts WHERE run_id = '{named.run_id}' GROUP BY ALL ORDER BY ALL"
    assert table(tmp_path / "w", query) == [("0", 2), ("1", 2), ("2", 2)]


def test_a_trial_and_a_run_say_what_was_skipped_and_cut_off(tmp_path: Path) -> None:
    recipe = small_project(tmp_path, 0, RECIPE.replace('path = "prompts.jsonl"', SKIP))
    turns = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    rows = [{"messages": turns, "good": "a", "bad": "b"}, 3]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for command in ("try", "run"):
        shown = CliRunner().invoke(app, [command, str(recipe), "--warehouse", str(tmp_path / "w")])
        assert "One row of the source was skipped: the table `skipped` says which, and why." in shown.output
        assert "One prompt ended with an answer, which was cut off" in shown.output
    listed = CliRunner().invoke(app, ["runs", "--json", "--warehouse", str(tmp_path / "w")])
    assert [run["skipped"] for run in json.loads(listed.output)] == [1]
