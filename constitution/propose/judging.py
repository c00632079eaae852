"""What judges make of wordings on pairs that have gold: the panel's votes, both orders, made into one number a pair."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from constitution.ask.panel import Case, Panel, hear
from constitution.identity import digest
from constitution.labels import Rules, label_pair
from constitution.measures.estimate import Floats
from constitution.propose.gold import RUN, GoldPair
from constitution.records import Judgement, Principle

Asked = Sequence[tuple[Principle, Sequence[GoldPair]]]
"""Wordings, each with the pairs that it is put to."""
Heard = list[list[float | None]]
"""The same places: probability that b is better; None: no vote that counts."""


@dataclass(frozen=True, slots=True)
class Judging:
    panel: Panel

    def asks(self, principle: Principle) -> str:
        """Digest of what a vote by this principle depends on."""
        said = {
            "question": principle.comparison_question if self.panel.reads_questions else "",
            "criteria": [[each.question, each.good, each.weight] for each in principle.criteria],
        }
        return digest(said if self.panel.reads_criteria else said["question"])

    async def hear(self, asked: Asked) -> Heard:
        """Equal questions on one pair are asked once. Raises as `ask.panel.hear`."""
        named = [(replace(principle, id=self.asks(principle)[:16]), pairs) for principle, pairs in asked]
        on: dict[str, dict[str, Principle]] = defaultdict(dict)
        of: dict[str, GoldPair] = {}
        for principle, pairs in named:
            for gold in pairs:
                of.setdefault(gold.pair.id, gold)
                on[gold.pair.id][principle.id] = principle
        cases = [Case(of[id].prompt, of[id].pair, tuple(asking.values())) for id, asking in on.items()]
        cast: dict[tuple[str, str], list[Judgement]] = defaultdict(list)
        for by_case in (await hear(self.panel, RUN, cases)).values() if cases else ():
            for case, votes in zip(cases, by_case, strict=True):
                for vote in votes.judgements:
                    cast[case.pair.id, vote.principle_id].append(vote)
        rules = Rules.of(self.panel.section)
        return [[_p_b(gold, principle, cast, rules) for gold in pairs] for principle, pairs in named]


def _p_b(
    gold: GoldPair, principle: Principle, cast: Mapping[tuple[str, str], Sequence[Judgement]], rules: Rules
) -> float | None:
    votes = cast.get((gold.pair.id, principle.id), ())
    return label_pair(gold.pair, votes, len(votes), {principle.id: 1.0}, rules).p_b


def rightness(pairs: Sequence[GoldPair], heard: Sequence[float | None]) -> Floats:
    """(n) 1 where the votes prefer what people prefer, 0 where the other answer, 1/2 where neither; NaN: no vote."""
    return np.array([_right(gold, p) for gold, p in zip(pairs, heard, strict=True)], dtype=np.float64)


def _right(gold: GoldPair, p_b: float | None) -> float:
    if p_b is None:
        return float("nan")
    if abs(p_b - 0.5) < 1e-12:
        return 0.5
    return float((p_b > 0.5) == (gold.p_b > 0.5))
