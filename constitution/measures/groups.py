"""What can be said of answers in groups: the best of n, without drawing again and again."""

from __future__ import annotations

from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def best_of(rewards: Array, values: Array, n: int) -> float:
    """Expected value of the answer with the highest reward among `n` of a group's answers, drawn without replacement:
    exact, over all subsets, as pass@k is over those that hold a right answer (arXiv 2107.03374, section 2.1). Of equal
    rewards each is as likely to be taken.

    rewards, values: of the group's answers, shape (size,); with the rewards themselves as values it is the best
    reward. Raises ValueError for n < 1, and where the group has fewer than n.
    """
    size = len(rewards)
    if not 1 <= n <= size:
        raise ValueError(f"best of {n}: the group has {size}")
    order = np.argsort(rewards, kind="stable")
    ranked, worth = rewards[order], values[order].astype(float)
    starts = np.searchsorted(ranked, ranked, side="left")
    ends = np.searchsorted(ranked, ranked, side="right")
    chance = [
        (comb(int(end), n) - comb(int(start), n)) / (int(end) - int(start))
        for start, end in zip(starts, ends, strict=True)
    ]
    return float(np.dot(chance, worth) / comb(size, n))


def sizes(most: int) -> tuple[int, ...]:
    """1, 2, 4, 8 … up to `most`, and `most` itself."""
    powers = [2**power for power in range(most.bit_length()) if 2**power <= most]
    return tuple(dict.fromkeys([*powers, most]))
