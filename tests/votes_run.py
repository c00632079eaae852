"""A stored run of made-up votes whose truth is known, for the tests of what is made of a whole run's votes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from constitution.identity import row_id
from constitution.judge.methods import METHODS
from constitution.judge.pairs import Pair
from constitution.labels import Rules, label_pair
from constitution.recipe import JudgeSection
from constitution.records import Constitution, Judgement, Method, PairKind, Preference, Principle, Response, Run
from constitution.warehouse import Warehouse

RUN = "votes-0123456789ab"
PRINCIPLES = tuple(
    Principle(name, comparison_question=f"Which is {name}?", weight=weight)
    for name, weight in (("calm", 1.0), ("honest", 3.0), ("kind", 0.7))
)
DIGESTS = {principle.id: principle.digest for principle in PRINCIPLES}
WEIGHTS = {principle.id: principle.weight for principle in PRINCIPLES}


@dataclass(frozen=True)
class Voter:
    """A judge: log-odds of its vote = sharpness · quality + length · difference in length ± position + noise."""

    name: str
    sharpness: float = 1.0
    noise: float = 0.5
    position: float = 0.0
    length: float = 0.0
    method: Method = "label"


@dataclass
class Votes:
    """What was stored."""

    section: JudgeSection
    pairs: list[Pair] = field(default_factory=list)
    judgements: dict[str, list[Judgement]] = field(default_factory=dict)
    """Per pair."""
    expected: dict[str, int] = field(default_factory=dict)
    better_b: dict[str, bool] = field(default_factory=dict)
    """The truth of each pair."""

    def preferences(self, rules: Rules | None = None) -> list[Preference]:
        """What `prefer` makes of every pair."""
        rules = rules or Rules.of(self.section)
        return [
            label_pair(pair, self.judgements[pair.id], self.expected[pair.id], WEIGHTS, rules) for pair in self.pairs
        ]


def make(
    warehouse: Warehouse,
    voters: Sequence[Voter],
    pairs: int = 200,
    seed: int = 0,
    section: JudgeSection | None = None,
    gold: float = 0.0,
) -> Votes:
    """Writes the run: `pairs` pairs, one to a prompt, and a few of each kind that has no label or is dropped.

    gold: share of pairs of which people's preference is known.
    """
    votes = Votes(section or JudgeSection())
    generator = np.random.default_rng(seed)
    for number in range(pairs):
        pair, quality, longer = _pair(number, generator, gold)
        votes.pairs.append(pair)
        votes.better_b[pair.id] = quality > 0
        votes.judgements[pair.id] = cast = []
        for voter in voters if pair.votable else ():
            for principle in PRINCIPLES:
                cast += _cast(pair, voter, principle, (quality, longer), votes.section.repeats, generator)
        votes.expected[pair.id] = len(cast)
        if number % 11 == 3:  # some votes failed
            del cast[:: int(generator.integers(2, 9))]
        if number % 37 == 5:
            cast.clear()
    responses = list({r.id: r for pair in votes.pairs for r in (pair.a, pair.b)}.values())
    warehouse.write_principles(RUN, Constitution("votes", "1.0.0", "", PRINCIPLES))
    warehouse.write_part("responses", RUN, responses)
    warehouse.write_part("judgements", RUN, [vote for cast in votes.judgements.values() for vote in cast])
    preferences = votes.preferences()
    for start in range(0, pairs, 70):  # several parts
        warehouse.write_part("preferences", RUN, preferences[start : start + 70])
    recipe = {"name": "votes", "judge": votes.section.model_dump(mode="json")}
    warehouse.write_run(Run(RUN, recipe, "votes@1.0.0", "d", {}, {}, "0", {}, "2026-11-22T10:00:00+00:00",
                            "2026-11-22T10:05:00+00:00"))  # fmt: skip
    return votes


def _pair(number: int, generator: np.random.Generator, gold: float) -> tuple[Pair, float, float]:
    """The pair, by how much b is better, and by how much it is longer."""
    prompt_id = row_id("prompt", number)
    words = [int(count) for count in generator.integers(5, 60, size=2)]
    texts = [" ".join(["word"] * count) for count in words]
    if number % 23 == 7:
        texts[1] = texts[0]
    if number % 29 == 8:
        texts[0] = ""
    a, b = (
        Response(row_id(prompt_id, place), RUN, prompt_id, "revision" if place else "initial", place, text, "ok", "m")
        for place, text in enumerate(texts)
    )
    kind: PairKind = "perturbation" if number % 13 == 4 else "parent" if number % 3 == 0 else "first-last"
    pair = Pair(row_id(prompt_id, "pair"), kind, a, b, flaw="cut" if number % 17 == 6 else None)
    quality = float(generator.normal(0.5, 1.0))
    if generator.random() < gold:
        pair = replace(pair, gold_id=b.id if quality > 0 else a.id)
    return pair, quality, (words[1] - words[0]) / sum(words)


def _cast(
    pair: Pair,
    voter: Voter,
    principle: Principle,
    differ: tuple[float, float],
    repeats: int,
    generator: np.random.Generator,
) -> list[Judgement]:
    found = []
    odds = voter.sharpness * differ[0] + voter.length * differ[1] + voter.noise * generator.normal()
    for order in METHODS[voter.method].orders:
        first, second = pair.shown(order)
        for repeat in range(repeats):
            towards_first = (odds if order == "ba" else -odds) + voter.position
            p_first = 1 / (1 + np.exp(-towards_first - 0.1 * generator.normal()))
            special = generator.random()
            p_first = 0.5 if special < 0.05 else 0.0 if special < 0.06 else 1.0 if special < 0.07 else p_first
            id = row_id(pair.id, voter.name, principle.id, order, repeat)
            mass = float(generator.uniform(0.3, 1))
            found.append(
                Judgement(id, RUN, pair.a.prompt_id, pair.id, first.id, second.id, voter.name, principle.id,
                          DIGESTS[principle.id], voter.method, float(p_first), mass, "t", repeat=repeat)
            )  # fmt: skip
    return found
