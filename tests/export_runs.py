"""Runs of the fake engine for the tests of exports, and how to look at what an export wrote."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from run_once import run_once
from small_project import ROOT

from constitution.export import Cleaning, Exported, Settings, export
from constitution.records import Run

RECIPE = """
name = "{name}"
constitution = "{constitution}"
[prompts]
path = "prompts.jsonl"
answers = ["good", "bad"]
tags_field = "tags"
[model.policy]
engine = "fake"
verbosity = 1
thoughts = {thoughts}
[model.judge]
engine = "fake"
noise = 1.5
position_bias = 0.6
[revise]
rounds = 2
[judge]
{judge}
pairs = ["first-last", "parent", "given"]
margin = 0.02
[perturb]
share = 0.3
[output]
flush_seconds = 0.05
"""
ODD = "What does “ü\u0301” mean? 😀\n\t<|end|> | --- {{x}} \u2028 \u0007 \\n %s"
"""A text that something on the way might change."""

NO_CLEANING = Cleaning(dedupe="off")


def make_run(
    folder: Path, name: str, judge: str, prompts: int = 40, constitution: str = "general@1.1.0", thoughts: int = 0
) -> Run:
    """A finished run in folder/warehouse. One prompt in four is asked again later, and one has three turns."""
    rows: list[dict[str, Any]] = [{"prompt": ODD}]
    rows += [{"prompt": f"How does thing {n} work?"} for n in range(1, prompts)]
    turns = [("system", "Be brief."), ("user", "Why?"), ("assistant", "So."), ("user", ODD)]
    rows[1] = {"messages": [{"role": role, "content": content} for role, content in turns]}
    rows += rows[: prompts // 4]
    tags = ("even", "odd")
    rows = [{**row, "good": f"Like {n}.", "bad": "No.", "tags": [tags[n % 2]]} for n, row in enumerate(rows)]
    if not (folder / "principles").exists():
        (folder / "principles").symlink_to(ROOT / "principles")
    (folder / "prompts.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    path = folder / f"{name}.toml"
    path.write_text(
        RECIPE.format(name=name, judge=judge, constitution=constitution, thoughts=thoughts), encoding="utf-8"
    )
    return asyncio.run(run_once(path, folder / "warehouse", []))


def make_export(root: Path, run: Run, out: Path, format: str, **settings: Any) -> tuple[Exported, list[dict[str, Any]]]:
    """The export and its rows, in order, each with its file's `split` and `config`. Nothing is cleaned unless asked."""
    settings = {"cleaning": NO_CLEANING, **settings}
    done = export(root, run.run_id, Settings.model_validate({"format": format, **settings}), out)
    return done, rows(done)


def rows(done: Exported) -> list[dict[str, Any]]:
    found = []
    for file in done.files:
        for row in pq.read_table(done.out / file.path).to_pylist():
            found.append({**row, "split": file.split, "config": file.config})
    return found
