"""The criteria of rewards: every figure against scikit-learn, numpy or counting by hand; and where it is shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from audit_rows import Audited
from group_rows import RUN, Answer, score, store
from group_rows import drawn as drawn_groups
from report_page import Page, differences
from sklearn.metrics import cohen_kappa_score, matthews_corrcoef, roc_auc_score

from constitution.audit import criteria
from constitution.audit.kinds import SECTIONS
from constitution.audit.report import report
from constitution.audit.summary import summary
from constitution.identity import row_id
from constitution.records import RewardSource, Score

JUDGES = ("j", "k")
GOOD: Mapping[tuple[str, int], Literal["yes", "no"]] = {
    ("kind", 0): "yes",
    ("kind", 1): "no",
    ("true", 0): "yes",
    ("true", 1): "yes",
    ("rare", 0): "yes",
}
"""By principle and place: the reply that speaks for an answer."""
WEIGHTS = {("kind", 0): 2.0, ("kind", 1): 1.0, ("true", 0): 0.5, ("true", 1): 1.0, ("rare", 0): 1.0}
Values = Mapping[tuple[str, str, int], Mapping[str, float]]
"""By judge, principle and place: P(the good reply) of each answer."""


def drawn() -> tuple[list[Answer], Values]:
    """Twelve prompts of five samples. kind 1 follows the answer's length; kind 2 is its reverse in nine of ten; true 1
    is passed by all; true 2 is drawn; rare is read of ten answers."""
    draw = np.random.default_rng(4)
    answers: list[Answer] = []
    values: dict[tuple[str, str, int], dict[str, float]] = {(judge, *key): {} for judge in JUDGES for key in GOOD}
    for prompt in range(12):
        for place in range(5):
            words = int(draw.integers(1, 12))
            text = f"{'**bold** ' * int(draw.integers(0, 3))}{'word ' * words}"
            gold = {"ann": float(draw.integers(0, 3))} if prompt % 3 else {}
            answer = Answer(prompt, place, "sample", "a", text, {"rule": (float(draw.random()), 0.0)}, gold)
            answers.append(answer)
            for judge in JUDGES:
                kind = float(np.clip(words / 12 + draw.normal(0, 0.15), 0.01, 0.99))
                values[judge, "kind", 0][answer.id] = kind
                values[judge, "kind", 1][answer.id] = 1 - kind if draw.random() < 0.9 else kind
                values[judge, "true", 0][answer.id] = float(draw.uniform(0.5, 1))
                values[judge, "true", 1][answer.id] = float(draw.random())
                if prompt < 2:
                    values[judge, "rare", 0][answer.id] = float(draw.random())
    del values["j", "true", 1][answers[7].id]  # a reading that could not be had
    return answers, values


def readings(answers: list[Answer], values: Values) -> Iterator[Score]:
    by_id = {answer.id: answer for answer in answers}
    for (judge, principle, place), own in values.items():
        good = GOOD[principle, place]
        for id, value in own.items():
            yield replace(
                score(by_id[id]), id=row_id(id, judge, principle, place), judge=judge, principle_id=principle,
                criterion=place, question=f"{principle} {place}?", good=good, weight=WEIGHTS[principle, place],
                p_yes=value if good == "yes" else 1 - value,
            )  # fmt: skip


ANSWERS, VALUES = drawn()
PROMPT = {answer.id: answer.prompt for answer in ANSWERS}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("criteria") / "warehouse"
    stray = replace(score(ANSWERS[7]), id="stray", principle_id="true", criterion=1, p_yes=0.9, label_mass=0.1)
    others = [
        replace(score(ANSWERS[0]), id="card", scorecard="card@1", p_yes=0.0),
        replace(
            score(ANSWERS[0]), id="grade", metric="grade", good=None, criterion=None, p_yes=None, grades=(0.5, 0.5)
        ),
    ]
    store(folder, ANSWERS, [], [*readings(ANSWERS, VALUES), stray, *others], reward={"min_label_mass": 0.5})
    return folder


@pytest.fixture(scope="module")
def found(root: Path) -> Audited:
    return Audited(root, RUN)


def about(judge: str, principle: str, place: int, more: str = "") -> dict[str, str]:
    return {"judge": judge, "principle_id": principle, "subject": f"{place + 1}{more}"}


def within(x: Mapping[str, float], y: Mapping[str, float]) -> float:
    """The correlation of both less their prompt's mean."""
    ids = sorted(x.keys() & y.keys())
    prompts = np.array([PROMPT[id] for id in ids])
    centred = []
    for values in (x, y):
        column = np.array([values[id] for id in ids])
        centred.append(column - np.array([column[prompts == prompt].mean() for prompt in prompts]))
    return float(np.corrcoef(*centred)[0, 1])


