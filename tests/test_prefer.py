"""Votes → preference: swapped inputs, weights, missing votes, and every reason to drop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from chains import answer
from hypothesis import given
from hypothesis import strategies as st

from constitution.judge import Pair
from constitution.prefer import Rules, prefer
from constitution.records import Judgement, Preference

A, B = answer(0, "First."), answer(1, "Second.")
PAIR = Pair("pair-1", "first-last", A, B)
WEIGHTS = {"x": 1.0, "y": 3.0}


def ballot(principle: str, order: str, p_first: float, mass: float = 1.0) -> Judgement:
    first, second = (A, B) if order == "ab" else (B, A)
    return Judgement(
        id=f"{principle}-{order}",
        run_id="run-1",
        prompt_id="p1",
        pair_id="pair-1",
        first_id=first.id,
        second_id=second.id,
        judge="j",
        principle_id=principle,
        principle_digest="d",
        method="label",
        p_first=p_first,
        label_mass=mass,
        template_digest="t",
    )


def couple(principle: str, ab: float, ba: float) -> list[Judgement]:
    return [ballot(principle, "ab", ab), ballot(principle, "ba", ba)]


def label(votes: Sequence[Judgement], expected: int | None = None, pair: Pair = PAIR, **rules: float) -> Preference:
    return prefer(pair, votes, len(votes) if expected is None else expected, WEIGHTS, Rules(**rules))


def test_orders_are_put_back_on_the_answers_and_averaged() -> None:
    found = label(couple("x", ab=0.3, ba=0.9))  # b: 0.7 shown second, 0.9 shown first
    assert found.p_b == pytest.approx(0.8)
    assert (found.chosen_id, found.rejected_id) == (B.id, A.id)
    assert found.p_chosen == pytest.approx(0.8)
    assert (found.votes, found.votes_missing, found.consistency, found.agreement) == (2, 0, 1.0, 1.0)
    assert found.kept


def test_a_judge_that_sees_positions_only_makes_a_tie() -> None:
    found = label(couple("x", ab=0.83, ba=0.83) + couple("y", ab=0.2, ba=0.2))
    assert found.p_b == 0.5
    assert found.consistency == 0.0
    assert found.drop_reason == "tie"


def test_principles_weigh() -> None:
    found = label(couple("x", ab=0.0, ba=1.0) + couple("y", ab=0.6, ba=0.4))
    assert found.p_b == pytest.approx((1.0 * 1 + 0.4 * 3) / 4)
    assert found.agreement == 0.5


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4), st.randoms(use_true_random=False))
def test_swapping_the_pair_swaps_the_label_and_order_of_votes_is_nothing(p: list[float], random: object) -> None:
    votes = couple("x", p[0], p[1]) + couple("y", p[2], p[3])
    there = label(votes)
    back = label(votes[::-1], pair=replace(PAIR, a=B, b=A))
    assert there.p_b is not None
    assert back.p_b is not None
    assert there.p_b == pytest.approx(1 - back.p_b)
    if there.drop_reason is None:
        assert there.chosen_id == back.chosen_id
    assert (there.drop_reason, there.consistency, there.agreement) == (
        back.drop_reason,
        back.consistency,
        back.agreement,
    )
    random.shuffle(votes)  # type: ignore[attr-defined]
    assert label(votes) == there


def test_a_vote_without_its_other_order_is_missing() -> None:
    found = label([*couple("x", 0.2, 0.8), ballot("y", "ab", 0.99)], expected=4)
    assert found.p_b == pytest.approx(0.8)
    assert (found.votes, found.votes_missing) == (2, 2)
    alone = label([ballot("y", "ab", 0.99)], expected=4)
    assert (alone.p_b, alone.drop_reason, alone.votes, alone.votes_missing) == (None, "votes-missing", 0, 4)
    assert (alone.consistency, alone.agreement) == (None, None)


def test_votes_with_little_label_mass_are_missing_and_their_mass_is_told() -> None:
    votes = [*couple("x", 0.2, 0.8), ballot("y", "ab", 0.9, mass=0.1), ballot("y", "ba", 0.9, mass=0.5)]
    found = label(votes, min_label_mass=0.3)
    assert (found.votes, found.votes_missing) == (2, 2)
    assert found.label_mass == pytest.approx((1 + 1 + 0.1 + 0.5) / 4)


@pytest.mark.parametrize(
    ("pair", "votes", "margin", "reason"),
    [
        (PAIR, couple("x", 0.2, 0.8), 0.3, None),
        (PAIR, couple("x", 0.2, 0.8), 0.31, "margin"),
        (PAIR, couple("x", 0.5, 0.5), 0.1, "tie"),
        (PAIR, couple("x", 0.1, 0.1), 0.0, "tie"),
        (PAIR, [], 0.0, "votes-missing"),
        (replace(PAIR, cut=True), couple("x", 0.2, 0.8), 0.0, "cut"),
        (replace(PAIR, cut=True), [], 0.0, "votes-missing"),
        (replace(PAIR, b=replace(B, text="First.")), [], 0.0, "identical"),
        (replace(PAIR, b=replace(B, text="")), [], 0.0, "empty"),
        (replace(PAIR, a=replace(A, text=""), b=replace(A, text="")), [], 0.0, "empty"),
    ],
)
def test_reasons_to_drop(pair: Pair, votes: list[Judgement], margin: float, reason: str | None) -> None:
    found = label(votes, pair=pair, margin=margin)
    assert found.drop_reason == reason
    assert found.kept == (reason is None)


def test_votes_on_another_pair_are_refused() -> None:
    for stray in (
        replace(ballot("x", "ab", 0.5), pair_id="other"),
        replace(ballot("x", "ab", 0.5), second_id="other"),
        replace(ballot("x", "ab", 0.5), first_id="other"),
    ):
        with pytest.raises(ValueError, match="not a vote on pair"):
            label([stray])
