"""What can be said of answers in groups: the best of n, without drawing again and again, and what goes with what inside
the groups."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from constitution.measures.estimate import Estimate, Floats, distinct, mean, percentiles, sums

Array = NDArray[Any]


def chances(size: int, n: int) -> Floats:
    """P that all of `n` answers, drawn without replacement from a group of `size`, are among the k lowest of it, for k
    from 0 to `size`: (size + 1). Raises ValueError for n < 1, and where the group has fewer than n."""
    if not 1 <= n <= size:
        raise ValueError(f"best of {n}: the group has {size}")
    lowest = np.arange(size + 1, dtype=np.float64)[:, None]
    drawn = np.arange(n, dtype=np.float64)
    found: Floats = np.prod(np.maximum(lowest - drawn, 0.0) / (size - drawn), axis=1)
    return found


def best_of(rewards: Array, values: Array, n: int) -> float:
    """Expected value of the answer with the highest reward among `n` of a group's answers, drawn without replacement:
    exact, over all subsets, as pass@k is over those that hold a right answer (arXiv 2107.03374, section 2.1). Of equal
    rewards each is as likely to be taken.

    rewards, values: of the group's answers, shape (size,); with the rewards themselves as values it is the best
    reward. Raises ValueError for n < 1, and where the group has fewer than n.
    """
    among = chances(len(rewards), n)
    order = np.argsort(rewards, kind="stable")
    ranked, worth = rewards[order], values[order].astype(float)
    starts = np.searchsorted(ranked, ranked, side="left")
    ends = np.searchsorted(ranked, ranked, side="right")
    return float(np.dot((among[ends] - among[starts]) / (ends - starts), worth))


def sizes(most: int) -> tuple[int, ...]:
    """1, 2, 4, 8 … up to `most`, and `most` itself."""
    powers = [2**power for power in range(most.bit_length()) if 2**power <= most]
    return tuple(dict.fromkeys([*powers, most]))


def within(parts: Floats, clusters: ArrayLike, n: int, *, replicates: int = 1000) -> tuple[Estimate, Estimate]:
    """How y goes with x inside groups: the slope of the regression with an intercept for each group (Wooldridge 2010,
    "Econometric Analysis of Cross Section and Panel Data", section 10.5), and the correlation, which is the slope of
    both in standard deviations within groups.

    parts (k, 3): sums of x·y, x² and y² of each cluster, with x and y less their group's mean; clusters (k): their ids,
    none twice; n: rows that were summed. Without a value: x is the same in each group, or, of a correlation, y is.
    """
    value, ratio = (float(each[0]) for each in _within(parts.sum(axis=0)[None]))
    drawn = _within(sums(parts, clusters, replicates=replicates))
    slope, correlation = (
        Estimate(of_all, *percentiles(each, distinct(clusters)), n)
        if np.isfinite(of_all)
        else Estimate(None, None, None, n)
        for of_all, each in zip((value, ratio), drawn, strict=True)
    )
    if abs(ratio) > 1 - 1e-9:  # and so is every replicate's
        end = 2 * (mean(np.ones(len(parts)), clusters, proportion=True).low or 0.0) - 1
        correlation = Estimate(ratio, end, 1.0, n) if ratio > 0 else Estimate(ratio, -1.0, -end, n)
    return slope, correlation


def _within(parts: Floats) -> tuple[Floats, Floats]:
    """The slope and the correlation of each row of sums; NaN where they are not defined."""
    xy, xx, yy = parts.T
    flat_x, flat_y = xx < 1e-12, yy < 1e-12
    with np.errstate(all="ignore"):
        return np.where(flat_x, np.nan, xy / xx), np.where(flat_x | flat_y, np.nan, xy / np.sqrt(xx * yy))
