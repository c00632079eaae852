"""How common something is, as told by a judge who errs: corrected by what is known of its errors.

A judge that finds a share p has found Se · θ + (1 − Sp) · (1 − θ) of a true share θ, where Se is its sensitivity and Sp
its specificity (Rogan & Gladen 1978, "Estimating prevalence from the results of a screening test", Am. J. Epidemiol.
107). The interval knows that all three are estimates (Lang & Reiczigel 2014, "Confidence limits for prevalence of
disease adjusted for estimated sensitivity and specificity", Prev. Vet. Med. 113, section 2).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from constitution.measures.estimate import Estimate, Z


class Hits(NamedTuple):
    """`hits` of `n`."""

    hits: int
    n: int

    @property
    def share(self) -> float:
        return self.hits / self.n

    def with_more(self, count: float) -> tuple[float, float]:
        """Share and number with `count` more, half of them hits (Agresti & Coull 1998)."""
        n = self.n + count
        return (self.hits + count / 2) / n, n


def corrected(found: Hits, sensitivity: Hits, specificity: Hits) -> Estimate:
    """The true share, in [0, 1], of what the judge found in `found`.

    sensitivity: of those known to be it, how many the judge calls so. specificity: of those known not to be, how many
    it calls not so. Without a value: one of the three has no rows, or the judge does no better than chance (Se + Sp no
    more than 1).
    """
    if not (found.n and sensitivity.n and specificity.n):
        return Estimate(None, None, None, found.n)
    youden = sensitivity.share + specificity.share - 1
    if youden <= 0:
        return Estimate(None, None, None, found.n)
    value = (found.share + specificity.share - 1) / youden
    (p, n), (se, positives), (sp, negatives) = (
        found.with_more(Z**2),
        sensitivity.with_more(2),
        specificity.with_more(2),
    )
    value = min(max(value, 0.0), 1.0)
    youden = se + sp - 1
    if youden <= 0:  # so few labels that chance may be all there is: nothing is ruled out
        return Estimate(value, 0.0, 1.0, found.n)
    middle = (p + sp - 1) / youden
    of_se, of_sp = se * (1 - se) / positives, sp * (1 - sp) / negatives
    reach = Z * math.sqrt(p * (1 - p) / n + middle**2 * of_se + (1 - middle) ** 2 * of_sp) / youden
    middle += 2 * Z**2 * (middle * of_se - (1 - middle) * of_sp)
    if not -reach < middle < 1 + reach:  # no share in [0, 1] fits: nothing is as sure as an interval of no width says
        middle = min(max(middle, 0.0), 1.0)
    low, high = (min(max(end, 0.0), 1.0) for end in (middle - reach, middle + reach))
    return Estimate(value, min(low, value), max(high, value), found.n)
