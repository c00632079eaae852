"""The best of n, against all subsets and against drawing."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from constitution.measures.groups import best_of, chances, sizes, within


def brute(rewards: list[float], values: list[float], n: int) -> float:
    worth = []
    for chosen in combinations(range(len(rewards)), n):
        top = max(rewards[place] for place in chosen)
        best = [values[place] for place in chosen if rewards[place] == top]
        worth.append(sum(best) / len(best))
    return sum(worth) / len(worth)


@pytest.mark.parametrize("seed", range(8))
def test_it_is_the_mean_over_all_subsets(seed: int) -> None:
    draw = np.random.default_rng(seed)
    size = int(draw.integers(1, 9))
    rewards, values = draw.integers(0, 4, size) / 4, draw.random(size)
    for n in range(1, size + 1):
        expected = brute(rewards.tolist(), values.tolist(), n)
        assert best_of(rewards, values, n) == pytest.approx(expected)


def test_of_one_it_is_the_mean_and_of_all_the_best() -> None:
    rewards, values = np.array([0.1, 0.9, 0.5]), np.array([1.0, 2.0, 6.0])
    assert best_of(rewards, values, 1) == pytest.approx(3.0)
    assert best_of(rewards, values, 3) == pytest.approx(2.0)
    assert best_of(np.ones(3), values, 2) == pytest.approx(3.0)  # all are equal


def test_a_group_that_is_too_small_is_refused() -> None:
    for n in (0, 4):
        with pytest.raises(ValueError, match="the group has 3"):
            best_of(np.ones(3), np.ones(3), n)


def test_sizes() -> None:
    assert sizes(1) == (1,)
    assert sizes(8) == (1, 2, 4, 8)
    assert sizes(6) == (1, 2, 4, 6)


def test_all_of_a_draw_are_among_the_lowest_as_often_as_subsets_say() -> None:
    for size, n in ((1, 1), (5, 2), (7, 7), (9, 4)):
        drawn = list(combinations(range(size), n))
        for k, found in enumerate(chances(size, n)):
            assert found == pytest.approx(sum(max(chosen) < k for chosen in drawn) / len(drawn))
    assert chances(3000, 1500)[-1] == 1  # the number of subsets has 901 digits
    with pytest.raises(ValueError, match="best of 3"):
        chances(2, 3)


def test_a_slope_inside_groups_and_what_it_needs() -> None:
    parts = np.array([[2.0, 4.0, 1.0], [1.0, 2.0, 3.0], [3.0, 6.0, 2.0]])
    slope, correlation = within(parts, np.arange(3), 12)
    assert (slope.value, slope.n) == (0.5, 12)
    assert correlation.value == pytest.approx(6 / np.sqrt(12 * 6))
    for end in (0, 1):  # the slope is the same in each group
        assert (slope.low, slope.high)[end] == pytest.approx(0.5)
    _, full = within(np.array([[2.0, 4.0, 1.0]] * 3), np.arange(3), 12)
    assert full.value == pytest.approx(1)
    assert full.low is not None
    assert full.low < 0.5  # three groups know little
    flat, none = within(np.array([[0.0, 0.0, 3.0]]), np.arange(1), 4)
    assert (flat.value, none.value, none.n) == (None, None, 4)
