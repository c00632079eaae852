"""Votes → preference: pure, and the only place where a label is made.

Each couple of votes (same judge, same principle, both orders) is put back on the answers a and b and averaged in
probability, which takes the first-order position bias out; the couples are then averaged by the principles' weights.
A vote without its other order counts as missing: alone it would carry the position bias into the label.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from constitution.judge import Pair
from constitution.records import DropReason, Judgement, Preference


@dataclass(frozen=True, slots=True)
class Rules:
    """What the recipe says of labels."""

    margin: float = 0.0
    """A pair whose p_chosen is under 0.5 + margin is dropped."""
    min_label_mass: float = 0.0
    """A vote with less probability on the labels counts as missing."""


@dataclass(frozen=True, slots=True)
class _Couple:
    """Probability that b is better, by the vote that showed a first and by the one that showed b first."""

    ab: float
    ba: float
    weight: float

    @property
    def mean(self) -> float:
        return (self.ab + self.ba) / 2

    @property
    def consistent(self) -> bool:
        return _side(self.ab) == _side(self.ba)


def prefer(
    pair: Pair, judgements: Sequence[Judgement], expected: int, weights: Mapping[str, float], rules: Rules
) -> Preference:
    """The preference that `judgements`, all of this pair, make of it.

    expected: votes that should have been cast. weights: per principle id. The reason to drop is the first that holds
    of empty, identical, votes-missing (no couple of both orders), cut, tie, margin.
    """
    counted = [vote for vote in judgements if vote.label_mass >= rules.min_label_mass]
    couples = _couples(pair, counted, weights)
    p_b = _weighted_mean(couples) if couples else None
    return Preference(
        id=pair.id,
        run_id=pair.a.run_id,
        prompt_id=pair.a.prompt_id,
        kind=pair.kind,
        a_id=pair.a.id,
        b_id=pair.b.id,
        p_b=p_b,
        votes=2 * len(couples),
        votes_missing=expected - 2 * len(couples),
        consistency=_share([couple.consistent for couple in couples]),
        agreement=None if p_b is None else _share([_side(couple.mean) == _side(p_b) for couple in couples]),
        label_mass=math.fsum(vote.label_mass for vote in judgements) / len(judgements) if judgements else None,
        drop_reason=_drop_reason(pair, p_b, rules.margin),
        gold_id=pair.gold_id,
    )


def _couples(pair: Pair, votes: Sequence[Judgement], weights: Mapping[str, float]) -> list[_Couple]:
    """Votes of both orders, re-mapped from what was shown first to a and b. In the order of judge and principle, so
    that the sum does not depend on which vote came first."""
    p_b: dict[tuple[str, str], dict[str, float]] = {}
    for vote in votes:
        order = "ab" if vote.first_id == pair.a.id else "ba"
        shown = (pair.a.id, pair.b.id) if order == "ab" else (pair.b.id, pair.a.id)
        if vote.pair_id != pair.id or (vote.first_id, vote.second_id) != shown:
            raise ValueError(f"judgement {vote.id} is not a vote on pair {pair.id}")
        p_b.setdefault((vote.judge, vote.principle_id), {})[order] = 1 - vote.p_first if order == "ab" else vote.p_first
    return [
        _Couple(orders["ab"], orders["ba"], weights[principle_id])
        for (_, principle_id), orders in sorted(p_b.items())
        if len(orders) == 2
    ]


def _weighted_mean(couples: Sequence[_Couple]) -> float:
    total = math.fsum(couple.weight for couple in couples)
    mean = math.fsum(couple.weight * couple.mean for couple in couples) / total
    return 0.5 if _side(mean) == 0 else min(max(mean, 0.0), 1.0)


def _side(p_b: float) -> int:
    """1: b is preferred, -1: a, 0: neither. What is within rounding of one half is one half."""
    return 0 if abs(p_b - 0.5) < 1e-12 else (1 if p_b > 0.5 else -1)


def _share(flags: Sequence[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None


def _drop_reason(pair: Pair, p_b: float | None, margin: float) -> DropReason | None:
    if not pair.a.text or not pair.b.text:
        return "empty"
    if pair.a.text == pair.b.text:
        return "identical"
    if p_b is None:
        return "votes-missing"
    if pair.cut:
        return "cut"
    if _side(p_b) == 0:
        return "tie"
    return "margin" if max(p_b, 1 - p_b) < 0.5 + margin else None
