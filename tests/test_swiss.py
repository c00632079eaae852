"""Which answers meet in the next round of a tournament."""

from __future__ import annotations

import random
from itertools import combinations

import pytest

from constitution.judge.swiss import Ids, next_round, rounds_of


def played_out(names: list[str], rounds: int, p: dict[str, float]) -> list[list[Ids]]:
    """The rounds of a tournament that the one with the greater p wins."""
    played: dict[Ids, float | None] = {}
    found = []
    for number in range(rounds):
        found.append(next_round(names, played, number))
        played |= {(a, b): 0.5 + (p[b] - p[a]) / 2 for a, b in found[-1]}
    return found


def test_the_first_round_is_as_drawn_and_winners_meet_in_the_second() -> None:
    names = list("hcagbdfe")
    first, second = played_out(names, 2, {name: (ord(name) - 97) / 10 for name in names})
    assert first == [("h", "c"), ("a", "g"), ("b", "d"), ("f", "e")]
    # After the first: h and g won by 0.75 and 0.8, d by 0.6, f by 0.55, and so on down to a.
    assert second == [("h", "g"), ("d", "f"), ("b", "e"), ("c", "a")]


@pytest.mark.parametrize("n", range(2, 24))
def test_no_two_meet_twice_and_everyone_meets_in_every_round(n: int) -> None:
    draw = random.Random(n)
    names = [f"s{number}" for number in range(n)]
    draw.shuffle(names)
    p = {name: draw.random() for name in names}
    met: set[frozenset[str]] = set()
    sat_out: dict[str, int] = dict.fromkeys(names, 0)
    for number, pairs in enumerate(played_out(names, n // 2, p)):
        there = [name for pair in pairs for name in pair]
        assert len(there) == len(set(there)) == n - n % 2, (number, pairs)
        assert all(names.index(a) < names.index(b) for a, b in pairs)
        new = {frozenset(pair) for pair in pairs}
        assert not new & met
        met |= new
        for name in set(names) - set(there):
            sat_out[name] += 1
    assert max(sat_out.values()) <= 1  # in half of n rounds, each at most once


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 7, 9, 12])
def test_it_ends_when_everyone_has_met_everyone(n: int) -> None:
    names = [f"s{number}" for number in range(n)]
    rounds = [pairs for pairs in played_out(names, 3 * n, dict.fromkeys(names, 0.5)) if pairs]
    met = [frozenset(pair) for pairs in rounds for pair in pairs]
    assert len(met) == len(set(met))
    assert next_round(names, dict.fromkeys(combinations(names, 2), 0.5), n) == []


def test_what_sits_out_is_the_least_that_met_most_and_a_pair_without_label_says_nothing() -> None:
    assert next_round(list("abc"), {}, 0) == [("a", "b")]
    assert next_round(list("abc"), {("a", "b"): 0.9}, 1) == [("b", "c")]  # a lost, c sat out
    assert next_round(list("abc"), {("a", "b"): 0.9, ("b", "c"): 0.1}, 2) == [("a", "c")]
    labelled = next_round(list("abcd"), {("a", "b"): 0.5, ("c", "d"): 0.5}, 1)
    assert labelled == next_round(list("abcd"), {("a", "b"): None, ("c", "d"): None}, 1) == [("a", "c"), ("b", "d")]


def test_two_that_are_left_and_have_met_take_a_pair_apart() -> None:
    # e and f are last and have met: they take c and d, the nearest pair.
    assert next_round(list("abcdef"), {("e", "f"): 0.5}, 1) == [("a", "b"), ("c", "e"), ("d", "f")]


@pytest.mark.parametrize(
    ("n", "wanted", "rounds"),
    [(0, None, 0), (1, None, 0), (2, None, 2), (3, None, 3), (4, None, 3), (5, None, 4), (8, None, 4), (9, None, 5),
     (64, None, 7), (8, 3, 3), (4, 9, 9), (1, 3, 0)],
)  # fmt: skip
def test_rounds_are_those_wanted_or_follow_from_how_many_there_are(n: int, wanted: int | None, rounds: int) -> None:
    assert rounds_of(n, wanted) == rounds
