"""Votes → preference: pure, and the only place where a pair's votes become its label.

Votes are put back on the answers a and b. Those of one judge, principle and order (its repeats) are averaged in
probability, then both orders, which takes the first-order position bias out; these couples are then averaged by the
principles' weights, or outvote each other. A vote without its other order counts as missing: alone it would carry the
position bias into the label. Where answers were looked at one by one (score, rubric) there is one order, and its votes
are the couple.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from constitution.judge import ORDERS, Pair
from constitution.recipe import JudgeSection
from constitution.records import DropReason, Judgement, Preference, Run

CLIP = math.log(1e6)
"""No vote's log-odds are taken for more than this when a shift is subtracted."""


LABEL_SETTINGS = ("aggregate", "control", "calibrate", "margin")
"""The settings of [judge] by which votes become labels: they ask for no other votes."""


def judge_settings(run: Run) -> dict[str, Any]:
    """[judge] of the run's recipe, with what its labels were last made by in place of its own settings; empty where it
    has no such section."""
    last = {name: run.labels[name] for name in LABEL_SETTINGS if name in run.labels}
    return {**(run.recipe.get("judge") or {}), **last}


@dataclass(frozen=True, slots=True)
class Rules:
    """What the recipe says of labels."""

    margin: float = 0.0
    """A pair whose p_chosen is under 0.5 + margin is dropped."""
    min_label_mass: float = 0.0
    """A vote with less probability on the labels counts as missing."""
    clamp: tuple[float, float] = (0.4, 0.6)
    """Of votes by rationale: each counts as no less and no more than this."""
    aggregate: Literal["mean", "majority"] = "mean"

    @classmethod
    def of(cls, section: JudgeSection) -> Self:
        """The recipe's. What needs the whole run (dawid-skene) begins as the mean."""
        aggregate: Literal["mean", "majority"] = "majority" if section.aggregate == "majority" else "mean"
        return cls(section.margin, section.min_label_mass, section.clamp, aggregate)


@dataclass(frozen=True, slots=True)
class _Couple:
    """What one judge says by one principle: probabilities that b is better."""

    name: str
    weight: float
    votes: int
    orders: tuple[float, ...]
    """Per order (a first, b first), or the one that there is."""
    plain: float
    """Mean of the orders."""
    shifted: float
    """The same after the judge's shift."""


def label_pair(
    pair: Pair,
    judgements: Sequence[Judgement],
    expected: int,
    weights: Mapping[str, float],
    rules: Rules,
    shifts: Mapping[str, float] | None = None,
) -> Preference:
    """The preference that `judgements`, those of all judges on this pair, make of it.

    expected: votes that should have been cast. weights: per principle id. shifts: per judge, log-odds in favour of b
    that are subtracted from each of its votes, e.g. what length has given b. They and the majority decide the label,
    agreement and dissent; `p_mean` and `consistency` are of the votes as they were cast. The reason to drop is the
    first that holds of perturbation, empty (or why the text did not come: cut, refused, filtered), identical, cut or
    refused or filtered, votes-missing (no couple), tie, margin.
    """
    counted = [vote for vote in judgements if vote.label_mass >= rules.min_label_mass]
    couples = _couples(pair, counted, weights, rules, shifts or {})
    p_b = _label(couples, rules) if couples else None
    votes = sum(couple.votes for couple in couples)
    sides = [(couple.name, _side(couple.shifted)) for couple in couples]
    side = 0 if p_b is None else _side(p_b)
    return Preference(
        id=pair.id,
        run_id=pair.a.run_id,
        prompt_id=pair.a.prompt_id,
        kind=pair.kind,
        a_id=pair.a.id,
        b_id=pair.b.id,
        p_b=p_b,
        votes=votes,
        votes_missing=expected - votes,
        consistency=_share([_agree(couple.orders) for couple in couples if len(couple.orders) == 2]),
        agreement=_share([each == side for _, each in sides]),
        label_mass=math.fsum(vote.label_mass for vote in judgements) / len(judgements) if judgements else None,
        drop_reason=_drop_reason(pair, p_b, rules.margin),
        gold_id=pair.gold_id,
        p_mean=_mean([couple.plain for couple in couples], couples) if couples else None,
        label_by=rules.aggregate,
        ties=sum(each == 0 for _, each in sides),
        dissent=tuple(name for name, each in sides if each * side < 0),
    )


