"""Which of many principles, taken together, explain which answers people prefer: a sparse logistic fit.

    found = select(votes, labels, prompts, names)
    found.chosen, found.weights["be-polite"], found.groups

log-odds(a is better) = weights · votes, without an intercept, since a and b may change places. Principles that merely
go along with one that counts have no weight beside it; the filter of Inverse Constitutional AI (arXiv 2406.06560), each
one's own agreement, keeps them. Screen and clean (Wasserman & Roeder 2009, Ann. Stat. 37): an L1 penalty, the largest
whose cross-validated loss is within one standard error of the least (Hastie, Tibshirani & Friedman 2009, 7.10), leaves
few; of these the least sure is taken out until each says something beside the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from constitution.measures import estimate
from constitution.measures.calibrate import expit
from constitution.measures.estimate import Estimate, Floats

LEAST = 10
"""Prompts with a labelled pair that a fit needs."""
LEVEL = 0.5
"""False ones that are expected among the chosen at most: a candidate's own level is this over their number. Measured in
the pocket world (docs/RESULTS.md, induce): 0.05 to 0.1."""
SAME = 0.98
"""Correlation, without its sign, from which two columns are one: no number of such pairs tells them apart."""
NEAR = 0.5
"""The same, from which it is asked whether one would do in the place of the other."""
PRIOR = 2.5
"""Standard deviation of the weights' normal prior, in log-odds: where votes separate the pairs they stay finite."""
_FOLDS = 10
_GRID = np.logspace(0, -2.5, 20)
_STEPS = 200
_SURE = 60.0


@dataclass(frozen=True, slots=True)
class Selection:
    chosen: tuple[str, ...]
    """Columns that were kept, in the order of the columns; each stands for its group."""
    weights: dict[str, Estimate]
    """Log-odds per unit of each chosen column, fitted together, with intervals from a bootstrap over clusters. The
    intervals are of these columns, as if they had been chosen beforehand."""
    groups: dict[str, tuple[tuple[str, int], ...]]
    """By column, those that cannot be told from it, with 1, or with −1 where they are its opposite; itself first."""
    rivals: dict[str, tuple[str, ...]]
    """By chosen column, others that would explain the pairs as well in its place."""
    useless: dict[str, str]
    """Columns that were left out, and why."""
    separated: bool
    """The chosen votes tell all pairs right: how large the weights are is then the prior's doing."""
    n: int
    """Pairs that were fitted; those that are labelled a tie are not."""
    note: str = ""
    """Why nothing could be fitted."""

    def log_odds(self, votes: ArrayLike, names: Sequence[str]) -> Floats:
        """Those of a over b by the chosen: (n) for votes (n, k); a missing vote counts as none."""
        table = np.nan_to_num(np.asarray(votes, dtype=np.float64))
        columns = [list(names).index(name) for name in self.chosen]
        found: Floats = table[:, columns] @ np.array([self.weights[name].value for name in self.chosen], dtype=float)
        return found


def select(
    votes: ArrayLike,
    labels: ArrayLike,
    clusters: ArrayLike,
    names: Sequence[str],
    *,
    level: float = LEVEL,
    replicates: int = 1000,
    seed: int = 0,
) -> Selection:
    """votes (n, k): how much each candidate prefers a, −1 to 1 or any scale that is the opposite where a and b change
    places; NaN: no vote, 0: a tie. Both add nothing to a pair's log-odds. labels (n): probability that a is better; of
    one half a pair says nothing and is left out. clusters (n): ids of prompts. names (k): the candidates.

    Raises ValueError where shapes disagree or a number is infinite.
    """
    table, target = np.asarray(votes, dtype=np.float64), estimate.probabilities(labels, "labels")
    marks = np.asarray(clusters)
    if table.ndim != 2 or table.shape != (len(target), len(names)) or marks.shape != target.shape:
        raise ValueError(f"{table.shape} votes, {target.shape} labels, {marks.shape} clusters, {len(names)} names")
    if np.isinf(table).any():
        raise ValueError("votes: every one must be a finite number or missing")
    sided = np.abs(target - 0.5) > 1e-12
    useless, groups = _groups(table[sided], names)
    data = _Data.of(np.nan_to_num(table[sided]), target[sided], marks[sided], [names.index(name) for name in groups])
    empty = Selection((), {}, groups, {}, useless, False, len(data.target))
    if data.count < LEAST:
        return _noted(empty, f"{data.count} prompts have a label that is no tie; {LEAST} are needed")
    if not groups:
        return _noted(empty, "no candidate has a vote that prefers one answer")
    kept = data.clean(data.screen(seed), level / len(groups))
    heads = list(groups)
    fitted = data.weights(kept, replicates, seed)
    return Selection(
        chosen=tuple(heads[place] for place in kept),
        weights={heads[place]: found for place, found in zip(kept, fitted, strict=True)},
        groups=groups,
        rivals={heads[place]: tuple(heads[other] for other in data.rivals(kept, place, replicates)) for place in kept},
        useless=useless,
        separated=bool(kept) and data.separated(kept),
        n=len(data.target),
    )


