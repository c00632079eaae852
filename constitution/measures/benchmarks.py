"""How public benchmarks score a judge, by their own published rules.

judgebench     ScalerLab/JudgeBench, utils/metrics.py: each order's decision counts +1 for the better answer and −1 for
               the other; right where the sum is over 0, so a tie and a missing decision are no help
llmbar         princeton-nlp/LLMBar, LLMEvaluator/evaluate.py, `correct_average`: the mean share of right decisions in
               either order; of grades, equal ones are right in one of the two
best_of        allenai/reward-bench, utils.py, `reroll_and_score_dataset`: 1 where the best answer is first alone, 1/k
               where it shares the first place with k − 1 others, else 0
ties_score     the same file, `process_single_model`: 30 % accuracy on questions with several right answers, 30 % on
               their references with one, 20 % and 20 % whether right answers differ less from each other than from
               wrong ones, and 1 % by how much
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from constitution.measures.estimate import Floats


def judgebench(sides: ArrayLike) -> Floats:
    """sides: (n, orders) 1 where the decision is for the better answer, −1 for the other, 0 for neither or missing.
    Returns (n) 1 where the pair is right."""
    found: Floats = (np.asarray(sides).sum(axis=1) > 0).astype(np.float64)
    return found


def llmbar(sides: ArrayLike) -> Floats:
    """sides: as of `judgebench`; one column of grades, which have no order. Returns (n) the share that is right."""
    each = np.asarray(sides, dtype=np.float64)
    found: Floats = (1 + each[:, 0]) / 2 if each.shape[1] == 1 else (each == 1).mean(axis=1)
    return found


def best_of(sides: Sequence[float]) -> float:
    """sides: of the best answer against each of the others: over 0 where it is preferred, 0 where neither is."""
    return 0.0 if min(sides) < 0 else 1 / (1 + sum(side == 0 for side in sides))


class Grades(NamedTuple):
    """What the grades of one question's answers say of it."""

    spread: float
    """How far the better answers are from each other."""
    gap: float
    """How far the worst of them is above the best of the others."""


def grades(better: Sequence[float | None], others: Sequence[float | None]) -> Grades:
    """None: an answer without a grade, by which nothing is right."""
    if None in better or None in others:
        return Grades(0.0, -np.inf)
    ours, theirs = np.array(better, dtype=np.float64), np.array(others, dtype=np.float64)
    return Grades(float(ours.max() - ours.min()), float(ours.min() - theirs.max()))


TIES_COLUMNS = 8


def ties_columns(tied: Grades | None, reference: Grades | None) -> list[float]:
    """What one question adds to the sums that `ties_score` is made of; None: its row is not there."""
    found = []
    for each in (tied, reference):
        found += [0.0, 0.0] if each is None else [float(each.gap > 0), 1.0]
    if tied is None or reference is None:
        return [*found, 0.0, 0.0, 0.0, 0.0]
    least = min(tied.gap, reference.gap)
    with np.errstate(all="ignore"):
        margin = np.nan_to_num(np.tanh(np.float64(least) / np.float64(tied.spread) - 1), nan=0.0)
    return [*found, float(tied.gap > tied.spread), float(least > tied.spread), float(margin), 1.0]


def ties_score(sums: Floats) -> Floats:
    """sums: (k, 8) sums of `ties_columns`. Returns (k); NaN where no question has both its rows."""
    tied, tieds, reference, references, preferred, hard, margin, both = sums.T
    with np.errstate(all="ignore"):
        accuracy = 0.3 * tied / tieds + 0.3 * reference / references
        found: Floats = accuracy + (0.2 * preferred + 0.2 * hard + 0.01 * margin) / both
    return found