def _couples(
    pair: Pair, votes: Sequence[Judgement], weights: Mapping[str, float], rules: Rules, shifts: Mapping[str, float]
) -> list[_Couple]:
    """The complete couples, by judge and principle, so that no sum depends on which vote came first."""
    cast: dict[tuple[str, str], dict[str, list[Judgement]]] = {}
    for vote in votes:
        order = "ab" if vote.first_id == pair.a.id else "ba"
        shown = (pair.a.id, pair.b.id) if order == "ab" else (pair.b.id, pair.a.id)
        if vote.pair_id != pair.id or (vote.first_id, vote.second_id) != shown:
            raise ValueError(f"judgement {vote.id} is not a vote on pair {pair.id}")
        cast.setdefault((vote.judge, vote.principle_id), {}).setdefault(order, []).append(vote)
    couples = []
    for (judge, principle_id), by_order in sorted(cast.items()):
        together = [vote for repeats in by_order.values() for vote in repeats]
        if len(by_order) < len(ORDERS[together[0].method]):
            continue
        orders = tuple(_p_b(by_order[order], order, rules, 0.0) for order in sorted(by_order))
        plain = shifted = math.fsum(orders) / len(orders)
        if shift := shifts.get(judge, 0.0):
            corrected = [_p_b(by_order[order], order, rules, shift) for order in by_order]
            shifted = math.fsum(corrected) / len(corrected)
        weight = weights[principle_id]
        couples.append(_Couple(f"{judge}/{principle_id}", weight, len(together), orders, plain, shifted))
    return couples


def _p_b(repeats: Sequence[Judgement], order: str, rules: Rules, shift: float) -> float:
    """Mean probability that b is better, by the votes of one order."""
    found = [_p_first(vote, rules, shift if order == "ba" else -shift) for vote in repeats]
    mean = math.fsum(found) / len(found)
    return mean if order == "ba" else 1 - mean


def _p_first(vote: Judgement, rules: Rules, shift: float) -> float:
    """The vote less the log-odds `shift` in favour of the first, then clamped if it reasoned."""
    p = vote.p_first
    if shift:
        log_odds = math.log(p / (1 - p)) if 0 < p < 1 else math.copysign(math.inf, p - 0.5)
        p = 1 / (1 + math.exp(shift - max(-CLIP, min(log_odds, CLIP))))
    if vote.method == "rationale":
        low, high = rules.clamp
        p = min(max(p, low), high)
    return p


def _label(couples: Sequence[_Couple], rules: Rules) -> float:
    if rules.aggregate == "majority":
        return _mean([(1 + _side(couple.shifted)) / 2 for couple in couples], couples)
    return _mean([couple.shifted for couple in couples], couples)


def _mean(values: Sequence[float], couples: Sequence[_Couple]) -> float:
    """By the couples' weights. What is within rounding of one half is one half."""
    total = math.fsum(couple.weight for couple in couples)
    mean = math.fsum(couple.weight * value for couple, value in zip(couples, values, strict=True)) / total
    return 0.5 if _side(mean) == 0 else min(max(mean, 0.0), 1.0)


def _side(p_b: float) -> int:
    """1: b is preferred, -1: a, 0: neither. What is within rounding of one half is one half."""
    return 0 if abs(p_b - 0.5) < 1e-12 else (1 if p_b > 0.5 else -1)


def _agree(orders: Sequence[float]) -> bool:
    return len({_side(p_b) for p_b in orders}) == 1


def _share(flags: Sequence[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None


def _drop_reason(pair: Pair, p_b: float | None, margin: float) -> DropReason | None:
    if pair.kind == "perturbation":
        return "perturbation"
    if not pair.a.text or not pair.b.text:
        return pair.flaw or "empty"
    if pair.a.text == pair.b.text:
        return "identical"
    if pair.flaw:
        return pair.flaw
    if p_b is None:
        return "votes-missing"
    if _side(p_b) == 0:
        return "tie"
    return "margin" if max(p_b, 1 - p_b) < 0.5 + margin else None
