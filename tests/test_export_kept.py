"""The columns of what a recipe keeps with its prompts, in every format and layout that can have them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from run_once import run_once
from small_project import small_project

from constitution.errors import QueryError
from constitution.export import Cleaning, Settings, export
from constitution.export.formats import FORMATS
from constitution.export.layouts import LAYOUTS
from constitution.pipeline import prepare
from constitution.prompts import read_prompts
from constitution.recipe import PromptsSection, load_recipe
from constitution.records import Run

RECIPE = """
name = "kept"
constitution = "general@1.2.0"
[prompts]
path = "prompts.jsonl"
id_field = "id"
on_bad_row = "skip"
[model.policy]
engine = "fake"
[revise]
rounds = 1
exemplars = 0
[judge]
method = "rubric"
principles = 1
"""
LATER = ['prompts.metadata=["lang", "n"]']


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """A run that was finished before its recipe asked for metadata."""
    folder = tmp_path_factory.mktemp("kept")
    rows = [{"prompt": f"Why is {n}?", "id": f"q{n}", "lang": "de", "n": n} for n in range(12)]
    recipe = small_project(folder, [*rows, {"prompt": 3, "id": "bad"}], RECIPE)
    run = asyncio.run(run_once(recipe, folder / "warehouse", []))
    again = prepare(load_recipe(recipe, LATER), recipe, folder / "warehouse")
    assert (again.run_id, again.finished) == (run.run_id, True)
    return folder, again.run


def exported(
    made: tuple[Path, Run], out: Path, format: str, layout: str = "trl", where: str = ""
) -> tuple[list[dict[str, Any]], str]:
    folder, run = made
    settings = Settings(format=format, layout=layout, where=where, cleaning=Cleaning(dedupe="off"))
    done = export(folder / "warehouse", run.run_id, settings, out)
    rows: list[dict[str, Any]] = []
    for file in done.files:
        path = out / file.path
        text = path.suffix == ".jsonl"
        rows += map(json.loads, path.read_text().splitlines()) if text else pq.read_table(path).to_pylist()
    return rows, (out / "README.md").read_text()


@pytest.mark.parametrize("format", ["sft", "dpo", "grpo"])
def test_a_condition_sees_them(made: tuple[Path, Run], tmp_path: Path, format: str) -> None:
    where = "source_id = 'q1' OR (metadata ->> '$.n')::INT = 2"
    rows, _ = exported(made, tmp_path / "out", format, where=where)
    found = {row["source_id"] for row in rows}
    assert found == {"q1", "q2"} or (format == "dpo" and found <= {"q1", "q2"} and found)
    with pytest.raises(QueryError) as error:
        exported(made, tmp_path / "wrong", format, where="sourceid = 'q1'")
    assert error.value.hint
    assert "source_id, metadata" in error.value.hint


@pytest.mark.parametrize("format", [name for name, spec in FORMATS.items() if not spec.source])
def test_each_format_has_them(made: tuple[Path, Run], tmp_path: Path, format: str) -> None:
    rows, card = exported(made, tmp_path / "out", format)
    assert rows
    for row in rows:
        turns = row.get("prompt") or row["chosen"][:1]
        number = int(turns[0]["content"].removeprefix("Why is ").removesuffix("?"))
        assert (row["source_id"], json.loads(row["metadata"])) == (f"q{number}", {"lang": "de", "n": number})
    assert "`source_id`" in card
    assert "`metadata`" in card
    assert "could not be read, and were skipped: 1." in card


@pytest.mark.parametrize(("layout", "has"), [("messages", True), ("openai", False), ("llama-factory", True)])
def test_layouts_have_them_or_the_card_says_that_they_are_lost(
    made: tuple[Path, Run], tmp_path: Path, layout: str, has: bool
) -> None:
    assert LAYOUTS[layout].tasks["sft"].only is not has
    rows, card = exported(made, tmp_path / "out", "sft", layout)
    assert {"source_id" in row and "metadata" in row for row in rows} == {has}
    [*lost] = [line for line in card.splitlines() if line.startswith("Not kept")]
    assert any("`source_id`" in line and "`metadata`" in line for line in lost) is not has


def test_they_come_back_into_a_run(made: tuple[Path, Run], tmp_path: Path) -> None:
    exported(made, tmp_path / "out", "grpo")
    section = PromptsSection(
        path="out/data/*.parquet", id_field="source_id", metadata=("metadata",), ignore=("principles", "criteria")
    )
    prompts = list(read_prompts(section, tmp_path))
    assert sorted(prompt.source_id or "" for prompt in prompts) == sorted(f"q{n}" for n in range(12))
    assert {json.loads(json.loads(prompt.metadata or "")["metadata"])["lang"] for prompt in prompts} == {"de"}


def test_a_run_that_keeps_nothing_has_no_such_columns(tmp_path: Path) -> None:
    recipe = small_project(tmp_path, 4, RECIPE.replace('id_field = "id"', 'ignore = ["good"]'))
    run = asyncio.run(run_once(recipe, tmp_path / "warehouse", []))
    rows, card = exported((tmp_path, run), tmp_path / "out", "sft")
    assert not {"source_id", "metadata"} & rows[0].keys()
    assert "metadata" not in card
