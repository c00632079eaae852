"""The label of one pair, made as soon as its votes are in.

Votes are put back on the answers a and b. Those of one judge, principle and order (its repeats) are averaged in
probability, then both orders, which takes the first-order position bias out; these averages are then averaged by the
principles' weights, or outvote each other. A vote without its other order counts as missing: alone it would carry the
position bias into the label. Where answers were looked at one by one there is one order. votes.sql does the same for a
whole run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from constitution.judge.methods import METHODS
from constitution.labels.votes import AveragedVotes, decide, describe, drop_reason, interval, side_of
from constitution.measures.estimate import Floats
from constitution.records import DropReason, Judgement, Method, Preference, Run

if TYPE_CHECKING:
    from constitution.judge.pairs import Pair
    from constitution.recipe import JudgeSection

LABEL_SETTINGS = ("aggregate", "control", "calibrate", "margin")
"""The settings of [judge] by which votes become labels: they ask for no other votes."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the recipe's [judge] says of labels; its fields' names and defaults."""

    margin: float = 0.0
    min_label_mass: float = 0.0
    clamp: tuple[float, float] = (0.4, 0.6)
    aggregate: Literal["mean", "majority", "dawid-skene"] = "mean"
    control: Literal["off", "length", "style"] = "off"
    calibrate: Literal["off", "temperature", "isotonic"] = "off"

    @classmethod
    def of(cls, section: JudgeSection) -> Self:
        return cls(**{field.name: getattr(section, field.name) for field in fields(cls)})

    @classmethod
    def of_run(cls, run: Run) -> Self:
        """Those that the run's labels were last made by."""
        settings = judge_settings(run)
        known = {field.name: settings[field.name] for field in fields(cls) if field.name in settings}
        return cls(**known)

    @property
    def whole_run(self) -> bool:
        """Whether they ask for labels that only a whole run's votes can make."""
        return self.aggregate == "dawid-skene" or self.control != "off" or self.calibrate != "off"

    @property
    def first_aggregate(self) -> Literal["mean", "majority"]:
        """How a pair by itself is labelled: what needs the whole run begins as the mean."""
        return "majority" if self.aggregate == "majority" else "mean"


def judge_settings(run: Run) -> dict[str, Any]:
    """[judge] of the run's recipe, with what its labels were last made by in place of its own settings; empty where it
    has no such section."""
    last = {name: run.labels[name] for name in LABEL_SETTINGS if name in run.labels}
    return {**(run.recipe.get("judge") or {}), **last}


def label_pair(
    pair: Pair,
    judgements: Sequence[Judgement],
    expected: int,
    weights: Mapping[str, float],
    rules: Rules,
    spared: int = 0,
) -> Preference:
    """The preference that `judgements`, those of all judges on this pair, make of it.

    expected: votes that were asked for. weights: per principle id. spared: `Preference.votes_spared`.
    The reason to drop is the first that holds of
    perturbation, empty (or why the text did not come: cut, refused, filtered), identical, cut or refused or filtered,
    votes-missing, tie, margin. Raises ValueError for a vote on another pair.
    """
    votes, names, methods, weight = _averaged(pair, judgements, weights, rules)
    majority = rules.first_aggregate == "majority"
    p_b = decide(votes, weight, 1, majority)
    about = describe(votes, p_b)
    cast = int(about["votes"][0])
    ends = interval(votes, weight, 1) if np.isfinite(votes.trials).any() else None
    return Preference(
        id=pair.id,
        run_id=pair.a.run_id,
        prompt_id=pair.a.prompt_id,
        kind=pair.kind,
        a_id=pair.a.id,
        b_id=pair.b.id,
        p_b=_or_none(p_b),
        votes=cast,
        votes_missing=expected - cast,
        consistency=_or_none(about["consistency"]),
        agreement=_or_none(about["agreement"]),
        label_mass=math.fsum(vote.label_mass for vote in judgements) / len(judgements) if judgements else None,
        drop_reason=drop_reason(fixed_drop(pair), float(p_b[0]), rules.margin),
        gold_id=pair.gold_id,
        p_mean=_or_none(decide(votes, weight, 1) if majority else p_b),
        label_by=made_by(rules.first_aggregate, methods),
        ties=int(about["ties"][0]),
        dissent=tuple(name for name, dissents in zip(names, about["dissents"], strict=True) if dissents),
        p_low=_or_none(ends[0]) if ends else None,
        p_high=_or_none(ends[1]) if ends else None,
        votes_spared=spared,
        reward_a=pair.reward_a,
        reward_b=pair.reward_b,
    )


