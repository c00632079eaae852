"""The audit of a run by a fake jury with faults: it finds what was planted, and all of it is listed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from audit_rows import Audited
from click.testing import CliRunner
from run_once import run_once
from small_project import small_project

from constitution.audit.kinds import KINDS
from constitution.cli import app
from constitution.records import Run

RECIPE = """
name = "audited"
constitution = "general@1.1.0"
[prompts]
path = "prompts.jsonl"
answers = ["good", "bad"]
gold = "good"
families = { good = "ours", bad = "theirs" }
[model.policy]
engine = "fake"
verbosity = 4
[model.jury.first]
engine = "fake"
model = "fake-first"
family = "ours"
position_bias = 1.5
[model.jury.fair]
engine = "fake"
model = "fake-fair"
[revise]
rounds = 2
[judge]
principles = 2
repeats = 2
pairs = ["parent", "given"]
[perturb]
share = 0.5
[output]
flush_seconds = 0.05
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    import asyncio

    folder = tmp_path_factory.mktemp("audited")
    path = small_project(folder, 80, RECIPE)
    return folder / "warehouse", asyncio.run(run_once(path, folder / "warehouse", []))


@pytest.fixture(scope="module")
def found(run: tuple[Path, Run]) -> Audited:
    return Audited(run[0], run[1].run_id)


def test_planted_position_bias_is_found_and_no_other(found: Audited) -> None:
    for judge, planted in (("first", 1.5), ("fair", 0.0)):
        effect = found("position_effect", judge)
        assert effect.low is not None
        assert effect.high is not None
        assert effect.low - 0.05 < planted < effect.high + 0.05, effect
    assert found.value("position_bias", "first") > found.value("position_bias", "fair")
    assert found.value("first_place", "first") > 0.9


def test_the_same_votes_give_the_same_figures(found: Audited, run: tuple[Path, Run]) -> None:
    assert Audited(run[0], run[1].run_id).figures == found.figures


def test_every_part_of_the_run_has_its_figures(found: Audited) -> None:
    assert found.value("perturbation_penalty", "fair", subject="sarcastic") > 0.5
    assert found("alpha", subject="judges").value is not None
    assert found.value("repetition_stability", "fair") > 0.5
    assert found("self_preference", "fair").note == "the judge's family is not known: `family` of its model"
    assert "gold prefers ours's answer in all such pairs" in found("self_preference", "first").note
    assert found("alignment", "first", subject="calibrated").note.startswith("50 gold labels in each half")
    assert found.value("round_tokens", subject="0") > 5
    for name in ("label_mass", "ties"):
        assert found(name, "first").n > 0


def test_every_figure_has_n_and_shares_have_intervals(found: Audited) -> None:
    counts = {"pairs", "kept", "dropped", "votes_cast", "votes_missing", "failures", "drawn", "dead"}
    without = counts | {"reliability_predicted"}
    for figure in found.figures:
        assert figure.value is not None or figure.note, figure
        if figure.value is not None and figure.figure not in without:
            assert figure.n > 0, figure
            assert figure.low is not None, figure
            assert figure.high is not None, figure
            assert figure.low <= figure.high, figure


def test_every_figure_is_listed(found: Audited) -> None:
    listed = CliRunner().invoke(app, ["audit", "--figures"]).output
    assert re.findall(r"^([a-z_]+) \(.+ by .+; n: .+\)$", listed, re.MULTILINE) == list(KINDS)
    assert json.loads(CliRunner().invoke(app, ["audit", "--figures", "--json"]).output).keys() == KINDS.keys()
    assert {figure.figure for figure in found.figures} <= set(KINDS)
    assert {"both orders", "calibrated", "label"} <= {f.subject for f in found.figures if f.figure == "alignment"}
