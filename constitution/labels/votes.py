"""From order-averaged votes to what a preference says: the same for one pair as for all pairs of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from constitution.measures.estimate import Floats, wilson_of
from constitution.records import DropReason

_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class AveragedVotes:
    """n order-averaged votes, by pair and voter (a judge by a principle): probabilities that b is better."""

    place: NDArray[np.int64]
    """Which pair it is on."""
    voter: NDArray[np.int64]
    votes: NDArray[np.int64]
    """How many votes it is made of."""
    p: Floats
    consistent: Floats
    """1: both orders prefer the same answer. 0: they do not. NaN: there is one order."""
    trials: Floats
    """How many written verdicts `p` is the share of, in effect: n of each order are 2 n, and of unequal orders the one
    with fewer counts for more. Infinite: `p` was read, and no draw is in it."""


def decide(votes: AveragedVotes, weight: Floats, pairs: int, majority: bool = False) -> Floats:
    """P(b is better) of each pair, NaN without a vote: the mean, or how the votes outvote each other, by weight (of
    each voter)."""
    values = (1 + side(votes.p)) / 2 if majority else votes.p
    return tidy(_per_pair(votes.place, weight[votes.voter] * values, weight[votes.voter], pairs))


def interval(votes: AveragedVotes, weight: Floats, pairs: int) -> tuple[Floats, Floats]:
    """Ends of the 95 % interval of the weighted mean of each pair that its written verdicts leave; NaN without any.

    Wilson's (1927) for their weighted share, of as many trials as have the variance of a mean with these weights (Kish
    1965, Survey Sampling, section 11.7). Principles and orders that differ make the variance smaller, and a tie too:
    the interval is then too wide. What was read is taken as it is; that judges err is not in it.
    """
    drawn = np.isfinite(votes.trials)
    weights = weight[votes.voter]
    own, place = weights[drawn], votes.place[drawn]
    total, of_drawn = np.bincount(votes.place, weights, pairs), np.bincount(place, own, pairs)
    share = _per_pair(place, own * votes.p[drawn], own, pairs)
    with np.errstate(invalid="ignore", divide="ignore"):
        low, high = wilson_of(share, of_drawn**2 / np.bincount(place, own**2 / votes.trials[drawn], pairs))
        rest = np.bincount(votes.place[~drawn], weights[~drawn] * votes.p[~drawn], pairs)
        return (rest + of_drawn * low) / total, (rest + of_drawn * high) / total


def describe(votes: AveragedVotes, p_b: Floats) -> dict[str, NDArray[Any]]:
    """How the votes go with the labels `p_b`: columns of `Preference` (consistency, agreement and ties, NaN for none;
    votes), one row per pair; and `dissents`, one per vote: it prefers the answer that the label does not."""
    pairs, sides, label = len(p_b), side(votes.p), side(p_b)
    both, ones = ~np.isnan(votes.consistent), np.ones(len(votes.p))
    return {
        "votes": np.bincount(votes.place, votes.votes, pairs).astype(np.int64),
        "consistency": _per_pair(votes.place[both], votes.consistent[both], ones[both], pairs),
        "agreement": _per_pair(votes.place, (sides == label[votes.place]) * 1.0, ones, pairs),
        "ties": np.bincount(votes.place, sides == 0, pairs).astype(np.int64),
        "dissents": sides * label[votes.place] < 0,
    }


def drop_reason(fixed: DropReason | None, p_b: float, margin: float) -> DropReason | None:
    """`fixed`, what the answers alone decide, else what the label does (NaN: there is none); None: the pair is kept."""
    if fixed is not None:
        return fixed
    if math.isnan(p_b):
        return "votes-missing"
    if side_of(p_b) == 0:
        return "tie"
    return "margin" if max(p_b, 1 - p_b) < 0.5 + margin else None


def side_of(p_b: float) -> int:
    """1: b is preferred, -1: a, 0: neither. What is within rounding of one half is one half."""
    return 0 if abs(p_b - 0.5) < _ROUNDING else (1 if p_b > 0.5 else -1)


def side(p_b: ArrayLike) -> NDArray[np.int64]:
    """`side_of` each; 0 for NaN, where there is no label."""
    p = np.asarray(p_b, dtype=np.float64)
    sides: NDArray[np.int64] = (p > 0.5 + _ROUNDING).astype(np.int64) - (p < 0.5 - _ROUNDING)
    return sides


def tidy(p_b: Floats) -> Floats:
    """Ties as one half, and nothing outside [0, 1] by rounding."""
    p: Floats = np.where(np.abs(p_b - 0.5) < _ROUNDING, 0.5, np.minimum(np.maximum(p_b, 0.0), 1.0))
    return p


def _per_pair(place: NDArray[np.int64], values: Floats, weights: Floats, pairs: int) -> Floats:
    """The sum of the values by that of the weights; NaN where a pair has none."""
    with np.errstate(invalid="ignore"):
        means: Floats = np.bincount(place, values, pairs) / np.bincount(place, weights, pairs)
    return means
