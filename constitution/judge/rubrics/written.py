"""One item of a rubric as a model has written it, or as it came with the prompt."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from constitution.records import CriterionKind


class Written(NamedTuple):
    """What was read of it; nothing here is mended."""

    question: str
    """Asked about one answer: a yes/no question, or what is said of it ("Names the side effects"), as public rubrics
    have it (arXiv 2507.17746, 2505.08775)."""
    good: Literal["yes", "no"] = "yes"
    """The reply that speaks for the answer. Of a negative weight it is `no`."""
    weight: float = 1.0
    """Not 0. Negative: points that are lost where the reply is yes, and no part of the denominator, as HealthBench has
    them (arXiv 2505.08775)."""
    kind: CriterionKind = ""
    """Empty: not said."""

    @property
    def fault(self) -> str | None:
        """Why these values are no item, in words that end a sentence beginning with its place; None: they are one."""
        if not any(map(str.isalnum, self.question)):
            return "has no question"
        if not math.isfinite(self.weight) or self.weight == 0:
            return f"has the weight {self.weight}, and a weight is a number that is not 0"
        if self.weight < 0 and self.good == "yes":
            return 'has a negative weight, which takes points where the reply is yes: then good is "no"'
        if self.kind == "pitfall" and self.good == "yes":
            return 'is a pitfall, which is asked about as it is: then good is "no"'
        return None
