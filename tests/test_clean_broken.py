"""Rows whose chosen answer a principle's own votes speak against, of a run written by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import judging_rows
import pytest
from export_rows import dropped_of
from judging_rows import CONSTITUTION, Scene

from constitution.export.candidates import lay
from constitution.export.clean import clean
from constitution.export.settings import Cleaning, Settings
from constitution.export.work import Work
from constitution.records import Criterion
from constitution.warehouse import Warehouse, connect


@pytest.fixture
def scene() -> Scene:
    return Scene()


def cleaned(scene: Scene, root: Path, format: str = "dpo", **settings: Any) -> Iterator[Work]:
    scene.write(root)
    (run,) = Warehouse(root).runs()
    with connect(root) as connection:
        work = lay(
            connection, root, run, judging_rows.CONSTITUTION,
            Settings(format=format, cleaning=Cleaning(dedupe="off", drop_broken=True), **settings),
        )  # fmt: skip
        clean(work)
        yield work


def test_a_principle_whose_votes_prefer_the_other_answer_is_broken(scene: Scene, tmp_path: Path) -> None:
    for votes in (
        {"kind": (0.9, 0.8), "true": (0.7, 0.6)},
        {"kind": (0.9, 0.9), "true": (0.4, 0.5), "plain": (0.1, 0.6)},
        {"kind": (0.2, 0.8), "true": (0.9, 0.6)},
    ):
        pair = scene.pair(p_b=0.9, votes=4)
        for principle, (ab, ba) in votes.items():
            scene.vote(pair, principle, ab, ba)
    other = scene.pair(p_b=0.1, votes=2)
    scene.vote(other, "kind", 0.1, 0.2)
    scene.vote(other, "true", 0.8, 0.7)
    for work in cleaned(scene, tmp_path):
        assert dropped_of(work) == {"pair1": ("broken", "plain, true"), "pair3": ("broken", "true")}


def test_judges_are_averaged(scene: Scene, tmp_path: Path) -> None:
    for strict in (0.3, 0.05):
        pair = scene.pair(p_b=0.9, votes=4)
        scene.vote(pair, "kind", 0.8, 0.8, judge="mild")
        scene.vote(pair, "kind", strict, strict, judge="strict")
    for work in cleaned(scene, tmp_path):
        assert dropped_of(work) == {"pair1": ("broken", "kind")}


def test_labels_of_some_principles_are_broken_by_those_alone(scene: Scene, tmp_path: Path) -> None:
    pair = scene.pair(p_b=0.7, votes=4)
    scene.vote(pair, "kind", 0.9, 0.9)
    scene.vote(pair, "true", 0.1, 0.1)
    for principles, found in (("kind",), {}), (("kind", "true"), {"pair0": ("broken", "true")}):
        for work in cleaned(scene, tmp_path / "-".join(principles), principles=principles):
            assert dropped_of(work) == found


def test_an_answer_by_itself_is_looked_at_in_its_pairs_but_not_in_those_with_perturbations(
    scene: Scene, tmp_path: Path
) -> None:
    pair = scene.pair(p_b=0.7, votes=2)
    scene.vote(pair, "kind", 0.7, 0.7)
    spoilt = scene.pair(kind="perturbation", perturbation="terse", p_b=0.9, votes=2, drop_reason="perturbation")
    scene.vote(spoilt, "kind", 0.9, 0.9)
    for work in cleaned(scene, tmp_path, "sft", rounds="all"):
        assert dropped_of(work) == {"a0": ("broken", "kind")}


@pytest.mark.parametrize(("grades", "is_broken"), [((0.1, 0.2, 0.7), False), ((0.6, 0.3, 0.1), True)])
def test_the_better_of_two_bad_grades_is_broken(
    scene: Scene, tmp_path: Path, grades: tuple[float, ...], is_broken: bool
) -> None:
    pair = scene.pair(p_b=0.9, votes=1)
    read: dict[str, Any] = {
        "read_first": (0.9, 0.1, 0.0),
        "read_second": grades,
        "principle_digest": CONSTITUTION.principles[0].digest,
    }
    scene.vote(pair, "kind", 0.9, None, method="score", **read)
    for work in cleaned(scene, tmp_path):
        assert dropped_of(work) == ({"pair0": ("broken", "kind")} if is_broken else {})


@pytest.mark.parametrize(("p_yes", "is_broken"), [((0.9, 0.6), False), ((0.9, 0.9), True), ((0.1, 0.1), True)])
def test_a_checklist_is_read_by_its_weights_and_good_replies(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, p_yes: tuple[float, ...], is_broken: bool
) -> None:
    """Good are a yes of weight 1 and a no of weight 2: shares of 0.57, 0.37 and 0.63; of the last, the votes say no."""
    criteria = (Criterion("Is it kind?", "yes", 1.0), Criterion("Is it rude?", "no", 2.0))
    kind = replace(CONSTITUTION.principles[0], criteria=criteria)
    monkeypatch.setattr(
        judging_rows, "CONSTITUTION", replace(CONSTITUTION, principles=(kind, *CONSTITUTION.principles[1:]))
    )
    pair = scene.pair(p_b=0.9, votes=1)
    p_b = 0.4 if p_yes == (0.1, 0.1) else 0.6
    read: dict[str, Any] = {"read_first": (0.0, 1.0), "read_second": p_yes, "principle_digest": kind.digest}
    scene.vote(pair, "kind", p_b, None, method="rubric", **read)
    for work in cleaned(scene, tmp_path):
        assert dropped_of(work) == ({"pair0": ("broken", "kind")} if is_broken else {})
