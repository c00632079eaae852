"""When a pair's votes may stop: once what is left will hardly turn its label.

A unit is what is asked together: a principle (or one repeat of it), in both orders, by all judges; its value is the
mean of its votes for b. Units are asked in an order drawn by the seed, so that those asked are a random sample, without
replacement, of all that would be. Votes stop where what is left cannot turn the label whatever it says (curtailment),
or will not with the predictive probability `sure`, as trials are monitored (Spiegelhalter, Freedman & Blackburn 1986;
Lee & Liu 2008). Such a probability holds at whatever number of looks it is taken, as far as its model does: values that
are normal around an unknown mean, with a prior worth one unit that is a tie.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

PRIOR_UNITS = 1.0
"""Units that the prior is worth, for the mean and for the spread."""
PRIOR_SPREAD = 0.25
"""Standard deviation of a unit's value that the prior expects: half of the greatest that there can be."""


def waves(units: int) -> list[int]:
    """Units that have been asked at each look: a quarter, then an eighth more each time; the last is all."""
    first, step = max(2, math.ceil(units / 4)), max(1, units // 8)
    looks = list(range(first, units, step))
    return [*looks, units] if units else []


def turns(values: Sequence[float], weights: Sequence[float], left: Sequence[float], margin: float = 0.0) -> float:
    """Probability that the votes of the units that are left change what is made of the pair: which answer is kept, or
    that none is. values: each unit's so far, in [0, 1]; weights: theirs; left: the weights of the others."""
    from scipy.special import stdtr

    total = math.fsum([*weights, *left])
    if not left:
        return 0.0
    centred = [w * (v - 0.5) for w, v in zip(weights, values, strict=True)]
    now = math.fsum(centred)
    reach = math.fsum(left) / 2
    bar = margin * total
    if now - reach > bar or now + reach < -bar or (now - reach > -bar and now + reach < bar):
        return 0.0
    mean_weight = total / (len(values) + len(left))
    units, rest = len(values), len(left)
    scaled = [each / mean_weight for each in centred]
    middle = math.fsum(scaled) / units
    worth = PRIOR_UNITS + units
    mean = units * middle / worth
    squares = math.fsum((each - middle) ** 2 for each in scaled) + PRIOR_UNITS * units / worth * middle**2
    spread = (PRIOR_UNITS * PRIOR_SPREAD**2 + squares) / worth
    # Of what the rest add up to: each their own spread, and all of them that of the mean, which is not known.
    scale = math.sqrt(spread * (rest + rest**2 / worth)) * mean_weight
    expected = now + rest * mean * mean_weight

    def below(bound: float) -> float:
        return float(stdtr(worth, (bound - expected) / scale))

    kept_b, kept_a = 1 - below(bar), below(-bar)
    share = now / math.fsum(weights)
    if share > margin:
        return 1 - kept_b
    return 1 - kept_a if share < -margin else kept_a + kept_b
