"""How well a number tells the right from the wrong: the area under the receiver's operating characteristic, which is
the probability that a right one has the higher number than a wrong one, ties counting half (Hanley & McNeil 1982)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from constitution.measures.estimate import Estimate, Floats, draws, finite, percentiles


def auc(scores: ArrayLike, right: ArrayLike, clusters: ArrayLike, *, replicates: int = 1000, seed: int = 0) -> Estimate:
    """The area, with an interval from a bootstrap over `clusters` (n; ids of prompts).

    scores (n): finite. right (n): true or false. Without a right and a wrong one there is no value.
    """
    given, good = finite(scores, "scores"), np.asarray(right, dtype=bool)
    _, ranks = np.unique(given, return_inverse=True)
    names, places = np.unique(np.asarray(clusters), return_inverse=True)
    value = _area(np.ones(given.size), ranks, good)
    if not np.isfinite(value):
        return Estimate(None, None, None, given.size)
    drawn = draws(len(names), replicates=replicates, seed=seed)
    replicated = np.array([_area(times[places], ranks, good) for times in drawn])
    return Estimate(float(value), *percentiles(replicated, len(names)), given.size)


def _area(times: Floats, ranks: np.ndarray, good: np.ndarray) -> float:
    """times (n): how often each counts. NaN: there are not both kinds."""
    count = int(ranks.max(initial=-1)) + 1
    right, wrong = (np.bincount(ranks[each], times[each], count) for each in (good, ~good))
    pairs = right.sum() * wrong.sum()
    below = np.cumsum(wrong) - wrong
    return float((right * (below + wrong / 2)).sum() / pairs) if pairs else float("nan")
