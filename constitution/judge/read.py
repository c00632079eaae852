"""What a judge's probabilities say: from the raw log-probabilities of labels to a vote. Pure.

A reply without them is an error, never a vote of one half.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from constitution.engines.base import SLACK, Completion
from constitution.errors import MalformedReply
from constitution.records import Criterion


class Reading(NamedTuple):
    """The labels' probabilities, as they were read."""

    found: tuple[float, ...]
    """Raw probability of each label."""
    mass: float
    """Probability of all of them together, at most 1."""
    censored: bool
    """True: one of them at least was not read. It is known to lie between 0 and a bound, and the middle is taken."""


def read_choices(done: Completion, labels: Sequence[str]) -> Reading:
    """What a completion says of each of `labels`.

    For a label whose probability is not known, the middle of what it can be: over many votes it is neither too high nor
    too low by much, where 0 makes a certainty of every such vote and the bound itself takes what was seen for less.
    Raises MalformedReply where there is nothing to read, and for what no distribution can have.
    """
    logprobs, unseen = done.choice_logprobs, done.unseen
    if logprobs is None:
        raise MalformedReply("the reply has no log-probabilities of the labels")
    missing = [label for label in labels if label not in logprobs]
    if len(missing) == len(labels):
        raise MalformedReply(f"none of the labels {', '.join(labels)} is among the likeliest tokens")
    if missing and unseen is None:
        raise MalformedReply(f"the reply has no log-probability of {', '.join(missing)}")
    middle = min(unseen.each / 2, unseen.together / (len(missing) + 1)) if unseen else 0.0
    found = tuple([_probability(logprobs[label], label) if label in logprobs else middle for label in labels])
    mass = math.fsum(found)
    if not 0 < mass <= 1 + SLACK:
        told = f"add up to {mass:.4g}" if mass else "have no probability at all"
        raise MalformedReply(f"the labels {', '.join(labels)} {told}")
    return Reading(found, min(mass, 1.0), bool(missing))


def _probability(logprob: float, label: str) -> float:
    if isinstance(logprob, bool) or not logprob <= SLACK:  # NaN too
        raise MalformedReply(f"{logprob} is given as the log-probability of {label}")
    return math.exp(min(logprob, 0.0))


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
