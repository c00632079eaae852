"""Bradley–Terry strengths against a regression of another library, against the likelihood itself, and by simulation."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from constitution.measures.bradley_terry import SPREAD, standings
from constitution.measures.estimate import Floats


def drawn(n: int, m: int, seed: int) -> tuple[Floats, Floats, Floats]:
    """m comparisons among n things, with soft outcomes."""
    rng = np.random.default_rng(seed)
    pairs = np.array([rng.choice(n, 2, replace=False) for _ in range(m)]).reshape(m, 2)
    return pairs[:, 0], pairs[:, 1], rng.random(m)


@pytest.mark.parametrize(("n", "m", "spread"), [(2, 1, 2.0), (5, 12, 2.0), (8, 16, 0.5), (12, 40, 30.0)])
def test_strengths_are_those_of_a_logistic_regression(n: int, m: int, spread: float) -> None:
    a, b, p = drawn(n, m, n)
    found = standings(n, a, b, p, spread)
    design = np.zeros((m, n))
    design[np.arange(m), b] += 1
    design[np.arange(m), a] -= 1
    regression = LogisticRegression(C=spread**2, fit_intercept=False, tol=1e-12, max_iter=10_000)
    regression.fit(np.vstack([design, design]), np.repeat([1, 0], m), sample_weight=np.concatenate([p, 1 - p]))
    np.testing.assert_allclose(found.strength, regression.coef_[0], atol=1e-4)
    assert abs(found.strength.sum()) < 1e-9


def test_they_are_the_most_probable_and_the_interval_is_of_the_curvature_there() -> None:
    n, (a, b, p) = 6, drawn(6, 11, 3)

    def loss(theta: Floats) -> float:
        wins = theta[b] - theta[a]
        likelihood = p * np.log(expit(wins)) + (1 - p) * np.log(expit(-wins))
        return float(-likelihood.sum() + (theta**2).sum() / 2 / SPREAD**2)

    def chance(theta: Floats, i: int) -> float:
        return float(np.mean([expit(theta[i] - theta[j]) for j in range(n) if j != i]))

    best = minimize(loss, np.zeros(n), method="BFGS", options={"gtol": 1e-9}).x
    found = standings(n, a, b, p)
    np.testing.assert_allclose(found.strength, best, atol=1e-5)
    np.testing.assert_allclose(found.chance, [chance(best, i) for i in range(n)], atol=1e-5)
    h, units = 1e-4, np.eye(n)
    curvature = np.array([
        [(loss(best + h * (u + v)) - loss(best + h * (u - v)) - loss(best - h * (u - v)) + loss(best - h * (u + v)))
         / (4 * h * h) for v in units] for u in units
    ])  # fmt: skip
    for i in range(n):
        slope = np.array([(chance(best + h * u, i) - chance(best - h * u, i)) / (2 * h) for u in units])
        value = chance(best, i)
        half = 1.959964 * np.sqrt(slope @ np.linalg.inv(curvature) @ slope) / (value * (1 - value))
        ends = expit(np.log(value / (1 - value)) + np.array([-half, half]))
        np.testing.assert_allclose([found.low[i], found.high[i]], ends, atol=1e-4)


def test_what_never_lost_and_what_nothing_is_known_of_is_finite() -> None:
    found = standings(4, [0, 0, 1], [1, 2, 2], [1.0, 1.0, 1.0])
    assert found.strength[0] < found.strength[1] < found.strength[2] < 10
    assert np.abs(found.strength[[1, 3]]).max() < 1e-9  # one win and one loss, and no game at all
    assert (found.low < found.chance).all()
    assert (found.chance < found.high).all()
    assert found.chance.sum() == pytest.approx(4 / 2)  # every pair is won once
    wide = found.high - found.low
    assert wide[3] > wide[:3].max()
    no_games = standings(3, [], [], [])
    assert no_games.strength.tolist() == [0, 0, 0]
    assert no_games.chance.tolist() == [0.5] * 3
    assert np.isnan(standings(1, [], [], []).chance).all()


@pytest.mark.parametrize("seed", range(3))
def test_hard_outcomes_and_a_wide_prior_are_fitted_too(seed: int) -> None:
    a, b, p = drawn(40, 60, seed)
    found = standings(40, a, b, np.round(p), 50.0)
    wins = expit(found.strength[b] - found.strength[a])
    slope = np.bincount(b, np.round(p) - wins, 40) - np.bincount(a, np.round(p) - wins, 40) - found.strength / 2500
    assert np.abs(slope).max() < 1e-7


@pytest.mark.parametrize(
    ("a", "b", "p", "said"),
    [([0], [0], [0.5], "different things"), ([0], [1], [1.2], r"in \[0, 1\]"), ([0], [1], [np.nan], "finite")],
)
def test_what_no_comparison_says_is_refused(a: list[int], b: list[int], p: list[float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        standings(2, a, b, p)


@pytest.mark.parametrize(("n", "games", "spread"), [(4, 6, 1.0), (8, 16, 0.5), (8, 16, 2.0)])
def test_intervals_hold_the_truth(n: int, games: int, spread: float) -> None:
    rng = np.random.default_rng(7)
    pairs, held = list(combinations(range(n), 2)), []
    for _ in range(250):
        truth = rng.normal(size=n) * spread
        a, b = np.array([pairs[k] for k in rng.permutation(len(pairs))[:games]]).T
        found = standings(n, a, b, (rng.random(games) < expit(truth[b] - truth[a])).astype(float))
        chance = (expit(truth[:, None] - truth[None, :]).sum(axis=1) - 0.5) / (n - 1)
        held.append(np.mean((chance >= found.low) & (chance <= found.high)))
    assert 0.92 < np.mean(held) < 0.99
