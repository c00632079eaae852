"""Does `principles induce` find the principles that preferences were made by, and no others?

    python -m benchmarks.induce --page docs/RESULTS.md --out benchmarks/results/induce.json
    python -m benchmarks.induce --votes truth          without the judge: seconds

Each draw plants two of the pocket world's seven principles: of a pair the answer is preferred that breaks fewer of the
two, 10 % of the labels are turned round, and each of the two decides half of the pairs. Candidates are the seven,
longer, shorter and first letter; style is a rival. They vote by the grammar (each principle's own fault, or as the
pocket constitution asks: where the answers are equal in it, the better on the whole), by the pocket scorer (checklists,
method rubric) and by the pocket judge, both through their engines. What is chosen by 25 to 200 pairs is counted, and
predicts other pairs of the same kind.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.results import Table, Verdict, finish, options
from constitution.ask.panel import Panel
from constitution.generate.given import given_answers
from constitution.judge.pairs import pairs
from constitution.measures.sparse import select
from constitution.pocket.world import PRINCIPLES, World, verdict
from constitution.principles import load_constitution
from constitution.propose.candidates import Candidate
from constitution.propose.induce import STYLE, styles, votes
from constitution.propose.labelled import RUN, LabelledPair
from constitution.recipe import JudgeSection, TransformersModel
from constitution.records import Principle, Prompt

Array = NDArray[np.float64]
ROOT = Path(__file__).parent.parent
DECOYS = {
    "longer": "Which answer is longer?",
    "shorter": "Which answer is shorter?",
    "first-letter": "Which answer begins with the letter that comes first in the alphabet?",
}
NAMES = (*PRINCIPLES, *DECOYS)
NOISE = 0.1
SIZES = (25, 50, 100, 200)
PAIRS = 100
"""Of the promise."""
TEST = 200
DECIDED = 200
"""Pairs of the pool that each principle decides, at least."""
HOWS = {
    "own": "the grammar, each principle by itself",
    "whole": "the grammar, where equal the better on the whole",
    "scorer": "the pocket scorer, by checklist",
    "judge": "the pocket judge",
}


@dataclass(frozen=True)
class Pool:
    pairs: list[LabelledPair]
    faults: list[tuple[frozenset[str], frozenset[str]]]
    """What a and b break."""

    def own(self) -> Array:
        """(n, 7) −1, 0, 1: which answer alone breaks each principle, 1 where it is b."""
        return np.array([[(p in b) - (p in a) for p in PRINCIPLES] for a, b in self.faults], dtype=float)

    def whole(self) -> Array:
        cells = [[verdict(p, a, b) for p in PRINCIPLES] for a, b in self.faults]
        return np.array([[0.0 if v is None else 2 * v - 1 for v in row] for row in cells])

    def decoys(self) -> Array:
        texts = [(pair.pair.a.text, pair.pair.b.text) for pair in self.pairs]
        long = np.array([np.sign(len(a) - len(b)) for a, b in texts], dtype=float)
        first = np.array([float(a[0] < b[0]) - float(a[0] > b[0]) for a, b in texts])
        return np.column_stack([long, -long, first])


def pool(decided: int, seed: int) -> Pool:
    """Pairs of two answers to one request, until each principle decides so many."""
    rng = random.Random(seed)
    world, count = World(rng), dict.fromkeys(PRINCIPLES, 0)
    found, faults, seen = [], [], set()
    while min(count.values()) < decided:
        request = world.request("train")
        a, b = world.answer(request), world.answer(request)
        sides = [p for p in PRINCIPLES if (p in a.broken) != (p in b.broken)]
        if not any(count[p] < decided for p in sides) or a.text == b.text or request.messages in seen:
            continue
        seen.add(request.messages)
        for p in sides:
            count[p] += 1
        prompt = Prompt(request.messages, answers=(a.text, b.text))
        [pair] = pairs(RUN, prompt, given_answers(RUN, prompt), ("given",))
        found.append(LabelledPair(prompt, pair, 1.0))
        faults.append((a.broken, b.broken))
    return Pool(found, faults)


def judged(given: Pool, how: str) -> Array:
    """(n, 10) The votes of the pocket judge, or of the pocket scorer, as `principles induce` asks. The scorer knows no
    questions like those of the decoys: these then vote as they are."""
    tags = {principle.tags[-1]: principle for principle in load_constitution(ROOT / "principles", "pocket").principles}
    asked = [Candidate(tags[name]) for name in PRINCIPLES]
    if how == "scorer":
        scorer = TransformersModel(engine="transformers", model="pocket-scorer")
        panel = Panel({"": scorer}, JudgeSection(method="rubric"))
        return np.column_stack([asyncio.run(votes(given.pairs, asked, panel)), given.decoys()])
    asked += [Candidate(Principle(name, comparison_question=question)) for name, question in DECOYS.items()]
    panel = Panel({"": TransformersModel(engine="transformers", model="pocket")}, JudgeSection())
    return asyncio.run(votes(given.pairs, asked, panel))


@dataclass(frozen=True)
class Draw:
    found: int
    """Planted principles that were chosen, each told from all others."""
    false: int
    """Chosen columns that stand for no planted principle."""
    same: int
    """Candidates that a chosen column stands for beside itself: the report says that they cannot be told apart."""
    right: float
    """Share of other pairs' labels that are predicted."""
    best: float
    """The same of the planted principles by the grammar: what the noise leaves."""


