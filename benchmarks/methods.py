"""Groups of samples and their rewards, against the truth: best of n, rules that make pairs, a gap between rewards.

    make methods                              all of it, into docs/RESULTS.md: at most 12 minutes on two CPU cores
    python -m benchmarks.methods --prompts 30

An ordinary run of methods.toml by the public API: the pocket policy answers held-out requests eight times, the pocket
scorer reads every answer by seven criteria. Then the grammar says what each answer breaks, as
`constitution.pocket.truth` does: any of the seven principles of the pocket world.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from benchmarks.methods_figures import Group, Result, group_of, note, pairs_of, tables, verdicts
from benchmarks.results import finish, options
from constitution import load_recipe, query, run
from constitution.measures import words
from constitution.pocket.world import truth

RECIPE = Path(__file__).with_suffix(".toml")
ANSWERS = """
SELECT r.id, r.run_id, r.prompt_id, r.round AS number, r.text, r.model, a.total, p.last_user, p.tags[-1] AS request_type
FROM advantages AS a
JOIN responses AS r ON r.run_id = a.run_id AND r.id = a.response_id
JOIN prompts AS p ON p.run_id = a.run_id AND p.id = a.prompt_id
WHERE a.run_id = '{run_id}' AND a.kind = 'sample'
ORDER BY r.prompt_id, r.round
"""


def groups_of(warehouse: Path, run_id: str) -> Iterator[Group]:
    """Raises ValueError for a request that is not of the pocket world."""
    rows = query(warehouse, ANSWERS.format(run_id=run_id))
    for _, found in groupby(rows, key=lambda row: row["prompt_id"]):
        own = list(found)
        yield group_of(own, [_faults(row) for row in own], [words(row["text"]) for row in own])


def _faults(row: dict[str, Any]) -> int:
    broken = truth(row["last_user"], row["text"])
    if broken is None:
        raise ValueError(f"prompt {row['prompt_id']} is not of the pocket world")
    return len(broken)


def measure(warehouse: Path, settings: list[str]) -> Result:
    """Runs the recipe, unless it ran before, and reads what it left."""
    begun, cpu = time.monotonic(), time.process_time()
    recipe = load_recipe(RECIPE, settings)
    done = run(recipe, warehouse)
    if done.finished_at is None:
        raise SystemExit(f"{done.run_id} is not finished: {done.stopped or 'prompts are open'}")
    every = list(groups_of(warehouse, done.run_id))
    groups = tuple(group for group in every if len(group.answers) == recipe.samples)
    pairs = tuple(pair for group in groups for pair in pairs_of(group, recipe.seed))
    [calls] = query(warehouse, f"SELECT sum(calls) AS n FROM usage WHERE run_id = '{done.run_id}'")
    left_out, spent = len(every) - len(groups), (time.monotonic() - begun, time.process_time() - cpu)
    return Result(groups, pairs, left_out, int(calls["n"]), *spent)


@click.command(help=__doc__)
@click.option("--warehouse", type=click.Path(path_type=Path), help="Where its run is, or is to be. Default: nowhere.")
@click.option("--prompts", type=click.IntRange(2, 600), help="Default: the recipe's.")
@options
def main(warehouse: Path | None, prompts: int | None, out: Path | None, page: Path | None) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # of models so small a second thread mostly waits
    settings = [f"prompts.limit={prompts}"] if prompts else []
    with tempfile.TemporaryDirectory() as folder:
        result = measure(warehouse or Path(folder), settings)
    finish(out, page, list(tables(result)), verdicts(result), [note(result)])


if __name__ == "__main__":
    main()
