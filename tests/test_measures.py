"""Estimates and style effects: intervals that cover, effects that are recovered, and too little data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constitution.measures import Estimate, estimate, style
from constitution.measures.calibrate import expit

SEEDS = 200
COVERED = (0.91, 0.985)
"""Of 200 intervals of 95 %, a share within these is what chance leaves (99 %), and the bootstrap's own bias."""


def holds(found: Estimate, truth: float) -> bool:
    assert found.low is not None
    assert found.high is not None
    return found.low <= truth <= found.high


def votes(seed: int, prompts: int = 120, each: int = 3, features: int = 2) -> tuple[Any, Any, Any]:
    """Log-odds of b on pairs of prompts that differ in quality, with effects 0.3 + 1·x0 − 0.5·x1."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(prompts * each, features)) * [0.4, 0.1]
    quality = np.repeat(generator.normal(size=prompts), each)
    noise = generator.normal(size=prompts * each)
    return 0.3 + x @ [1.0, -0.5] + quality + noise, x, np.repeat(np.arange(prompts), each)


# --- means


def test_intervals_of_a_mean_cover_it_where_votes_of_a_prompt_hang_together() -> None:
    covered = []
    for seed in range(SEEDS):
        generator = np.random.default_rng(seed)
        sizes = generator.integers(1, 8, size=80)
        values = np.repeat(generator.normal(0.2, 1.0, size=80), sizes) + generator.normal(size=sizes.sum())
        covered.append(holds(estimate.mean(values, np.repeat(np.arange(80), sizes), replicates=400, seed=seed), 0.2))
    assert COVERED[0] <= np.mean(covered) <= COVERED[1]


def test_intervals_of_a_share_cover_it() -> None:
    covered = []
    for seed in range(SEEDS):
        values = np.random.default_rng(seed).random(150) < 0.3
        covered.append(holds(estimate.mean(values, np.arange(150), proportion=True, replicates=400), 0.3))
    assert COVERED[0] <= np.mean(covered) <= COVERED[1]


@pytest.mark.parametrize("n", [5, 10, 20])
def test_intervals_of_a_mean_cover_it_where_prompts_are_few(n: int) -> None:
    """The plain percentiles hold it in 83, 87 and 91 of 100 samples."""
    covered = []
    for seed in range(2 * SEEDS):
        values = np.random.default_rng(seed).normal(size=n)
        covered.append(holds(estimate.mean(values, np.arange(n), replicates=400), 0.0))
    assert np.mean(covered) >= {5: 0.87, 10: 0.91, 20: 0.92}[n]


def test_clusters_widen_the_interval() -> None:
    values = np.repeat(np.random.default_rng(0).random(50) < 0.5, 20)
    alone = estimate.mean(values, np.arange(1000), proportion=True)
    together = estimate.mean(values, np.repeat(np.arange(50), 20), proportion=True)
    assert alone.value == together.value
    assert alone.low is not None
    assert together.low is not None
    assert (together.value or 0) - together.low > 3 * ((alone.value or 0) - alone.low)


def test_where_all_are_equal_the_share_has_wilsons_interval() -> None:
    found = estimate.mean(np.ones(100), np.arange(100), proportion=True)
    assert (found.value, found.high, found.n) == (1.0, 1.0, 100)
    assert found.low == pytest.approx(0.963, abs=0.001)  # 100 / (100 + 1.96²)
    # A hundred votes on one prompt are one draw, not a hundred.
    one = estimate.mean(np.ones(100), np.zeros(100), proportion=True)
    assert one.low == pytest.approx(0.2065, abs=0.001)
    assert one.n == 100


def test_too_little_for_a_mean() -> None:
    assert estimate.mean([], []) == Estimate(None, None, None, 0)
    assert estimate.mean([], [], proportion=True) == Estimate(None, None, None, 0)
    assert estimate.mean([1.5, 2.5], ["p", "p"]) == Estimate(2.0, None, None, 2)


@pytest.mark.parametrize("values", [[0.5, float("nan")], [float("inf"), 0.0]])
def test_what_is_no_number_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        estimate.mean(values, ["p", "q"])
    with pytest.raises(ValueError, match="finite"):
        style.fit(values, [[0.0], [1.0]], ["p", "q"], ["length"])
    with pytest.raises(ValueError, match="finite"):
        style.fit([0.0, 1.0], [[value] for value in values], ["p", "q"], ["length"])
    with pytest.raises(ValueError, match="finite"):
        style.logistic(values, [[0.0], [1.0]], ["p", "q"], ["length"])


def test_shapes_that_disagree_are_refused() -> None:
    with pytest.raises(ValueError, match="clusters"):
        estimate.mean([1.0, 2.0], ["p"])
    with pytest.raises(ValueError, match="features"):
        style.fit([1.0, 2.0], [[1.0], [2.0]], ["p", "q"], ["length", "bold"])
    with pytest.raises(ValueError, match="proportion"):
        estimate.mean([1.0, 2.0], ["p", "q"], proportion=True)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 5)), min_size=1, max_size=30), st.randoms())
def test_the_order_of_rows_does_not_matter(rows: list[tuple[float, int]], random: Any) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    one, other = (
        estimate.mean([row[0] for row in given], [f"p{row[1]}" for row in given], proportion=True, replicates=50)
        for given in (rows, shuffled)
    )
    for name in ("value", "low", "high"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-9)
    assert one.low is not None
    assert one.high is not None
    assert 0 <= one.low <= one.high <= 1


def test_draws_in_pieces_are_the_same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).random((40, 2))
    whole = estimate.sums(values, np.arange(40), replicates=100)
    monkeypatch.setattr(estimate, "_CHUNK_BYTES", 40 * 8 * 7)
    np.testing.assert_allclose(estimate.sums(values, np.arange(40), replicates=100), whole, rtol=1e-12)


# --- style


def test_intervals_of_effects_cover_them() -> None:
    covered: dict[str, list[bool]] = {"length": [], "bold": [], "intercept": []}
    for seed in range(SEEDS):
        found = style.fit(*votes(seed), ["length", "bold"], replicates=400, seed=seed)
        covered["length"].append(holds(found.effects["length"], 1.0))
        covered["bold"].append(holds(found.effects["bold"], -0.5))
        covered["intercept"].append(holds(found.intercept, 0.3))
    for name, flags in covered.items():
        assert COVERED[0] <= np.mean(flags) <= COVERED[1], name


def test_effects_are_those_of_statsmodels() -> None:
    import statsmodels.api as sm

    target, x, prompts = votes(3)
    found = style.fit(target, x, prompts, ["length", "bold"])
    model = sm.OLS(target, sm.add_constant(x)).fit(cov_type="cluster", cov_kwds={"groups": prompts})
    assert found.intercept.value == pytest.approx(model.params[0])
    for place, name in enumerate(["length", "bold"], start=1):
        effect, scaled = found.effects[name], found.effects_sd[name]
        assert effect.value == pytest.approx(model.params[place])
        assert scaled.value == pytest.approx(model.params[place] * x[:, place - 1].std())
        low, high = model.conf_int()[place]
        assert effect.low == pytest.approx(low, abs=0.15 * (high - low))
        assert effect.high == pytest.approx(high, abs=0.15 * (high - low))


def test_what_the_features_leave_out_does_not_shrink_the_effect_of_log_odds_and_does_of_wins() -> None:
    target, x, prompts = votes(0, prompts=3000, each=1)
    assert style.fit(target, x, prompts, ["length", "bold"], replicates=100).effects["length"].value == pytest.approx(
        1.0, abs=0.2
    )
    wins = style.logistic((target > 0).astype(float), x, prompts, ["length", "bold"])["length"]
    soft = style.logistic(expit(target), x, prompts, ["length", "bold"])["length"]
    assert soft.value is not None
    assert soft.value < 0.85  # logistic models of fractions or of wins are about the average pair
    assert wins.value is not None


def test_a_logistic_effect_is_recovered_where_nothing_is_left_out() -> None:
    covered = []
    for seed in range(100):
        generator = np.random.default_rng(seed)
        x = generator.normal(size=(300, 1))
        wins = (generator.random(300) < expit(0.5 + x[:, 0])).astype(float)
        covered.append(holds(style.logistic(wins, x, np.arange(300), ["length"])["length"], 1.0))
    assert np.mean(covered) >= 0.89


def test_the_shift_is_what_the_features_have_given() -> None:
    x = np.random.default_rng(0).normal(size=(50, 2))
    found = style.fit(0.7 + x @ [2.0, 3.0], x, np.arange(50), ["length", "bold"], replicates=50)
    np.testing.assert_allclose(found.shift(x), x @ [2.0, 3.0])
    assert found.intercept.value == pytest.approx(0.7)


def test_a_feature_that_never_differs_has_no_effect_to_tell_of() -> None:
    target, x, prompts = votes(1)
    wide = np.column_stack([np.zeros(len(x)), x, np.full(len(x), 0.25), 2 * x[:, 0] - x[:, 1]])
    names = ["never", "length", "bold", "constant", "both"]
    found = style.fit(target, wide, prompts, names, replicates=100)
    plain = style.fit(target, x, prompts, ["length", "bold"], replicates=100)
    for name in ("never", "constant", "both"):
        assert found.effects[name] == found.effects_sd[name] == Estimate(None, None, None, len(x))
    for name in ("length", "bold"):
        assert found.effects[name].value == pytest.approx(plain.effects[name].value)
        assert found.effects[name].low == pytest.approx(plain.effects[name].low)
    np.testing.assert_allclose(found.shift(wide), plain.shift(x))
    logistic = style.logistic(expit(target), wide, prompts, names)
    assert [name for name in names if logistic[name].value is None] == ["never", "constant", "both"]


def test_a_feature_that_few_rows_have_keeps_an_interval() -> None:
    generator = np.random.default_rng(0)
    x = np.zeros((200, 1))
    x[:2] = 1.0  # a seventh of the replicates draw neither of the two
    found = style.fit(x[:, 0] + generator.normal(size=200), x, np.arange(200), ["bold"]).effects["bold"]
    assert found.low is not None
    assert found.high is not None
    assert found.low < (found.value or 0) < found.high


def test_too_little_for_an_effect() -> None:
    none = Estimate(None, None, None, 0)
    empty = style.fit([], np.empty((0, 2)), [], ["length", "bold"])
    assert (empty.effects, empty.intercept) == ({"length": none, "bold": none}, none)
    assert style.logistic([], np.empty((0, 1)), [], ["length"]) == {"length": none}
    few = style.fit([1.0, 2.0], [[1.0], [2.0]], ["p", "q"], ["length"])
    assert few.effects["length"] == Estimate(None, None, None, 2)
    assert not few.shift([[1.0]]).any()
    target, x, _ = votes(0)
    one = style.fit(target, x, np.zeros(len(x)), ["length", "bold"])
    assert one.effects["length"].value == pytest.approx(1.0, abs=0.5)
    assert (one.effects["length"].low, one.intercept.low) == (None, None)


def test_votes_that_a_feature_separates_have_no_logistic_effect() -> None:
    x = np.linspace(-1, 1, 40)[:, None]
    found = style.logistic((x[:, 0] > 0).astype(float), x, np.arange(40), ["length"])
    assert found["length"] == Estimate(None, None, None, 40)


def test_control_takes_out_what_the_votes_show_and_else_nothing() -> None:
    """All features where they have an effect together, and in about one of twenty runs where they have none."""
    names, ids = ["length", "bold"], np.arange(800)
    draw = np.random.default_rng(3)
    x = draw.normal(size=(800, 2))
    votes = 0.3 * x[:, 0] + draw.normal(size=800)
    np.testing.assert_allclose(
        style.control(votes, x, ids, names).shift(x), style.fit(votes, x, ids, names, replicates=0).shift(x)
    )
    taken = [style.control(draw.normal(size=800), x, ids, names).shift(x).any() for _ in range(200)]
    assert 2 <= sum(taken) <= 20
    assert not style.control(votes, x, np.zeros(800), names).shift(x).any()  # one prompt says nothing of others
