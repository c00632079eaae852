"""Does training on what the project exports make a model better? Held against the grammar's truth.

    make proof                              all of it, into docs/RESULTS.md: at most 20 minutes on two CPU cores
    python -m benchmarks.proof --quick      a taste of it: one seed, a few prompts and steps, nothing written

The pocket policy answers, revises and judges prompts of its training world; the run is exported; TRL's own trainers
learn from the exports; the trained models answer prompts that nobody has trained on, and the grammar reads the answers.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click

from benchmarks import proof_data
from benchmarks.proof_figures import Result, note, result, tables, verdicts
from benchmarks.proof_work import LABELS, Arm, Ask, Say, questions, train_all
from benchmarks.results import finish, options

ROOT = Path(__file__).parent.parent
HELD_OUT = ROOT / "recipes" / "pocket-prompts.jsonl"


@dataclass(frozen=True, slots=True)
class Size:
    """How large a proof is."""

    prompts: int = 600
    """That are trained on."""
    held_out: int = 600
    """That the trained models answer."""
    seeds: int = 3
    """Of training and of sampling, from 1."""
    max_steps: int = -1
    """Of each trainer; -1: as many as its epochs have."""
    labels: tuple[Arm, ...] = LABELS
    """What is compared beside the main chain."""


QUICK = Size(prompts=12, held_out=12, seeds=1, max_steps=2, labels=LABELS[:1])


def prove(folder: Path, size: Size, pool: Executor, say: Say) -> Result:
    """All of it, under `folder`; trainings in `pool`."""
    begun = time.monotonic()
    ask = Ask(tuple(questions(HELD_OUT, size.held_out)), size.max_steps)
    say(f"the policy answers {size.prompts} prompts, revises and judges")
    run_id = proof_data.run(folder, size.prompts)
    generated = time.monotonic() - begun
    say(f"{run_id}: exports")
    seeds = range(1, size.seeds + 1)
    made, labels = proof_data.data_sets(folder, run_id, seeds)
    counts = {name: proof_data.counts(one) for name, one in made.items()}
    for name, of in counts.items():
        say(f"  {name}: {', '.join(f'{count} {what}' for what, count in of.items())}")
    shards = {name: proof_data.train_files(one) for name, one in made.items()}
    done = train_all(pool, folder / "models", seeds, shards, ask, size.labels, say)
    return result(done, labels, counts, size.prompts, (generated, time.monotonic() - begun))


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=ROOT / "build" / "proof", show_default="build/proof")
@options
@click.option("--prompts", type=click.IntRange(6), help="To train on.")
@click.option("--held-out", type=click.IntRange(6, 600), help="To answer after training.")
@click.option("--seeds", type=click.IntRange(1, 10))
@click.option("--quick", is_flag=True, help="A taste of it.")
def main(folder: Path, out: Path | None, page: Path | None, quick: bool, **asked: Any) -> None:
    """A run that is in FOLDER already is used again."""
    if quick and page is not None:
        raise click.UsageError("--quick measures too little for a page")
    # Of a model so small a second thread mostly waits, and beside other work on the machine everybody waits for it.
    os.environ["OMP_NUM_THREADS"] = "1"
    begun = time.monotonic()
    size = replace(QUICK if quick else Size(), **{name: value for name, value in asked.items() if value is not None})

    def say(what: str) -> None:
        click.echo(f"{time.monotonic() - begun:6.0f} s  {what}")

    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        found = prove(folder, size, pool, say)
    finish(out, page, list(tables(found)), verdicts(found), [note(found)])


if __name__ == "__main__":
    main()
