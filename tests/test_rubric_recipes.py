"""The recipes for references, rubrics and reward models: each runs as it is, is stopped midway and resumed with
the same rows, and its export is made by the line in its comment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from run_once import run_once, stop_midway
from small_project import table

from constitution.cli import app
from constitution.recipe import load_recipe

ROOT = Path(__file__).parents[1]
EXPORTS = "#   constitution export RUN "
TABLES = ("responses", "reference_checks", "rubrics", "scores", "rewards", "preferences", "failures")
PROMPTS = 3


@dataclass(frozen=True)
class Shipped:
    """What is expected of a recipe in recipes/."""

    samples: int
    """Of each prompt."""
    source: str = "prompt-rubric"
    """Of its rewards that have values."""
    smaller: tuple[str, ...] = ()
    """Settings by which it takes less time."""


SHIPPED = {
    "compute-as-teacher": Shipped(8),
    "compute-as-teacher-revised": Shipped(8),
    "openrubrics": Shipped(0),
    "reward-model": Shipped(2, "model", ("sample.eight.n=2", "sample.eight.max_tokens=16")),
    "rlcf": Shipped(5),
    "rubric-anchors": Shipped(8),
    "rubrichub": Shipped(8),
    "rubrics-as-rewards": Shipped(8),
    "verifiable": Shipped(8, "match"),
}


def comments(name: str) -> list[str]:
    lines = (ROOT / "recipes" / f"{name}.toml").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith("#")]


def rows(warehouse: Path, name: str) -> list[tuple[Any, ...]]:
    """But for when each was made and what asking took."""
    columns = [column for column, *_ in table(warehouse, f"DESCRIBE {name}")]
    kept = ", ".join(c for c in columns if not c.endswith(("_at", "_tokens")) and c != "attempt")
    return table(warehouse, f"SELECT {kept} FROM {name} ORDER BY id")


def nearly(found: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The same rows, whose numbers may differ as a model's in the process do from one batch to another."""
    return [tuple(pytest.approx(cell, abs=1e-4) if isinstance(cell, float) else cell for cell in row) for row in found]


@pytest.mark.parametrize("name", SHIPPED)
async def test_a_recipe_runs_as_it_is_and_resumes_with_the_same_rows(name: str, tmp_path: Path) -> None:
    shipped, path = SHIPPED[name], ROOT / "recipes" / f"{name}.toml"
    asked = [f"prompts.limit={PROMPTS}", "output.window=2", "output.flush_seconds=0.05", *shipped.smaller]
    run = await run_once(path, tmp_path / "whole", asked)
    assert run.finished_at
    found = table(tmp_path / "whole", "SELECT state, samples, count(*) FROM chains GROUP BY ALL")
    assert found == [("complete", shipped.samples, PROMPTS)]
    [(values, spread)] = table(
        tmp_path / "whole", f"SELECT count(value), stddev(value) FROM rewards WHERE source = '{shipped.source}'"
    )
    assert values
    assert spread > 0

    await stop_midway(path, tmp_path / "cut", asked, 1)
    assert (await run_once(path, tmp_path / "cut", asked)).run_id == run.run_id
    for each in TABLES:
        assert rows(tmp_path / "cut", each) == nearly(rows(tmp_path / "whole", each)), each

    [line] = [line.removeprefix(EXPORTS) for line in comments(name) if line.startswith(EXPORTS)]
    words, _, _ = line.rpartition(" --out ")
    where = ["--warehouse", str(tmp_path / "whole"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["export", run.run_id, *words.split(), *where])
    assert done.exit_code == 0, done.output
    assert list((tmp_path / "out").rglob("*.parquet"))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_recipe_says_why_it_is_with_the_paper(name: str) -> None:
    assert "arXiv 2" in " ".join(comments(name)[:2])
    assert f"#   constitution run recipes/{name}.toml" in comments(name)
    assert load_recipe(ROOT / "recipes" / f"{name}.toml").name == name
