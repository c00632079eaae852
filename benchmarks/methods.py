"""Groups of samples and their rewards, against the truth: best of n, rules that make pairs, a gap between rewards; and
what a rubric puts on top, by the answer that it was written from.

    make methods                              all of it, into docs/RESULTS.md: at most 24 minutes on two CPU cores
    python -m benchmarks.methods --prompts 30

Ordinary runs by the public API: the pocket policy answers held-out requests eight times and the pocket scorer reads
every answer by seven criteria (methods.toml); the policy answers once and revises twice (methods_revised.toml). Then
the grammar says what each answer breaks, as `constitution.pocket.truth` does: any of the seven principles of the
pocket world.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks import methods_readers, methods_references
from benchmarks.methods_figures import Group, Result, group_of, note, pairs_of, tables, verdicts
from benchmarks.methods_readers import CRITERIA, SCALAR, TRAINED, UNTRAINED, Read
from benchmarks.methods_references import Rollouts
from benchmarks.results import Verdict, finish, options
from constitution import Engine, Recipe, load_recipe, query, run
from constitution.measures import words
from constitution.pocket.world import PRINCIPLES, Reading, read
from rehearsal import train_readout

RECIPE = Path(__file__).with_suffix(".toml")
REVISED = RECIPE.with_name("methods_revised.toml")
READOUT = RECIPE.with_name("methods_readout.toml")
FURTHER_S = 720.0
"""CPU seconds that all but the groups may take."""
ANSWERS = """
SELECT r.id, r.run_id, r.prompt_id, r.round AS number, r.text, r.model, a.total, p.last_user, p.position,
    p.tags[-1] AS request_type
FROM advantages AS a
JOIN responses AS r ON r.run_id = a.run_id AND r.id = a.response_id
JOIN prompts AS p ON p.run_id = a.run_id AND p.id = a.prompt_id
WHERE a.run_id = '{run_id}' AND a.kind = 'sample' AND a.source = 'rubric'
ORDER BY r.prompt_id, r.round
"""
JUDGED = """
SELECT s.prompt_id, s.response_id, p.tags[-1] AS fault, 1 - s.p_good AS judged
FROM (SELECT *, CASE good WHEN 'yes' THEN p_yes ELSE 1 - p_yes END AS p_good FROM scores) AS s
JOIN principles AS p ON p.run_id = s.run_id AND p.principle_id = s.principle_id
WHERE s.run_id = '{run_id}' AND s.metric = 'rubric'
"""
REWARDED = """
SELECT w.prompt_id, w.raw AS reward, r.text, p.last_user
FROM rewards AS w
JOIN responses AS r ON r.run_id = w.run_id AND r.id = w.response_id
JOIN prompts AS p ON p.run_id = w.run_id AND p.id = w.prompt_id
WHERE w.run_id = '{run_id}' AND w.source = '{source}' AND w.value IS NOT NULL AND r.kind = 'sample'
"""
LAST = """
SELECT p.position, p.last_user, last(r.text ORDER BY r.round) AS text
FROM responses AS r JOIN prompts AS p ON p.run_id = r.run_id AND p.id = r.prompt_id
WHERE r.run_id = '{run_id}' GROUP BY ALL
"""


def groups_of(warehouse: Path, run_id: str) -> Iterator[Group]:
    """Raises ValueError for a request that is not of the pocket world."""
    rows = query(warehouse, ANSWERS.format(run_id=run_id))
    for _, found in groupby(rows, key=lambda row: row["prompt_id"]):
        own = list(found)
        yield group_of(own, [len(_read(row).broken) for row in own], [words(row["text"]) for row in own])


def _read(row: dict[str, Any]) -> Reading:
    found = read(row["last_user"], row["text"])
    if found is None:
        raise ValueError(f"the request {row['last_user']!r} is not of the pocket world")
    return found


def measure(warehouse: Path, settings: list[str]) -> Result:
    """Runs the recipe, unless it ran before, and reads what it left."""
    begun, cpu = time.monotonic(), time.process_time()
    recipe = load_recipe(RECIPE, settings)
    run_id = finished(recipe, warehouse)
    every = list(groups_of(warehouse, run_id))
    groups = tuple(group for group in every if len(group.answers) == recipe.samples)
    pairs = tuple(pair for group in groups for pair in pairs_of(group, recipe.seed))
    [calls] = query(warehouse, f"SELECT sum(calls) AS n FROM usage WHERE run_id = '{run_id}'")
    left_out, spent = len(every) - len(groups), (time.monotonic() - begun, time.process_time() - cpu)
    return Result(groups, pairs, left_out, int(calls["n"]), *spent)


def finished(recipe: Recipe, warehouse: Path, engines: Mapping[str, Engine] | None = None) -> str:
    """The id of the recipe's run, once it has finished."""
    done = run(recipe, warehouse, engines=engines)
    if done.finished_at is None:
        raise SystemExit(f"{done.run_id} is not finished: {done.stopped or 'prompts are open'}")
    return done.run_id


