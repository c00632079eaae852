"""Strengths of things that were compared two by two (Bradley & Terry 1952, Biometrika 39), with 95 % intervals.

A comparison is one game whose outcome may be a probability: p of a win for one and 1 − p for the other, as Arena counts
a tie as half (arXiv 2403.04132). Strengths have a normal prior around 0, the ridge penalty of choix's `opt_pairwise`:
without one, what never lost is infinitely strong, and things that no path of comparisons links have no common scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from constitution.measures.estimate import Floats, Z, finite

SPREAD = 2.0
"""Standard deviation of the prior, in log-odds: of half of all pairs the stronger wins 87 % or more. With it the
intervals of four to eight things after three or four games each hold the truth in 94 to 98 % where strengths truly
spread by 0.25 to 2 (tests/test_measures_bradley_terry.py); with 1.0, in 85 % at 2."""
_STEPS, _CLOSE = 100, 1e-12


@dataclass(frozen=True, slots=True)
class Standings:
    """n things; arrays of shape (n)."""

    strength: Floats
    """Log strength; their mean is 0, and the difference of two is the log-odds that the one beats the other."""
    chance: Floats
    """Mean probability of beating each of the others, in (0, 1); of one thing alone, NaN, as its ends."""
    low: Floats
    """Ends of the 95 % interval of `chance`: by the curvature at the fit (Laplace's method) and the delta method on
    log-odds. A probability counts as one game: where the judge's probabilities are surer than a game's outcome would
    be, the interval is too wide."""
    high: Floats


def standings(n: int, first: ArrayLike, second: ArrayLike, p_second: ArrayLike, spread: float = SPREAD) -> Standings:
    """first, second: places of the two in each of m comparisons, from 0, below n. p_second: the second's probability of
    winning it, in [0, 1]. The most probable strengths, by Newton's method; what is compared with nothing gets 0. Raises
    ValueError for p outside [0, 1] and for a thing that is compared with itself."""
    a, b, p = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64), finite(p_second, "p_second")
    if p.size and (p.min() < 0 or p.max() > 1):
        raise ValueError("p_second: must be in [0, 1]")
    if np.any(a == b):
        raise ValueError("a comparison is of two different things")
    strength, curvature = _fit(n, a, b, p, spread)
    if n < 2:
        nothing = np.full(n, np.nan)
        return Standings(strength, nothing, nothing, nothing)
    beats = _sigmoid(strength[:, None] - strength[None, :])
    chance = (beats.sum(axis=1) - 0.5) / (n - 1)  # without the one half against itself
    slope = -beats * (1 - beats) / (n - 1)
    np.fill_diagonal(slope, 0)
    np.fill_diagonal(slope, -slope.sum(axis=1))
    variance = np.einsum("ij,jk,ik->i", slope, np.linalg.inv(curvature), slope)
    middle, half = np.log(chance / (1 - chance)), Z * np.sqrt(variance) / (chance * (1 - chance))
    return Standings(strength, chance, _sigmoid(middle - half), _sigmoid(middle + half))


def _fit(
    n: int, a: NDArray[np.int64], b: NDArray[np.int64], p: Floats, spread: float
) -> tuple[Floats, NDArray[np.float64]]:
    """The strengths of the highest posterior, and its negative second derivative there (n, n)."""
    strength: Floats = np.zeros(n)
    for _ in range(_STEPS):
        wins = _sigmoid(strength[b] - strength[a])
        slope = np.bincount(b, p - wins, n) - np.bincount(a, p - wins, n) - strength / spread**2
        curvature = _laplacian(n, a, b, wins * (1 - wins)) + np.eye(n) / spread**2
        step = np.linalg.solve(curvature, slope)
        # Newton's step on a logistic likelihood overshoots where it is flat; no single strength moves by more than 2.
        strength = strength + step * min(1.0, 2.0 / max(float(np.abs(step).max(initial=0)), 1e-300))
        if float(np.abs(step).max(initial=0)) < _CLOSE:
            break
    return strength, curvature


def _laplacian(n: int, a: NDArray[np.int64], b: NDArray[np.int64], weight: Floats) -> NDArray[np.float64]:
    found = np.zeros((n, n))
    np.add.at(found, (a, b), -weight)
    np.add.at(found, (b, a), -weight)
    np.fill_diagonal(found, -found.sum(axis=1))
    return found


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without overflow on either side."""
    small = np.exp(-np.abs(values))
    found: NDArray[np.float64] = np.where(values >= 0, 1, small) / (1 + small)
    return found
