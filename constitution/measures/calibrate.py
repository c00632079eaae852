"""Labels held against gold labels, and fitted to them.

Which of a pair's answers is called b is the file's choice (some files name the better one first, always), so every pair
counts in both directions, as (p, y) and as (1 − p, 1 − y): no fit or score can then learn from the naming.

y are gold labels in [0, 1]: 1 means that b is better, 0.5 that people are divided, and a fraction counts as so many
people of each mind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from constitution.identity import digest
from constitution.measures.estimate import Estimate, Floats, distinct, percentiles, probabilities, sums

Calibration = Literal["temperature", "isotonic"]

LEAST = 50
"""Gold labels that each half of the prompts must have for the other half to be calibrated by it."""

_EDGE = 1e-6
"""Log-odds are taken of p no nearer to 0 and 1 than this."""


class Bin(NamedTuple):
    """One bin of a reliability diagram."""

    predicted: float
    """Mean of p in the bin."""
    observed: float
    """Mean of y in the bin."""
    n: int
    """Pairs in the bin, each of which is in two bins: once as p, once as 1 − p."""


def half(conversations: Iterable[str]) -> NDArray[np.bool_]:
    """Which half of the conversations each belongs to, by the digest of its id: the same in every run and in any
    order."""
    return np.array([int(digest(["half", id])[:8], 16) % 2 == 1 for id in conversations], dtype=np.bool_)


def fit(method: Calibration, p: ArrayLike, y: ArrayLike) -> Callable[[ArrayLike], Floats]:
    """The map from p (n) to a calibrated p, fitted to gold labels y (n); it keeps 1/2, and f(1 − p) = 1 − f(p).

    temperature: log-odds divided by one number (Guo et al. 2017, arXiv 1706.04599), a logistic regression without
    intercept (scikit-learn). A judge that is wrong more often than right gets 1/2 for everything. isotonic: the best
    monotone step function (Zadrozny & Elkan 2002; scikit-learn), which wants hundreds of labels; straight lines join
    the middles of its steps (Oron & Flournoy 2017, "Centered isotonic regression"), because the step at 1/2 would make
    ties, and so no labels, of all votes near it.
    Raises ValueError without any label.
    """
    given, gold = _both_ways(p, y)
    if not given.size:
        raise ValueError("there is no gold label to fit to")
    return _temperature(given, gold) if method == "temperature" else _isotonic(given, gold)


def ece(p: ArrayLike, y: ArrayLike, bins: int = 10) -> float | None:
    """Expected calibration error: mean distance of predicted and observed over bins of equal mass (Nguyen & O'Connor
    2015); None without labels."""
    rows = reliability(p, y, bins)
    count = sum(row.n for row in rows)
    return sum(row.n * abs(row.predicted - row.observed) for row in rows) / count if count else None


def ece_estimate(
    p: ArrayLike, y: ArrayLike, clusters: ArrayLike, bins: int = 10, *, replicates: int = 1000, seed: int = 0
) -> Estimate:
    """ECE with an interval for what it would be on pairs without end, from a bootstrap over `clusters` (n).

    Chance parts predicted and observed even where the truth does not, so ECE is too high on few pairs, and its
    replicates are higher still. The interval goes down by as much as chance alone can make (97.5 % quantile of the
    replicated gaps about the gaps found; the triangle inequality), so that it holds 0 unless calibration is refuted,
    and up by the basic bootstrap, or to the value where that lies below it.
    """
    given, gold = _both_ways(p, y)
    n = given.size // 2
    if not n:
        return Estimate(None, None, None, 0)
    gaps = np.zeros((given.size, bins))
    gaps[np.arange(given.size), _places(given, bins)] = given - gold
    found = gaps.sum(axis=0)
    groups = np.asarray(clusters)
    drawn, count = sums(gaps, np.tile(groups, 2), replicates=replicates, seed=seed), distinct(groups)
    value = float(np.abs(found).sum()) / given.size
    _, chance = percentiles(np.abs(drawn - found).sum(axis=1) / given.size, count)
    least, _ = percentiles(np.abs(drawn).sum(axis=1) / given.size, count)
    if chance is None or least is None:
        return Estimate(value, None, None, n)
    return Estimate(value, max(value - chance, 0.0), max(value, 2 * value - least), n)


def brier(p: ArrayLike, y: ArrayLike) -> float | None:
    """Mean squared distance of p from what people said (Brier 1950); None without labels."""
    given, gold = _both_ways(p, y)
    return float((gold * (1 - given) ** 2 + (1 - gold) * given**2).mean()) if given.size else None


def reliability(p: ArrayLike, y: ArrayLike, bins: int = 10) -> list[Bin]:
    """Rows of a reliability diagram, in bins that hold equally many; equal p share a bin, so there may be fewer."""
    given, gold = _both_ways(p, y)
    if not given.size:
        return []
    places = _places(given, bins)
    counts = np.bincount(places, minlength=bins)
    predicted, observed = (np.bincount(places, values, bins) for values in (given, gold))
    return [
        Bin(float(predicted[place] / counts[place]), float(observed[place] / counts[place]), int(counts[place]))
        for place in np.flatnonzero(counts)
    ]


def log_odds(p: ArrayLike) -> Floats:
    """ln(p / (1 − p)), of p no nearer to 0 and 1 than one in a million."""
    inside = np.clip(np.asarray(p, dtype=np.float64), _EDGE, 1 - _EDGE)
    found: Floats = np.log(inside) - np.log1p(-inside)
    return found


def expit(values: ArrayLike) -> Floats:
    """1 / (1 + e^−x)."""
    from scipy.special import expit as inverse

    found: Floats = inverse(np.asarray(values, dtype=np.float64))
    return found


def _temperature(p: Floats, y: Floats) -> Callable[[ArrayLike], Floats]:
    from sklearn.linear_model import LogisticRegression

    given, outcome, weight = _outcomes(p, y)
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-8, max_iter=1000)
    model.fit(log_odds(given)[:, None], outcome, sample_weight=weight)
    slope = max(float(model.coef_[0, 0]), 0.0)
    return lambda p: expit(slope * log_odds(probabilities(p, "p")))


def _isotonic(p: Floats, y: Floats) -> Callable[[ArrayLike], Floats]:
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=0.0, y_max=1.0).fit_transform(p, y)
    steps, step = np.unique(np.round(fitted, 12), return_inverse=True)
    middles = np.bincount(step, p) / np.bincount(step)

    def calibrated(p: ArrayLike) -> Floats:
        given = probabilities(p, "p")
        # Both directions, so that rounding cannot tell them apart.
        found: Floats = (np.interp(given, middles, steps) + 1 - np.interp(1 - given, middles, steps)) / 2
        return found

    return calibrated


def _places(given: Floats, bins: int) -> NDArray[np.intp]:
    """The bin of each: those of scikit-learn's calibration_curve, which takes no fractions and counts nothing."""
    edges = np.quantile(given, np.linspace(0, 1, bins + 1))[1:-1]
    return np.searchsorted(edges, given)


def _both_ways(p: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    given, gold = probabilities(p, "p"), probabilities(y, "y")
    if given.shape != gold.shape or given.ndim != 1:
        raise ValueError(f"{given.shape} probabilities and {gold.shape} gold labels")
    # Rounded, because 1 − .8 is not .2 to the last bit and is to be in one bin with it.
    return np.round(np.concatenate([given, 1 - given]), 12), np.concatenate([gold, 1 - gold])


def _outcomes(p: Floats, y: Floats) -> tuple[Floats, NDArray[np.intp], Floats]:
    """Fractions as what scikit-learn takes: an outcome of 1 with weight y and one of 0 with weight 1 − y."""
    outcome = np.repeat([1, 0], p.size)
    weight = np.concatenate([y, 1 - y])
    counts = weight > 0
    return np.concatenate([p, p])[counts], outcome[counts], weight[counts]
