"""The audit's figures on runs written by hand, against what they are on paper."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from audit_rows import RUN, Audited, Pair, label, store

from constitution.audit import audit
from constitution.errors import WarehouseError
from constitution.warehouse import Warehouse


def logit(p: float) -> float:
    return math.log(p / (1 - p))


SIDES = {
    "steady": (0.8, 0.7),
    "first": (0.2, 0.8),
    "second": (0.9, 0.4),
    "tied": (0.5, 0.8),
}


def test_position(tmp_path: Path) -> None:
    """Of five couples with a side in both orders two prefer the same place, one of them the first."""
    votes = ["steady", "steady", "steady", "first", "second", "tied"]
    store(tmp_path, [Pair(n, {("one", "kind"): SIDES[name]}) for n, name in enumerate(votes)])
    found = Audited(tmp_path)
    bias = found("position_bias", "one")
    assert bias.value == pytest.approx(2 / 5)
    assert bias.n == 5
    assert bias.low is not None
    assert bias.high is not None
    assert bias.low < 2 / 5 < bias.high
    assert found.value("position_bias", "one", "kind") == pytest.approx(2 / 5)
    assert found.value("first_place", "one") == 0.5
    effects = [(logit(ba) - logit(ab)) / 2 for ab, ba in (SIDES[name] for name in votes)]
    assert found.value("position_effect", "one") == pytest.approx(sum(effects) / 6)
    assert found("repetition_stability").value is None
    assert "judge.repeats" in found("repetition_stability").note


def test_what_cannot_be_measured_says_what_it_would_take(tmp_path: Path) -> None:
    store(tmp_path, [Pair(n, {("one", "kind"): (0.8, 0.7)}) for n in range(3)])
    found = Audited(tmp_path)
    nothing = {figure.figure: figure for figure in found.figures if figure.value is None}
    for name, word in {
        "alignment": "annotations import",
        "ece": "annotations import",
        "kappa": "annotations import",
        "self_preference": "family",
        "perturbation_penalty": "perturb",
        "drift": "lower version",
        "majority_agreement": "two principles",
        "phi": "two principles",
        "style_effect": "fewer than 50 pairs",
    }.items():
        assert word in nothing[name].note, name
    assert all(figure.note for figure in nothing.values())


def test_figures_are_stored_in_place_of_the_last_ones(tmp_path: Path) -> None:
    store(tmp_path, [Pair(n, {("one", "kind"): (0.8, 0.7)}) for n in range(3)])
    figures = audit(tmp_path, RUN, replicates=20)
    assert audit(tmp_path, RUN, replicates=20) == figures
    assert sorted(Warehouse(tmp_path).read_figures(RUN), key=repr) == sorted(figures, key=repr)
    keys = [(f.figure, f.judge, f.principle_id, f.subject) for f in figures]
    assert len(keys) == len(set(keys))
    with pytest.raises(WarehouseError, match="no run"):
        audit(tmp_path, "nothing")


def test_alignment_with_people_and_by_principle(tmp_path: Path) -> None:
    """Two principles, equal weights. Whole: a, a, b, b. Of `true` alone there is gold of its own, which it meets."""
    votes = [
        {("one", "kind"): (0.9, 0.9), ("one", "true"): (0.2, 0.2)},
        {("one", "kind"): (0.1, 0.1), ("one", "true"): (0.3, 0.3)},
        {("one", "kind"): (0.9, 0.9), ("one", "true"): (0.6, 0.6)},
        {("one", "kind"): (0.6, 0.6), ("one", "true"): (0.4, 0.4)},
    ]
    pairs = [Pair(n, given, gold=gold) for n, (given, gold) in enumerate(zip(votes, "aabb", strict=True))]
    own = [label(pair, value, principle="true") for pair, value in zip(pairs, (0, 0, 1, 0.5), strict=True)]
    store(tmp_path, pairs, labels=own)
    found = Audited(tmp_path)
    # The means are .55 (wrong), .2 (right), .75 (right), .5 (neither: half).
    whole = found("alignment", "one", subject="both orders")
    assert whole.value == pytest.approx((0 + 1 + 1 + 0.5) / 4)
    assert whole.n == 4
    assert found.value("alignment", subject="label") == whole.value
    assert found.value("alignment", "one", "kind", "both orders") == pytest.approx(3 / 4)
    own_gold = found("alignment", "one", "true", "both orders")
    assert own_gold.value == 1.0
    assert own_gold.n == 3  # people were divided on the fourth
    assert found.value("brier", "one", subject="both orders") == pytest.approx(
        (0.55**2 + 0.2**2 + 0.25**2 + 0.5**2) / 4
    )
    assert "50 gold labels in each half" in found("ece", "one", subject="calibrated").note


def test_a_judge_that_knows_only_places_is_no_better_than_chance(tmp_path: Path) -> None:
    """The file names the better answer first, always: a judge who prefers what it sees first gains nothing by it."""
    store(tmp_path, [Pair(n, {("one", "kind"): (0.1, 0.9)}, "given", gold="a") for n in range(300)])
    found = Audited(tmp_path)
    once = found("alignment", "one", subject="one order")
    assert once.value == pytest.approx(0.5, abs=0.1)
    assert once.note == "no better than chance on 300 pairs"
    both = found("alignment", "one", subject="both orders")
    assert both.value == 0.5
    assert "no better than chance" in both.note
    assert found.value("position_bias", "one") == 1.0
    assert found.value("position_effect", "one") == pytest.approx(logit(0.9))


def test_a_judge_that_always_prefers_the_later_answer_has_no_kappa(tmp_path: Path) -> None:
    golds = "ab" * 100
    store(tmp_path, [Pair(n, {("one", "kind"): (0.9, 0.9)}, gold=gold) for n, gold in enumerate(golds)])
    found = Audited(tmp_path)
    assert found("alignment", "one", subject="both orders").note == "no better than chance on 200 pairs"
    kappa = found("kappa", "one")
    assert kappa.low is not None
    assert kappa.high is not None
    assert kappa.low < 0 < kappa.high


def test_calibration_takes_overconfidence_away(tmp_path: Path) -> None:
    """Votes of 15 in 16 that are right in 7 of 10 cases."""
    pairs = [
        Pair(n, {("one", "kind"): (15 / 16, 15 / 16) if n % 2 else (1 / 16, 1 / 16)}, gold="ab"[(n % 2) ^ (n % 10 > 6)])
        for n in range(400)
    ]
    store(tmp_path, pairs)
    found = Audited(tmp_path)
    assert found.value("ece", "one", subject="both orders") == pytest.approx(15 / 16 - 0.7, abs=1e-9)
    after = found("ece", "one", subject="calibrated")
    assert after.value is not None
    assert after.value < 0.05
    assert "temperature" in after.note
    assert found.value("alignment", "one", subject="calibrated") == pytest.approx(0.7, abs=0.01)
    assert found.value("brier", "one", subject="calibrated") < found.value("brier", "one", subject="both orders")
    bins = [f for f in found.figures if f.figure == "reliability_observed" and f.judge == "one"]
    before = [f for f in bins if f.subject.startswith("both orders/")]
    assert [round(f.value or 0, 2) for f in before] == [0.3, 0.7]


def test_calibration_and_control_go_by_how_the_labels_were_last_made(tmp_path: Path) -> None:
    """The recipe says nothing of either; `label --control length --calibrate isotonic` has made the labels."""
    warehouse = store(tmp_path, styled(200, quality=0.0))
    made = {"aggregate": "mean", "control": "length", "calibrate": "isotonic", "margin": 0.0}
    assert Audited(tmp_path)("ece", "one", subject="calibrated").note.startswith("temperature, from both orders")
    run = warehouse.read_run(RUN)
    assert run is not None
    warehouse.write_run(replace(run, labels=made))
    assert Audited(tmp_path)("ece", "one", subject="calibrated").note.startswith("isotonic, from controlled")


def styled(count: int, *, quality: float) -> list[Pair]:
    """Pairs of which one answer is three times as long, b in every other; the votes go by length alone, and gold goes
    by it in a share of them."""
    pairs = []
    for n in range(count):
        b_longer, by_length = n % 2 == 0, (n // 2) % 10 < quality * 10
        texts = ("one two three", "one two three " * 3)
        p = 0.8 if b_longer else 0.2
        gold = "b" if b_longer == by_length else "a"
        votes = {("one", "kind"): (p + n % 7 / 50, p + n % 7 / 50)}
        pairs.append(Pair(n, votes, "given", texts=texts if b_longer else texts[::-1], gold=gold))
    return pairs


def test_it_is_said_beside_the_number_where_control_makes_votes_worse(tmp_path: Path) -> None:
    """Where the longer answer is the better one, in nine of ten, control takes quality out with length."""
    store(tmp_path, styled(200, quality=0.9))
    found = Audited(tmp_path)
    assert found.value("alignment", "one", subject="both orders") == pytest.approx(0.9)
    controlled = found("alignment", "one", subject="controlled")
    assert controlled.value is not None
    assert controlled.value < 0.7
    assert "leave control off" in controlled.note
    other = store(tmp_path / "other", styled(200, quality=0.1))
    assert "control helps" in Audited(other.root)("alignment", "one", subject="controlled").note


def test_self_preference(tmp_path: Path) -> None:
    """The judge picks its own in 8 of 10 where gold does, and the other's in 5 of 10 where gold does: .3."""
    pairs = []
    for n in range(20):
        gold_is_own, picks_gold = n < 10, n % 10 < (8 if n < 10 else 5)
        own_is_a = n % 2 == 0
        gold = "a" if gold_is_own == own_is_a else "b"
        p = 0.9 if (gold == "b") == picks_gold else 0.1
        families = ("mine", "theirs") if own_is_a else ("theirs", "mine")
        pairs.append(Pair(n, {("one", "kind"): (p, p)}, "given", gold=gold, families=families))
    pairs.append(Pair(99, {("one", "kind"): (0.9, 0.9)}, "given", gold="a", families=("mine", "mine")))
    pairs.append(Pair(98, {("one", "kind"): (0.9, 0.9)}, "given", gold="a", families=("mine", None)))
    store(tmp_path, pairs, model={"judge": {"family": "mine"}, "policy": {"family": "theirs"}})
    found = Audited(tmp_path)("self_preference", "one")
    assert found.value == pytest.approx(0.3)
    assert found.n == 20
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.3 < found.high