def draw(given: Pool, table: Array, size: int, seed: int) -> Draw:
    """One draw's planted principles, labels and choice, from `table` (n, 10 and style)."""
    rng = random.Random(seed)
    planted = rng.sample(range(len(PRINCIPLES)), 2)
    own = given.own()[:, planted]
    score = own.sum(axis=1)
    places = [place for place in range(len(score)) if score[place]]
    rng.shuffle(places)
    turns: list[list[int]] = [[], []]
    for place in places:
        only = 0 if not own[place, 1] else 1 if not own[place, 0] else rng.randrange(2)
        turns[only].append(place)
    even = [place for both in zip(*turns, strict=False) for place in both]
    train, test = even[:size], even[size : size + TEST]
    label = np.array([float((s > 0) != (rng.random() < NOISE)) for s in score])
    found = select(table[train], label[train], np.array(train), [*NAMES, *STYLE], replicates=0, seed=seed)
    odds = found.log_odds(table[test], [*NAMES, *STYLE])
    right = np.where(np.abs(odds) < 1e-12, 0.5, (odds > 0) == (label[test] > 0.5))
    truly = {NAMES[place] for place in planted}
    best = (score[test] > 0) == (label[test] > 0.5)
    groups = [{name for name, _ in found.groups[head]} for head in found.chosen]
    return Draw(
        found=sum(len(group) == 1 and group <= truly for group in groups),
        false=sum(not group & truly for group in groups),
        same=sum(len(group) - 1 for group in groups),
        right=float(right.mean()),
        best=float(best.mean()),
    )


def measure(given: Pool, tables: Mapping[str, Array], draws: int, sizes: Sequence[int]) -> dict[str, list[list[Draw]]]:
    """By how they vote, for each size, every draw."""
    style = styles(given.pairs)
    full = {how: np.column_stack([table, style]) for how, table in tables.items()}
    return {
        how: [[draw(given, table, size, seed) for seed in range(draws)] for size in sizes]
        for how, table in full.items()
    }


def _mean(draws: Sequence[Draw], name: str) -> float:
    return float(np.mean([getattr(one, name) for one in draws]))


def report(found: Mapping[str, list[list[Draw]]], sizes: Sequence[int]) -> tuple[list[Table], list[Verdict]]:
    rows, verdicts = [], []
    for how, by_size in found.items():
        for size, each in zip(sizes, by_size, strict=True):
            both = np.mean([one.found == 2 for one in each])
            cells = (
                f"{100 * both:.0f} %",
                f"{_mean(each, 'false'):.2f}",
                f"{_mean(each, 'same'):.1f}",
                f"{_mean(each, 'right'):.3f}",
                f"{_mean(each, 'best'):.3f}",
            )
            rows.append([f"{HOWS[how]}, {size} pairs", *cells])
            if size == PAIRS and how in ("own", "scorer"):
                what = f"{PAIRS} pairs, votes by {HOWS[how]}"
                verdicts += [
                    Verdict(f"{what}: planted principles found, of 2", _mean(each, "found"), 1.9, at_most=False),
                    Verdict(f"{what}: false ones a draw", _mean(each, "false"), 0.2),
                    Verdict(f"{what}: below the noise ceiling", _mean(each, "best") - _mean(each, "right"), 0.03),
                ]
    return [
        Table(["votes by", "both found", "false", "not told apart", "held-out agreement", "ceiling"], rows)
    ], verdicts


@click.command(help=__doc__)
@click.option("--draws", default=20, show_default=True, type=click.IntRange(min=1))
@click.option("--decided", default=DECIDED, show_default=True, help="Pairs that each principle decides in the pool.")
@click.option("--votes", "how", type=click.Choice(["all", "truth"]), default="all", show_default=True)
@options
def main(draws: int, decided: int, how: str, out: Path | None, page: Path | None) -> None:
    given = pool(decided, 1)
    decoys = given.decoys()
    tables = {"own": np.column_stack([given.own(), decoys]), "whole": np.column_stack([given.whole(), decoys])}
    if how == "all":
        tables |= {each: judged(given, each) for each in ("scorer", "judge")}
    found, verdicts = report(measure(given, tables, draws, SIZES), SIZES)
    notes = [f"{draws} draws of two planted principles from {len(given.pairs)} pairs; 10 % of the labels are wrong."]
    if "judge" in tables:
        said = tables["judge"][:, : len(PRINCIPLES)]
        unit = said / np.linalg.norm(said, axis=0)
        notes.append(
            f"The pocket judge's votes by any two principles are correlated by {(unit.T @ unit).min():.3f} or more: it "
            "votes for the better answer on the whole, whichever principle is asked. No fit can tell them apart, and "
            "the report says so. As the pocket constitution asks (where equal, the better on the whole), even true "
            "votes share so much that twice the pairs are needed."
        )
    finish(out, page, found, verdicts, notes)


if __name__ == "__main__":
    main()
