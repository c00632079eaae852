"""Votes → the label of one pair: swapped inputs, weights, missing votes, and every reason to drop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from chains import answer
from hypothesis import given
from hypothesis import strategies as st

from constitution.judge.pairs import Pair
from constitution.labels import Rules, label_pair
from constitution.recipe import JudgeSection
from constitution.records import Judgement, Preference

A, B = answer(0, "First."), answer(1, "Second.")
PAIR = Pair("pair-1", "first-last", A, B)
WEIGHTS = {"x": 1.0, "y": 3.0}


def vote(principle: str, order: str, p_first: float, mass: float = 1.0) -> Judgement:
    first, second = (A.id, B.id) if order == "ab" else (B.id, A.id)
    return Judgement(
        f"{principle}-{order}", "run-1", "p1", "pair-1", first, second, "j", principle, "d", "label", p_first, mass, "t"
    )


def both(principle: str, ab: float, ba: float) -> list[Judgement]:
    """One vote in each order, by the probability of what is shown first."""
    return [vote(principle, "ab", ab), vote(principle, "ba", ba)]


def by(judge: str, votes: Sequence[Judgement], **fields: Any) -> list[Judgement]:
    return [replace(vote, id=f"{judge}-{vote.id}-{fields}", judge=judge, **fields) for vote in votes]


def label(votes: Sequence[Judgement], expected: int | None = None, pair: Pair = PAIR, **rules: Any) -> Preference:
    return label_pair(pair, votes, len(votes) if expected is None else expected, WEIGHTS, Rules(**rules))


JURY = by("one", both("x", 0.0, 1.0) + both("y", 0.6, 0.4)) + by("two", both("x", 0.0, 1.0) + both("y", 0.55, 0.45))
JURY += by("three", both("x", 0.5, 0.5) + both("y", 0.3, 0.3))
AGAIN = by("j", [vote("x", "ab", 0.2)], repeat=1)
CLAMPED = by("j", both("x", 0.02, 0.55), method="rationale")
ALONE = by("j", [vote("x", "ab", 0.1), vote("y", "ab", 0.7)], method="score")


@pytest.mark.parametrize(
    ("votes", "rules", "expected"),
    [
        # Orders are put back on the answers and averaged; b is shown second and gets 0.7, first and gets 0.9.
        (both("x", 0.3, 0.9), {}, {"p_b": 0.8, "chosen_id": B.id, "rejected_id": A.id, "p_chosen": 0.8, "votes": 2,
                                   "votes_missing": 0, "consistency": 1.0, "agreement": 1.0, "drop_reason": None}),
        # A judge that sees positions alone makes a tie.
        (both("x", 0.83, 0.83) + both("y", 0.2, 0.2), {}, {"p_b": 0.5, "consistency": 0.0, "drop_reason": "tie"}),
        # Principles weigh.
        (both("x", 0.0, 1.0) + both("y", 0.6, 0.4), {}, {"p_b": (1.0 + 0.4 * 3) / 4, "agreement": 0.5}),
        # A vote without its other order is missing, and its mass counts all the same.
        ([*both("x", 0.2, 0.8), vote("y", "ab", 0.99)], {"expected": 4}, {"p_b": 0.8, "votes": 2, "votes_missing": 2}),
        ([vote("y", "ab", 0.99)], {"expected": 4}, {"p_b": None, "drop_reason": "votes-missing", "votes": 0,
                                                    "votes_missing": 4, "consistency": None, "agreement": None}),
        ([*both("x", 0.2, 0.8), vote("y", "ab", 0.9, 0.1), vote("y", "ba", 0.9, 0.5)], {"min_label_mass": 0.3},
         {"votes": 2, "votes_missing": 2, "label_mass": (1 + 1 + 0.1 + 0.5) / 4}),
        # Votes after a rationale are clamped, and no others.
        (CLAMPED, {}, {"p_b": (0.6 + 0.55) / 2, "p_mean": (0.6 + 0.55) / 2}),
        (CLAMPED, {"clamp": (0.2, 0.8)}, {"p_b": (0.8 + 0.55) / 2}),
        *((by("j", both("x", 0.02, 0.55), method=method), {}, {"p_b": (0.98 + 0.55) / 2})
          for method in ("label", "score", "rubric")),
        # Repeats are averaged before the orders.
        ([*both("x", 0.4, 0.9), *AGAIN], {}, {"p_b": (0.7 + 0.9) / 2, "votes": 3, "votes_missing": 0}),
        ([vote("x", "ab", 0.4), *AGAIN], {"expected": 4}, {"p_b": None, "votes": 0, "votes_missing": 4}),
        # A method of one order has no other order to miss.
        (ALONE, {}, {"p_b": (0.9 + 3 * 0.3) / 4, "votes": 2, "votes_missing": 0, "consistency": None,
                     "agreement": 0.5}),
        ([ALONE[0], *by("j", [vote("x", "ab", 0.5)], method="score", repeat=1)], {}, {"p_b": 0.7, "votes": 2}),
        # Judges count alike, and what one of them owes is missing.
        (by("one", both("x", 0.2, 0.8)) + by("two", both("x", 0.4, 0.6)) + by("three", [vote("x", "ab", 0.0)]),
         {"expected": 6}, {"p_b": 0.7, "votes": 4, "votes_missing": 2, "agreement": 1.0}),
        # A majority counts by weight, a tie as half; the rule changed the label, and the row says so.
        (JURY, {"aggregate": "majority"}, {
            "p_b": (1 + 1 + 0.5 + 3 * 0.5) / 12, "p_mean": (1 + 1 + 0.5 + 3 * (0.4 + 0.45 + 0.5)) / 12, "ties": 2,
            "chosen_id": A.id, "label_by": "majority", "dissent": ("one/x", "two/x"), "agreement": 2 / 6}),
        (JURY, {}, {"chosen_id": B.id, "label_by": "mean", "dissent": ("one/y", "two/y")}),
        (by("one", both("x", 0.0, 1.0)) + by("two", both("x", 0.7, 0.3)), {"aggregate": "majority"},
         {"p_b": 0.5, "drop_reason": "tie", "dissent": ()}),
        ([], {"expected": 4, "aggregate": "majority"}, {"p_b": None, "p_mean": None, "ties": 0, "dissent": ()}),
    ],
)  # fmt: skip
def test_what_votes_make(votes: list[Judgement], rules: dict[str, Any], expected: dict[str, Any]) -> None:
    found = label(votes, **rules)
    for name, value in expected.items():
        assert getattr(found, name) == (pytest.approx(value) if isinstance(value, float) else value), name
    assert found.kept == (found.drop_reason is None)


@given(
    st.lists(st.floats(0, 1), min_size=4, max_size=4),
    st.sampled_from(["mean", "majority"]),
    st.sampled_from(["label", "rationale"]),
    st.randoms(use_true_random=False),
)
def test_swapping_the_pair_swaps_the_label_and_order_of_votes_is_nothing(
    p: list[float], rule: str, method: str, random: Any
) -> None:
    votes = by("j", both("x", p[0], p[1]) + both("y", p[2], p[3]), method=method)
    there = label(votes, aggregate=rule)
    back = label(votes[::-1], pair=replace(PAIR, a=B, b=A), aggregate=rule)
    assert there.p_b is not None
    assert back.p_b is not None
    assert there.p_b == pytest.approx(1 - back.p_b)
    if there.drop_reason is None:
        assert there.chosen_id == back.chosen_id
    for name in ("drop_reason", "consistency", "agreement", "ties", "dissent"):
        assert getattr(there, name) == getattr(back, name)
    random.shuffle(votes)
    assert label(votes, aggregate=rule) == there


@pytest.mark.parametrize(
    ("pair", "votes", "margin", "reason"),
    [
        (PAIR, both("x", 0.2, 0.8), 0.3, None),
        (PAIR, both("x", 0.2, 0.8), 0.31, "margin"),
        (PAIR, both("x", 0.5, 0.5), 0.1, "tie"),
        (PAIR, both("x", 0.1, 0.1), 0.0, "tie"),
        (PAIR, [], 0.0, "votes-missing"),
        (replace(PAIR, flaw="cut"), both("x", 0.2, 0.8), 0.0, "cut"),
        (replace(PAIR, flaw="cut"), [], 0.0, "cut"),
        (replace(PAIR, flaw="refused"), [], 0.0, "refused"),
        (replace(PAIR, flaw="filtered"), [], 0.0, "filtered"),
        (replace(PAIR, b=replace(B, text=""), flaw="cut"), [], 0.0, "cut"),
        (replace(PAIR, b=replace(B, text="", outcome="empty")), [], 0.0, "empty"),
        (replace(PAIR, b=replace(B, text="First.")), [], 0.0, "identical"),
        (replace(PAIR, b=replace(B, text="")), [], 0.0, "empty"),
        (replace(PAIR, a=replace(A, text=""), b=replace(A, text="")), [], 0.0, "empty"),
        (replace(PAIR, kind="perturbation"), both("x", 0.1, 0.9), 0.0, "perturbation"),
        (replace(PAIR, kind="perturbation", b=replace(B, text="")), [], 0.0, "perturbation"),
    ],
)
def test_reasons_to_drop(pair: Pair, votes: list[Judgement], margin: float, reason: str | None) -> None:
    found = label(votes, pair=pair, margin=margin)
    assert found.drop_reason == reason
    assert found.kept == (reason is None)


def test_votes_on_another_pair_are_refused() -> None:
    for stray in (
        replace(vote("x", "ab", 0.5), pair_id="other"),
        replace(vote("x", "ab", 0.5), second_id="other"),
        replace(vote("x", "ab", 0.5), first_id="other"),
    ):
        with pytest.raises(ValueError, match="not a vote on pair"):
            label([stray])


def test_rules_are_the_recipes_and_what_needs_the_whole_run_begins_as_the_mean() -> None:
    section = JudgeSection(margin=0.1, min_label_mass=0.5, clamp=(0.2, 0.8), aggregate="majority", control="style")
    assert Rules.of(section) == Rules(0.1, 0.5, (0.2, 0.8), "majority", "style")
    assert label(both("x", 0.2, 0.8), aggregate="dawid-skene").label_by == "mean"
