"""Votes → preference: swapped inputs, weights, missing votes, and every reason to drop."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from chains import answer
from hypothesis import given
from hypothesis import strategies as st

from constitution.judge import Pair
from constitution.labels import Rules, label_pair
from constitution.recipe import JudgeSection
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


def label(
    votes: Sequence[Judgement],
    expected: int | None = None,
    pair: Pair = PAIR,
    shifts: Mapping[str, float] | None = None,
    **rules: Any,
) -> Preference:
    return label_pair(pair, votes, len(votes) if expected is None else expected, WEIGHTS, Rules(**rules), shifts)


def by(judge: str, votes: Sequence[Judgement], **fields: Any) -> list[Judgement]:
    return [replace(vote, id=f"{judge}-{vote.id}-{fields}", judge=judge, **fields) for vote in votes]


def moved(p: float, shift: float) -> float:
    return 1 / (1 + math.exp(shift - math.log(p / (1 - p))))


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
        (replace(PAIR, flaw="cut"), couple("x", 0.2, 0.8), 0.0, "cut"),
        (replace(PAIR, flaw="cut"), [], 0.0, "cut"),
        (replace(PAIR, flaw="refused"), [], 0.0, "refused"),
        (replace(PAIR, flaw="filtered"), [], 0.0, "filtered"),
        (replace(PAIR, b=replace(B, text=""), flaw="cut"), [], 0.0, "cut"),
        (replace(PAIR, b=replace(B, text="", outcome="empty")), [], 0.0, "empty"),
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


# --- clamping, repeats, methods of one order


def test_votes_by_rationale_are_clamped_and_no_others() -> None:
    votes = by("j", couple("x", ab=0.02, ba=0.55), method="rationale")
    found = label(votes)
    assert found.p_b == pytest.approx((0.6 + 0.55) / 2)
    assert found.p_mean == found.p_b
    assert label(votes, clamp=(0.2, 0.8)).p_b == pytest.approx((0.8 + 0.55) / 2)
    assert label(votes, clamp=(0.0, 1.0)).p_b == pytest.approx((0.98 + 0.55) / 2)
    for method in ("label", "score", "rubric"):
        assert label(by("j", couple("x", ab=0.02, ba=0.55), method=method)).p_b == pytest.approx((0.98 + 0.55) / 2)


def test_repeats_are_averaged_before_the_orders() -> None:
    again = by("j", [ballot("x", "ab", 0.2)], repeat=1)
    found = label([*couple("x", ab=0.4, ba=0.9), *again])
    assert found.p_b == pytest.approx((0.7 + 0.9) / 2)
    assert (found.votes, found.votes_missing) == (3, 0)
    one_order = label([ballot("x", "ab", 0.4), *again], expected=4)
    assert (one_order.p_b, one_order.votes, one_order.votes_missing) == (None, 0, 4)


@pytest.mark.parametrize("method", ["score", "rubric"])
def test_a_vote_that_has_no_other_order_is_a_couple_by_itself(method: str) -> None:
    votes = by("j", [ballot("x", "ab", 0.1), ballot("y", "ab", 0.7)], method=method)
    found = label(votes)
    assert found.p_b == pytest.approx((0.9 + 3 * 0.3) / 4)
    assert (found.votes, found.votes_missing, found.consistency) == (2, 0, None)
    assert found.agreement == 0.5
    repeated = label([*votes[:1], *by("j", [ballot("x", "ab", 0.5)], method=method, repeat=1)])
    assert repeated.p_b == pytest.approx(0.7)
    assert repeated.votes == 2


# --- several judges, majorities


def test_judges_count_alike_and_what_they_owe_is_missing() -> None:
    votes = by("one", couple("x", 0.2, 0.8)) + by("two", couple("x", 0.4, 0.6)) + by("three", [ballot("x", "ab", 0.0)])
    found = label(votes, expected=6)
    assert found.p_b == pytest.approx(0.7)
    assert (found.votes, found.votes_missing, found.agreement) == (4, 2, 1.0)


def test_a_majority_counts_couples_by_weight_and_a_tie_as_half() -> None:
    votes = (
        by("one", couple("x", 0.0, 1.0) + couple("y", 0.6, 0.4))
        + by("two", couple("x", 0.0, 1.0) + couple("y", 0.55, 0.45))
        + by("three", couple("x", 0.5, 0.5) + couple("y", 0.3, 0.3))
    )
    found, plain = label(votes, aggregate="majority"), label(votes)
    assert found.p_b == pytest.approx((1 + 1 + 0.5 + 3 * (0 + 0 + 0.5)) / 12)
    assert found.p_mean == pytest.approx((1 + 1 + 0.5 + 3 * (0.4 + 0.45 + 0.5)) / 12)
    assert found.chosen_id == A.id
    assert plain.chosen_id == B.id  # the rule changed the label, and the row says so
    assert found.label_by == "majority"
    assert found.ties == 2
    assert found.dissent == ("one/x", "two/x")
    assert found.agreement == pytest.approx(2 / 6)
    assert (plain.label_by, plain.p_b) == ("mean", plain.p_mean)
    assert plain.dissent == ("one/y", "two/y")


def test_an_even_majority_is_a_tie_without_dissent() -> None:
    found = label(by("one", couple("x", 0.0, 1.0)) + by("two", couple("x", 0.7, 0.3)), aggregate="majority")
    assert (found.p_b, found.drop_reason, found.dissent) == (0.5, "tie", ())


def test_nothing_to_count() -> None:
    found = label([], expected=4, aggregate="majority")
    assert (found.p_b, found.p_mean, found.ties, found.dissent) == (None, None, 0, ())


# --- shifts


def test_what_style_gave_b_is_taken_from_each_vote_of_that_judge() -> None:
    votes = by("one", couple("x", ab=0.3, ba=0.9)) + by("two", couple("x", ab=0.4, ba=0.6))
    found = label(votes, shifts={"one": 1.5, "three": 9.0})
    assert found.p_b == pytest.approx(((moved(0.7, 1.5) + moved(0.9, 1.5)) / 2 + 0.6) / 2)
    assert found.p_mean == pytest.approx(((0.7 + 0.9) / 2 + 0.6) / 2) == label(votes).p_b
    assert found.consistency == 1.0


def test_a_shift_can_turn_a_label_and_who_dissents() -> None:
    votes = couple("x", ab=0.4, ba=0.6) + couple("y", ab=0.05, ba=0.95)
    found = label(votes, shifts={"j": 1.0})
    assert found.dissent == ("j/x",)
    turned = label(votes, shifts={"j": 4.0})
    assert (turned.chosen_id, turned.dissent, turned.agreement) == (A.id, (), 1.0)
    assert turned.p_mean is not None
    assert turned.p_mean > 0.5


def test_a_shift_comes_before_the_clamp_and_certain_votes_are_clipped() -> None:
    sure = by("j", couple("x", ab=0.0, ba=1.0))
    assert label(sure, shifts={"j": 0.0}).p_b == 1.0
    assert label(sure, shifts={"j": math.log(1e6)}).p_b == 0.5
    reasoned = by("j", couple("x", ab=0.01, ba=0.99), method="rationale")
    assert label(reasoned, shifts={"j": 1.0}).p_b == pytest.approx(0.6)  # moved to 0.97, and clamped then
    assert label(reasoned, shifts={"j": math.log(99)}).p_b == 0.5


@given(
    st.lists(st.floats(0, 1), min_size=4, max_size=4),
    st.floats(-3, 3),
    st.sampled_from(["mean", "majority"]),
    st.sampled_from(["label", "rationale"]),
)
def test_swapping_the_pair_and_the_shift_swaps_the_label(p: list[float], shift: float, rule: str, method: str) -> None:
    votes = by("j", couple("x", p[0], p[1]) + couple("y", p[2], p[3]), method=method)
    there = label(votes, shifts={"j": shift}, aggregate=rule)
    back = label(votes, pair=replace(PAIR, a=B, b=A), shifts={"j": -shift}, aggregate=rule)
    assert there.p_b is not None
    assert back.p_b is not None
    assert there.p_b == pytest.approx(1 - back.p_b)
    assert (there.ties, there.dissent) == (back.ties, back.dissent)


# --- rules


def test_a_perturbation_is_a_probe_whatever_the_votes_say() -> None:
    for pair, votes in (
        (replace(PAIR, kind="perturbation"), couple("x", 0.1, 0.9)),
        (replace(PAIR, kind="perturbation", b=replace(B, text="")), []),
    ):
        found = label(votes, pair=pair)
        assert (found.drop_reason, found.kept, found.kind) == ("perturbation", False, "perturbation")


def test_rules_are_the_recipes_and_what_needs_the_whole_run_begins_as_the_mean() -> None:
    section = JudgeSection(margin=0.1, min_label_mass=0.5, clamp=(0.2, 0.8), aggregate="majority")
    assert Rules.of(section) == Rules(0.1, 0.5, (0.2, 0.8), "majority")
    assert Rules.of(JudgeSection(aggregate="dawid-skene")) == Rules()
