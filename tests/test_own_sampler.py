"""A sampler in Python, through the public API: the page's example as it is, and what it may not do."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from small_project import small_project, table

from constitution import (
    Asked,
    Completion,
    Engine,
    Recipe,
    Request,
    Sampler,
    export_run,
    load_recipe,
    prepare,
    query,
    run,
)
from constitution.ask.replay import replayed
from constitution.ask.stored import Stored
from constitution.errors import EngineUnavailable, RecipeError
from constitution.warehouse import Warehouse

ROOT = Path(__file__).parents[1]
[PROGRAM] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8"), re.DOTALL)
ROWS = "SELECT * EXCLUDE (created_at) FROM {} ORDER BY id"
RECIPE = """
name = "own"
constitution = "general@1.1.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "fake"
price = { input = 1.0, output = 2.0 }
[sample.mine]
n = 2
max_tokens = 40
[sample.plain]
[reward]
by = ["rule"]
rules = { words = [1, 20] }
[output]
flush_seconds = 0.05
"""


def program(warehouse: Path, *settings: str) -> str:
    """The page's program, in another warehouse and with further settings."""
    text = str(PROGRAM).replace('"warehouse"', repr(str(warehouse)))
    return text.replace('n=2"]', f'n=2", "prompts.limit=3", *{list(settings)!r}]')


def test_the_pages_program_is_killed_and_resumed_with_equal_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only slows it is not in the run's id."""
    monkeypatch.chdir(ROOT)
    slow = ["model.policy.latency_s=0.05", "output.flush_seconds=0.05", "output.window=1"]
    process = subprocess.Popen([sys.executable, "-c", program(tmp_path / "killed", *slow)])
    while not list((tmp_path / "killed" / "responses").glob("fake-*/*.parquet")) and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.wait()
    [(left, finished)] = table(tmp_path / "killed", "SELECT count(*), count(DISTINCT finished_at) FROM responses, runs")
    assert 0 < left < 15
    assert not finished
    for warehouse in ("killed", "whole"):
        exec(program(tmp_path / warehouse), {})
    for name in ("responses", "judgements", "preferences"):
        one, other = (query(tmp_path / warehouse, ROWS.format(name)) for warehouse in ("killed", "whole"))
        assert one == other
    found = table(
        tmp_path / "whole", "SELECT kind, sampler, count(*), min(calls) FROM responses GROUP BY ALL ORDER BY ALL"
    )
    assert found == [("initial", None, 3, 1), ("revision", None, 6, 1), ("sample", "shorter", 6, 2)]
    assert table(tmp_path / "whole", "SELECT DISTINCT state, samples FROM chains") == [("complete", 2)]
    assert Warehouse(tmp_path / "killed").verify(one[0]["run_id"]) == []


@dataclass(frozen=True)
class Mine(Sampler):
    """Asks twice, and says what it is set to."""

    ending: str = "Bye."
    version = "1"

    async def answer(self, asked: Asked) -> Completion | str:
        first = await asked.ask()
        again = await asked.ask(asked.then(first.text, "Again."))
        return replace(
            again, text=f"{asked.prompt.messages[-1].content} {asked.number}: {again.text[:9]} {self.ending}"
        )


class Policy(Engine):
    """Keeps what it is asked, and is gone for some of it."""

    model = "policy"

    def __init__(self, fails: int = 0) -> None:
        self.requests: list[Request] = []
        self.fails = fails

    async def generate(self, request: Request) -> Completion:
        self.requests.append(request)
        if len(self.requests) <= self.fails:
            raise EngineUnavailable("gone for now")
        return Completion(f"Text of seed {request.seed}.", "stop", 5, 3)


def recipe_of(folder: Path, *settings: str) -> Recipe:
    return load_recipe(small_project(folder, 3, RECIPE), settings)


def test_its_rows_are_samples_with_rewards_and_its_settings_are_another_run(tmp_path: Path) -> None:
    recipe, warehouse, policy = recipe_of(tmp_path / "project"), tmp_path / "w", Policy()
    done = run(recipe, warehouse, engines={"policy": policy}, samplers={"mine": Mine()})
    assert done.finished_at
    assert len(policy.requests) == 3 * (2 * 2 + 1)
    assert len({(request.affinity, request.seed) for request in policy.requests}) == 15
    assert {request.step for request in policy.requests} == {"sample-mine-0", "sample-mine-1", "sample-plain-0"}
    assert {request.sampling.max_tokens for request in policy.requests if "mine" in request.step} == {40}
    rows = table(
        warehouse, "SELECT sampler, model, calls, prompt_tokens, completion_tokens FROM responses ORDER BY ALL"
    )
    assert rows == [("mine", "policy", 2, 10, 6)] * 6 + [("plain", "policy", 1, 5, 3)] * 3
    usage = "SELECT stage, calls, prompt_tokens FROM usage ORDER BY ALL"
    assert table(warehouse, usage) == [("sample-mine", 12, 60), ("sample-plain", 3, 15)]
    assert [(one.stage, one.calls) for one in done.usage] == [("sample-mine", 12), ("sample-plain", 3)]
    assert table(warehouse, "SELECT state, samples, rewards FROM chains") == [("complete", 3, 3)] * 3
    assert table(warehouse, "SELECT n FROM groups") == [(3,)] * 3
    exported = export_run(
        warehouse, tmp_path / "sft", done.run_id, format="sft", rounds="all", cleaning={"dedupe": "off"}
    )
    assert sum(exported.rows.values()) == 9
    again = Policy()
    assert run(recipe, warehouse, engines={"policy": again}, samplers={"mine": Mine()}) == done
    others: list[dict[str, Sampler]] = [{"mine": Mine("Ciao.")}, {"mine": Newer()}, {"plain": Mine()}, {}]
    asked = recipe.with_engines({"policy": Policy()})
    ids = {prepare(asked.with_samplers(each), recipe.path, warehouse).run_id for each in others}
    assert len({done.run_id, *ids}) == 5
    assert not again.requests


