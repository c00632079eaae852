"""What a judge that errs has found, corrected: against known cases and by coverage."""

from __future__ import annotations

import numpy as np
import pytest

from constitution.measures.prevalence import Hits, corrected


def test_a_judge_without_fault_is_believed() -> None:
    found = corrected(Hits(20, 100), Hits(1000, 1000), Hits(1000, 1000))
    assert found.value == pytest.approx(0.2)
    assert found.low == pytest.approx(0.133, abs=0.01)  # Wilson's: 0.1334 to 0.2888
    assert found.high == pytest.approx(0.289, abs=0.01)


def test_rogan_and_gladens_estimate() -> None:
    found = corrected(Hits(26, 100), Hits(80, 100), Hits(90, 100))
    assert found.value == pytest.approx((0.26 + 0.9 - 1) / (0.8 + 0.9 - 1))
    assert found.n == 100


def test_fewer_than_its_false_alarms_is_none() -> None:
    found = corrected(Hits(6, 100), Hits(90, 100), Hits(90, 100))
    assert found.value == 0.0
    assert found.low == 0.0
    assert found.high is not None
    assert found.high > 0


@pytest.mark.parametrize(
    "hits",
    [
        (Hits(0, 0), Hits(9, 10), Hits(9, 10)),
        (Hits(5, 10), Hits(0, 0), Hits(9, 10)),
        (Hits(5, 10), Hits(9, 10), Hits(0, 0)),
        (Hits(5, 10), Hits(5, 10), Hits(5, 10)),
        (Hits(5, 10), Hits(1, 10), Hits(2, 10)),
    ],
)
def test_nothing_known_or_no_better_than_chance(hits: tuple[Hits, Hits, Hits]) -> None:
    assert corrected(*hits).value is None


@pytest.mark.parametrize(("sensitivity", "specificity"), [(Hits(2, 2), Hits(1, 6)), (Hits(1, 1), Hits(1, 20))])
def test_few_labels_that_chance_may_have_made_rule_nothing_out(sensitivity: Hits, specificity: Hits) -> None:
    found = corrected(Hits(3, 10), sensitivity, specificity)
    assert found.value is not None
    assert (found.low, found.high) == (0, 1)


@pytest.mark.parametrize(("truth", "se", "sp"), [(0.05, 0.9, 0.95), (0.3, 0.7, 0.9), (0.6, 0.95, 0.7)])
def test_the_interval_holds_the_truth_in_about_95_of_a_hundred_samples(truth: float, se: float, sp: float) -> None:
    generator = np.random.default_rng(1)
    inside = 0
    for _ in range(600):
        sick = generator.binomial(300, truth)
        found = Hits(int(generator.binomial(sick, se) + generator.binomial(300 - sick, 1 - sp)), 300)
        known = (Hits(int(generator.binomial(80, share)), 80) for share in (se, sp))
        estimate = corrected(found, *known)
        assert estimate.low is not None
        assert estimate.high is not None
        inside += estimate.low <= truth <= estimate.high
    assert 0.925 <= inside / 600 <= 0.995


@pytest.mark.parametrize("found", [Hits(0, 600), Hits(600, 600)])
def test_what_no_share_explains_is_not_told_for_certain(found: Hits) -> None:
    # The judge finds fewer (more) than it would by its errors alone.
    told = corrected(found, Hits(93, 100), Hits(93, 100))
    assert told.value in (0.0, 1.0)
    assert told.low is not None
    assert told.high is not None
    assert told.low <= told.value <= told.high
    assert told.high - told.low > 0.02
