"""What a whole will come to, by a sample of it: a prediction interval for the sum over all of its parts.

A plain interval of the mean, times their number, leaves out that the parts themselves vary; this one has both. What a
part needs goes with its size, which is known of all of them: so the mean of all sizes, in place of the sample's,
corrects for a sample of small or large ones (the regression estimator; Cochran 1977, Sampling Techniques, chapter 7).
Student's t and not a bootstrap: of sixteen skewed values a percentile bootstrap is too narrow
(Hesterberg 2015, table 1).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from constitution.measures.estimate import CONFIDENCE, Estimate, finite, wilson

LEAST = 8
"""Values; of fewer a slope says too little, and sizes are not looked at."""
_ALIKE = 1e-9


def total(values: ArrayLike, sizes: ArrayLike, population: int, mean_size: float) -> Estimate:
    """The sum of what all parts of a population need, none of it negative, with its 95 % prediction interval.

    values (n): what each part of a random sample needed. sizes (n): how large each of them is. population: number of
    parts. mean_size: of all. Two values at least have an interval. Where all values are alike, or follow from their
    sizes without rest, that says only that few parts do otherwise: the share that Wilson's interval leaves may need
    nothing, or twice as much.
    """
    y, x = finite(values, "values"), finite(sizes, "sizes")
    n = len(y)
    if not n:
        return Estimate(None, None, None, 0)
    if n < 2:
        return Estimate(population * float(y[0]), None, None, n)
    from scipy.special import stdtrit

    away = x - x.mean()
    spread = float(away @ away)
    sloped = n >= LEAST and spread > _ALIKE * max(float(x @ x), 1.0)
    slope = float(away @ y) / spread if sloped else 0.0
    off = mean_size - float(x.mean()) if sloped else 0.0
    mean = max(float(y.mean()) + slope * off, 0.0)
    rest = y - y.mean() - slope * away
    freedom = n - 1 - sloped
    deviation = math.sqrt(float(rest @ rest) / freedom)
    if deviation <= _ALIKE * max(float(np.abs(y).max()), _ALIKE):
        reach = mean * (1 - wilson(n, n)[0])
    else:
        leverage = off**2 / spread if sloped else 0.0
        unknown = math.sqrt(1 / n + 1 / population + leverage)
        reach = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * deviation * unknown
    return Estimate(population * mean, population * max(mean - reach, 0.0), population * (mean + reach), n)
