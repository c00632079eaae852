"""What a judge's probabilities say: from the raw log-probabilities of labels to a vote. Pure.

A reply without them is an error, never a vote of one half.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate

from constitution.errors import MalformedReply
from constitution.records import Criterion


def read_choices(logprobs: Mapping[str, float] | None, labels: Sequence[str]) -> tuple[tuple[float, ...], float]:
    """The raw probability of each of `labels`, and of all of them together (at most 1, whatever was rounded).

    Raises MalformedReply where there is none to read: no log-probabilities, NaN, or no probability on any label.
    """
    if logprobs is None or any(label not in logprobs for label in labels):
        raise MalformedReply("the reply has no log-probabilities of the labels")
    found = tuple([math.exp(min(logprobs[label], 0.0)) for label in labels])
    mass = sum(found)
    if not mass > 0:
        raise MalformedReply(f"the judge gave none of the labels {', '.join(labels)} any probability")
    return found, min(mass, 1.0)


def outgrade(first: Sequence[float], second: Sequence[float]) -> float:
    """P(first's grade is the higher) + P(they are equal) / 2, for two answers graded apart from each other.

    first, second: probability of each grade from the lowest; renormalised here.
    """
    ours, theirs = ([p / math.fsum(grades) for p in grades] for grades in (first, second))
    below = [0.0, *accumulate(theirs)]
    return min(math.fsum(p * (below[grade] + theirs[grade] / 2) for grade, p in enumerate(ours)), 1.0)


def checklist_sum(criteria: Sequence[Criterion], p_yes: Sequence[float]) -> float:
    """Σ weight · P(the good reply) / Σ weight, in [0, 1]: 1 is an answer that all criteria speak for."""
    good = [p if criterion.good == "yes" else 1 - p for criterion, p in zip(criteria, p_yes, strict=True)]
    weights = [criterion.weight for criterion in criteria]
    return math.fsum(map(math.prod, zip(weights, good, strict=True))) / math.fsum(weights)
