"""The audit of prompts' own rubrics: every figure counted again by hand, numpy and scikit-learn."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from audit_rows import Audited
from click.testing import CliRunner
from group_rows import RUN, Answer, score, store
from report_page import Page, differences
from sklearn.metrics import cohen_kappa_score

from constitution.audit.kinds import SECTIONS
from constitution.audit.report import report
from constitution.audit.summary import summary
from constitution.cli import app
from constitution.identity import row_id
from constitution.records import CriterionKind, Failure, RubricDrop, RubricItem, RubricSource, Score
from constitution.warehouse import Warehouse

JUDGES = ("j", "k")
KINDS: tuple[CriterionKind, ...] = ("essential", "", "pitfall")
DROPS: tuple[RubricDrop | None, ...] = (None, None, None, "compound", "duplicate")
NONE = (8, 9)
"""Prompts that have no rubric: of one all items were dropped, of the other there were none."""


def drawn() -> tuple[list[Answer], list[RubricItem], dict[tuple[str, str, str], float]]:
    """Ten prompts of four answers and up to six items; what each judge makes of each item and answer: P(the good
    reply). Some items are passed by all, and some tell the answers apart as another does."""
    draw = np.random.default_rng(8)
    answers, items = [], []
    values: dict[tuple[str, str, str], float] = {}
    for prompt in range(10):
        own = [Answer(prompt, n, "sample", "a", f"{'word ' * (n + 1)}", {"rule": (0.5, 0.0)}, {}) for n in range(4)]
        answers += own
        count = 0 if prompt == 9 else int(draw.integers(3, 7))
        for number in range(count):
            source: RubricSource = "given" if number < 3 else "contrast"
            drop = "compound" if prompt == 8 else DROPS[int(draw.integers(len(DROPS)))]
            kind = KINDS[int(draw.integers(3))]
            item = RubricItem(
                row_id(RUN, prompt, number), RUN, own[0].prompt_id, source, number, count, f"{number}?",
                "no" if kind == "pitfall" else "yes", -2.0 if kind == "pitfall" else 1.0, kind, (), "w", drop,
            )  # fmt: skip
            items.append(item)
            way = int(draw.integers(4))
            for judge in JUDGES:
                for n, answer in enumerate(own):
                    drawn_value = (0.9, (n + 1) / 5, float(draw.random()), float(draw.random()))[way]
                    if drop is None and (judge, prompt, number, n) != ("k", 0, 0, 2):
                        values[judge, item.id, answer.id] = drawn_value
    return answers, items, values


ANSWERS, ITEMS, VALUES = drawn()
ITEM, ANSWER = {item.id: item for item in ITEMS}, {answer.id: answer for answer in ANSWERS}


def reading(judge: str, item: RubricItem, answer: Answer, value: float) -> Score:
    return replace(
        score(answer), id=row_id(judge, item.id, answer.id), judge=judge, metric="prompt-rubric", principle_id="",
        principle_digest="", criterion=item.number, question=item.question, good=item.good, weight=item.weight,
        p_yes=value if item.good == "yes" else 1 - value, rubric_id=item.id,
    )  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rubrics") / "warehouse"
    scores = [reading(judge, ITEM[item], ANSWER[answer], value) for (judge, item, answer), value in VALUES.items()]
    store(folder, ANSWERS, [], scores)
    warehouse = Warehouse(folder)
    warehouse.write_part("rubrics", RUN, ITEMS)
    none = {answer.prompt_id for answer in ANSWERS if answer.prompt in NONE}
    failed = [Failure(row_id(id, "f"), RUN, id, "rubric", "NoRubric", "0 are left", retryable=False) for id in none]
    warehouse.write_part("failures", RUN, failed)
    return folder


@pytest.fixture(scope="module")
def found(root: Path) -> Audited:
    return Audited(root, RUN)


def test_what_prompts_have(found: Audited, root: Path) -> None:
    figure = found("rubric_none")
    assert (figure.value, figure.n) == (0.2, 10)
    assert figure.low is not None
    assert "their answers have no rewards by it" in summary(root, RUN)
    for source in ("given", "contrast", "all"):
        own = [item for item in ITEMS if source in (item.source, "all")]
        prompts = {item.prompt_id for item in own}
        figure = found("rubric_items", subject=source)
        assert figure.value == pytest.approx(sum(item.drop_reason is None for item in own) / len(prompts))
        assert figure.n == len(prompts)
    for source in ("given", "contrast"):
        own = [item for item in ITEMS if item.source == source]
        for reason in ("compound", "duplicate"):
            figure = found("rubric_dropped", subject=f"{source}/{reason}")
            assert figure.value == pytest.approx(np.mean([item.drop_reason == reason for item in own]))
            assert figure.n == len(own)
        kept = [item for item in own if item.drop_reason is None]
        shares = []
        for kind in ("essential", "important", "optional", "pitfall", ""):
            figure = found("rubric_kinds", subject=f"{source}/{kind or 'unsaid'}")
            assert figure.value == pytest.approx(np.mean([item.kind == kind for item in kept]))
            shares.append(figure.value or 0.0)
        assert sum(shares) == pytest.approx(1)


def passes(judge: str, item: RubricItem) -> dict[str, bool]:
    return {answer: value >= 0.5 for (one, id, answer), value in VALUES.items() if (one, id) == (judge, item.id)}


@pytest.mark.parametrize("judge", JUDGES)
@pytest.mark.parametrize("source", ["given", "contrast"])
def test_dead_and_redundant_items(found: Audited, judge: str, source: str) -> None:
    kept = [item for item in ITEMS if item.drop_reason is None]
    own = [item for item in kept if item.source == source]
    dead = [len(set(passes(judge, item).values())) == 1 for item in own]
    figure = found("rubric_dead", judge, subject=source)
    assert (figure.value, figure.n) == (round(float(np.mean(dead)), 9), len(own))
    assert 0 < np.mean(dead) < 1
    assert figure.low is not None
    telling = [item for item, is_dead in zip(own, dead, strict=True) if not is_dead]
    again = [
        any(
            other is not item and other.prompt_id == item.prompt_id and passes(judge, other) == passes(judge, item)
            for other in kept
        )
        for item in telling
    ]
    figure = found("rubric_redundant", judge, subject=source)
    assert (figure.value, figure.n) == (round(float(np.mean(again)), 9), len(telling))
    assert 0 < np.mean(again) < 1


@pytest.mark.parametrize("source", ["given", "contrast"])
@pytest.mark.parametrize("kind", KINDS)
def test_items_of_a_source_and_kind_together(found: Audited, source: str, kind: str) -> None:
    own = [item for item in ITEMS if (item.source, item.kind, item.drop_reason) == (source, kind, None)]
    about = f"{source}/{kind or 'unsaid'}"
    for judge in JUDGES:
        said = [passed for item in own for passed in passes(judge, item).values()]
        figure = found("criterion_passed", judge, subject=about)
        assert (figure.value, figure.n) == (round(float(np.mean(said)), 9), len(said))
        figure = found("criterion_splits", judge, subject=about)
        assert figure.value == pytest.approx(np.mean([len(set(passes(judge, item).values())) == 2 for item in own]))
        assert figure.n == len(own)
        length = within(judge, own, lambda _, answer: float(len(answer.text.split())))
        assert found.value("criterion_length", judge, subject=about) == pytest.approx(length)
        rest = within(judge, own, lambda item, answer, judge=judge: others(judge, item, answer))  # type: ignore[misc]
        assert found.value("criterion_rest", judge, subject=about) == pytest.approx(rest)
    both = [(passes("j", item), passes("k", item)) for item in own]
    pairs = [(one[id], other[id]) for one, other in both for id in one.keys() & other.keys()]
    figure = found("criterion_kappa", "j", subject=f"{about}/k")
    assert figure.value == pytest.approx(cohen_kappa_score(*zip(*pairs, strict=True)))
    assert figure.n == len(pairs)


def others(judge: str, item: RubricItem, answer: Answer) -> float:
    """The mean by weight of the other items of the answer; NaN: there is none."""
    found = [
        (abs(ITEM[id].weight), value)
        for (one, id, of), value in VALUES.items()
        if (one, of) == (judge, answer.id) and id != item.id
    ]
    return (
        float(np.average([value for _, value in found], weights=[weight for weight, _ in found])) if found else np.nan
    )


def within(judge: str, items: list[RubricItem], x: Callable[[RubricItem, Answer], float]) -> float:
    """The correlation of x with P(the good reply), both less their mean over the item's answers."""
    centred: list[tuple[float, float]] = []
    for item in items:
        rows = [
            (x(item, ANSWER[of]), value)
            for (one, id, of), value in VALUES.items()
            if (one, id) == (judge, item.id) and np.isfinite(x(item, ANSWER[of]))
        ]
        if rows:
            centred += map(tuple, np.array(rows) - np.mean(rows, axis=0))
    return float(np.corrcoef(np.array(centred).T)[0, 1])


def test_of_items_alone_there_are_no_criteria_of_principles(found: Audited, root: Path) -> None:
    for name in ("criteria_dead", "criterion_dead"):
        assert found(name).note.startswith("no answer was read by the criteria of principles")
    page = Page(report(root, RUN))
    assert differences(page, root) == []
    assert {"rubric-dropped", "rubric-dead", "criterion-passed"} <= page.exhibits.keys()


def test_a_run_without_votes_is_audited_where_none_is_named(root: Path, tmp_path: Path) -> None:
    options = ["--warehouse", str(root), "--replicates", "100", "--json", "--out", str(tmp_path / "r.html")]
    shown = json.loads(CliRunner().invoke(app, ["audit", *options], catch_exceptions=False).stdout)
    assert shown["run_id"] == RUN


def test_without_rubrics_nothing_is_said_but_what_it_takes(tmp_path: Path) -> None:
    store(tmp_path, ANSWERS, [])
    found = Audited(tmp_path, RUN)
    [section] = [section for section in SECTIONS if section.name == "rubrics"]
    assert {found(kind.name).value for kind in section.kinds} == {None}
    assert all(found(kind.name).note for kind in section.kinds)
