"""A number with its 95 % interval: the percentile bootstrap over prompts (Efron & Tibshirani 1993, chapter 13), made
wider where there are few (Hesterberg 2015, "What Teachers Should Know About the Bootstrap", Am. Stat. 69).

Votes on the answers to one prompt stand and fall together, so prompts are drawn, not votes. What a replicate needs of a
prompt are sums (of values, of cross-products), so a replicate is a product of how often each prompt was drawn with
those sums, and memory does not grow with replicates × rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
Z = 1.959963984540054
"""Half the width of its interval, in standard deviations of a normal distribution."""
_CHUNK_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True)
class Estimate:
    value: float | None
    """None: there is nothing to estimate it on."""
    low: float | None
    """Ends of the 95 % interval; None: there is too little for one."""
    high: float | None
    n: int
    """Rows that it was estimated on."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Values that were summed up, cluster by cluster."""

    totals: Floats
    """(k) Sum of each cluster's values."""
    counts: NDArray[np.int64]
    """(k) How many they are."""
    low: float
    """The lowest value of all."""
    high: float


def mean(
    values: ArrayLike, clusters: ArrayLike, *, proportion: bool = False, replicates: int = 1000, seed: int = 0
) -> Estimate:
    """Mean of `values` (n), with an interval from a bootstrap over `clusters` (n; ids of prompts).

    proportion: the values are shares in [0, 1]; where all are equal, or there is one cluster, and a bootstrap would say
    nothing, the interval is Wilson's (1927), of as many trials as there are clusters. Otherwise one cluster gives no
    interval. Raises ValueError where a value is not finite or, of a proportion, not in [0, 1].
    """
    given = finite(values, "values")
    names, places = np.unique(_one_each(clusters, given.size), return_inverse=True)
    if not given.size:
        return Estimate(None, None, None, 0)
    totals: Floats = np.bincount(places, given).astype(np.float64)
    parts = Parts(totals, np.bincount(places), float(given.min()), float(given.max()))
    return mean_of_parts(parts, names, proportion=proportion, replicates=replicates, seed=seed)


def mean_of_parts(
    parts: Parts, clusters: ArrayLike, *, proportion: bool = False, replicates: int = 1000, seed: int = 0
) -> Estimate:
    """`mean` of values that have been summed up by cluster, so that millions of them need not be here. clusters (k):
    their ids, none twice."""
    finite([parts.low, parts.high, *parts.totals], "values")
    if proportion and (parts.low < 0 or parts.high > 1):
        raise ValueError("values: a proportion is in [0, 1]")
    n, count = int(parts.counts.sum()), len(parts.totals)
    value = float(parts.totals.sum()) / n
    if proportion and (count < 2 or parts.low == parts.high):
        return Estimate(value, *wilson(value * count, count), n)
    drawn = sums(np.column_stack([parts.totals, parts.counts]), clusters, replicates=replicates, seed=seed)
    return Estimate(value, *percentiles(drawn[:, 0] / drawn[:, 1], count), n)


def wilson(hits: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of `n`, one or more, that are independent of each other (Wilson 1927)."""
    share, spread = hits / n, Z**2 / n
    middle = (share + spread / 2) / (1 + spread)
    reach = Z / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return max(middle - reach, 0.0), min(middle + reach, 1.0)


def wilson_of(share: Floats, n: Floats) -> tuple[Floats, Floats]:
    """`wilson` of many shares at once, of n trials each, which need not be whole numbers; NaN for NaN."""
    spread = Z**2 / n
    middle = (share + spread / 2) / (1 + spread)
    reach = Z / (1 + spread) * np.sqrt(np.maximum(share * (1 - share), 0.0) / n + spread / (4 * n))
    return np.maximum(middle - reach, 0.0), np.minimum(middle + reach, 1.0)


def sums(columns: Floats, clusters: ArrayLike, *, replicates: int = 1000, seed: int = 0) -> Floats:
    """Column sums of `columns` (n, q) in each of the replicates, for which as many clusters are drawn, with
    replacement, as there are: (replicates, q).

    The same clusters and seed give the same draws, whatever the order of the rows.
    """
    names, places = np.unique(_one_each(clusters, len(columns)), return_inverse=True)
    count, width = len(names), columns.shape[1]
    totals = np.column_stack([np.bincount(places, column, count) for column in columns.T]) if width else np.empty(0)
    found = np.empty((replicates, width))
    if 8 * count * replicates <= _CHUNK_BYTES:
        return np.asarray(_same_draws(count, replicates, seed) @ totals)
    start = 0
    for drawn in _chunks(count, replicates, seed):
        found[start : start + len(drawn)] = drawn @ totals
        start += len(drawn)
    return found


def draws(count: int, *, replicates: int = 1000, seed: int = 0) -> Iterator[Floats]:
    """How often each of `count` clusters is drawn, a replicate at a time."""
    for drawn in _chunks(count, replicates, seed):
        yield from drawn


def _chunks(count: int, replicates: int, seed: int) -> Iterator[Floats]:
    """The same, as many replicates at a time as memory is given for."""
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_BYTES // (8 * max(count, 1)))
    for start in range(0, replicates, chunk):
        yield _draws(generator, count, min(chunk, replicates - start))


@lru_cache(maxsize=4)
def _same_draws(count: int, replicates: int, seed: int) -> Floats:
    """An audit draws the same prompts for most of its figures."""
    return _draws(np.random.default_rng(seed), count, replicates)


def _draws(generator: np.random.Generator, count: int, replicates: int) -> Floats:
    """How often each of `count` clusters is drawn: (replicates, count)."""
    drawn = generator.integers(count, size=(replicates, count)) + count * np.arange(replicates)[:, None]
    return np.bincount(drawn.ravel(), minlength=replicates * count).reshape(replicates, count).astype(np.float64)


def percentiles(replicated: Floats, count: int) -> tuple[float | None, float | None]:
    """The 95 % interval that a statistic's replicates give; those in which it is not defined (NaN) do not count.

    count: clusters that were drawn; under two there is no interval. Of few, the middle 95 % of the replicates would
    hold the truth in 83 (of 5) or 88 (of 10) of a hundred samples, so more of them are taken: as many as make the
    interval of a mean as wide as Student's.
    """
    defined = replicated[np.isfinite(replicated)]
    if not defined.size or count < 2:
        return None, None
    from scipy.special import ndtr, stdtrit

    edge = float(ndtr(np.sqrt(count / (count - 1)) * stdtrit(count - 1, (1 - CONFIDENCE) / 2)))
    low, high = np.quantile(defined, [edge, 1 - edge])
    return float(low), float(high)


def distinct(clusters: ArrayLike) -> int:
    """How many clusters there are."""
    return len(np.unique(np.asarray(clusters)))


def finite(values: ArrayLike, name: str) -> Floats:
    """`values` as floats; ValueError where one of them is NaN or infinite."""
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: every one must be a finite number")
    return array


def probabilities(values: ArrayLike, name: str) -> Floats:
    """`values` as floats in [0, 1]; ValueError where one of them is not."""
    array = finite(values, name)
    if array.size and (array.min() < 0 or array.max() > 1):
        raise ValueError(f"{name}: every one must be in [0, 1]")
    return array


def _one_each(clusters: ArrayLike, count: int) -> NDArray[np.generic]:
    names = np.asarray(clusters)
    if names.shape != (count,):
        raise ValueError(f"clusters: {count} rows need as many, not {names.shape}")
    return names