def test_self_preference_needs_the_judges_family(tmp_path: Path) -> None:
    pairs = [Pair(n, {("one", "kind"): (0.9, 0.9)}, "given", gold="a", families=("x", "y")) for n in range(4)]
    store(tmp_path, pairs, model={"policy": {}})
    assert "family is not known" in Audited(tmp_path)("self_preference", "one").note


def test_perturbations_cost_what_the_votes_say_and_count_nowhere_else(tmp_path: Path) -> None:
    """Of four spoiled answers three lose, one wins by style; a fifth is a tie."""
    spoiled = [
        Pair(n, {("one", "kind"): (p, p)}, "perturbation", perturbation="terse" if n < 4 else "polished", gold="a")
        for n, p in enumerate((0.1, 0.2, 0.3, 0.9, 0.5))
    ]
    real = [Pair(10 + n, {("one", "kind"): (0.9, 0.9)}, gold="b") for n in range(6)]
    store(tmp_path, [*spoiled, *real])
    found = Audited(tmp_path)
    assert found.value("perturbation_penalty", "one", subject="terse") == pytest.approx(3 / 4)
    assert found.value("perturbation_penalty", "one", "kind", "terse") == pytest.approx(3 / 4)
    assert found.value("perturbation_penalty", "one", subject="polished") == 0.5
    assert found("alignment", "one", subject="both orders").n == 6
    assert found("win_rate", "one", subject="first-last").n == 6
    assert found("principle_win_rate", principle_id="kind").n == 6
    assert found("length_correlation", principle_id="kind").n == 6
    assert found.value("pairs", subject="perturbation") == 5
    assert found.value("pairs") == 6
    assert found.value("round_changed", subject="1") == 1.0


