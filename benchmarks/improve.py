"""Does `principles improve` mend a principle that is worded wrongly, and leave nine right ones alone?

    make bench-improve                       24 draws, each of ten principles, judged by a planted judge
    python -m benchmarks.improve --judge pocket --seeds 20

In each draw another principle of the pocket world is worded wrongly, in one of three ways; 10 % of the gold is wrong,
the planted judge errs on 12 % of the pairs (other ones for each wording) and likes the first answer. The writer offers
four wordings of each principle: a right one, and worse ones, no better ones, one that falls by the lint. A false alarm
is a new wording of a right principle that is kept.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import click

from benchmarks.improve_world import WRONG, PlantedJudge, ScriptedWriter, constitution, gold_of
from benchmarks.results import Table, Verdict, finish, options
from constitution.ask.panel import Panel
from constitution.engines import Engine
from constitution.principles import load_constitution
from constitution.principles.languages import known
from constitution.propose.improve import Improved, Settings, improve
from constitution.propose.judging import Asked, Heard, Judging
from constitution.propose.wordings import Writer
from constitution.recipe import FakeModel, JudgeSection, ModelSection, TransformersModel
from constitution.records import Principle

ROOT = Path(__file__).parent.parent
MENDED = 0.9
FALSE_ALARMS = 0.2
"""Right principles whose wording was changed, mean a draw, at most; the tests' level is 5 % for all of a draw."""


@dataclass(frozen=True)
class Remembering:
    """A judge that is asked for each wording on each pair once, whichever draw asks."""

    judging: Judging
    heard: dict[tuple[str, str], float | None] = field(default_factory=dict)

    def asks(self, principle: Principle) -> str:
        return self.judging.asks(principle)

    async def hear(self, asked: Asked) -> Heard:
        new = [
            (principle, [gold for gold in pairs if (self.asks(principle), gold.key) not in self.heard])
            for principle, pairs in asked
        ]
        for (principle, pairs), heard in zip(new, await self.judging.hear(new), strict=True):
            self.heard.update({(self.asks(principle), gold.key): p for gold, p in zip(pairs, heard, strict=True)})
        return [[self.heard[self.asks(principle), gold.key] for gold in pairs] for principle, pairs in asked]


def judging(which: str, errs: float = 0.12) -> Judging:
    if which == "pocket":
        return Judging(Panel({"": TransformersModel(engine="transformers", model="pocket")}, JudgeSection()))

    def planted(engine: Engine, section: ModelSection) -> Engine:
        return PlantedJudge(errs)

    return Judging(Panel({"": FakeModel(engine="fake")}, JudgeSection(), through=planted))


async def draw(hearing: Remembering, folder: Path, seed: int, count: int, pool: int) -> tuple[str, str, Improved]:
    """One draw: the principle that was worded wrongly, how, and what became of all ten. pool: the seeds from which gold
    is made are those below it, so that a slow judge hears each wording on few pairs."""
    shipped = load_constitution(ROOT / "principles", "pocket@1.1.0")
    ids = [principle.id for principle in constitution(shipped).principles]
    wrong, way = ids[seed % len(ids)], WRONG[seed % len(WRONG)]
    given = constitution(shipped, wrong, way, seed)
    writer = nullcontext(Writer(ScriptedWriter(given.principles, seed), seed, known("en")))
    gold = gold_of(given.principles, count, seed % pool)
    found = await improve(given, gold, hearing, lambda: writer, folder, Settings())
    return wrong, way, found


def rows(draws: Sequence[tuple[str, str, Improved]]) -> Mapping[str, list[tuple[bool, int]]]:
    """By the way of being wrong: whether it was mended, and how many right principles were changed."""
    found: dict[str, list[tuple[bool, int]]] = {way: [] for way in WRONG}
    for wrong, way, improved in draws:
        kept = {trial.principle.id for trial in improved.trials if trial.kept}
        found[way].append((wrong in kept, len(kept - {wrong})))
    return found


@click.command()
@click.option("--seeds", type=click.IntRange(min=1), default=24, show_default=True, help="Draws.")
@click.option("--pairs", type=click.IntRange(min=1), default=240, show_default=True, help="With gold, a principle.")
@click.option("--judge", type=click.Choice(["planted", "pocket"]), default="planted", show_default=True)
@click.option("--pool", type=click.IntRange(min=1), default=10**6, help="Sets of gold.  [default: one a draw]")
@options
def main(seeds: int, pairs: int, judge: str, pool: int, out: Path | None, page: Path | None) -> None:
    """One of ten principles is worded wrongly: is it mended, and what becomes of the other nine?"""
    hearing = Remembering(judging(judge))
    draws = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            (Path(folder) / str(seed) / "improve").mkdir(parents=True)
            draws.append(asyncio.run(draw(hearing, Path(folder) / str(seed) / "improve", seed, pairs, pool)))
            wrong, way, improved = draws[-1]
            kept = [trial.principle.id for trial in improved.trials if trial.kept]
            click.echo(f"{seed}: {wrong} ({way}): kept {', '.join(kept) or 'none'}", err=True)
    by_way = rows(draws)
    table = Table(
        ["worded wrongly", "draws", "mended", "right ones changed", "of"],
        [
            [way, str(len(each)), str(sum(m for m, _ in each)), str(sum(f for _, f in each)), str(9 * len(each))]
            for way, each in by_way.items()
        ],
        title=f"judged by {judge}, {pairs} pairs a principle",
    )
    every = [each for way in by_way.values() for each in way]
    verdicts = [
        Verdict("wrong wordings mended", sum(mended for mended, _ in every) / len(every), MENDED, False),
        Verdict("right principles changed, mean a draw", sum(f for _, f in every) / len(every), FALSE_ALARMS),
    ]
    finish(out, page, [table], verdicts)


if __name__ == "__main__":
    main()
