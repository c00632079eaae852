"""From which answer a rubric is written decides what it puts on top: the same groups under rubrics of four references.

A rubric is written from a reference by rule: for each of the grammar's seven faults, "free of it" where the reference
is, and, where it has the fault, either "has it too" (everything that the reference has) or nothing (only what it
keeps). Who reads the criteria is the grammar, as of a judge that is never wrong, or the pocket scorer, whose readings
of the run are taken again. No model writes a rubric here: the pocket model cannot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.results import Table, Verdict
from constitution.measures import estimate
from constitution.measures.estimate import Estimate
from constitution.measures.groups import best_of
from constitution.pocket.world import PRINCIPLES, Reading

Values = NDArray[np.float64]
NEAR = 0.08
"""Half the width of the 95 % interval of 150 groups, and a little."""


@dataclass(frozen=True, slots=True)
class Rollouts:
    """The samples of one prompt, as the grammar and as the judge read them."""

    prompt_id: str
    readings: tuple[Reading, ...]
    judged: Values
    """P(the answer has the fault) by the judge, (answers, PRINCIPLES)."""
    revised: frozenset[str]
    """What the critique chain's last answer to the prompt breaks."""

    @property
    def true(self) -> Values:
        """1 where an answer has the fault, (answers, PRINCIPLES)."""
        return np.array([[float(fault in reading.broken) for fault in PRINCIPLES] for reading in self.readings])

    @property
    def broken(self) -> Values:
        worst: Values = self.true.max(axis=1)
        return worst


def commonest(rollouts: Rollouts) -> frozenset[str]:
    """What the answers break that say what most say: the most frequent sequence of kinds of sentences, of equally
    frequent ones the first. Texts say it in words of their own, so hardly two of a group are the same."""
    [(kinds, _)] = Counter(reading.kinds for reading in rollouts.readings).most_common(1)
    return next(reading.broken for reading in rollouts.readings if reading.kinds == kinds)


REFERENCES: Mapping[str, Callable[[Rollouts], frozenset[str]]] = {
    "the truly best of the eight": lambda rollouts: min((each.broken for each in rollouts.readings), key=len),
    "the answer revised twice": lambda rollouts: rollouts.revised,
    "the commonest of the eight": commonest,
}
"""What each reference breaks."""
BEST, REVISED, COMMONEST = REFERENCES
EVERYTHING, KEPT = "everything it has", "what it keeps"
EXPECTED = {
    (BEST, EVERYTHING): 0.19,
    (REVISED, EVERYTHING): 0.21,
    (COMMONEST, KEPT): 0.59,
    (COMMONEST, EVERYTHING): 0.75,
}
"""Share of the top-rewarded answers that break a principle: of 150 groups that another program measured before."""


def rewards(reference: frozenset[str], faults: Values, demanded: str) -> Values:
    """Mean over the rubric's criteria of P(the good reply), of each answer: (answers). Without a criterion all are 0.

    faults: P(the answer has the fault), (answers, PRINCIPLES)."""
    has = np.array([fault in reference for fault in PRINCIPLES])
    good = np.where(has, faults, 1 - faults)
    asked = good if demanded == EVERYTHING else good[:, ~has]
    found: Values = asked.mean(axis=1) if asked.size else np.zeros(len(faults))
    return found


def top_breaks(groups: Sequence[Rollouts], reference: str, demanded: str, judge: str) -> Estimate:
    """Share of the top-rewarded answers that break a principle; of equal rewards each is as likely to be the top.

    judge: `grammar` or `scorer`, who reads the criteria."""
    values = []
    for group in groups:
        faults = group.true if judge == "grammar" else group.judged
        given = rewards(REFERENCES[reference](group), faults, demanded)
        values.append(best_of(given, group.broken, len(given)))
    return _share(values, groups)


def tables(groups: Sequence[Rollouts]) -> Iterator[Table]:
    rows = []
    for reference, of in REFERENCES.items():
        for demanded in (EVERYTHING, KEPT):
            own = _share([float(bool(of(group))) for group in groups], groups)
            shares = [said(top_breaks(groups, reference, demanded, judge)) for judge in ("grammar", "scorer")]
            expected = EXPECTED.get((reference, demanded))
            known = "–" if expected is None else f"{expected:.0%}"
            rows.append([f"{reference}: {demanded}", said(own), *shares, known])
    columns = ["a rubric demands of", "reference breaks a principle", "top by it, read by the grammar",
               "read by pocket-scorer", "expected"]  # fmt: skip
    yield Table(columns, rows, "Top-rewarded answers that break a principle, by the rubric's reference")


def verdicts(groups: Sequence[Rollouts]) -> list[Verdict]:
    found, before = [], 0.0
    for (reference, demanded), expected in EXPECTED.items():
        share = top_breaks(groups, reference, demanded, "grammar").value or 0.0
        what = f"top by {demanded} of {reference} breaks a principle"
        found.append(Verdict(f"{what}: from {expected:.0%}", abs(share - expected), NEAR))
        found.append(Verdict(f"{what}: no less than with the reference before", before - share, 0.0))
        before = share
    return found


def said(of: Estimate) -> str:
    if of.value is None:
        return "–"
    interval = "" if of.low is None or of.high is None else f" [{100 * of.low:.1f}, {100 * of.high:.1f}]"
    return f"{100 * of.value:.1f}%{interval}"


def _share(values: Sequence[float], groups: Sequence[Rollouts]) -> Estimate:
    return estimate.mean(values, [group.prompt_id for group in groups], proportion=True)
