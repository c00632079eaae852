"""How far raters agree beyond chance: Cohen's kappa of two, Krippendorff's alpha of any number
(krippendorff), with intervals from a bootstrap over items or, where given, over clusters of items."""

from __future__ import annotations

import math
import warnings

import numpy as np
from numpy.typing import ArrayLike

from constitution.measures.estimate import Estimate, Floats, distinct, mean, percentiles, sums


def kappa(
    a: ArrayLike, b: ArrayLike, clusters: ArrayLike | None = None, *, replicates: int = 1000, seed: int = 0
) -> Estimate:
    """Cohen's kappa (1960) of two raters' categories for the same n items. Without a value: no items, or both raters
    always say one and the same. Raises ValueError for NaN."""
    first, second = np.asarray(a), np.asarray(b)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"raters: {first.shape} and {second.shape} items")
    if any(rater.dtype.kind == "f" and np.isnan(rater).any() for rater in (first, second)):
        raise ValueError("raters: every item needs a category")
    n = first.size
    if not n:
        return Estimate(None, None, None, 0)
    names, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
    width = len(names)
    cells = np.zeros((n, width * width))
    cells[np.arange(n), codes[:n] * width + codes[n:]] = 1
    groups = np.arange(n) if clusters is None else np.asarray(clusters)
    return kappa_of_cells(cells, groups, replicates=replicates, seed=seed)


def kappa_of_cells(cells: Floats, clusters: ArrayLike, *, replicates: int = 1000, seed: int = 0) -> Estimate:
    """`kappa` of items that have been counted, so that millions of them need not be here. cells (k, categories²): how
    many items of one cluster, or of a part of it, have each two categories, those of the first rater one after the
    other."""
    counts = cells.sum(axis=0)
    n, width = int(counts.sum()), math.isqrt(len(counts))
    value = float(_kappas(counts[None], width)[0]) if n else np.nan
    if not np.isfinite(value):
        return Estimate(None, None, None, n)
    if value > 1 - 1e-12:
        table = counts.reshape(width, width)
        return _full(1 - float(table.sum(axis=0) @ table.sum(axis=1)) / n**2, clusters, n)
    drawn = sums(cells, clusters, replicates=replicates, seed=seed)
    return Estimate(value, *percentiles(_kappas(drawn, width), distinct(clusters)), n)


def _kappas(cells: Floats, width: int) -> Floats:
    """1 − observed / expected disagreement of each table (k, width²) of counts; NaN where none is expected."""
    counts = cells.reshape(-1, width, width)
    total = counts.sum(axis=(1, 2))
    agreed = np.trace(counts, axis1=1, axis2=2) / total
    expected = (counts.sum(axis=1) * counts.sum(axis=2)).sum(axis=1) / total**2
    with np.errstate(all="ignore"):
        found: Floats = (agreed - expected) / (1 - expected)
    return found


def alpha(table: ArrayLike, clusters: ArrayLike | None = None, *, replicates: int = 1000, seed: int = 0) -> Estimate:
    """Krippendorff's alpha (2004), nominal, of `table` (raters, items): categories as numbers, NaN where a rater said
    nothing. n: items with two ratings or more. Without a value: no such item, or all ratings are the same."""
    ratings = np.asarray(table, dtype=np.float64)
    if ratings.ndim != 2:
        raise ValueError(f"table: must be (raters, items), not {ratings.shape}")
    pairable = (~np.isnan(ratings)).sum(axis=0) > 1
    ratings, n = ratings[:, pairable], int(pairable.sum())
    values = np.unique(ratings[~np.isnan(ratings)])
    if not n or len(values) < 2:
        return Estimate(None, None, None, n)
    import krippendorff

    counts = np.stack([(ratings == value).sum(axis=0) for value in values], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = float(krippendorff.alpha(value_counts=counts, level_of_measurement="nominal"))
    groups = np.arange(n) if clusters is None else np.asarray(clusters)[pairable]
    if value > 1 - 1e-12:
        margins, total = counts.sum(axis=0), counts.sum()
        return _full(1 - (margins * (margins - 1)).sum() / (total * (total - 1)), groups, n)
    drawn = sums(_coincidences(counts), groups, replicates=replicates, seed=seed)
    return Estimate(value, *percentiles(_alphas(drawn, len(values)), distinct(groups)), n)


def _full(expected: float, groups: ArrayLike, n: int) -> Estimate:
    """1, of raters who agree on each of n items, where `expected` is how often chance would have them disagree. No
    replicate differs, so the interval is that of the share of items on which they agree, Wilson's."""
    agree = np.ones(len(np.asarray(groups)))
    low = mean(agree, groups, proportion=True).low or 0.0
    return Estimate(1.0, float(1 - (1 - low) / expected), 1.0, n)


def _coincidences(counts: Floats) -> Floats:
    """What each item adds to the matrix of coincidences: (items, values²). Only the replicates are made of them; the
    package would build each from all items again, a thousand times."""
    each = counts.astype(np.float64)
    pairs = each[:, :, None] * each[:, None, :] - each[:, :, None] * np.eye(each.shape[1])
    found: Floats = (pairs / (each.sum(axis=1) - 1)[:, None, None]).reshape(len(each), -1)
    return found


def _alphas(coincidences: Floats, width: int) -> Floats:
    """1 − observed / expected disagreement of each replicate; NaN where it drew one value alone."""
    observed = coincidences.reshape(-1, width, width)
    margins = observed.sum(axis=2)
    total = margins.sum(axis=1)
    differ = 1 - np.eye(width)
    expected = (margins[:, :, None] * margins[:, None, :] * differ).sum(axis=(1, 2)) / (total - 1)
    with np.errstate(all="ignore"):
        found: Floats = 1 - (observed * differ).sum(axis=(1, 2)) / expected
    return found
