"""Calibration, agreement and Dawid–Skene, against the published implementations and planted truths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constitution.measures import Estimate, aggregate, agreement, calibrate
from constitution.measures.calibrate import Bin, expit, log_odds
from constitution.measures.estimate import percentiles


def judged(n: int, sharpness: float, seed: int = 0) -> tuple[Any, Any]:
    """Votes of a judge that is `sharpness` times as sure as it ought to be, and the truth."""
    generator = np.random.default_rng(seed)
    odds = generator.normal(0, 1.5, size=n)
    return expit(sharpness * odds), (generator.random(n) < expit(odds)).astype(float)


# --- calibration


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
@pytest.mark.parametrize("sharpness", [0.4, 3.0])
def test_a_judge_too_sure_or_too_shy_is_put_right(method: calibrate.Calibration, sharpness: float) -> None:
    p, y = judged(6000, sharpness)
    before, after = calibrate.ece(p[3000:], y[3000:]), calibrate.ece(
        calibrate.fit(method, p[:3000], y[:3000])(p[3000:]), y[3000:]
    )  # fmt: skip
    assert before is not None
    assert after is not None
    assert before > 0.07
    assert after < 0.035


def test_temperature_is_the_one_that_was_planted() -> None:
    p, y = judged(20_000, 3.0)
    calibrated = calibrate.fit("temperature", p, y)
    assert log_odds(calibrated([0.9]))[0] / log_odds(0.9) == pytest.approx(1 / 3, rel=0.05)


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_a_calibration_is_monotone_and_does_not_know_which_answer_is_called_b(method: calibrate.Calibration) -> None:
    p, y = judged(500, 2.0)
    calibrated = calibrate.fit(method, p, y)
    grid = np.linspace(0, 1, 101)
    found = calibrated(grid)
    assert (np.diff(found) >= -1e-12).all()
    assert found[50] == 0.5
    np.testing.assert_allclose(found + found[::-1], 1)
    # A file that names the better one first in every pair.
    turned = np.where(y == 1, 1 - p, p)
    np.testing.assert_allclose(calibrate.fit(method, turned, np.zeros(500))(grid), found, atol=1e-6)


def test_a_judge_that_is_mostly_wrong_gets_one_half_and_no_reversal() -> None:
    p, y = judged(500, 1.0)
    for method in ("temperature", "isotonic"):
        assert calibrate.fit(method, 1 - p, y)([0.9])[0] == pytest.approx(0.5)


def test_a_judge_that_is_always_right_and_sure_is_no_trouble() -> None:
    y = np.tile([0.0, 1.0], 100)
    for method in ("temperature", "isotonic"):
        found = calibrate.fit(method, y, y)([0.0, 0.5, 1.0])
        np.testing.assert_allclose(found, [0, 0.5, 1], atol=1e-3)
    assert calibrate.ece(y, y) == 0
    assert calibrate.brier(y, y) == 0


def test_people_who_are_divided_count_for_each_side() -> None:
    p = np.array([0.8, 0.8, 0.3, 0.6] * 50)
    y = np.array([0.75, 0.75, 0.25, 0.5] * 50)
    each = np.repeat(p, 4), np.concatenate([[1, 1, 1, 0], [1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0]] * 50)
    grid = np.linspace(0.05, 0.95, 10)
    for method in ("temperature", "isotonic"):
        one, other = calibrate.fit(method, p, y), calibrate.fit(method, *each)
        np.testing.assert_allclose(one(grid), other(grid), atol=1e-5)
    assert calibrate.brier(p, y) == pytest.approx(calibrate.brier(*each))


def test_reliability_has_the_bins_of_scikit_learn() -> None:
    from sklearn.calibration import calibration_curve

    p, y = judged(1000, 2.0)
    both = np.concatenate([p, 1 - p]), np.concatenate([y, 1 - y])
    observed, predicted = calibration_curve(both[1], both[0], n_bins=10, strategy="quantile")
    rows = calibrate.reliability(p, y)
    np.testing.assert_allclose([row.observed for row in rows], observed)
    np.testing.assert_allclose([row.predicted for row in rows], predicted)
    assert sum(row.n for row in rows) == 2000
    assert calibrate.ece(p, y) == pytest.approx(np.average(abs(observed - predicted), weights=[row.n for row in rows]))


def test_brier_is_the_mean_square() -> None:
    p, y = judged(1000, 2.0)
    assert calibrate.brier(p, y) == pytest.approx(np.mean((p - y) ** 2))


def test_equal_votes_share_a_bin() -> None:
    rows = calibrate.reliability([0.75] * 8, [1.0] * 6 + [0.0] * 2)
    assert rows == [Bin(0.25, 0.25, 8), Bin(0.75, 0.75, 8)]
    assert calibrate.ece([0.5, 0.5], [1.0, 1.0]) == 0  # it says nothing, and nothing false


def test_what_differs_by_rounding_alone_shares_a_bin() -> None:
    """1 − .8 is not .2 to the last bit."""
    p, y = np.repeat([0.8, 0.2], 8), np.repeat([1.0, 0.0], 8)
    low, high = calibrate.reliability(p, y)
    assert tuple(low) == pytest.approx((0.2, 0.0, 16))
    assert tuple(high) == pytest.approx((0.8, 1.0, 16))


def test_isotonic_makes_no_ties_of_votes_with_a_side() -> None:
    """A step at one half would leave every sixth pair without a label."""
    p, y = judged(400, 2.0)
    calibrated = calibrate.fit("isotonic", p, y)(judged(4000, 2.0, seed=1)[0])
    assert (np.abs(calibrated - 0.5) < 1e-12).mean() < 0.01


def test_the_interval_of_ece_holds_its_value_and_holds_0_where_calibration_is_perfect() -> None:
    estimates = []
    for seed in range(60):
        p, y = judged(300, 1.0, seed)
        estimates.append(calibrate.ece_estimate(p, y, np.arange(300), replicates=200))
        assert estimates[-1].value == pytest.approx(calibrate.ece(p, y))
    ends = np.array([(found.low, found.value, found.high) for found in estimates], dtype=float)
    assert (np.diff(ends) >= 0).all()
    assert (ends[:, 0] == 0).mean() >= 0.9
    p, y = judged(2000, 3.0)
    sure = calibrate.ece_estimate(p, y, np.arange(2000), replicates=200)
    assert sure.low is not None
    assert sure.low > 0.05
    assert calibrate.ece_estimate(p[:1], y[:1], [0]).low is None
    assert calibrate.ece_estimate([], [], []) == Estimate(None, None, None, 0)


def test_without_gold() -> None:
    assert calibrate.ece([], []) is None
    assert calibrate.brier([], []) is None
    assert calibrate.reliability([], []) == []
    assert calibrate.half([]).shape == (0,)
    with pytest.raises(ValueError, match="gold"):
        calibrate.fit("temperature", [], [])


@pytest.mark.parametrize(("p", "y"), [([float("nan")], [1.0]), ([0.5], [float("nan")]), ([1.5], [1.0]), ([0.5], [-1])])
def test_what_is_no_probability_is_refused(p: list[float], y: list[float]) -> None:
    for score in (calibrate.ece, calibrate.brier, calibrate.reliability, lambda p, y: calibrate.fit("isotonic", p, y)):
        with pytest.raises(ValueError, match=r"number|\[0, 1\]"):
            score(p, y)


def test_halves_are_even_and_stay() -> None:
    ids = [f"{number:032x}" for number in range(4000)]
    found = calibrate.half(ids)
    assert found.mean() == pytest.approx(0.5, abs=0.03)
    assert (calibrate.half(ids[::-1]) == found[::-1]).all()
    assert calibrate.half(["p1", "p2", "p3", "p4", "p5", "p6"]).tolist() == [True, True, False, True, False, True]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=40),
    st.sampled_from(["temperature", "isotonic"]),
)
def test_any_votes_calibrate_to_probabilities(rows: list[tuple[float, float]], method: calibrate.Calibration) -> None:
    p, y = [row[0] for row in rows], [row[1] for row in rows]
    found = calibrate.fit(method, p, y)(np.array([0.0, 1e-12, 0.3, 0.5, 1.0]))
    assert ((found >= 0) & (found <= 1)).all()
    assert 0 <= (calibrate.ece(p, y) or 0) <= 1
    assert 0 <= (calibrate.brier(p, y) or 0) <= 1


# --- agreement


def test_kappa_is_scikit_learns_and_its_interval_covers() -> None:
    from sklearn.metrics import cohen_kappa_score

    truth, covered = 0.6**2, []  # each rater is right with (1 + .6) / 2, of two equally frequent categories
    for seed in range(150):
        generator = np.random.default_rng(seed)
        item = generator.choice([-1, 1], size=200)
        one, other = (np.where(generator.random(200) < 0.8, item, -item) for _ in range(2))
        found = agreement.kappa(one, other, replicates=200, seed=seed)
        assert found.value == pytest.approx(cohen_kappa_score(one, other))
        assert found.low is not None
        assert found.high is not None
        covered.append(found.low <= truth <= found.high)
    assert 0.89 <= np.mean(covered) <= 0.99


def test_alpha_is_the_packages_with_gaps() -> None:
    import krippendorff

    generator = np.random.default_rng(0)
    table = generator.choice([-1.0, 0.0, 1.0, np.nan], size=(4, 60), p=[0.4, 0.1, 0.3, 0.2])
    table[1] = np.where(generator.random(60) < 0.7, table[0], table[1])
    found = agreement.alpha(table)
    assert found.value == pytest.approx(krippendorff.alpha(table, level_of_measurement="nominal"))
    assert found.n == int(((~np.isnan(table)).sum(axis=0) > 1).sum())


def test_replicates_of_alpha_are_alphas_of_the_drawn_items() -> None:
    import krippendorff

    generator = np.random.default_rng(0)
    table = generator.choice([0.0, 1.0, np.nan], size=(3, 40), p=[0.5, 0.3, 0.2])
    table = table[:, (~np.isnan(table)).sum(axis=0) > 1]
    items, draws = table.shape[1], 20
    generator = np.random.default_rng(7)
    expected = [
        krippendorff.alpha(table[:, generator.integers(items, size=items)], level_of_measurement="nominal")
        for _ in range(draws)
    ]
    found = agreement.alpha(table, replicates=draws, seed=7)
    assert [found.low, found.high] == pytest.approx(list(percentiles(np.array(expected), items)))


def test_clusters_of_items_widen_the_interval() -> None:
    item = np.repeat(np.random.default_rng(0).choice([0.0, 1.0], size=30), 20)
    other = np.repeat(np.random.default_rng(1).choice([0.0, 1.0], size=30), 20)
    prompts = np.repeat(np.arange(30), 20)
    for of in (agreement.kappa(item, other), agreement.alpha([item, other])):
        assert of.low is not None
        assert of.high is not None
        apart = of.high - of.low
        for together in (agreement.kappa(item, other, prompts), agreement.alpha([item, other], prompts)):
            assert together.low is not None
            assert together.high is not None
            assert together.high - together.low > 2 * apart


def test_few_items_that_all_agree_are_no_certainty() -> None:
    """The share of agreement is 10 of 10, from .72 by Wilson; chance has them disagree in half, or 10 of 19."""
    said = [0.0, 1.0] * 5
    least = 10 / (10 + 1.96**2)
    for found, chance in ((agreement.kappa(said, said), 0.5), (agreement.alpha([said, said]), 10 / 19)):
        assert found.value == found.high == 1.0
        assert found.low == pytest.approx(1 - (1 - least) / chance, abs=1e-3)


def test_nothing_to_agree_on() -> None:
    assert agreement.kappa([], []) == Estimate(None, None, None, 0)
    assert agreement.kappa([1, 1], [1, 1]) == Estimate(None, None, None, 2)
    assert agreement.alpha(np.empty((2, 0))) == Estimate(None, None, None, 0)
    assert agreement.alpha([[1.0, np.nan], [np.nan, 0.0]]) == Estimate(None, None, None, 0)
    assert agreement.alpha([[1.0, 1.0], [1.0, 1.0]]) == Estimate(None, None, None, 2)
    with pytest.raises(ValueError, match="category"):
        agreement.kappa([0.0, np.nan], [0.0, 1.0])


def test_categories_may_be_words() -> None:
    found = agreement.kappa(["a", "b", "tie", "a"], ["a", "b", "tie", "b"])
    assert found.value == pytest.approx(0.6363, abs=0.001)


# --- Dawid–Skene


def cast(seed: int, accuracy: list[float], pairs: int = 400) -> tuple[Any, Any, Any, Any]:
    generator = np.random.default_rng(seed)
    truth = generator.random(pairs) < 0.5
    right = generator.random((len(accuracy), pairs)) < np.array(accuracy)[:, None]
    ids = np.array([f"pair-{number:04}" for number in range(pairs)])
    workers = np.repeat([f"worker-{number}" for number in range(len(accuracy))], pairs)
    return np.tile(ids, len(accuracy)), workers, (right == truth).ravel(), dict(zip(ids, truth, strict=True))


def test_posteriors_know_the_good_voters_and_beat_the_majority() -> None:
    for seed in range(2):
        pairs, workers, prefers, truth = cast(seed, [0.95, 0.85, 0.6, 0.6, 0.6])
        found = aggregate.dawid_skene(pairs, workers, prefers, seed=seed)
        majority = {pair: prefers[pairs == pair].mean() for pair in truth}
        right, by_majority = (np.mean([(p[pair] > 0.5) == truth[pair] for pair in truth]) for p in (found, majority))
        assert right > by_majority + 0.03
        assert right > 0.9


def test_posteriors_do_not_depend_on_the_order_of_votes_nor_on_the_names_of_answers() -> None:
    pairs, workers, prefers, truth = cast(1, [0.8, 0.7, 0.6])
    found = aggregate.dawid_skene(pairs, workers, prefers, seed=3)
    order = np.random.default_rng(0).permutation(len(pairs))
    again = aggregate.dawid_skene(pairs[order], workers[order], prefers[order], seed=3)
    assert again == found
    turned = aggregate.dawid_skene(pairs, workers, ~prefers, seed=3)
    assert [turned[pair] for pair in truth] == pytest.approx([1 - found[pair] for pair in truth], abs=1e-3)


def test_that_b_is_mostly_better_is_nothing_to_learn() -> None:
    """A voter that always prefers b is heard as one that guesses."""
    generator = np.random.default_rng(0)
    truth = generator.random(600) < 0.8
    ids = np.array([f"pair-{number:04}" for number in range(600)])
    good = [np.where(generator.random(600) < 0.8, truth, ~truth) for _ in range(3)]
    votes = np.concatenate([*good, np.ones(600, dtype=bool)])
    found = aggregate.dawid_skene(np.tile(ids, 4), np.repeat(["x", "y", "z", "always"], 600), votes)
    without = aggregate.dawid_skene(np.tile(ids, 3), np.repeat(["x", "y", "z"], 600), np.concatenate(good))
    agree = np.mean([(found[pair] > 0.5) == (without[pair] > 0.5) for pair in ids])
    assert agree > 0.95


def test_few_votes() -> None:
    assert aggregate.dawid_skene([], [], []) == {}
    for seed in range(4):
        [p] = aggregate.dawid_skene(["pair"], ["w"], [True], seed=seed).values()
        assert p > 0.5
    with pytest.raises(ValueError, match="ties"):
        aggregate.dawid_skene(["pair"], ["w"], [0.5])
