"""What the length and the markdown of the answers do to a judge's votes.

The model is that of Chatbot Arena's style control (lmsys.org/blog/2024-08-28-style-control) and of length-controlled
AlpacaEval (arXiv 2404.04475): log-odds of b over a = intercept + effects · (features of b − features of a). The
features are made in SQL (warehouse/judging.sql).

Votes here are probabilities, not wins, so the log-odds are there to be regressed upon: least squares on them (Berkson
1944, "Application of the logistic function to bio-assay", JASA 39). It has a merit that matters: what the features
leave out, the answers' quality above all, is noise to it, whereas it shrinks every effect of a logistic model of 0/1
(Gail, Wieand & Piantadosi 1984). `logistic` is that model, for comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from constitution.measures import calibrate
from constitution.measures.estimate import Estimate, Floats, Z, distinct, finite, percentiles, probabilities, sums

FEATURES = ("length", "headers", "lists", "bold")
CONTROLS = {"length": FEATURES[:1], "style": FEATURES}
"""What can be taken out of votes, and the features that this is."""
LEAST = 50
"""Pairs that a judge must have voted on to be told from them what style does to its votes."""

JOINT = 0.05
"""Level of the test that decides whether the votes show an effect of the features at all."""

_MOST_STEPS = 100
_SEPARATED = 50.0
"""Log-odds per standard deviation that only votes which a feature tells apart completely have."""

_DEPENDENT = 1e-6
"""A feature of which the others leave less than this share of its standard deviation tells nothing by itself."""


@dataclass(frozen=True, slots=True)
class StyleFit:
    effects: dict[str, Estimate]
    """Log-odds of b per unit of the feature's difference. Without a value: the feature never differs, or those before
    it say the same."""
    effects_sd: dict[str, Estimate]
    """The same per standard deviation of the difference."""
    intercept: Estimate
    """Log-odds of b where the features do not differ."""

    def shift(self, features: ArrayLike) -> Floats:
        """What the features (n, k) have given b, in log-odds: (n). To subtract it from a vote's controls the vote."""
        effects = np.array([effect.value or 0.0 for effect in self.effects.values()])
        given: Floats = _table(features, len(effects)) @ effects
        return given


