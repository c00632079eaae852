"""A finished run of any number of votes, multiplied rather than worked: for what is asked of a large warehouse.

    root, run_id = make(Path("folder"), votes=10_000_000)

A run of PROMPTS prompts goes through the pipeline and the fake engine: two judges with faults vote on five principles
in both orders, so each pair has 20 votes. Its rows are then copied, each copy with other ids and texts, into parts of
the size in which a run's flushes leave them. One pair in 250 has gold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.engine_clients import write_prompts
from constitution.pipeline import open_run, prepare
from constitution.recipe import load_recipe
from constitution.records import Annotation
from constitution.warehouse import Warehouse, files
from constitution.warehouse.schema import TABLES

ROOT = Path(__file__).parent.parent
PRINCIPLES = ("answers-the-request", "true-statements", "no-preaching", "honest-certainty", "plain-and-fitting")
VOTES = len(PRINCIPLES) * 4
"""To a pair: two judges, both orders."""
PROMPTS = 1000
"""Of a copy, whose votes fill one part: `output.flush_rows` of a recipe that does not say is 20,000."""
GOLD = 250
RECIPE = f"""
name = "scale-votes"
constitution = "general@1.1.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "fake"
[model.jury.hasty]
engine = "fake"
position_bias = 0.6
noise = 2.0
[model.jury.wordy]
engine = "fake"
length_bias = 1.5
noise = 2.0
[revise]
rounds = 1
[judge]
only = {list(PRINCIPLES)}
principles = "all"
[output]
flush_rows = {PROMPTS * VOTES}
"""
COPIED = {
    "prompts": {"id": "", "position": "position + {copy} * {size}"},
    "responses": {"id": "", "prompt_id": "", "parent_id": "", "text": "concat_ws(' ', text, md5(id || '{copy}'))"},
    "judgements": dict.fromkeys(("id", "prompt_id", "pair_id", "first_id", "second_id"), ""),
    "preferences": dict.fromkeys(("id", "prompt_id", "a_id", "b_id", "chosen_id", "rejected_id"), ""),
}
"""Table → the columns in which a copy differs, and how; empty: an id. In the order in which rows name each other."""


def make(folder: Path, votes: int) -> tuple[Path, str]:
    """The warehouse in `folder`, its parts not compacted, and the run's id. votes: about; whole copies are made, and
    a prompt whose answers are the same has none."""
    size = min(PROMPTS, votes // VOTES)
    write_prompts(folder / "prompts.jsonl", size, words=(20, 60))
    (folder / "votes.toml").write_text(RECIPE)
    (folder / "principles").symlink_to(ROOT / "principles")
    root = folder / "warehouse"
    run_id = asyncio.run(_small(folder / "votes.toml", root))
    warehouse, copies = Warehouse(root), -(-votes // (VOTES * size))
    originals = {table: _rows(warehouse, table, run_id) for table in COPIED}
    for table in COPIED:
        files.remove_tree(warehouse.folder(table, run_id))
    gold: list[Annotation] = []
    for copy in range(copies):
        for table, rows in originals.items():
            with files.new_part(warehouse.folder(table, run_id)) as (_, file):
                TABLES[table].write(copied(table, rows, copy, size), file)
        gold += _gold(run_id, copied("preferences", originals["preferences"], copy, size))
    warehouse.write_annotations(run_id, gold)
    run = warehouse.read_run(run_id)
    assert run is not None
    multiplied = ("prompts", "done", "responses", "judgements", "preferences")
    counts = {name: count * copies if name in multiplied else count for name, count in run.counts.items()}
    warehouse.write_run(replace(run, counts=counts))
    return root, run_id


def copied(table: str, rows: pa.Table, copy: int, size: int) -> pa.Table:
    """The rows with their own ids."""
    new = {name: value or f"md5({name} || '{{copy}}')" for name, value in COPIED[table].items()}
    replaced = ", ".join(f"{value.format(copy=copy, size=size)} AS {name}" for name, value in new.items())
    with duckdb.connect() as connection:
        connection.register("rows", rows)
        return TABLES[table].conform(connection.sql(f"SELECT * REPLACE ({replaced}) FROM rows").to_arrow_table())


async def _small(recipe: Path, root: Path) -> str:
    """The run that is multiplied; its id."""
    async with open_run(prepare(load_recipe(recipe), recipe, root)) as session:
        await session.walk()
        return (await session.finish()).run_id


def _rows(warehouse: Warehouse, table: str, run_id: str) -> pa.Table:
    parts = [TABLES[table].conform(pq.read_table(path)) for path in warehouse.parts(table, run_id)]
    return pa.concat_tables(parts)


def _gold(run_id: str, preferences: pa.Table) -> Iterator[Annotation]:
    """A person's word on one pair in GOLD, who agrees with the label four times in five."""
    columns: list[list[Any]] = [preferences.column(name).to_pylist() for name in ("id", "prompt_id", "p_b")]
    for number, (id, prompt, p_b) in enumerate(zip(*columns, strict=True)):
        if number % GOLD == 0 and p_b is not None:
            value = float((p_b > 0.5) == (int(id[0], 16) % 5 > 0))
            yield Annotation(f"{id[:31]}g", run_id, prompt, rater="ann", value=value, source="drawn", pair_id=id)
