"""When a pair's votes may stop: once those that are left will hardly change its label.

Votes stop where what is left cannot change the label whatever it says (curtailment), or will not with the predictive
probability `sure`, as trials are monitored (Spiegelhalter, Freedman & Blackburn 1986; Lee & Liu 2008). Such a
probability holds at whatever number of looks it is taken, as far as its model does: units (judge/units.py) whose values
are normal around an unknown mean, with a prior worth one unit that is a tie.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from constitution.judge.pairs import Pair
from constitution.judge.units import Unit
from constitution.labels.label import Rules, pair_mean
from constitution.records import Judgement

PRIOR_UNITS = 1.0
"""Units that the prior is worth, for the mean and for the spread."""
PRIOR_SPREAD = 0.25
"""Standard deviation of a unit's value that the prior expects: half of the greatest that there can be."""


@dataclass(frozen=True, slots=True)
class Monitor:
    """Looks at the votes of a pair between two waves."""

    weights: Mapping[str, float]
    """Per principle id."""
    rules: Rules
    """By which a pair by itself is labelled."""

    def doubt(self, pair: Pair, votes: Sequence[Judgement], asked: Sequence[Unit], left: Sequence[Unit]) -> float:
        """Probability that the votes of the units that are left change the label which `votes` make. Where none of
        them counts, it is 1."""
        p_b = pair_mean(pair, votes, self.weights, self.rules)
        if p_b is None or not left:
            return float(bool(left))
        by_unit: dict[tuple[str, int | None], list[Judgement]] = {}
        for vote in votes:
            key = vote.principle_id, None if asked[0].repeat is None else vote.repeat
            by_unit.setdefault(key, []).append(vote)
        means = [
            (unit, pair_mean(pair, by_unit.get((unit.principle_id, unit.repeat), ()), self.weights, self.rules))
            for unit in asked
        ]
        weighted = [(value, self.weights[unit.principle_id]) for unit, value in means if value is not None]
        rest = [self.weights[unit.principle_id] for unit in left]
        return change(p_b, weighted, rest, self.rules.margin)


def change(p_b: float, weighted: Sequence[tuple[float, float]], left: Sequence[float], margin: float = 0.0) -> float:
    """Probability that what is left changes what is made of a pair: which answer is kept, or that none is.

    p_b: of the label as it is. weighted: the value of each unit so far, in [0, 1], and its weight; left: the weights of
    the others.
    """
    from scipy.special import stdtr

    total = math.fsum([*(weight for _, weight in weighted), *left])
    now, bar, reach = math.fsum(w * (v - 0.5) for v, w in weighted), margin * total, math.fsum(left) / 2
    units, rest = len(weighted), len(left)
    mean_weight = total / (units + rest)
    scaled = [weight * (value - 0.5) / mean_weight for value, weight in weighted]
    middle = math.fsum(scaled) / units
    worth = PRIOR_UNITS + units
    mean = units * middle / worth
    squares = math.fsum((each - middle) ** 2 for each in scaled) + PRIOR_UNITS * units / worth * middle**2
    spread = (PRIOR_UNITS * PRIOR_SPREAD**2 + squares) / worth
    # Of what the rest add up to: each their own spread, and all of them that of the mean, which is not known.
    scale = math.sqrt(spread * (rest + rest**2 / worth)) * mean_weight
    expected = now + rest * mean * mean_weight

    def under(bound: float) -> float:
        """Probability that the sum ends under it."""
        if now + reach < bound:
            return 1.0
        return 0.0 if now - reach > bound else float(stdtr(worth, (bound - expected) / scale))

    kept_a, kept_b = under(-bar), 1 - under(bar)
    if p_b > 0.5 + margin:
        return 1 - kept_b
    return 1 - kept_a if p_b < 0.5 - margin else kept_a + kept_b
