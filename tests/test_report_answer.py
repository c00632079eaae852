"""The report's answer in sentences: each only where the intervals say so."""

from __future__ import annotations

from dataclasses import replace

import pytest
from report_rows import audited
from warehouse_rows import RUN

from constitution.audit.answer import answer
from constitution.audit.report import headlines
from constitution.audit.words import Headline
from constitution.records import Figure
from constitution.warehouse import connect

LABEL = Headline("alignment", "", "label", 0.98, 0.95, 1.0, 234, "")
ECE = Headline("ece", "", "label", 0.16, 0.15, 0.17, 234, "", lean=0.15)
CALIBRATED = Headline("ece", "qwen", "calibrated", 0.01, 0.0, 0.02, 234, "")
PLACE = Headline("position_effect", "qwen", "", 0.66, 0.6, 0.7, 90, "")
LENGTH = Headline("style_effect", "qwen", "length", 0.45, 0.4, 0.48, 90, "")
CHANGED = Headline("labels_changed", "", "style", 0.03, 0.01, 0.05, 90, "")
POLISHED = Headline("perturbation_penalty", "qwen", "polished", 0.9, 0.8, 1.0, 40, "")
FAMILY = Headline("self_preference", "qwen", "", 0.1, 0.05, 0.2, 40, "")
MISSING = Headline("votes_missing", "qwen", "", 252.0, None, None, 520, "")


def said(*told: Headline) -> str:
    return " ".join(answer(told)).replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.95, 1.0, "98.0 % of the labels are right (95.0 % to 100.0 %)."),
        (0.45, 1.0, "not told apart from a coin"),
        (0.2, 0.4, "worse than a coin"),
        (None, None, "98.0 % of the labels are right; one prompt alone"),
    ],
)
def test_right_labels_are_right_where_the_interval_says_so(low: float | None, high: float | None, words: str) -> None:
    value = 0.3 if high == 0.4 else 0.98
    text = said(replace(LABEL, value=value, low=low, high=high))
    assert words in text
    assert ("coin" in text) == (low not in (0.95, None))


def test_without_gold_nothing_is_claimed() -> None:
    assert said(PLACE).startswith("Whether the labels are right is not known")
    assert answer([]) == []


def test_probabilities_are_timid_or_sure() -> None:
    assert "too timid: calibrate before using them as soft labels; fitted" in said(LABEL, ECE, CALIBRATED)
    assert "too sure: calibrate" in said(LABEL, replace(ECE, lean=-0.15))
    assert "average (15.0 to 17.0): calibrate" in said(LABEL, replace(ECE, lean=0.01))
    # Calibration of noise is no remedy, and neither is one that makes nothing better.
    assert "fitted" not in said(replace(LABEL, low=0.4), ECE, CALIBRATED)
    assert "fitted" not in said(LABEL, ECE, replace(CALIBRATED, value=0.155))
    assert said(LABEL, replace(ECE, value=0.04, low=0.01, high=0.06)).endswith(
        "4.0 points off on average (1.0 to 6.0)."
    )


def test_effects_are_told_where_their_intervals_are_clear_of_none() -> None:
    assert "qwen takes the first in 66.0 %." in said(PLACE)
    other = replace(PLACE, judge="glm", value=0.3, low=0.2, high=0.4)
    assert "glm takes the second in 70.0 % and qwen takes the first in 66.0 %" in said(other, PLACE)
    assert "No effect of the place" in said(replace(PLACE, low=0.4))
    assert "qwen takes the shorter in 55.0 %, be it taste or quality. Without length and style 3.0 %" in said(
        LENGTH, CHANGED
    )
    assert said(replace(LENGTH, high=0.6), CHANGED).endswith("No effect of length can be seen.")
    assert said(LENGTH, replace(CHANGED, low=0.0)).endswith("taste or quality.")
    assert "place" not in said(LENGTH)


def test_what_else_is_told() -> None:
    assert "Wrong but polished answers lose to the originals, which are preferred by qwen in 90.0 %." in said(POLISHED)
    assert "answers do no worse and no better than the originals" in said(replace(POLISHED, low=0.3))
    assert "answers win against the originals, which are preferred by qwen in 20.0 %." in said(
        replace(POLISHED, value=0.2, low=0.1, high=0.3)
    )
    assert "qwen favours its own family's answers by 10.0 points" in said(FAMILY)
    assert "qwen favours other families' answers" in said(replace(FAMILY, value=-0.1, low=-0.2, high=-0.05))
    assert "famil" not in said(replace(FAMILY, low=-0.1))
    assert "Votes are missing, 252 of 520 by qwen" in said(MISSING)


def test_a_judge_that_does_not_answer_as_it_is_asked_is_told_of_first(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    warehouse = audited(tmp_path_factory.mktemp("mass"))

    def told(votes: float, readings: float) -> list[str]:
        masses = {"label_mass": votes, "scorecard_label_mass": readings, "position_bias": 0.1}
        warehouse.write_figures(RUN, [Figure(RUN, name, value, 9, judge="qwen") for name, value in masses.items()])
        with connect(warehouse.root) as connection:
            found = headlines(connection, RUN)
        assert all(one.alarming is (one.figure != "position_bias") for one in found)
        return [each.replace("\N{NO-BREAK SPACE}", " ") for each in answer(found)]

    votes = "The votes say little: qwen puts 31.0 % of its probability on the labels that it is asked for, and the rest"
    readings = (
        "The scorecard says little: qwen puts 0.0 % of its probability on yes and no, and the rest on other words."
    )
    assert told(0.31, 0.0)[:2] == [f"{votes} on other words.", readings]
    assert told(0.95, 0.0)[0] == readings
    assert told(0.89, 1.0)[0].startswith("The votes say less than it seems: qwen puts 89.0 % ")
    assert told(0.9, 0.99)[0].startswith("Whether the labels are right is not known")


def test_the_query_says_how_probabilities_lean(tmp_path_factory: pytest.TempPathFactory) -> None:
    warehouse = audited(tmp_path_factory.mktemp("lean"))

    def lean(observed: float) -> float | None:
        figures = [Figure(RUN, "ece", 0.2, 90, 0.1, 0.3, subject="label")]
        for place, predicted in enumerate((0.3, 0.7)):
            right = observed if predicted > 0.5 else 1 - observed
            figures.append(Figure(RUN, "reliability_predicted", predicted, 45, subject=f"label/{place}"))
            figures.append(Figure(RUN, "reliability_observed", right, 45, subject=f"label/{place}"))
        warehouse.write_figures(RUN, figures)
        with connect(warehouse.root) as connection:
            [one] = headlines(connection, RUN)
        return one.lean

    assert lean(0.9) == pytest.approx(0.2)
    assert lean(0.6) == pytest.approx(-0.1)