class Newer(Mine):
    version = "2"


def test_what_fails_is_tried_again_and_show_says_what_it_cannot_ask(tmp_path: Path) -> None:
    recipe, warehouse = recipe_of(tmp_path / "project", "prompts.limit=1"), tmp_path / "w"
    left = run(recipe, warehouse, engines={"policy": Policy(fails=2)}, samplers={"mine": Mine()})
    assert left.finished_at is None
    done = run(recipe, warehouse, engines={"policy": Policy()}, samplers={"mine": Mine()})
    assert (done.run_id, bool(done.finished_at)) == (left.run_id, True)
    whole = run(recipe, tmp_path / "whole", engines={"policy": Policy()}, samplers={"mine": Mine()})
    rows = ROWS.format("responses")
    assert query(warehouse, rows) == query(tmp_path / "whole", rows)
    [prompt] = {row["prompt_id"] for row in query(warehouse, rows)}
    stored = Stored.load(Warehouse(tmp_path / "whole"), whole.run_id, prompt)
    said = {answer.sampler: asyncio.run(replayed(stored, answer)) for answer in stored.responses}
    assert "it was made by Mine, a sampler of a Python program" in said["mine"].doubt
    assert [len(said["plain"].exchanges), said["plain"].doubt] == [1, ""]


class Says(Sampler):
    """Says what it is given, and asks no model."""

    version = "1"

    def __init__(self, said: Any) -> None:
        self._said = said

    async def answer(self, asked: Asked) -> Completion | str:
        said: Completion | str = self._said
        return said


def test_a_text_of_the_program_is_of_no_model(tmp_path: Path) -> None:
    recipe, warehouse = recipe_of(tmp_path / "project"), tmp_path / "w"
    done = run(recipe, warehouse, engines={"policy": Policy()}, samplers={"mine": Says(" As it is.\u200b ")})
    assert done.finished_at
    found = "SELECT DISTINCT model, calls, sampling, seed, outcome FROM responses WHERE sampler = 'mine'"
    assert table(warehouse, found) == [("Says", 0, None, None, "ok")]
    assert table(warehouse, "SELECT stage, calls FROM usage") == [("sample-plain", 3)]
    empty = run(recipe, tmp_path / "empty", engines={"policy": Policy()}, samplers={"mine": Says("\u200b")})
    assert empty.finished_at
    assert table(tmp_path / "empty", "SELECT DISTINCT step, error FROM failures ORDER BY step") == [
        ("sample-mine-0", "EmptyOutput"),
        ("sample-mine-1", "EmptyOutput"),
    ]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (None, "gave NoneType"),
        ("a \0", "NUL or half of a surrogate pair"),
        ("a \ud800", "NUL or half of a surrogate pair"),
        (Completion("x", "end", 0, 0), "finish_reason 'end'"),
        (Completion("x", "stop", 4, 1), "pass it as an engine"),
    ],
)
def test_what_is_no_answer_ends_the_run(tmp_path: Path, said: Any, words: str) -> None:
    recipe = recipe_of(tmp_path / "project", "prompts.limit=1")
    with pytest.raises((TypeError, ValueError), match=words):
        run(recipe, tmp_path / "w", engines={"policy": Policy()}, samplers={"mine": Says(said)})


class Unversioned(Sampler):
    async def answer(self, asked: Asked) -> str:
        return ""


class Telling(Says):
    def describe(self) -> Mapping[str, Any]:
        return {"name": "Telling", "at": object()}


def test_what_cannot_be_in_a_runs_id_is_refused(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path / "project")
    for samplers, words in (
        ({"other": Mine()}, r"no \[sample.other\]"),
        (
            {"mine": Unversioned()},  # type: ignore[abstract]
            "Unversioned: it has no version",
        ),
        ({"mine": Telling("x")}, "Telling: what describe.. gives is not JSON"),
    ):
        with pytest.raises(RecipeError, match=words):
            run(recipe, tmp_path / "w", samplers=samplers)
    done = run(recipe, tmp_path / "w", engines={"policy": Policy()}, samplers={"mine": Mine()})
    assert done.recipe["sample"]["mine"]["about"] == {"name": "Mine", "version": "1", "settings": {"ending": "Bye."}}
    assert Says("x").describe() == {"name": "Says", "version": "1"}
    alone = Recipe.model_validate(done.recipe | {"model": {"policy": {"engine": "fake"}}}).at(recipe.path)
    with pytest.raises(RecipeError, match=r"sample\.mine: Mine is a sampler of a Python program"):
        run(alone, tmp_path / "w")
