"""Every command of an installed wheel, outside the repository, with an empty home and without PYTHONPATH."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from place import BIN, PATIENCE, environment

COMMANDS = ("run", "runs", "serve", "principles", "verify", "sql", "audit", "export", "relabel", "annotations", "init")


def constitution(folder: Path, home: Path, *words: str) -> str:
    done = subprocess.run(
        [str(BIN / "constitution"), *words],
        cwd=folder, env=environment(home), capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def test_help_of_every_command(tmp_path: Path, home: Path) -> None:
    assert all(command in constitution(tmp_path, home, "--help") for command in COMMANDS)
    for command in COMMANDS:
        assert f"constitution {command}" in constitution(tmp_path, home, command, "--help")


def test_a_project_from_its_start_to_its_export(tmp_path: Path, home: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    constitution(folder, home, "init", "mine")
    mine = folder / "mine"
    told = json.loads(constitution(mine, home, "run", "recipes/fake.toml", "--json"))
    assert (told["status"], told["counts"]["preferences"]) == ("finished", 30)
    run_id = told["run_id"]
    [row] = json.loads(constitution(mine, home, "sql", "--format", "json", "SELECT count(*) AS n FROM pairs"))
    assert row == {"n": 30}
    assert run_id in constitution(mine, home, "runs")
    assert "Report: report.html" in constitution(mine, home, "audit")
    assert run_id in (mine / "report.html").read_text(encoding="utf-8")
    for kind in ("dpo", "sft", "reward"):
        constitution(mine, home, "export", "--format", kind, "--out", f"data/{kind}")
        assert list((mine / "data" / kind).rglob("*.parquet"))
    constitution(mine, home, "verify")
    constitution(mine, home, "principles", "check")


def test_a_recipe_runs_where_there_is_no_project(tmp_path: Path, home: Path) -> None:
    """By the package's own flow and principles beside the recipe."""
    constitution(tmp_path, home, "init", "theirs")
    (tmp_path / "theirs" / "flows" / "generate.py").write_text("raise SystemExit('ran')", encoding="utf-8")
    (tmp_path / "here").mkdir()
    told = constitution(tmp_path / "here", home, "run", "../theirs/recipes/fake.toml", "--json")
    assert json.loads(told)["status"] == "finished"
