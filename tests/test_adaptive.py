"""When votes may stop: the waves in which they are asked for, and the probability that the rest change the label."""

from __future__ import annotations

import math
import random

import pytest
from chains import answer

from constitution.judge.pairs import Pair
from constitution.judge.units import WAVES, Unit, at_once, in_waves, looks
from constitution.labels import Rules, label_pair
from constitution.labels.adaptive import Monitor, change
from constitution.records import Judgement

IDS = [f"principle-{n}" for n in range(16)]
SURE = 0.99


def test_units_are_asked_in_waves_of_an_order_that_the_seed_draws() -> None:
    units = in_waves(IDS, 1, random.Random(1))
    assert units == in_waves(IDS, 1, random.Random(1))
    assert [unit.principle_id for unit in units] != [unit.principle_id for unit in in_waves(IDS, 1, random.Random(2))]
    assert [unit.wave for unit in units] == [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    assert at_once(IDS[:2]) == (Unit(IDS[0], None, 0), Unit(IDS[1], None, 0))


def test_each_principle_is_asked_once_before_one_is_asked_twice() -> None:
    units = in_waves(IDS[:7], 4, random.Random(1))
    assert [unit.repeat for unit in units] == [repeat for repeat in range(4) for _ in range(7)]
    assert all({unit.principle_id for unit in units[at : at + 7]} == set(IDS[:7]) for at in range(0, 28, 7))
    assert {unit.repeat for unit in in_waves(IDS, None, random.Random(1))} == {None}


def test_the_first_wave_is_every_principles_alike() -> None:
    first = [unit.principle_id for n in range(4000) for unit in in_waves(IDS, 1, random.Random(n)) if not unit.wave]
    assert all(abs(first.count(id) - 1000) < 120 for id in IDS)  # four standard deviations


def test_the_last_look_is_at_all() -> None:
    assert looks(0) == []
    assert in_waves([], 1, random.Random(1)) == ()
    for units in range(1, 200):
        ends = looks(units)
        assert ends[-1] == units
        assert ends == sorted(set(ends))
        assert ends[0] >= min(units, 2)
        assert len(ends) <= WAVES


def test_what_cannot_change_the_label_need_not_be_asked() -> None:
    yes, no = (1.0, 1.0), (0.0, 1.0)
    assert change(1.0, [yes] * 3, [1.0] * 2) == 0.0
    assert 0.0 < change(1.0, [yes] * 3, [1.0] * 4) < 0.5
    assert change(0.5, [yes, no], [1.0]) == pytest.approx(1.0)  # a tie is decided by whatever is left
    # Dropped for its margin whatever the last says; and kept, unless the last two are both against it.
    assert change(0.5, [(0.5, 1.0)] * 4, [1.0], margin=0.2) == 0.0
    assert 0.0 < change(1.0, [yes] * 4, [1.0] * 2, margin=0.2) < 0.5
    # A label that the sum so far contradicts, as unequal repeats may have it, is no label to stop at.
    assert change(0.4, [yes] * 3, [1.0] * 2) == 1.0


def test_it_is_the_same_for_a_and_for_b() -> None:
    draw = random.Random(3)
    for _ in range(200):
        weighted = [(draw.random(), draw.choice([1.0, 3.0])) for _ in range(draw.randint(1, 8))]
        left = [draw.choice([1.0, 3.0]) for _ in range(draw.randint(1, 8))]
        margin = draw.choice([0.0, 0.1])
        p_b = sum(value * weight for value, weight in weighted) / sum(weight for _, weight in weighted)
        mirrored = change(1 - p_b, [(1 - value, weight) for value, weight in weighted], left, margin)
        assert change(p_b, weighted, left, margin) == pytest.approx(mirrored, abs=1e-9)


def test_the_probability_is_about_right_where_values_are_drawn_independently() -> None:
    """Of the labels that are taken as sure to 90 % and not to 99 %, a twentieth or so change."""
    draw, taken, changed = random.Random(5), 0, 0
    while taken < 2000:
        mean = draw.gauss(0.5, 0.2)
        values = [min(max(draw.gauss(mean, 0.25), 0.0), 1.0) for _ in range(16)]
        now, whole = sum(values[:6]) / 6, sum(values) / 16
        if 0.01 < change(now, [(value, 1.0) for value in values[:6]], [1.0] * 10) < 0.1:
            taken, changed = taken + 1, changed + ((now > 0.5) != (whole > 0.5))
    assert 0.01 < changed / taken < 0.1


def vote(principle: str, order: str, p_first: float, repeat: int = 0, mass: float = 0.95) -> Judgement:
    first, second = ("r0", "r1") if order == "ab" else ("r1", "r0")
    id = f"{principle} {order} {repeat}"
    return Judgement(
        id, "run-1", "q", "pair", first, second, "j", principle, "d", "label", p_first, mass, "t", repeat=repeat
    )


PAIR = Pair("pair", "given", answer(0, "one"), answer(1, "two"))
WEIGHTS = dict.fromkeys(IDS, 1.0) | {IDS[1]: 3.0}


def both(principle: str, p_b: float, repeat: int = 0) -> list[Judgement]:
    return [vote(principle, "ab", 1 - p_b, repeat), vote(principle, "ba", p_b, repeat)]


def test_a_unit_is_worth_what_its_votes_make_of_the_label() -> None:
    units = tuple(Unit(id, 0) for id in IDS[:4])
    votes = [*both(IDS[0], 0.9), *both(IDS[1], 0.6)]
    monitor = Monitor(WEIGHTS, Rules())
    assert monitor.doubt(PAIR, votes, units[:2], units[2:]) == pytest.approx(
        change(0.675, [(0.9, 1.0), (0.6, 3.0)], [1.0, 1.0])
    )
    assert label_pair(PAIR, votes, 4, WEIGHTS, Rules(), spared=4).votes_spared == 4
    # Without its other order, or with too little on the labels, a vote is none: not here either.
    weak = [vote(IDS[2], "ab", 0.9), vote(IDS[3], "ab", 0.9, mass=0.2), vote(IDS[3], "ba", 0.9, mass=0.2)]
    strict = Monitor(WEIGHTS, Rules(min_label_mass=0.5))
    assert strict.doubt(PAIR, [*votes, *weak], units, [Unit(IDS[5], 0)]) == pytest.approx(
        change(0.675, [(0.9, 1.0), (0.6, 3.0)], [1.0])
    )
    assert monitor.doubt(PAIR, [], units[:2], units[2:]) == 1.0
    assert monitor.doubt(PAIR, [], units, []) == 0.0


def test_votes_that_outvote_each_other_are_taken_by_their_sides() -> None:
    units = tuple(Unit(id) for id in IDS[2:6])
    votes = [*both(IDS[2], 0.51), *both(IDS[3], 0.52)]
    assert Monitor(WEIGHTS, Rules(aggregate="majority")).doubt(PAIR, votes, units[:2], units[2:]) == pytest.approx(
        change(1.0, [(1.0, 1.0), (1.0, 1.0)], [1.0, 1.0])
    )


def test_repeats_are_units_each() -> None:
    units = in_waves(IDS[2:4], 2, random.Random(1))
    votes = [*both(IDS[2], 0.9), *both(IDS[3], 0.7), *both(IDS[2], 0.1, repeat=1)]
    asked = (Unit(IDS[2], 0), Unit(IDS[3], 0), Unit(IDS[2], 1))
    left = [unit for unit in units if unit[:2] not in [each[:2] for each in asked]]
    assert len(left) == 1
    assert Monitor(WEIGHTS, Rules()).doubt(PAIR, votes, asked, left) == pytest.approx(
        change(0.6, [(0.9, 1.0), (0.7, 1.0), (0.1, 1.0)], [1.0])
    )


def mixed(draw: random.Random, written: bool) -> float:
    """A unit's value by a judge that leans to what it sees first."""
    lean = draw.gauss(0.0, 1.0)
    both = [1 / (1 + math.exp(-(lean + sign * 0.7 + draw.gauss(0, 0.3)))) for sign in (1, -1)]
    return sum(float(draw.random() < p) if written else p for p in both) / 2


@pytest.mark.parametrize("written", [False, True])
def test_a_pair_that_is_a_coin_to_every_principle_is_hardly_ever_stopped_early(written: bool) -> None:
    """The looks are many and each may be wrong: together no more than what is left of sure."""
    draw, wrong, stopped = random.Random(7), 0, 0
    for _ in range(1500):
        values = [mixed(draw, written) for _ in range(16)]
        whole = sum(values) / 16
        for asked in looks(16)[:-1]:
            now = sum(values[:asked]) / asked
            if change(now, [(value, 1.0) for value in values[:asked]], [1.0] * (16 - asked)) <= 1 - SURE:
                stopped += 1
                wrong += (now > 0.5) != (whole > 0.5)
                break
    assert stopped > 300
    assert wrong <= 1.5 * (1 - SURE) * 1500
