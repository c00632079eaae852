"""`constitution principles test`: examples before judges that are right, wrong, failing, biased."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from constitution.ask.examples import Trial, try_examples, untested
from constitution.ask.panel import Panel
from constitution.cli.principles import principles
from constitution.errors import ModelLoadError
from constitution.principles import load_constitution, read_constitution
from constitution.recipe import FakeModel, JudgeSection, Models, TransformersModel

ROOT = Path(__file__).parent.parent / "principles"
PAGE = ROOT.parent / "docs" / "principles.md"
NUMBER = re.compile(r"\b0\.\d\d\b")
GOOD = "Check the label before you begin. Take your time and go step by step."
BAD = "Nobody reads labels, just begin. Skip the boring steps."
"""What the fake judge takes for careful and for careless."""

FILE = f"""\
name = "small"
version = "1.0.0"
description = "Three principles."

[[principles]]
id = "careful"
comparison_question = "Which answer is more careful?"

[[principles.examples]]
prompt = "How do I use this glue?"
better = "{GOOD}"
worse = "{BAD}"

[[principles.examples]]
prompt = "How do I use this paint?"
better = "I may be wrong about the details. {GOOD}"
worse = "I am never wrong about this. {BAD}"

[[principles.criteria]]
question = "Does the answer tell the person to be careful?"

[[principles]]
id = "untested"
comparison_question = "Which answer is shorter?"

[[principles]]
id = "upside-down"
comparison_question = "Which answer is bolder?"