def rollouts_of(warehouse: Path, settings: list[str]) -> list[Rollouts]:
    """The groups of the first recipe's run with the answers that the second one's chain ended with; runs both, unless
    they ran before. A group with an answer that was not read by all criteria is left out, as `measure` does."""
    recipe = load_recipe(RECIPE, settings)
    run_id = finished(recipe, warehouse)
    prompts = [each for each in settings if each.startswith("prompts.")]
    revised_id = finished(load_recipe(REVISED, prompts), warehouse)
    revised = {row["position"]: _read(row).broken for row in query(warehouse, LAST.format(run_id=revised_id))}
    judged: dict[str, dict[str, float]] = defaultdict(dict)
    for row in query(warehouse, JUDGED.format(run_id=run_id)):
        judged[row["response_id"]][row["fault"]] = row["judged"]
    found = []
    for id, rows in groupby(query(warehouse, ANSWERS.format(run_id=run_id)), key=lambda row: row["prompt_id"]):
        own = list(rows)
        if len(own) == recipe.samples and own[0]["position"] in revised:
            by_scorer = np.array([[judged[row["id"]][fault] for fault in PRINCIPLES] for row in own])
            found.append(Rollouts(id, tuple(map(_read, own)), by_scorer, revised[own[0]["position"]]))
    return found


def reads_of(warehouse: Path, run_id: str, source: str) -> list[Read]:
    """Rewards of samples by one source, as they were computed where that is kept."""
    rows = query(warehouse, REWARDED.format(run_id=run_id, source=source))
    return [Read(row["prompt_id"], row["reward"], len(_read(row).broken)) for row in rows]


def readers_of(warehouse: Path, settings: list[str], training: Sequence[str] = ()) -> dict[str, list[Read]]:
    """What each reader says of samples. Trains the read-out: about a minute. training: arguments of train_readout."""
    run_id = finished(load_recipe(RECIPE, settings), warehouse)
    prompts = [each for each in settings if each.startswith("prompts.")]
    untrained = finished(load_recipe(READOUT, prompts), warehouse)
    with tempfile.TemporaryDirectory() as folder:
        took = train_readout.train(train_readout.arguments().parse_args(["--out", folder, *training]))
        own = [f"model.policy.model={folder}", f"reward.last_token.c_ref={took['c_ref']}"]
        of_trained = finished(load_recipe(READOUT, [*prompts, *own, "reward.last_token.anyway=false"]), warehouse)
    return {
        CRITERIA: reads_of(warehouse, run_id, "rubric"),
        SCALAR: reads_of(warehouse, run_id, "model"),
        TRAINED: reads_of(warehouse, of_trained, "last-token"),
        UNTRAINED: reads_of(warehouse, untrained, "last-token"),
    }


@click.command(help=__doc__)
@click.option("--warehouse", type=click.Path(path_type=Path), help="Where its run is, or is to be. Default: nowhere.")
@click.option("--prompts", type=click.IntRange(2, 600), help="Default: the recipe's.")
@options
def main(warehouse: Path | None, prompts: int | None, out: Path | None, page: Path | None) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # of models so small a second thread mostly waits
    settings = [f"prompts.limit={prompts}"] if prompts else []
    with tempfile.TemporaryDirectory() as folder:
        place = warehouse or Path(folder)
        result = measure(place, settings)
        cpu = time.process_time()
        rollouts = rollouts_of(place, settings)
        readers = readers_of(place, settings)
        cpu = time.process_time() - cpu
    shown = [*tables(result), *methods_references.tables(rollouts), *methods_readers.tables(readers)]
    promised = [*verdicts(result), *methods_references.verdicts(rollouts), *methods_readers.verdicts(readers)]
    promised.append(Verdict("CPU seconds of references and readers", cpu, FURTHER_S))
    finish(out, page, shown, promised, [note(result)])


if __name__ == "__main__":
    main()