def _noted(empty: Selection, note: str) -> Selection:
    return Selection((), {}, empty.groups, {}, empty.useless, False, empty.n, note)


def _groups(table: Floats, names: Sequence[str]) -> tuple[dict[str, str], dict[str, tuple[tuple[str, int], ...]]]:
    """Columns that say nothing, and the others by the first of those that are (nearly) proportional."""
    useless: dict[str, str] = {}
    groups: dict[str, list[tuple[str, int]]] = {}
    heads: dict[str, Floats] = {}
    for name, column in zip(names, table.T, strict=True):
        if np.isnan(column).all():
            useless[name] = "no vote"
            continue
        plain = np.nan_to_num(column)
        if not np.abs(plain).any():
            useless[name] = "prefers neither answer of any pair"
            continue
        unit = plain / np.linalg.norm(plain)
        for head, other in heads.items():
            if abs(same := float(unit @ other)) >= SAME:
                groups[head].append((name, 1 if same > 0 else -1))
                break
        else:
            heads[name], groups[name] = unit, [(name, 1)]
    return useless, {head: tuple(members) for head, members in groups.items()}


@dataclass(frozen=True, slots=True)
class _Data:
    given: Floats
    """(n, k) The votes of one column a group, divided by `scale`."""
    scale: Floats
    """(k) Root mean square of each: a principle that seldom decides is not penalised for it."""
    target: Floats
    groups: NDArray[np.intp]
    """(n) Clusters, counted from 0."""

    @classmethod
    def of(cls, table: Floats, target: Floats, clusters: NDArray[np.generic], columns: Sequence[int]) -> _Data:
        chosen = table[:, list(columns)]
        scale: Floats = np.sqrt((chosen**2).mean(axis=0)) if len(chosen) else np.ones(len(columns))
        return cls(chosen / np.where(scale > 0, scale, 1), scale, target, np.unique(clusters, return_inverse=True)[1])

    @property
    def count(self) -> int:
        return int(self.groups.max(initial=-1)) + 1

    def screen(self, seed: int) -> list[int]:
        """Columns with a weight under the largest penalty within one standard error of the best."""
        folds = min(_FOLDS, self.count)
        order = np.random.default_rng(seed).permutation(self.count) % folds
        fold = order[self.groups]
        weights = np.array([(fold != each) / (fold != each).sum() for each in range(folds)] + [np.full(len(fold), 1.0)])
        weights[-1] /= len(fold)
        most = np.abs((weights[-1] * (self.target - 0.5)) @ self.given).max()
        path = l1_path(self.given, self.target, weights, most * _GRID)
        losses = np.array(
            [[self._loss(self.given[fold == f] @ path[f, i], fold == f).mean() for f in range(folds)]
             for i in range(len(_GRID))]
        )  # fmt: skip
        mean, spread = losses.mean(axis=1), losses.std(axis=1, ddof=1) / np.sqrt(folds)
        best = int(mean.argmin())
        place = int(np.flatnonzero(mean <= mean[best] + spread[best])[0])
        return [int(column) for column in np.flatnonzero(path[-1, place])]

    def clean(self, columns: Sequence[int], level: float) -> list[int]:
        """`columns` without those that say nothing beside the others: the least sure first."""
        left = list(columns)
        while left:
            p = [self.p_value(column, [other for other in left if other != column]) for column in left]
            worst = int(np.argmax(p))
            if p[worst] <= level:
                break
            del left[worst]
        return left

    def p_value(self, column: int, beside: Sequence[int]) -> float:
        """That of the score test that `column` has no weight beside the others, robust to clusters (Boos 1992)."""
        from scipy.special import chdtrc

        base, x = self.given[:, beside], self.given[:, column]
        found = ridge(base, self.target, np.full((1, len(x)), 1.0))[0]
        rate = expit(base @ found)
        inside = rate * (1 - rate)
        fitted = np.linalg.pinv((base * inside[:, None]).T @ base) @ (base.T @ (inside * x)) if beside else np.zeros(0)
        score = np.bincount(self.groups, (x - base @ fitted) * (self.target - rate))
        spread = float((score**2).sum())
        return float(chdtrc(1, score.sum() ** 2 / spread)) if spread > 0 else 1.0

    def weights(self, columns: Sequence[int], replicates: int, seed: int) -> list[Estimate]:
        """The weight of each column, by its own unit."""
        if not columns:
            return []
        chosen, n = self.given[:, columns], len(self.target)
        counts = list(estimate.draws(self.count, replicates=replicates, seed=seed))
        drawn = np.array(counts).reshape(replicates, self.count)[:, self.groups]
        found = ridge(chosen, self.target, np.full((1, n), 1.0))[0] / self.scale[columns]
        again = ridge(chosen, self.target, drawn) / self.scale[columns]
        ends = [estimate.percentiles(column, self.count) for column in again.T]
        return [Estimate(float(value), *interval, n) for value, interval in zip(found, ends, strict=True)]

    def rivals(self, columns: Sequence[int], column: int, replicates: int) -> list[int]:
        """Columns, near to `column` and not chosen, with which in its place the loss is not surely larger."""
        unit = self.given / np.linalg.norm(self.given, axis=0)
        base, others = self._fitted(columns), []
        for other in range(self.given.shape[1]):
            if other in columns or abs(unit[:, other] @ unit[:, column]) < NEAR:
                continue
            swapped = [other if each == column else each for each in columns]
            found = estimate.mean(self._fitted(swapped) - base, self.groups, replicates=replicates)
            if found.low is None or found.low <= 0:
                others.append(other)
        return others

    def separated(self, columns: Sequence[int]) -> bool:
        chosen = self.given[:, columns]
        found = ridge(chosen, self.target, np.full((1, len(chosen)), 1.0), prior=1e6)[0]
        return bool(((chosen @ found) * (self.target - 0.5) > 0).all())

    def _fitted(self, columns: Sequence[int]) -> Floats:
        """Each pair's loss by a fit of these columns alone."""
        chosen = self.given[:, columns]
        return self._loss(chosen @ ridge(chosen, self.target, np.full((1, len(chosen)), 1.0))[0], slice(None))

    def _loss(self, log_odds: Floats, which: slice | NDArray[np.bool_]) -> Floats:
        return log_loss(log_odds, self.target[which])