[[principles.examples]]
prompt = "How do I use this saw?"
better = "{BAD}"
worse = "{GOOD}"
"""

RECIPE = """\
name = "judges"
constitution = "small@1.0.0"
[prompts]
path = "none.jsonl"
[model.policy]
engine = "fake"
failure_rate = 1.0
[model.jury.sound]
engine = "fake"
[model.jury.biased]
engine = "fake"
position_bias = 5.0
noise = 0.0
[model.jury.down]
engine = "fake"
failure_rate = 1.0
[judge]
repeats = 2
principles = 1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "principles" / "small" / "1.0.0.toml"
    path.parent.mkdir(parents=True)
    path.write_text(FILE, encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


def run(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(principles, ["test", *words, "--root", str(folder / "principles")])


async def trials(folder: Path, panel: Panel) -> list[Trial]:
    return await try_examples(read_constitution(folder / "principles/small/1.0.0.toml"), panel)


def only(section: FakeModel, judge: JudgeSection | None = None) -> Panel:
    return Panel.of(Models(policy=section), judge)


async def test_a_judge_that_follows_is_right_and_one_that_does_not_is_wrong(folder: Path) -> None:
    found = await trials(folder, only(FakeModel(engine="fake", noise=0.0)))
    assert [(t.principle_id, t.example, t.right, t.flips) for t in found] == [
        ("careful", 1, True, False),
        ("careful", 2, True, False),
        ("upside-down", 1, False, False),
    ]
    for trial in found:
        assert trial.p is not None
        assert trial.shown_first is not None
        assert trial.shown_second is not None
        assert trial.p == pytest.approx((trial.shown_first + trial.shown_second) / 2)
    assert untested(read_constitution(folder / "principles/small/1.0.0.toml")) == ["untested"]


async def test_a_position_bias_shows_and_does_not_decide(folder: Path) -> None:
    found = await trials(folder, only(FakeModel(engine="fake", position_bias=5.0, noise=0.0)))
    assert [trial.right for trial in found] == [True, True, False]
    assert found[0].flips
    assert found[0].shown_first is not None
    assert found[0].shown_second is not None
    assert found[0].shown_first > 0.5 > found[0].shown_second


async def test_what_cannot_be_judged_is_neither_right_nor_wrong(folder: Path) -> None:
    found = await trials(folder, only(FakeModel(engine="fake", failure_rate=1.0)))
    assert [(trial.judged, trial.right, trial.p) for trial in found] == [(False, False, None)] * 3
    assert found[0].failure.startswith("EngineUnavailable: ")
    section = JudgeSection(min_label_mass=1.0)
    found = await trials(folder, only(FakeModel(engine="fake"), section))
    assert {(trial.judged, trial.failure) for trial in found} == {
        (False, "too little probability on the labels (judge.min_label_mass)")
    }


async def test_a_checklist_is_read_where_there_is_one(folder: Path) -> None:
    found = await trials(folder, only(FakeModel(engine="fake", noise=0.0), JudgeSection(method="rubric")))
    assert [trial.judged for trial in found] == [True, True, False]
    assert [trial.shown_second for trial in found] == [None] * 3
    assert found[2].failure == "the principle has no criteria"


def test_the_command_tells_by_its_exit_code(folder: Path) -> None:
    shown = run(folder, "small", "--model", "fake")
    assert shown.exit_code == 1
    assert "WRONG" in next(line for line in shown.output.splitlines() if line.startswith("upside-down"))
    assert "3 examples: 2 right, 1 wrong, 0 not judged" in shown.output
    assert shown.output.endswith("without examples, so not tested: untested\n")
    path = folder / "principles/small/1.0.0.toml"
    path.write_text(FILE[: FILE.index('[[principles]]\nid = "upside')], encoding="utf-8")
    right = run(folder, "small", "--model", "fake", "--json")
    assert right.exit_code == 0
    told = json.loads(right.output)
    assert [(t["principle_id"], t["right"], t["judge"]) for t in told["trials"]] == [("careful", True, "fake")] * 2
    assert (told["constitution"], told["method"], told["untested"]) == ("small@1.0.0", "label", ["untested"])


def test_each_of_a_recipes_jury_is_asked_and_its_policy_is_not(folder: Path) -> None:
    shown = run(folder, "small@1.0.0", "--recipe", str(folder / "recipe.toml"), "--json")
    assert shown.exit_code == 1
    told = json.loads(shown.output)["trials"]
    assert [trial["judge"] for trial in told] == ["sound"] * 3 + ["biased"] * 3 + ["down"] * 3
    careful = [trial for trial in told if trial["principle_id"] == "careful" and trial["example"] == 1]
    assert [(trial["right"], trial["flips"]) for trial in careful] == [(True, False), (True, True), (False, False)]
    text = run(folder, "small", "--recipe", str(folder / "recipe.toml")).output
    assert "3 examples: 0 right, 0 wrong, 3 not judged; 0 position flips" in text
    assert "not judged: EngineUnavailable: " in text


def test_nothing_to_test_is_an_error_and_so_are_two_judges(folder: Path) -> None:
    path = folder / "principles/small/1.0.0.toml"
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole[: whole.index("[[principles.examples]]")], encoding="utf-8")
    shown = run(folder, "small", "--model", "fake")
    assert "no principle has an example" in str(shown.exception)
    both = run(folder, "small", "--model", "fake", "--recipe", str(folder / "recipe.toml"))
    assert both.exit_code == 2
    assert "--model and --recipe both say who judges" in both.output


async def test_a_model_that_is_not_there_is_an_error(folder: Path) -> None:
    with pytest.raises(ModelLoadError):
        await trials(
            folder, Panel({"": TransformersModel(engine="transformers", model="nowhere/at-all")}, JudgeSection())
        )


def test_the_pocket_judge_passes_the_pocket_constitution_as_the_docs_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT.parent)
    (page,) = re.findall(r"```text\n\$ constitution principles (test .*?)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    command, block = page
    shown = CliRunner().invoke(principles, command.split())
    assert shown.exit_code == 0, shown.output
    assert NUMBER.sub("", shown.output).rstrip() == NUMBER.sub("", block).rstrip()
    now, then = ([float(number) for number in NUMBER.findall(text)] for text in (shown.output, block))
    assert now == pytest.approx(then, abs=0.02), "the pocket model is another one: show what it does now"
    assert len(now) == 3 * len(load_constitution(ROOT, "pocket").principles)