def fit(
    log_odds: ArrayLike,
    features: ArrayLike,
    clusters: ArrayLike,
    names: Sequence[str],
    *,
    strata: ArrayLike | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> StyleFit:
    """Least squares of `log_odds` (n; of b better, averaged over both orders, one row per pair) on `features` (n, k;
    differences b − a), with intervals from a bootstrap over `clusters` (n; ids of prompts).

    strata (n): kinds of pairs, each with its own intercept, so that two kinds that differ in how good b is and,
    besides, in style do not pass for an effect of style; the fit's intercept is then their mean over the rows.
    Too few rows for the number of features give no values. Raises ValueError where a number is not finite or shapes
    disagree.
    """
    target, given = _checked(log_odds, features, clusters, names)
    marks = _marks(strata, len(target))
    given = np.column_stack([marks, given])
    scale, used = _used(given)
    n = len(target)
    nothing = Estimate(None, None, None, n)
    if n < len(used) + 2:
        none = dict.fromkeys(names, nothing)
        return StyleFit(none, dict(none), nothing)
    # Of the scaled features, so that one of lengths and one of shares are equally well conditioned.
    design = np.column_stack([np.ones(n), given[:, used] / scale[used]])
    found, *_ = np.linalg.lstsq(design, target)
    intervals = _intervals(design, target, clusters, replicates, seed)
    effects, effects_sd = dict.fromkeys(names, nothing), dict.fromkeys(names, nothing)
    for place, feature in enumerate(used, start=1):
        if feature < marks.shape[1]:
            continue
        name, unit = names[feature - marks.shape[1]], float(scale[feature])
        effects_sd[name] = Estimate(float(found[place]), *intervals[place], n)
        low, high = (None if end is None else end / unit for end in intervals[place])
        effects[name] = Estimate(float(found[place]) / unit, low, high, n)
    return StyleFit(effects, effects_sd, Estimate(float(found[0]), *intervals[0], n))


def control(
    log_odds: ArrayLike,
    features: ArrayLike,
    clusters: ArrayLike,
    names: Sequence[str],
    *,
    strata: ArrayLike | None = None,
) -> StyleFit:
    """The fit whose `shift` is taken out of votes that become labels: that of `fit` where the votes show an effect of
    the features, taken together (Wald test, cluster-robust, 5 %), and else one without values.

    To take out an effect that is not there only adds the fit's own error to every label.
    """
    whole = fit(log_odds, features, clusters, names, strata=strata, replicates=0)
    told = any(effect.value is not None for effect in whole.effects.values())
    if told and _joint_p(*_checked(log_odds, features, clusters, names), clusters, strata) < JOINT:
        return whole
    nothing = dict.fromkeys(names, Estimate(None, None, None, whole.intercept.n))
    return StyleFit(nothing, dict(nothing), whole.intercept)


def _joint_p(target: Floats, features: Floats, clusters: ArrayLike, strata: ArrayLike | None) -> float:
    """Probability of effects as large as the features' together if they had none; 1 where it cannot be told."""
    groups = np.unique(np.asarray(clusters), return_inverse=True)[1]
    marks = _marks(strata, len(target))
    given = np.column_stack([marks, features])
    scale, used = _used(given)
    if groups.max() == 0:
        return 1.0
    from scipy.special import chdtrc

    design = np.column_stack([np.ones(len(target)), given[:, used] / scale[used]])
    inverse = np.linalg.pinv(design.T @ design)
    found = inverse @ (design.T @ target)
    tested = np.flatnonzero(used >= marks.shape[1]) + 1
    effects, spread = found[tested], _robust(design, target - design @ found, inverse, groups)[np.ix_(tested, tested)]
    p = float(chdtrc(len(tested), effects @ np.linalg.pinv(spread) @ effects))
    return p if np.isfinite(p) else 1.0


def _robust(design: Floats, left: Floats, inverse: NDArray[Any], groups: NDArray[np.intp]) -> Floats:
    """Cluster-robust covariance of coefficients (Liang & Zeger 1986), corrected for few clusters as Stata does.

    left (n): residuals. inverse (k, k): of the information. groups (n): clusters, counted from 0."""
    count, (n, width) = int(groups.max()) + 1, design.shape
    scores = np.column_stack([np.bincount(groups, column) for column in (design * left[:, None]).T])
    found: Floats = inverse @ (scores.T @ scores) @ inverse * (count / (count - 1) * (n - 1) / (n - width))
    return found


def logistic(
    p: ArrayLike, features: ArrayLike, clusters: ArrayLike, names: Sequence[str], *, strata: ArrayLike | None = None
) -> dict[str, Estimate]:
    """Binomial regression of `p` (n; in [0, 1]) on `features` (n, k) and an intercept, or one for each of `strata`:
    log-odds per unit, with cluster-robust 95 % intervals (Papke & Wooldridge 1996 for fractions).

    Without values: features as in `fit`, and all where the fit does not converge, because they separate the votes.
    """
    target, given = _checked(probabilities(p, "p"), features, clusters, names)
    marks = _marks(strata, len(target))
    given = np.column_stack([marks, given])
    scale, used = _used(given)
    n = len(target)
    effects = dict.fromkeys(names, Estimate(None, None, None, n))
    if n < len(used) + 2:
        return effects
    design = np.column_stack([np.ones(n), given[:, used] / scale[used]])
    groups = np.unique(np.asarray(clusters), return_inverse=True)[1]
    found = _binomial(design, target)
    if found is None:
        return effects
    rate = calibrate.expit(design @ found)
    inverse = np.linalg.pinv(_information(design, found))
    reach = np.full(len(found), np.nan)
    if groups.max():
        reach = Z * np.sqrt(np.diag(_robust(design, target - rate, inverse, groups)))
    for place, feature in enumerate(used, start=1):
        if feature >= marks.shape[1]:
            value, unit = float(found[place]), float(scale[feature])
            low, high = ((value + end) / unit if np.isfinite(end) else None for end in (-reach[place], reach[place]))
            effects[names[feature - marks.shape[1]]] = Estimate(value / unit, low, high, n)
    return effects


def _binomial(design: Floats, target: Floats) -> Floats | None:
    """Coefficients (k) by Newton's method; None where it does not converge, since the features separate the votes."""
    found: Floats = np.zeros(design.shape[1])
    for _ in range(_MOST_STEPS):
        gradient = design.T @ (target - calibrate.expit(design @ found))
        step = np.linalg.pinv(_information(design, found)) @ gradient
        found = found + step
        if not np.isfinite(found).all() or np.abs(found).max() > _SEPARATED:
            return None
        if np.abs(step).max() < 1e-10:
            return found
    return None


def _information(design: Floats, coefficients: Floats) -> Floats:
    rate = calibrate.expit(design @ coefficients)
    found: Floats = design.T @ (design * (rate * (1 - rate))[:, None])
    return found


def _intervals(
    design: Floats, target: Floats, clusters: ArrayLike, replicates: int, seed: int
) -> list[tuple[float | None, float | None]]:
    """Replicates of each coefficient. A replicate solves the normal equations; their sums are the clusters' own."""
    width, count = design.shape[1], distinct(clusters)
    above = np.triu_indices(width)
    products = np.column_stack([design[:, above[0]] * design[:, above[1]], design * target[:, None]])
    drawn = sums(products, clusters, replicates=replicates, seed=seed)
    normal = np.empty((replicates, width, width))
    normal[:, above[0], above[1]] = normal[:, above[1], above[0]] = drawn[:, : len(above[0])]
    # A replicate may have drawn no row in which some feature differs: that coefficient is then 0.
    found = np.linalg.pinv(normal, hermitian=True) @ drawn[:, len(above[0]) :, None]
    return [percentiles(column, count) for column in found[:, :, 0].T]


def _marks(strata: ArrayLike | None, n: int) -> Floats:
    """One column for each stratum but the first: which rows are in it, centred. (n, strata − 1)"""
    if strata is None:
        return np.empty((n, 0))
    names, places = np.unique(np.asarray(strata), return_inverse=True)
    if places.shape != (n,):
        raise ValueError(f"strata: {n} rows need as many, not {places.shape}")
    marks = (places[:, None] == np.arange(1, len(names))).astype(np.float64)
    found: Floats = marks - marks.mean(axis=0) if n else marks
    return found


def _used(features: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Standard deviation of each feature, and those that say something which neither a constant nor the ones before
    them say."""
    n, count = features.shape
    scale = features.std(axis=0) if n else np.zeros(count)
    used: list[int] = []
    for feature in np.flatnonzero(scale > 1e-12):  # that of a constant may be off 0 by rounding
        column = features[:, feature] / scale[feature]
        design = np.column_stack([np.ones(n), features[:, used] / scale[used]])
        left = column - design @ np.linalg.lstsq(design, column)[0]
        if left.std() > _DEPENDENT:
            used.append(int(feature))
    return scale, np.array(used, dtype=np.intp)


def _checked(
    target: ArrayLike, features: ArrayLike, clusters: ArrayLike, names: Sequence[str]
) -> tuple[Floats, Floats]:
    found, given = finite(target, "votes"), _table(features, len(names))
    if found.shape != (len(given),) or np.asarray(clusters).shape != (len(given),):
        raise ValueError(f"{found.shape} votes, {given.shape} features, {np.asarray(clusters).shape} clusters")
    return found, given


def _table(features: ArrayLike, count: int) -> Floats:
    given = finite(features, "features")
    if given.ndim != 2 or given.shape[1] != count:
        raise ValueError(f"features: must be (n, {count}), not {given.shape}")
    return given
