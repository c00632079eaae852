"""A source of prompts that says something else at every start: the open run is named, and can be resumed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from run_once import stop_midway
from small_project import small_project, table

from constitution.cli._progress import Lines
from constitution.errors import InputError, RecipeError
from constitution.pipeline import Plan, Progress, open_run, prepare
from constitution.recipe import load_recipe
from constitution.warehouse import Warehouse


def plan_of(recipe: Path, warehouse: Path, *overrides: str, resume: str = "", fresh: bool = False) -> Plan:
    return prepare(load_recipe(recipe, overrides), recipe, warehouse, fresh=fresh, resume=resume)


def grow(recipe: Path) -> None:
    with (recipe.parent / "prompts.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n" + json.dumps({"prompt": "And this?", "good": "Yes.", "bad": "No."}))


async def test_an_open_run_is_resumed_with_its_prompts_though_their_source_grew(tmp_path: Path) -> None:
    recipe, warehouse = small_project(tmp_path, 12), tmp_path / "warehouse"
    await asyncio.to_thread(lambda: asyncio.run(stop_midway(recipe, warehouse, [], prompts=4)))
    (begun,) = Warehouse(warehouse).runs()
    grow(recipe)

    other = plan_of(recipe, warehouse)
    assert other.run_id != begun.run_id
    assert other.note == (
        f"{begun.run_id}, a run of this recipe, is open with 12 prompts, and their source gives others now (13), so "
        f"this is another run; --resume {begun.run_id} takes up that one with the prompts that it has"
    )

    resumed = plan_of(recipe, warehouse, resume=begun.run_id[:-3])
    assert (resumed.run_id, resumed.prompts, resumed.note) == (begun.run_id, 12, "")
    async with open_run(resumed) as session:
        await session.walk()
        run = await session.finish()
    assert run.finished_at
    assert run.starts == 2
    counted = f"SELECT count(*), count(DISTINCT id) FROM responses WHERE run_id = '{run.run_id}'"
    assert table(warehouse, counted) == [(12 * 5, 12 * 5)]


def test_no_note_where_no_run_of_the_same_recipe_is_open(tmp_path: Path) -> None:
    recipe, warehouse = small_project(tmp_path, 3), tmp_path / "warehouse"
    assert plan_of(recipe, warehouse).note == ""
    assert plan_of(recipe, warehouse).note == "", "the same run"
    assert plan_of(recipe, warehouse, fresh=True).note == "", "asked for"
    assert plan_of(recipe, warehouse, "seed=2").note == "", "another recipe"
    grow(recipe)
    assert "is open with 3 prompts" in plan_of(recipe, warehouse).note


def test_what_cannot_be_resumed_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    recipe, warehouse = small_project(tmp_path, 3), tmp_path / "warehouse"
    with pytest.raises(InputError, match="there is no such run"):
        plan_of(recipe, warehouse, resume="priced-0")
    first = plan_of(recipe, warehouse)
    with pytest.raises(RecipeError, match="made by a recipe, a constitution or a model that says something else"):
        plan_of(recipe, warehouse, "seed=2", resume=first.run_id)
    assert [run.run_id for run in Warehouse(warehouse).runs()] == [first.run_id]


def test_lost_prompts_are_read_from_a_source_that_says_the_same(tmp_path: Path) -> None:
    recipe, warehouse = small_project(tmp_path, 3), tmp_path / "warehouse"
    first = plan_of(recipe, warehouse)
    first.parts[0].unlink()
    assert plan_of(recipe, warehouse, resume=first.run_id).parts == first.parts
    grow(recipe)
    first.parts[0].unlink()
    with pytest.raises(RecipeError, match="says something else"):
        plan_of(recipe, warehouse, resume=first.run_id)


def test_the_command_says_it_once_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    display, progress = Lines(), Progress(total=2, note="a run of this recipe is open")
    display.update(progress)
    display.update(progress)
    told = capsys.readouterr()
    assert told.err == "a run of this recipe is open\n"
    assert "open" not in told.out
