"""A project of the fake engine for tests of whole runs, and how to look at what they stored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from constitution.warehouse import ask, connect

ROOT = Path(__file__).parents[1]

RECIPE = """
name = "priced"
constitution = "general@1.1.0"
[prompts]
path = "prompts.jsonl"
answers = ["good", "bad"]
[model.policy]
engine = "fake"
price = { input = 1.0, cached = 0.1, output = 4.0 }
[model.judge]
engine = "fake"
model = "fake-judge"
price = { input = 2.0, output = 8.0 }
[revise]
rounds = 2
[judge]
principles = 2
pairs = ["first-last", "given"]
[output]
slice = 20
window = 8
flush_seconds = 0.05
"""


def small_project(folder: Path, prompts: int | Sequence[Mapping[str, Any]] = 50, recipe: str = RECIPE) -> Path:
    """The recipe's path, in a new project. prompts: rows of prompts.jsonl, or how many of them to write."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "principles").symlink_to(ROOT / "principles")
    rows = numbered(prompts) if isinstance(prompts, int) else prompts
    (folder / "prompts.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    path = folder / "recipe.toml"
    path.write_text(recipe, encoding="utf-8")
    return path


def numbered(prompts: int) -> list[dict[str, Any]]:
    """Rows of different prompts, each with a good and a bad answer."""
    return [{"prompt": f"How does thing {n} work?", "good": f"Like {n}.", "bad": "No."} for n in range(prompts)]


def table(warehouse: Path, query: str) -> list[tuple[Any, ...]]:
    with connect(warehouse) as connection:
        return list(ask(connection, query).rows)
