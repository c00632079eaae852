"""Two ways to judge the same things, one after the other: by how much one is righter, and whether that is chance.

Rows of one prompt stand and fall together, so prompts are drawn and prompts are counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from constitution.measures.estimate import Estimate, finite, mean

ALPHA = 0.05
POWER = 0.8


def rise(before: ArrayLike, after: ArrayLike, clusters: ArrayLike, *, replicates: int = 1000) -> Estimate:
    """Mean of after − before, of n rows that are right (1), wrong (0) or neither (1/2) both ways, with the interval of
    a paired bootstrap over `clusters` (n; ids of prompts). ValueError where they are not equally long."""
    old, new = finite(before, "before"), finite(after, "after")
    if old.shape != new.shape:
        raise ValueError(f"{old.shape} rows before and {new.shape} after")
    return mean(new - old, clusters, replicates=replicates)


def sign_test(before: ArrayLike, after: ArrayLike, clusters: ArrayLike) -> tuple[int, int, float]:
    """Clusters in which `after` is righter than `before`, those in which it is less right, and the probability that
    chance parts them as unevenly or more so: exact and two-sided, McNemar's test (1947) where each cluster has one
    row. 1 where there are none."""
    from scipy.stats import binomtest

    change = finite(after, "after") - finite(before, "before")
    names, places = np.unique(np.asarray(clusters), return_inverse=True)
    net = np.bincount(places, change, len(names))
    gains, losses = int((net > 1e-9).sum()), int((net < -1e-9).sum())
    p = float(binomtest(gains, gains + losses).pvalue) if gains + losses else 1.0
    return gains, losses, p


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p, in the order given: at most α of them is kept wrongly, whichever of the tests are null (Holm 1979,
    "A Simple Sequentially Rejective Multiple Test Procedure")."""
    order = sorted(range(len(p)), key=lambda place: p[place])
    adjusted, highest = [0.0] * len(p), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[place]))
        adjusted[place] = highest
    return adjusted


def gains_needed(tests: int = 1) -> int:
    """The fewest gains, without a loss, that `sign_test` tells from chance when so many tests are made."""
    return math.ceil(1 + math.log2(tests / ALPHA))


def prompts_needed(share: float, tests: int = 1) -> int:
    """The fewest prompts on which a rise by `share` (0 to 1) is found with a probability of POWER, if no prompt gets
    worse. With losses it takes more. ValueError for a share that is not in (0, 1]."""
    from scipy.stats import binom

    if not 0 < share <= 1:
        raise ValueError(f"a rise by {share}: must be above 0 and at most 1")
    n = least = gains_needed(tests)
    while binom.sf(least - 1, n, share) < POWER:
        n += max(1, n // 50)
    while n > least and binom.sf(least - 1, n - 1, share) >= POWER:
        n -= 1
    return n
