"""Votes that stop early: what it saves and what it changes, on planted judges."""

from __future__ import annotations

import math
import random

import pytest

from constitution.labels.adaptive import turns, waves

SURE = 0.99


def side(p: float) -> int:
    return (p > 0.5 + 1e-12) - (p < 0.5 - 1e-12)


def label(units: list[tuple[int, float, float]]) -> float:
    """As labels are made: repeats of a principle averaged, then principles by weight."""
    values: dict[tuple[int, float], list[float]] = {}
    for principle, weight, value in units:
        values.setdefault((principle, weight), []).append(value)
    total = sum(weight for _, weight in values)
    return sum(weight * sum(each) / len(each) for (_, weight), each in values.items()) / total


@pytest.mark.parametrize(("principles", "repeats", "written"), [(16, 1, False), (7, 4, True), (16, 4, True)])
def test_it_saves_two_fifths_of_the_calls_and_changes_hardly_a_label(
    principles: int, repeats: int, written: bool
) -> None:
    draw, asked, all_, changed, pairs = random.Random(1), 0, 0, 0, 800
    weights = [draw.choice([1.0, 1.0, 1.0, 3.0]) for _ in range(principles)]
    for _ in range(pairs):
        centre, units = draw.gauss(0.5, 1.5), []
        for principle, weight in enumerate(weights):
            lean = centre + draw.gauss(0, 1)
            for _ in range(repeats):
                both = [1 / (1 + math.exp(-(lean + sign * 0.7 + draw.gauss(0, 0.3)))) for sign in (1, -1)]
                both = [float(draw.random() < p) for p in both] if written else both
                units.append((principle, weight, sum(both) / 2))
        draw.shuffle(units)
        for look in waves(len(units)):
            there, left = units[:look], units[look:]
            if turns([v for *_, v in there], [w for _, w, _ in there], [w for _, w, _ in left]) <= 1 - SURE:
                break
        asked, all_ = asked + look, all_ + len(units)
        changed += side(label(units[:look])) != side(label(units))
    assert 1 - asked / all_ >= 0.4
    assert changed / pairs <= 0.01


def test_what_cannot_turn_it_need_not_be_asked() -> None:
    assert turns([1.0] * 3, [1.0] * 3, [1.0] * 2) == 0.0
    assert turns([1.0] * 3, [1.0] * 3, [1.0] * 4) > 0.0
    assert turns([0.5] * 4, [1.0] * 4, [1.0], margin=0.2) == 0.0  # dropped, whatever the last says
    assert turns([0.9, 0.1], [1.0, 1.0], []) == 0.0
    assert waves(0) == []
    assert all(waves(n)[-1] == n and waves(n) == sorted(set(waves(n))) for n in range(1, 100))
