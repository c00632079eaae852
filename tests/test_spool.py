"""A source of prompts is read once: what is stored is what was counted, digested and named."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from small_project import small_project, table

import constitution
from constitution.errors import WarehouseError
from constitution.identity import ROWS_VERSION, without_defaults
from constitution.pipeline import plan
from constitution.pipeline.plan import prepare
from constitution.principles import load_constitution
from constitution.recipe import load_recipe
from constitution.records import Message, Prompt
from constitution.warehouse import Warehouse, spool, spooled
from constitution.warehouse.schema import TABLES


def prompts(count: int, source: str = "a.jsonl") -> list[Prompt]:
    return [Prompt((Message("user", f"Why {n}?"),), f"{source}#{n}", ("x",), ("yes",), 0) for n in range(count)]


@pytest.mark.parametrize("memory", [spool.MEMORY, 1])
@pytest.mark.parametrize("size", [1, 7, 1024, 5000])
def test_slices_are_the_source_in_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int, size: int
) -> None:
    monkeypatch.setattr(spool, "MEMORY", memory)
    monkeypatch.setattr(spool, "BATCH", 10)
    given = prompts(64)
    with spooled(iter(given), tmp_path / "warehouse") as source:
        assert source.count == 64
        assert os.listdir(tmp_path) == []  # a kill here leaves nothing
        slices = list(source.slices("run-1", size))
    assert [len(rows) for rows in slices] == [size] * (64 // size) + ([64 % size] if 64 % size else [])
    assert all(rows.schema == TABLES["prompts"].schema for rows in slices)
    warehouse = Warehouse(tmp_path / "warehouse")
    warehouse.replace_input("prompts", "run-1", slices)
    stored = [prompt for part in warehouse.parts("prompts", "run-1") for prompt in warehouse.read_prompts(part)]
    assert stored == given
    assert table(
        warehouse.root, "SELECT DISTINCT run_id, position + slice * " + str(size) + " FROM prompts ORDER BY 2"
    ) == [("run-1", n) for n in range(64)]


def test_the_digest_is_of_the_prompts_and_not_of_where_they_were_read(tmp_path: Path) -> None:
    def digest(given: list[Prompt]) -> str:
        with spooled(given, tmp_path / "warehouse") as source:
            return source.digest

    one = digest(prompts(3))
    assert one == digest(prompts(3, "b.parquet"))
    changed = [
        prompts(2), prompts(3)[::-1], [*prompts(2), replace(prompts(3)[2], gold=None)],
        [*prompts(2), replace(prompts(3)[2], tags=())], [*prompts(2), replace(prompts(3)[2], repeat=1)],
    ]  # fmt: skip
    assert len({one, *map(digest, changed)}) == 6
    assert without_defaults(Prompt((Message("user", "a"),))) == {"messages": [{"role": "user", "content": "a"}]}


def test_no_room_to_wait_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "MEMORY", 1)
    folder = tmp_path / "gone"
    folder.mkdir()

    def vanishing() -> Iterator[Prompt]:
        folder.rmdir()  # no file can be made in it any more
        yield from prompts(3)

    with pytest.raises(WarehouseError, match="cannot be written"), spooled(vanishing(), folder / "warehouse"):
        pass


QUERY = "SELECT 'How ' || i || '?' AS prompt FROM range(1000) AS t(i) WHERE random() < 0.5"
SQL_RECIPE = """
name = "moving"
constitution = "general@1.1.0"
[prompts]
format = "sql"
query = "{query}"
[model.policy]
engine = "fake"
[revise]
rounds = 1
"""


def test_a_query_that_says_something_else_each_time_is_one_record_and_one_table(tmp_path: Path) -> None:
    recipe = small_project(tmp_path, recipe=SQL_RECIPE.format(query=QUERY))
    plans = [prepare(load_recipe(recipe), recipe, tmp_path / "warehouse") for _ in range(3)]
    assert len({each.run_id for each in plans}) == 3
    for each in plans:
        count = f"SELECT count(*), count(DISTINCT id) FROM prompts WHERE run_id = '{each.run_id}'"
        assert table(tmp_path / "warehouse", count) == [(each.prompts, each.prompts)]


def test_lost_prompts_of_an_open_run_are_written_again(tmp_path: Path) -> None:
    recipe = small_project(tmp_path)
    first = prepare(load_recipe(recipe), recipe, tmp_path / "warehouse")
    before = [part.name for part in first.parts]
    first.parts[1].unlink()
    again = prepare(load_recipe(recipe), recipe, tmp_path / "warehouse")
    assert (again.run_id, [part.name for part in again.parts]) == (first.run_id, before)
    assert Warehouse(tmp_path / "warehouse").verify(first.run_id) == []


# --- what is in the run's id


def test_a_release_and_a_default_are_not_in_the_runs_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small_project(tmp_path)

    def run_id(*overrides: str) -> str:
        return prepare(load_recipe(recipe, overrides), recipe, tmp_path / "warehouse").run_id

    first = run_id()
    monkeypatch.setattr(plan, "__version__", "9.9.9")
    monkeypatch.setattr(constitution, "__version__", "9.9.9")
    assert run_id() == first
    assert run_id("judge.method=label", "revise.exemplars=2", "model.policy.verbosity=0", "judge.repeats=1") == first
    monkeypatch.setattr(plan, "ROWS_VERSION", ROWS_VERSION + 1)
    assert run_id() != first


def test_only_what_a_recipe_sets_is_digested(tmp_path: Path) -> None:
    """Whatever has a default can be added to a recipe's sections, and no run has another id."""
    path = small_project(tmp_path)
    recipe = load_recipe(path)
    found = plan._decisive(recipe, load_constitution(tmp_path / "principles", recipe.constitution), "s")
    assert found["settings"] == {
        "judge": {"principles": 2, "pairs": ["first-last", "given"]}
    }  # rounds: 2 is the default
    assert found["models"]["policy"] == {"engine": "fake"}
    assert found["models"]["judge"] == {"engine": "fake", "model": "fake-judge"}


def test_the_way_that_the_same_prompts_are_read_is_not_in_the_runs_id(tmp_path: Path) -> None:
    recipe = small_project(tmp_path)
    first = prepare(load_recipe(recipe), recipe, tmp_path / "warehouse").run_id
    (tmp_path / "other.ndjson").write_text(
        "\n".join((tmp_path / "prompts.jsonl").read_text().replace('"prompt"', '"text"').splitlines())
    )
    other = ["prompts.path=" + str(tmp_path / "other.ndjson"), "prompts.field=text", "prompts.limit=50"]
    assert prepare(load_recipe(recipe, other), recipe, tmp_path / "warehouse").run_id == first
    families = ['prompts.families={ good = "qwen" }']
    assert prepare(load_recipe(recipe, families), recipe, tmp_path / "warehouse").run_id != first