@pytest.mark.parametrize("key", VALUES)
def test_pass_rate_split_groups_and_correlations(found: Audited, key: tuple[str, str, int]) -> None:
    own, where = VALUES[key], about(*key)
    passed = {id: value >= 0.5 for id, value in own.items()}
    figure = found("criterion_passed", **where)
    assert figure.value == pytest.approx(np.mean([*passed.values()]))
    assert figure.n == len(own)
    assert figure.low is not None
    groups = [{passed[id] for id in own if PROMPT[id] == prompt} for prompt in {PROMPT[id] for id in own}]
    figure = found("criterion_splits", **where)
    assert figure.value == pytest.approx(np.mean([len(group) == 2 for group in groups]))
    assert figure.n == len(groups)
    length = {answer.id: float(len(answer.text.replace("*", " * ").split())) for answer in ANSWERS}
    bold = {answer.id: float(answer.text.count("**") // 2) for answer in ANSWERS}
    for name, other in (("criterion_length", length), ("criterion_markdown", bold)):
        figure = found(name, **where)
        value = within(other, own)
        assert figure.value == pytest.approx(value)
        assert figure.n == len(own)
        assert figure.low is not None
        assert figure.high is not None
        assert figure.low < value < figure.high
    rest = {}
    for id in own:
        others = [
            (WEIGHTS[principle, place], values[id])
            for (judge, principle, place), values in VALUES.items()
            if judge == key[0] and (principle, place) != key[1:] and id in values
        ]
        rest[id] = float(np.average([value for _, value in others], weights=[weight for weight, _ in others]))
    assert found.value("criterion_rest", **where) == pytest.approx(within(rest, own))


def test_dead_criteria_are_named_with_the_reason(found: Audited, root: Path) -> None:
    for judge in JUDGES:
        assert found.value("criterion_dead", **about(judge, "true", 0)) == 1
        assert found("criterion_dead", **about(judge, "true", 0)).note == "all of 60 answers pass"
        assert found.value("criterion_dead", **about(judge, "kind", 0)) == 0
        few = found("criterion_dead", **about(judge, "rare", 0))
        assert (few.value, few.n, few.note) == (None, 10, "read of fewer than 20 answers")
        assert (found.value("criteria_dead", judge), found("criteria_dead", judge).n) == (1, 4)
    assert "they cost a call an answer and rank none" in summary(root, RUN)


@pytest.mark.parametrize("judge", JUDGES)
def test_the_criterion_that_it_goes_with_most(found: Audited, judge: str) -> None:
    own = {key[1:]: values for key, values in VALUES.items() if key[0] == judge}
    for key in (("kind", 0), ("kind", 1), ("true", 1)):
        phis = {}
        for other in own.keys() - {key}:
            ids = sorted(own[key].keys() & own[other].keys())
            if len(ids) >= criteria.LEAST and other != ("true", 0):
                sides = [[values[id] >= 0.5 for id in ids] for values in (own[key], own[other])]
                phis[other] = float(matthews_corrcoef(*sides)), len(ids)
        nearest = max(phis, key=lambda other: abs(phis[other][0]))
        figure = found("criterion_phi", **about(judge, *key))
        assert figure.value == pytest.approx(phis[nearest][0])
        assert figure.n == phis[nearest][1]
        assert figure.note == f"with criterion {nearest[1] + 1} of {nearest[0]}"
    assert found.value("criterion_phi", **about(judge, "kind", 0)) < -0.5
    for key in (("true", 0), ("rare", 0)):
        alone = found("criterion_phi", **about(judge, *key))
        assert alone.value is None
        assert "shares no 20 answers" in alone.note


def test_blocks_of_answers_add_up(root: Path, found: Audited, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(criteria, "BLOCK", 7)
    again = Audited(root, RUN)
    phis = [figure for figure in found.figures if figure.figure == "criterion_phi"]
    assert phis == [figure for figure in again.figures if figure.figure == "criterion_phi"]


@pytest.mark.parametrize("key", GOOD)
def test_kappa_of_two_judges(found: Audited, key: tuple[str, int]) -> None:
    one, other = (VALUES[judge, *key] for judge in JUDGES)
    ids = sorted(one.keys() & other.keys())
    figure = found("criterion_kappa", **about("j", *key, "/k"))
    assert figure.n == len(ids)
    if key == ("true", 0):
        assert (figure.value, figure.note) == (None, "both pass all of the answers, or none")
    else:
        expected = cohen_kappa_score([one[id] >= 0.5 for id in ids], [other[id] >= 0.5 for id in ids])
        assert figure.value == pytest.approx(expected)
        assert figure.low is not None


@pytest.mark.parametrize("key", VALUES)
def test_gold(found: Audited, key: tuple[str, str, int]) -> None:
    gold = {answer.id: answer.gold["ann"] for answer in ANSWERS if answer.gold}
    right = []
    for a, b in combinations(sorted(VALUES[key].keys() & gold.keys()), 2):
        if PROMPT[a] == PROMPT[b] and gold[a] != gold[b]:
            better, worse = (a, b) if gold[a] > gold[b] else (b, a)
            right.append((1 + np.sign(VALUES[key][better] - VALUES[key][worse])) / 2)
    figure = found("criterion_gold", **about(*key))
    assert figure.value == pytest.approx(np.mean(right))
    assert figure.n == len(right)


def test_of_one_prompt_and_gold_of_two_kinds_it_is_the_area_under_the_curve(tmp_path: Path) -> None:
    own = [replace(answer, prompt=0, place=n, gold={"ann": float(n % 3 == 0)}) for n, answer in enumerate(ANSWERS[:30])]
    values = [VALUES["j", "true", 1].get(answer.id, 0.5) for answer in ANSWERS[:30]]
    scores = [replace(score(answer), p_yes=value) for answer, value in zip(own, values, strict=True)]
    store(tmp_path, own, [], scores)
    figure = Audited(tmp_path, RUN)("criterion_gold", **about("j", "kind", 0))
    assert figure.value == pytest.approx(roc_auc_score([n % 3 == 0 for n in range(30)], values))


def test_the_answer_that_two_sources_put_first(tmp_path: Path) -> None:
    sources: tuple[RewardSource, ...] = ("rubric", "rule")
    answers, same = drawn_groups(30, seed=7), []
    store(tmp_path, answers, [])
    for prompt in sorted({answer.prompt for answer in answers}):
        first = []
        for source in sources:
            own = [a for a in answers if a.prompt == prompt and np.isfinite(a.total(source))]
            totals = [round(answer.total(source), 12) for answer in own]
            if len(set(totals)) > 1:
                best = [answer for answer, total in zip(own, totals, strict=True) if total == max(totals)]
                first.append({answer.text for answer in best})
        if len(first) == len(sources):
            same.append(bool(first[0] & first[1]))  # equal ones share the first place
    figure = Audited(tmp_path, RUN)("reward_same_best", subject="rubric/rule")
    assert 0 < np.mean(same) < 1
    assert (figure.value, figure.n) == (round(float(np.mean(same)), 9), len(same))
    assert figure.low is not None


def test_the_page_shows_them(root: Path, found: Audited) -> None:
    page = Page(report(root, RUN))
    assert differences(page, root) == []
    assert {
        "criteria",
        "criterion-passed",
        "criterion-rest",
        "criterion-phi",
        "criterion-kappa",
    } <= page.exhibits.keys()
    assert "kind 1?" in page.exhibits["criteria"].text
    assert "with criterion 2 of kind" in page.exhibits["criteria"].text
    assert len(page.exhibits["criteria"].rows) == len(VALUES)


@pytest.mark.parametrize("scores", [[], None])
def test_what_is_not_there_has_no_value_and_says_what_it_takes(tmp_path: Path, scores: list[Score] | None) -> None:
    store(tmp_path, ANSWERS, [], scores)
    found = Audited(tmp_path, RUN)
    [section] = [section for section in SECTIONS if section.name == "criteria"]
    if scores is None:
        assert found.value("criterion_passed", **about("j", "kind", 0)) == 1
        notes = {found(name).note for name in ("criterion_rest", "criterion_phi", "criterion_kappa")}
        assert notes == {
            "no judge reads two criteria",
            "one judge alone reads the answers: [model.jury.NAME] in the recipe",
        }
        assert "length" in found("criterion_length", **about("j", "kind", 0)).note
    else:
        assert {(found(kind.name).value, found(kind.name).note) for kind in section.kinds} == {
            (None, 'no answer of a group was read by criteria: "rubric" or "prompt-rubric" in reward.by')
        }
