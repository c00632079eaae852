"""What groups of people agree on, from their votes on statements: agree, disagree, pass.

Bridging is Polis's group-aware consensus: the product over groups of the smoothed share that agrees, (agrees + 1) /
(votes + 2), passes being votes (Small, Bjorkegren, Erkkilä, Shaw & Megill 2021, "Polis: Scaling deliberation by mapping
high dimensional opinion spaces", Recerca 26). One group that does not agree makes it small, however many others do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from constitution.measures.estimate import Estimate, wilson


@dataclass(frozen=True, slots=True)
class Support:
    """Votes on one statement."""

    overall: Estimate
    """Share of all votes that agree; passes are votes. Without a value: there is none."""
    by_group: tuple[Estimate, ...]
    bridging: float
    """Group-aware consensus, in (0, 1); of no groups, the smoothed share of all."""
    divides: bool
    """One group's interval of agreement, among those who agree or disagree, is above one half, and another's below."""


def support(agree: ArrayLike, disagree: ArrayLike, passed: ArrayLike, groups: int) -> list[Support]:
    """For each of n statements, from counts (rows, n): `groups` rows of groups, and further ones of people without a
    group, who count overall. Raises ValueError for counts that are negative or of unlike shapes."""
    counts = [np.asarray(each, dtype=np.int64) for each in (agree, disagree, passed)]
    if len({each.shape for each in counts}) > 1 or counts[0].ndim != 2 or any((each < 0).any() for each in counts):
        raise ValueError("counts: (rows, statements) each, and none is negative")
    yes, no, votes = counts[0], counts[1], counts[0] + counts[1] + counts[2]
    return [_of_one(yes[:, n], no[:, n], votes[:, n], groups) for n in range(yes.shape[1])]


def _of_one(yes: NDArray[np.int64], no: NDArray[np.int64], votes: NDArray[np.int64], groups: int) -> Support:
    own = slice(0, groups) if groups else slice(None)
    shares = (yes[own] + 1) / (votes[own] + 2) if groups else np.array([(yes.sum() + 1) / (votes.sum() + 2)])
    sides = [wilson(int(y), int(y + n)) for y, n in zip(yes[:groups], no[:groups], strict=True) if y + n]
    return Support(
        share(int(yes.sum()), int(votes.sum())),
        tuple(share(int(y), int(v)) for y, v in zip(yes[:groups], votes[:groups], strict=True)),
        float(np.prod(shares)),
        any(low > 0.5 for low, _ in sides) and any(high < 0.5 for _, high in sides),
    )


def share(hits: int, n: int) -> Estimate:
    """With Wilson's interval: people are drawn, one vote each."""
    return Estimate(hits / n, *wilson(hits, n), n) if n else Estimate(None, None, None, 0)