def test_a_jury_is_looked_at_one_by_one_and_together(tmp_path: Path) -> None:
    """Two judges that agree on 3 of 4 pairs; people say what the first says."""
    sides = [((0.9, 0.9), (0.9, 0.9)), ((0.1, 0.1), (0.1, 0.1)), ((0.8, 0.8), (0.7, 0.7)), ((0.2, 0.2), (0.6, 0.6))]
    pairs = [
        Pair(n, {("one", "kind"): one, ("two", "kind"): two}, gold="b" if one[0] > 0.5 else "a")
        for n, (one, two) in enumerate(sides)
    ]
    store(tmp_path, pairs, model={"jury": {"one": {}, "two": {}}})
    found = Audited(tmp_path)
    assert found.value("alignment", "one", subject="both orders") == 1.0
    assert found.value("alignment", "two", subject="both orders") == pytest.approx(3 / 4)
    assert found.value("alignment", subject="both orders") == 1.0  # the mean of .2 and .6 is on a's side
    assert found("alpha", subject="judges").n == 4
    assert found("alpha", subject="raters").value is None
    assert found.value("alpha", subject="all") > found.value("alpha", subject="judges")
    assert [found.value("votes_cast", judge) for judge in ("one", "two")] == [8, 8]


def test_labels_that_settings_changed_are_counted(tmp_path: Path) -> None:
    pairs = [Pair(n, {("one", "kind"): (0.9, 0.9)}, p_mean=0.3 if n == 0 else None) for n in range(4)]
    store(tmp_path, pairs)
    assert Audited(tmp_path).value("labels_changed", subject="label") == pytest.approx(1 / 4)
