"""The public Python API, as a program uses it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import constitution
from constitution import Completion, Engine, Request, audit_run, export_run, load_recipe, query, run
from constitution.errors import RecipeError

ROOT = Path(__file__).parents[1]


class Mine(Engine):
    """The least that an engine needs."""

    def __init__(self, model: str) -> None:
        self._model, self.asked = model, 0

    @property
    def model(self) -> str:
        return self._model

    async def generate(self, request: Request) -> Completion:
        self.asked += 1
        text = f"Thing {self.asked}: {request.messages[-1].content[:20]}"
        return Completion(text, "stop", prompt_tokens=7, completion_tokens=3)


def test_every_public_name_is_there_and_is_in_the_list() -> None:
    assert all(getattr(constitution, name) is not None for name in constitution.__all__)
    assert sorted(constitution.__all__) == constitution.__all__
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        constitution.nothing  # noqa: B018


def test_a_program_runs_audits_exports_and_asks_with_an_engine_of_its_own(tmp_path: Path) -> None:
    recipe = load_recipe(ROOT / "recipes" / "fake.toml", ["prompts.limit=4"])
    mine, warehouse = Mine("mine-1"), tmp_path / "warehouse"
    done = run(recipe, warehouse, engines={"policy": mine})
    assert done.finished_at
    assert mine.asked == 4 * 5
    assert done.models["policy"]["engine"] == "Mine"
    assert done.models["judge"]["name"] == "fake-judge"
    assert run(recipe, warehouse, engines={"policy": Mine("mine-1")}) == done  # resumed, and nothing was left to do
    other = run(recipe, warehouse, engines={"policy": Mine("mine-2")})
    assert other.run_id != done.run_id
    assert query(warehouse, "SELECT DISTINCT model FROM responses ORDER BY 1") == [
        {"model": "mine-1"},
        {"model": "mine-2"},
    ]
    figures = audit_run(warehouse, done.run_id, report=tmp_path / "report.html", replicates=100)
    assert {figure.run_id for figure in figures} == {done.run_id}
    assert done.run_id in (tmp_path / "report.html").read_text(encoding="utf-8")
    exported = export_run(warehouse, tmp_path / "data", done.run_id, format="sft", cleaning={"dedupe": "off"})
    assert exported.run_id == done.run_id
    assert sum(exported.rows.values()) > 0
    with pytest.raises(RecipeError, match="the recipe has no model critic"):
        run(recipe, warehouse, engines={"critic": mine})
    with pytest.raises(RecipeError, match="mine is an engine of a Python program"):
        run(load_recipe(ROOT / "recipes" / "fake.toml", ['model.policy={engine="given", model="mine"}']), warehouse)


HEAVY = ("prefect", "torch", "transformers", "pandas", "scipy", "matplotlib", "aiohttp", "vllm")


def imported(code: str, folder: Path) -> set[str]:
    """The modules that a process has imported at its end."""
    code += "\nprint('\\n'.join(['', 'MODULES', *sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}"], cwd=folder, capture_output=True, text=True, check=True
    )
    return set(done.stdout.partition("MODULES")[2].split())


def test_a_command_imports_what_it_needs(tmp_path: Path) -> None:
    """What makes a start slow, whatever the clock says."""
    command = "from constitution.cli import app\napp({!r}, standalone_mode=False)"
    words = ["run", str(ROOT / "recipes" / "fake.toml"), "--limit", "2"]
    ran = imported(command.format(words), tmp_path)
    assert not ran.intersection(HEAVY)
    for words in (["runs"], ["sql", "SELECT 1"]):
        light = imported(command.format(words), tmp_path)
        assert not light.intersection((*HEAVY, "constitution.engines", "constitution.recipe"))
    assert not imported(command.format(["--help"]), tmp_path).intersection((*HEAVY, "duckdb", "pyarrow", "pydantic"))


def test_export_and_audit_import_no_engine(tmp_path: Path) -> None:
    loaded = imported("import constitution.export, constitution.audit", tmp_path)
    assert not [name for name in loaded if name.startswith("constitution.engines")]
    assert not loaded.intersection(HEAVY)
