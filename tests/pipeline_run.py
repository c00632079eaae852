"""A project whose run is looked at in all ways."""

from __future__ import annotations

from pathlib import Path

from small_project import numbered, small_project

from constitution.records import Failure, Row
from constitution.warehouse import Warehouse, ask, connect

ROOT = Path(__file__).parents[1]

RECIPE = """
name = "small"
constitution = "general@1.0.0"
[prompts]
path = "prompts.jsonl"
answers = ["good", "bad"]
gold = "good"
[model.policy]
engine = "fake"
[model.judge]
engine = "fake"
model = "fake-judge"
position_bias = 0.7
[revise]
rounds = 2
[judge]
principles = 2
pairs = ["first-last", "parent", "given"]
[output]
slice = 20
window = 16
flush_rows = 100
flush_seconds = 0.05
"""
PROMPTS = 50


def laid_out(folder: Path) -> Path:
    rows = numbered(PROMPTS)
    rows[7] = rows[3]  # a repeated conversation
    return small_project(folder, rows, RECIPE).parent


def rows_of(warehouse: Path, run_id: str, failures: bool = False) -> dict[str, Row]:
    """Every stored row by id; an id that is there twice is an error."""
    store = Warehouse(warehouse)
    prompt_ids = [prompt.id for part in store.parts("prompts", run_id) for prompt in store.read_prompts(part)]
    assert len(prompt_ids) == len(set(prompt_ids))
    rows = [row for found in store.rows_of(run_id, prompt_ids).values() for row in found]
    rows = [row for row in rows if failures or not isinstance(row, Failure)]
    by_id = {row.id: row for row in rows}
    assert len(by_id) == len(rows)
    return by_id


def one(warehouse: Path, query: str) -> tuple[object, ...]:
    with connect(warehouse) as connection:
        [row] = ask(connection, query).rows
    return row
