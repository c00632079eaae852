"""The data of `proof.py`: a run on prompts of the training world, its exports, and a judge with a planted fault."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from constitution.cli import relabel as command
from constitution.export import Cleaning, Exported, Settings, export
from constitution.pipeline import open_run, prepare
from constitution.pocket.world import TYPES, World
from constitution.recipe import load_recipe
from constitution.records import as_dicts
from constitution.warehouse import Warehouse, ask, connect
from rehearsal import measure

ROOT = Path(__file__).parent.parent
WORLD_SEED = 51
"""Of the prompts that are trained on."""
BIAS = 12.0
"""Log-odds that the planted judge adds per unit of the difference in length: the greatest that bench-judges plants."""
RECIPE = """
name = "proof"
description = "Requests of the pocket world's training split: answer, critique and revise twice, vote both ways."
seed = 1
constitution = "pocket@1.0.0"
[prompts]
path = "prompts.jsonl"
tags_field = "tags"
[model.policy]
engine = "transformers"
model = "pocket"
[revise]
rounds = 2
exemplars = 0
initial = { max_tokens = 96 }
critique = { max_tokens = 64 }
revision = { max_tokens = 96 }
[judge]
pairs = ["first-last"]
margin = 0.05
"""
CLEANING = Cleaning(drop_refusals=True, drop_broken=True)
"""As somebody would ask for it who knows which prompts are harmless; near duplicates go by default."""
HARD = Settings(format="dpo", test=0)
"""What the ways to label are compared on: nothing but the labels differs. All pairs are trained on, or the seed of
sampled labels would also draw other pairs."""
PLANTED = """
SELECT j.* REPLACE (
    1 / (1 + exp(-(log_odds(j.p_first) + {bias} * CASE WHEN j.first_id = s.b_id THEN s.length ELSE -s.length END)))
    AS p_first
)
FROM judgements AS j
JOIN (SELECT d.pair_id, d.length, p.b_id FROM style_differences AS d JOIN preferences AS p ON p.id = d.pair_id) AS s
USING (pair_id) ORDER BY j.id
"""
CHOSEN = """
WITH pair AS (
    SELECT
        p.label_by, len(string_split(chosen.text, ' ')) AS chosen, len(string_split(rejected.text, ' ')) AS rejected
    FROM preferences AS p
    JOIN responses AS chosen ON chosen.id = p.chosen_id
    JOIN responses AS rejected ON rejected.id = p.rejected_id
    WHERE p.kept AND p.run_id = '{run_id}'
)
SELECT max(label_by), avg((chosen > rejected)::INT), count(*), avg(chosen) FROM pair
"""


@dataclass(frozen=True, slots=True)
class Labels:
    """A run's labels against the grammar's truth."""

    right: float
    """Share of the pairs whose label prefers the answer that breaks fewer principles."""
    low: float
    """Ends of the 95 % Wilson interval."""
    high: float
    n: int
    """Pairs whose answers do not break equally many."""
    label_by: str
    longer: float
    """Share of the kept pairs whose chosen answer has more words than the rejected one."""
    kept: int
    words: float
    """Mean words of the kept pairs' chosen answers."""


def write_prompts(path: Path, count: int) -> None:
    """`count` different requests of the training split, the six types in turn."""
    world, seen = World(random.Random(WORLD_SEED)), set[str]()
    with path.open("w", encoding="utf-8") as file:
        while len(seen) < count:
            request = world.request("train", TYPES[len(seen) % len(TYPES)])
            if request.text not in seen:
                seen.add(request.text)
                row = {"messages": as_dicts(request.messages), "tags": [request.type]}
                file.write(json.dumps(row) + "\n")


def run(folder: Path, prompts: int) -> str:
    """The run's id; its warehouse is `folder`/warehouse. A finished one of the same prompts is taken as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    write_prompts(folder / "prompts.jsonl", prompts)
    (folder / "proof.toml").write_text(RECIPE, encoding="utf-8")
    if not (folder / "principles").exists():
        (folder / "principles").symlink_to(ROOT / "principles")
    plan = prepare(load_recipe(folder / "proof.toml"), folder / "proof.toml", folder / "warehouse")

    async def walk() -> None:
        async with open_run(plan) as session:
            await session.walk()
            await session.finish()

    if not plan.finished:
        asyncio.run(walk())
    return plan.run_id


def data_sets(folder: Path, run_id: str, seeds: Sequence[int]) -> tuple[dict[str, Exported], dict[str, Labels]]:
    """The exports that are trained on, by name, and the labels that they are made of: the run's own (plain), and those
    of a planted judge, without and with control. What the run wrote stays as it is."""
    root, planted, out = folder / "warehouse", folder / "planted", folder / "exports"
    asked = {
        "sft": Settings(format="sft", cleaning=CLEANING),
        "dpo": Settings(format="dpo", cleaning=CLEANING),
        "reward": Settings(format="reward"),
        "hard": HARD,
        **{f"sampled-{seed}": Settings(format="dpo", labels="sampled", test=0, seed=seed) for seed in seeds},
        "robust": Settings(format="robust", test=0),
    }
    made = {name: export(root, run_id, settings, out / name, overwrite=True) for name, settings in asked.items()}
    found = {"plain": labels(root, run_id)}
    plant(root, run_id, planted)
    for name, control in (("planted", "off"), ("controlled", "length")):
        relabel(planted, run_id, control)
        made[name] = export(planted, run_id, HARD, out / name, overwrite=True)
        found[name] = labels(planted, run_id)
    return made, found


def plant(root: Path, run_id: str, copy: Path) -> None:
    """A copy of the warehouse in which the judge likes length: BIAS × (first − second) / (first + second), in tokens
    as the audit counts them, is added to the log-odds of each of the run's votes. The answers are the same."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(root, copy)
    warehouse = Warehouse(copy)
    warehouse.rebuild_views()
    with connect(copy) as connection:
        votes = connection.sql(PLANTED.format(bias=BIAS)).to_arrow_table()
    with warehouse.lock(run_id):
        warehouse.replace_rows("judgements", run_id, votes)
    warehouse.rebuild_views()


def relabel(root: Path, run_id: str, control: str) -> None:
    """`constitution relabel RUN --control …`"""
    command.relabel.main([run_id, "--control", control, "--warehouse", str(root)], standalone_mode=False)


def labels(root: Path, run_id: str) -> Labels:
    """The run's labels as they are."""
    right = measure.judge_figures(measure.load(root, run_id))[0]
    with connect(root) as connection:
        [(by, longer, kept, words)] = ask(connection, CHOSEN.format(run_id=run_id)).rows
    return Labels(right.value, *right.interval, right.n, by, longer, kept, words)


def train_files(made: Exported) -> list[tuple[tuple[Path, ...], float]]:
    """The train split's files, by ε, the greatest first: what is learnt last is what is surest. 0: no ε."""
    shards: dict[float, list[Path]] = {}
    for file in made.files:
        if file.split == "train":
            shards.setdefault(file.epsilon or 0.0, []).append(made.out / file.path)
    return [(tuple(shards[epsilon]), epsilon) for epsilon in sorted(shards, reverse=True)]


def counts(made: Exported) -> dict[str, int]:
    """Rows of the train split, and what was dropped by reason."""
    return {"train": made.rows.get("train", 0)} | made.dropped