def pair_mean(pair: Pair, judgements: Sequence[Judgement], weights: Mapping[str, float], rules: Rules) -> float | None:
    """`p_b` of the preference that these votes make; None where none of them counts."""
    votes, _, _, weight = _averaged(pair, judgements, weights, rules)
    return _or_none(decide(votes, weight, 1, rules.first_aggregate == "majority"))


def _averaged(
    pair: Pair, judgements: Sequence[Judgement], weights: Mapping[str, float], rules: Rules
) -> tuple[AveragedVotes, list[str], list[Method], Floats]:
    """The complete averages, by judge and principle, so that no sum depends on which vote came first; their names,
    methods and weights."""
    cast: dict[tuple[str, str], dict[str, list[float]]] = {}
    method_of: dict[tuple[str, str], Method] = {}
    for vote in judgements:
        order = "ab" if vote.first_id == pair.a.id else "ba"
        first, second = pair.shown(order)
        if vote.pair_id != pair.id or (vote.first_id, vote.second_id) != (first.id, second.id):
            raise ValueError(f"judgement {vote.id} is not a vote on pair {pair.id}")
        if vote.label_mass < rules.min_label_mass:
            continue
        method, voter, (low, high) = METHODS[vote.method], (vote.judge, vote.principle_id), rules.clamp
        method_of[voter] = vote.method
        p_first = min(max(vote.p_first, low), high) if method.clamped else vote.p_first
        cast.setdefault(voter, {}).setdefault(order, []).append(p_first)
    whole = [
        (voter, by_order)
        for voter, by_order in sorted(cast.items())
        if len(by_order) >= len(METHODS[method_of[voter]].orders)
    ]
    methods = [method_of[voter] for voter, _ in whole]
    each = [{order: math.fsum(p) / len(p) for order, p in by_order.items()} for _, by_order in whole]
    p_b = [[1 - p if order == "ab" else p for order, p in sorted(by_order.items())] for by_order in each]
    consistent = [float(side_of(p[0]) == side_of(p[1])) if len(p) == 2 else math.nan for p in p_b]
    votes = AveragedVotes(
        place=np.zeros(len(whole), dtype=np.int64),
        voter=np.arange(len(whole)),
        votes=np.array([sum(map(len, by_order.values())) for _, by_order in whole], dtype=np.int64),
        p=np.array([math.fsum(p) / len(p) for p in p_b], dtype=np.float64),
        consistent=np.array(consistent, dtype=np.float64),
        trials=np.array(
            [
                _trials(by_order) if METHODS[method].sampled else math.inf
                for method, (_, by_order) in zip(methods, whole, strict=True)
            ]
        ),
    )
    names = [f"{judge}/{principle_id}" for (judge, principle_id), _ in whole]
    return votes, names, methods, np.array([weights[principle_id] for (_, principle_id), _ in whole], dtype=np.float64)


def made_by(aggregate: str, methods: Iterable[Method], *applied: str) -> str:
    """`Preference.label_by`. methods: those of the votes."""
    return ", ".join([aggregate, *sorted(set(methods) - {"label"}), *applied])


def _trials(by_order: Mapping[str, Sequence[float]]) -> float:
    """As many independent draws as have the variance of the mean of the orders' means."""
    return len(by_order) ** 2 / math.fsum(1 / len(p) for p in by_order.values())


def fixed_drop(pair: Pair) -> DropReason | None:
    """What the answers alone decide: no vote changes it."""
    if pair.kind == "perturbation":
        return "perturbation"
    if not pair.a.text or not pair.b.text:
        return pair.flaw or "empty"
    return "identical" if pair.a.text == pair.b.text else pair.flaw


def _or_none(values: Floats) -> float | None:
    value = float(values[0])
    return None if math.isnan(value) else value