def log_loss(log_odds: Floats, labels: Floats) -> Floats:
    """The loss of each pair (n), in nats: 0.693 for one of which nothing is known."""
    found: Floats = np.logaddexp(0.0, log_odds) - labels * log_odds
    return found


def l1_path(given: Floats, target: Floats, weights: Floats, penalties: Floats, tolerance: float = 1e-6) -> Floats:
    """Minima of Σ weights · loss + penalty · Σ|w| for each row of weights (r, n) and each penalty (m), the largest
    first: (r, m, k). Accelerated proximal steps (Beck & Teboulle 2009) with restarts (O'Donoghue & Candès 2015), all
    rows at once; scikit-learn's liblinear finds the same, one row and penalty at a time."""
    reach = max(float(np.linalg.eigvalsh((given * row[:, None]).T @ given)[-1]) for row in weights) / 4
    step, base = 1 / max(reach, 1e-12), (weights * target) @ given
    now: Floats = np.zeros((len(weights), given.shape[1]))
    found = np.empty((len(weights), len(penalties), given.shape[1]))
    for place, penalty in enumerate(penalties):
        ahead, pace = now, 1.0
        for _ in range(_STEPS):
            rate = expit(np.clip(ahead @ given.T, -_SURE, _SURE))
            moved = ahead - step * ((weights * rate) @ given - base)
            new = np.sign(moved) * np.maximum(np.abs(moved) - penalty * step, 0.0)
            change, pace_next = new - now, (1 + np.sqrt(1 + 4 * pace * pace)) / 2
            onward = ((ahead - new) * change).sum(axis=1, keepdims=True) <= 0
            ahead, now, pace = new + np.where(onward, (pace - 1) / pace_next, 0.0) * change, new, pace_next
            if np.abs(change).max() < tolerance:
                break
        found[:, place] = now
    return found


def ridge(given: Floats, target: Floats, weights: Floats, prior: float = PRIOR) -> Floats:
    """Logistic weights (r, k) with a normal prior, for each row of `weights` (r, n), by Newton's method."""
    width, strength = given.shape[1], 1 / prior**2
    found: Floats = np.zeros((len(weights), width))
    for _ in range(25 if width else 0):
        rate = expit(np.clip(found @ given.T, -_SURE, _SURE))
        gradient = (weights * (rate - target)) @ given + strength * found
        inside = (weights * rate * (1 - rate))[:, None, :] * given.T[None]
        step = np.linalg.solve(inside @ given + strength * np.eye(width), gradient[..., None])[..., 0]
        found = found - np.clip(step, -2.0, 2.0)
        if np.abs(step).max(initial=0.0) < 1e-9:
            break
    return found
