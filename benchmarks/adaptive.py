"""How many votes do adaptive votes spare, and how many labels change? Whole runs of planted judges, both ways.

    make bench-adaptive                    600 prompts a set-up
    python -m benchmarks.adaptive --prompts 60

Each set-up runs once with all votes and once with adaptive ones, through the pipeline as `constitution run` drives it;
judges have a position bias and are wrong about a share of the pairs, each principle about others. A label changes where
another answer is kept, or one is kept in one of the runs alone.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.engine_clients import write_prompts
from benchmarks.results import Table, Verdict, finish, options
from constitution.pipeline import open_run, prepare
from constitution.recipe import load_recipe
from constitution.warehouse import ask, connect

ROOT = Path(__file__).parent.parent
RECIPE = """
name = "adaptive"
constitution = "{constitution}"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "fake"
{models}
[revise]
rounds = 1
{more}
"""
JUDGE = '[model.{name}]\nengine = "fake"\nmodel = "{name}"\naccuracy = {accuracy}\nposition_bias = {bias}\n'
ONE = JUDGE.format(name="judge", accuracy=0.8, bias=0.8)
CLOSE = JUDGE.format(name="judge", accuracy=0.65, bias=0.8)
JURY = "".join(
    JUDGE.format(name=f"jury.{name}", accuracy=accuracy, bias=bias).replace(f'"jury.{name}"', f'"{name}"')
    for name, accuracy, bias in (("x", 0.8, 0.8), ("y", 0.75, -0.5), ("z", 0.7, 1.5))
)
SIXTEEN, SEVEN = "general@1.2.0", "pocket@1.1.0"
SETUPS = {
    "16 principles, label": (SIXTEEN, ONE, "[judge]"),
    "a jury of three": (SIXTEEN, JURY, "[judge]"),
    "16 principles, verdict × 4": (SIXTEEN, ONE, '[judge]\nmethod = "verdict"'),
    "16 principles, majority": (SIXTEEN, ONE, '[judge]\naggregate = "majority"'),
    "16 principles, margin 0.1": (SIXTEEN, ONE, "[judge]\nmargin = 0.1"),
    "16 principles, close everywhere": (SIXTEEN, CLOSE, "[judge]"),
    "7 principles, verdict × 4": (SEVEN, ONE, '[judge]\nmethod = "verdict"'),
    "7 principles, label": (SEVEN, ONE, "[judge]"),
    "4 of 16 principles": (SIXTEEN, ONE, "[judge]\nprinciples = 4"),
}
"""Constitution, judges, and the rest of the recipe."""
PROMISED = frozenset(list(SETUPS)[:4])
"""Set-ups that must spare 40 % of the votes."""
COMPARED = """
WITH whole AS (FROM preferences WHERE run_id = '{whole}'), stopped AS (FROM preferences WHERE run_id = '{stopped}')
SELECT count(*), sum(stopped.votes_spared) / sum(whole.votes + whole.votes_missing),
    avg((if(whole.kept, side(whole.p_b), 0) <> if(stopped.kept, side(stopped.p_b), 0))::INT)
FROM whole JOIN stopped USING (prompt_id, kind) WHERE whole.votes > 0
"""


@dataclass(frozen=True, slots=True)
class Result:
    what: str
    pairs: int
    spared: float
    """Share of the votes."""
    changed: float
    """Share of the labels."""


async def run(recipe: Path, settings: list[str]) -> str:
    """A finished run's id."""
    plan = prepare(load_recipe(recipe, settings), recipe, recipe.parent / "warehouse")
    async with open_run(plan) as session:
        await session.walk()
        await session.finish()
    return plan.run_id


def measure(folder: Path, what: str, prompts: int) -> Result:
    constitution, models, more = SETUPS[what]
    write_prompts(folder / "prompts.jsonl", prompts, words=(20, 60))
    (folder / "principles").symlink_to(ROOT / "principles")
    recipe = folder / "adaptive.toml"
    recipe.write_text(RECIPE.format(constitution=constitution, models=models, more=more), encoding="utf-8")
    whole, stopped = (asyncio.run(run(recipe, settings)) for settings in ([], ["judge.votes=adaptive"]))
    with connect(folder / "warehouse") as connection:
        [(pairs, spared, changed)] = ask(connection, COMPARED.format(whole=whole, stopped=stopped)).rows
    return Result(what, pairs, float(spared), float(changed))


@click.command()
@click.option("--prompts", type=click.IntRange(min=1), default=600, show_default=True)
@options
def main(prompts: int, out: Path | None, page: Path | None) -> None:
    """All votes against adaptive ones, for each set-up of planted judges."""
    results = []
    for what in SETUPS:
        with tempfile.TemporaryDirectory() as folder:
            results.append(measure(Path(folder), what, prompts))
    table = Table(
        ["judges", "pairs", "votes spared", "labels changed"],
        [[each.what, f"{each.pairs:,}", f"{each.spared:.1%}", f"{each.changed:.1%}"] for each in results],
    )
    verdicts = [Verdict(f"{each.what}: labels changed", each.changed, 0.01) for each in results]
    verdicts += [
        Verdict(f"{each.what}: votes spared", each.spared, 0.4, at_most=False)
        for each in results
        if each.what in PROMISED
    ]
    finish(out, page, [table], verdicts)


if __name__ == "__main__":
    main()
