"""Does the audit find what was planted in a judge, and does it put the votes right?

    make bench-judges                                   144 judges, 2,000 pairs each
    python -m benchmarks.judges --pairs 400 --every 10  a taste of it

A judge of the fake engine has faults of known size: logits for the answer shown first, per unit of the difference in
length, per unit of the differences in markdown. Each judges its own pairs, through the pipeline as `constitution
run` drives it, and the run is audited as by `constitution audit`. The pairs are the fake's too, so that the true winner
is known. Everything is drawn by fixed seeds: the figures are the same each time.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean

import click

from benchmarks.judges_report import EFFECTS, Effect, Result, Setting, note, tables, verdicts
from benchmarks.results import finish, options
from constitution.audit import audit
from constitution.engines.base import Request
from constitution.engines.fake import FakeEngine
from constitution.engines.fake.world import truth
from constitution.identity import row_id
from constitution.pipeline import open_run, prepare
from constitution.recipe import FakeModel, load_recipe
from constitution.records import Annotation, Figure, Message, Sampling
from constitution.warehouse import Warehouse, ask, connect

ROOT = Path(__file__).parent.parent
PRINCIPLES = ("answers-the-request", "true-statements")
RECIPE = """
name = "judges"
seed = {seed}
constitution = "general@1.1.0"
[prompts]
path = "prompts.jsonl"
answers = ["first", "second"]
[model.policy]
engine = "fake"
{judge}
[revise]
rounds = 0
[judge]
pairs = ["given"]
only = {principles}
"""


def settings() -> Iterator[Setting]:
    """104 judges with planted faults and 40 without, whose noise and accuracy differ."""
    faults = [
        *((position, 0.0, 0.0) for position in (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0)),
        *((0.0, length, 0.0) for length in (-12.0, -6.0, -3.0, 3.0, 6.0, 12.0)),
        *((0.0, 0.0, style) for style in (-40.0, -20.0, 20.0, 40.0)),
    ]
    together = list(product((-1.0, 1.0), (-6.0, 6.0), (-30.0, 0.0, 30.0)))
    dim = [(1.0, 6.0, 0.0), (-1.0, -6.0, 0.0), (0.0, 6.0, 30.0), (1.0, 0.0, -30.0)]
    judges = [
        *((*fault, noise, 1.0) for fault in faults for noise in (0.5, 2.0)),
        *((*fault, 1.0, 1.0) for fault in together),
        *((*fault, noise, accuracy) for fault in dim for noise in (1.0, 4.0) for accuracy in (0.9, 0.75)),
        *((0.0, 0.0, 0.0, *more) for more in product((0.25, 0.5, 1.0, 2.0, 4.0), (1.0, 0.95, 0.9, 0.75), (1, 2))),
        *((*fault, noise, 0.9) for fault in faults for noise in (0.5, 2.0)),
        *((*fault, 1.0, 0.9) for fault in together),
    ]
    for number, (position, length, style, noise, accuracy, *_) in enumerate(judges, start=1):
        yield Setting(number, position, length, style, noise, accuracy)


async def write_pairs(path: Path, count: int, seed: int) -> None:
    """Prompts with two answers by the fake engine, of any length and form, which is better being a matter of chance."""
    writer = FakeEngine(FakeModel(engine="fake", verbosity=8))
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            prompt = f"Question {number} of {seed}: what should I do?"
            asked = (Message("user", prompt),)
            row = {"prompt": prompt}
            for place, key in enumerate(("first", "second")):
                row[key] = (await writer.generate(Request(asked, Sampling(), 2 * number + place))).text
            file.write(json.dumps(row) + "\n")


async def judge(folder: Path, setting: Setting, pairs: int) -> tuple[Path, str]:
    """A run of the setting's judge over its own pairs: the warehouse and the run's id."""
    await write_pairs(folder / "prompts.jsonl", pairs, setting.number)
    (folder / "principles").symlink_to(ROOT / "principles")
    path = folder / "judges.toml"
    faults = (f"{name} = {value}" for name, value in setting.section.items())
    path.write_text(
        RECIPE.format(seed=setting.number, judge="\n".join(faults), principles=json.dumps(PRINCIPLES)), encoding="utf-8"
    )
    plan = prepare(load_recipe(path), path, folder / "warehouse")
    async with open_run(plan) as session:
        await session.walk()
        await session.finish()
    return plan.warehouse, plan.run_id


def tell_truth(root: Path, run_id: str) -> int:
    """The true winner of every pair, as a label of the rater `truth`: to the audit, gold. Returns how many."""
    query = """
        SELECT p.prompt_id, p.id, a.text, b.text FROM preferences p
        JOIN responses a ON a.id = p.a_id JOIN responses b ON b.id = p.b_id ORDER BY p.id"""
    with connect(root) as connection:
        rows = list(ask(connection, query).rows)
    gold = [
        Annotation(
            row_id(run_id, "truth", pair), run_id, prompt, "truth", float(truth(a, b) > 0), "bench", pair_id=pair
        )
        for prompt, pair, a, b in rows
    ]
    Warehouse(root).write_annotations(run_id, gold)
    return len(gold)


def result(setting: Setting, pairs: int, figures: Sequence[Figure], votes: tuple[float, float]) -> Result:
    """What the audit says of a judge, beside what was planted. votes: of the view `alignment` (`right_votes`)."""

    def found(name: str, subject: str = "") -> list[Figure]:
        return [one for one in figures if (one.figure, one.subject) == (name, subject) and one.judge]

    names = {"position": ("position_effect", "")} | {name: ("style_effect", name) for name in EFFECTS[1:]}
    effects = []
    for effect, which in names.items():
        [whole] = [one for one in found(*which) if not one.principle_id]
        if whole.value is None or whole.low is None or whole.high is None:
            raise RuntimeError(f"{setting}: the audit has no {' '.join(which)}: {whole.note}")
        effects.append(Effect(effect, setting.planted(effect), whole.value, whole.low, whole.high))
    # By principle, as the view has it, so that what differs is the correction and not how many votes are put together.
    controlled = [one.value for one in found("alignment", "controlled") if one.principle_id and one.value is not None]
    return Result(setting, pairs, tuple(effects), *votes, fmean(controlled))


def right_votes(root: Path) -> tuple[float, float]:
    """Share of the votes, and of the order-averaged votes, that prefer the true winner."""
    with connect(root) as connection:
        [row] = ask(connection, "SELECT avg(one_order), avg(both_orders) FROM alignment").rows
    return float(row[0]), float(row[1])


def measure(setting: Setting, pairs: int) -> Result:
    with tempfile.TemporaryDirectory() as name:
        root, run_id = asyncio.run(judge(Path(name), setting, pairs))
        told = tell_truth(root, run_id)
        return result(setting, told, audit(root, run_id), right_votes(root))


def measure_all(chosen: Sequence[Setting], pairs: int, jobs: int) -> list[Result]:
    """In processes of their own, so many at a time, in the order of the settings."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        done = []
        for found in pool.map(partial(measure, pairs=pairs), chosen):
            done.append(found)
            click.echo(f"\r{len(done)}/{len(chosen)}", nl=False, err=True)
    click.echo("\r", nl=False, err=True)
    return done


@click.command()
@click.option("--pairs", default=2000, show_default=True, type=click.IntRange(min=50), help="For each judge.")
@click.option("--every", default=1, show_default=True, type=click.IntRange(min=1), help="Only every Nth judge.")
@click.option("--jobs", default=2, show_default=True, type=click.IntRange(min=1), help="Judges at a time.")
@options
def main(pairs: int, every: int, jobs: int, out: Path | None, page: Path | None) -> None:
    results = measure_all(list(settings())[::every], pairs, jobs)
    finish(out, page, tables(results), verdicts(results), [note(results)])


if __name__ == "__main__":
    main()
