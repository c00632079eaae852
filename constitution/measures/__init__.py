"""Statistics of votes and labels: pure functions over NumPy arrays, which know nothing of runs or tables.

    estimate   a mean and its 95 % interval, from a bootstrap over prompts
    style      what length and markdown do to a judge's votes
    calibrate  labels fitted to gold labels; ECE, Brier score, reliability
    agreement  Cohen's kappa, Krippendorff's alpha
    aggregate  Dawid–Skene
    bradley_terry  strengths of what was compared two by two
    prevalence what a judge that errs has found, corrected
    forecast   what a whole will come to, by a sample of it
    benchmarks how public benchmarks score a judge
    groups     the best of n, what goes with what inside groups
    consensus  what groups of people agree on
    refusals   answers that begin like a refusal
    lengths    how long a text is
    sentences  where its sentences end

Arguments that are not finite numbers are a ValueError; too little data is an Estimate without a value.
"""

from typing import TYPE_CHECKING

from constitution.lazy import names_of

if TYPE_CHECKING:
    from constitution.measures.estimate import Estimate
    from constitution.measures.lengths import words
    from constitution.measures.refusals import refuses, refuses_briefly, refuses_sql
    from constitution.measures.style import StyleFit

__all__ = ["Estimate", "StyleFit", "refuses", "refuses_briefly", "refuses_sql", "words"]

_REFUSALS = ("refuses", "refuses_briefly", "refuses_sql")
_OTHERS = {"Estimate": "estimate", "StyleFit": "style", "words": "lengths"}
__getattr__ = names_of(__name__, _OTHERS | dict.fromkeys(_REFUSALS, "refusals"))
