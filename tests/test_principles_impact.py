"""`constitution principles impact`: known changes of a constitution, before a judge whose every vote is known."""

from __future__ import annotations

import asyncio
import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from run_once import run_once

from constitution.ask.impact import impact, sample_pairs
from constitution.ask.panel import Panel
from constitution.cli.principles import principles
from constitution.errors import RecipeError, WarehouseError
from constitution.judge.pairs import Pair
from constitution.principles import read_constitution, write_toml
from constitution.recipe import FakeModel, JudgeSection
from constitution.records import Constitution, Criterion, Preference, Principle, Prompt, Run
from constitution.warehouse import Warehouse

CAREFUL = Principle("careful", comparison_question="Which answer is more careful?")
SOUND = Principle("sound", comparison_question="Which answer is sounder?", weight=2.0)
OLD = Constitution("small", "1.0.0", "Two principles.", (CAREFUL, SOUND))
BOLD = Principle("bold", comparison_question="Which answer is bolder?", weight=10.0)

Stored = list[tuple[Prompt, Pair]]

PAGE = Path(__file__).parent.parent / "docs" / "principles.md"

RECIPE = """
name = "small"
seed = 5
constitution = "small@1.0.0"
[prompts]
path = "prompts.jsonl"
answers = ["good", "bad"]
[model.policy]
engine = "fake"
[model.judge]
engine = "fake"
model = "fake-judge"
position_bias = 0.3
accuracy = { bolder = 0.0, "*" = 1.0 }
[revise]
rounds = 0
[judge]
pairs = ["given"]
margin = 0.01
"""
"""The judge prefers the careless answer when it is asked which is bolder, and the careful one else."""

GOOD = "Check the label before you begin. Take your time and go step by step."
BAD = "Nobody reads labels, just begin. Skip the boring steps."


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("impact")
    (folder / "principles" / "small").mkdir(parents=True)
    (folder / "principles" / "small" / "1.0.0.toml").write_text(write_toml(OLD), encoding="utf-8")
    rows = [{"prompt": f"How does thing {n} work?", "good": f"{GOOD} So {n}.", "bad": BAD} for n in range(30)]
    rows.append({"prompt": "Anything else?", "good": "The same.", "bad": "The same."})
    (folder / "prompts.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run(project: Path) -> Run:
    return asyncio.run(run_once(project / "recipe.toml", project / "warehouse", []))


@pytest.fixture(scope="module")
def stored(project: Path, run: Run) -> Stored:
    """All pairs that can be labelled."""
    return sample_pairs(Warehouse(project / "warehouse"), run.run_id, 100)


def edited(*changed: Principle) -> Constitution:
    return replace(OLD, version="1.1.0", principles=changed)


def called(project: Path, *words: str) -> Result:
    more = ["--warehouse", str(project / "warehouse"), "--root", str(project / "principles")]
    return CliRunner().invoke(principles, ["impact", *words, *more])


async def test_the_old_labels_are_those_of_the_run(project: Path, run: Run, stored: Stored) -> None:
    assert len(stored) == 30, "the pair of equal answers cannot be labelled"
    found = await impact(OLD, edited(CAREFUL, replace(SOUND, weight=1.0)), stored, Panel.of_run(run))
    rows = Warehouse(project / "warehouse").rows_of(run.run_id, [prompt.id for prompt, _ in stored])
    labels = {row.id: row.p_b for each in rows.values() for row in each if isinstance(row, Preference)}
    assert [shift.old.p_b for shift in found.shifts] == [labels[pair.id] for _, pair in stored]
    assert found.judges == ("fake-judge",)


async def test_what_both_ask_alike_is_asked_once(run: Run, stored: Stored) -> None:
    stored = stored[:10]
    renamed = edited(replace(CAREFUL, id="wary"), replace(SOUND, weight=5.0, tags=("new",)))
    found = await impact(OLD, renamed, stored, Panel.of_run(run))
    assert found.votes == 10 * 2 * 2
    assert [(effect.principle_id, effect.kinds) for effect in found.effects] == [("sound", ("reweighted",))]
    assert found.effects[0].own_flips is None
    assert found.effects[0].change == found.change, "the only change is the whole change"
    assert (found.flips.value, found.votes_missing) == (0.0, 0)
    same = await impact(OLD, edited(replace(CAREFUL, id="wary", tags=("new",)), SOUND), stored, Panel.of_run(run))
    assert (same.votes, same.shifts, same.effects, same.flips.value) == (0, (), (), None)


async def test_every_kind_of_change_and_what_it_does_alone(run: Run, stored: Stored) -> None:
    bolder = replace(CAREFUL, comparison_question=BOLD.comparison_question)
    found = await impact(OLD, edited(bolder, BOLD), stored, Panel.of_run(run))
    effects = {effect.principle_id: effect for effect in found.effects}
    assert {id: effect.kinds for id, effect in effects.items()} == {
        "careful": ("reworded",),
        "bold": ("added",),
        "sound": ("removed",),
    }
    assert found.flips.value == 1.0
    assert found.flips.n == 30
    assert found.flips.low is not None
    assert found.flips.low < 1.0
    assert all(shift.flips for shift in found.shifts)
    # careful weighs 1 of 3: turned round, it is outvoted; bold weighs 10 of 13.
    assert effects["careful"].flips.value == 0.0
    assert effects["careful"].own_flips is not None
    assert effects["careful"].own_flips.value == 1.0
    assert effects["bold"].flips.value == 1.0
    assert effects["sound"].flips.value == 0.0
    assert effects["bold"].own_flips is None
    # The first answer is the careful one: a bold judge finds the later better.
    assert found.change.value is not None
    assert found.size.value == pytest.approx(found.change.value)
    assert found.change.value > 0.5
    assert found.votes == 30 * 2 * 3, "careful, sound, bolder; bold asks what the new careful asks"


async def test_a_jury_and_a_failing_judge(stored: Stored) -> None:
    stored = stored[:10]
    jury = {"up": FakeModel(engine="fake"), "down": FakeModel(engine="fake", failure_rate=1.0)}
    found = await impact(OLD, edited(CAREFUL), stored, Panel(jury, JudgeSection()))
    assert (found.judges, found.votes, found.votes_missing) == (("up", "down"), 40, 40)
    assert found.flips.n == 10
    nobody = await impact(OLD, edited(CAREFUL), stored, Panel({"": jury["down"]}, JudgeSection()))
    assert (nobody.votes, nobody.flips.value, nobody.flips.n) == (0, None, 0)


async def test_checklists_change_labels_by_rubric_and_only_then(stored: Stored) -> None:
    stored = stored[:5]
    old = replace(CAREFUL, criteria=(Criterion("Does the answer tell the person to be careful?"),))
    new = replace(old, criteria=(*old.criteria, Criterion("Is the answer dangerous?", "no", 0.3)))
    sections = JudgeSection(), JudgeSection(method="rubric")
    label, rubric = [
        await impact(edited(old), edited(new), stored, Panel({"": FakeModel(engine="fake")}, section))
        for section in sections
    ]
    assert label.effects == ()
    assert [effect.kinds for effect in rubric.effects] == [("reworded",)]
    assert rubric.votes == 5 * 2
    with pytest.raises(RecipeError, match="principle careful has no criteria"):
        await impact(OLD, edited(new), stored, Panel({"": FakeModel(engine="fake")}, sections[1]))


async def test_the_sample_follows_the_seed(project: Path, run: Run) -> None:
    warehouse = Warehouse(project / "warehouse")
    drawn = [[pair.id for _, pair in sample_pairs(warehouse, run.run_id, 8, seed)] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 8
    with pytest.raises(WarehouseError, match="no pairs that can be labelled"):
        sample_pairs(warehouse, "none", 8)


def test_the_command(project: Path, run: Run, tmp_path: Path) -> None:
    new = tmp_path / "new.toml"
    new.write_text(write_toml(edited(CAREFUL, SOUND, BOLD)), encoding="utf-8")
    before = sorted(path for path in (project / "warehouse").rglob("*"))
    shown = called(project, "small", str(new), "--sample", "12", "--out", str(tmp_path / "pairs.csv"))
    assert shown.exit_code == 0, shown.output
    assert shown.output.startswith(f"small@1.0.0 → small@1.1.0: 12 pairs of run {run.run_id}, judged by fake-judge\n")
    assert "  labels that flip      100.0 % (75.8 to 100.0) of 12\n" in shown.output
    assert "bold       added   100.0 % (75.8 to 100.0) of 12" in shown.output
    assert "2 more have flipped: --out FILE.csv or --json has all pairs" in shown.output
    assert f"   earlier {GOOD}" in shown.output
    with (tmp_path / "pairs.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert {row["flips"] for row in rows} == {"True"}
    assert sorted(path for path in (project / "warehouse").rglob("*")) == before

    told = json.loads(called(project, "small", str(new), "--run", run.run_id[:7], "--json").output)
    assert len(told["pairs"]) == 30
    assert (told["flips"]["value"], told["new"]["digest"]) == (1.0, edited(CAREFUL, SOUND, BOLD).digest)
    assert "no label can flip" in called(project, "small", "small@1.0.0").output


def test_the_docs_show_what_it_prints(project: Path, run: Run, tmp_path: Path) -> None:
    """All but the numbers: the run behind the page takes minutes."""
    (block,) = re.findall(r"```text\n\$ constitution principles bump.*?```", PAGE.read_text(), re.DOTALL)
    new = tmp_path / "new.toml"
    new.write_text(write_toml(edited(replace(CAREFUL, comparison_question="Bolder?"), SOUND, BOLD)), encoding="utf-8")
    shown = called(project, "small", str(new)).output
    page, here = ([line for line in text.splitlines() if re.match(r"  \w", line)] for text in (block, shown))
    assert [line[:22] for line in page] == [line[:22] for line in here] != []
    headings = [next(line for line in text.splitlines() if line.startswith("principle ")) for text in (block, shown)]
    assert headings[0].split() == headings[1].split()
    pair = r"\n1\. 0\.\d{3} → 0\.\d{3}  [\w-]+  pair \w{32}\n   prompt  .*\n   earlier .*\n   later   "
    assert re.search(pair, block)
    assert re.search(pair, shown)


def test_the_judge_can_be_another(project: Path, run: Run, tmp_path: Path) -> None:
    new = tmp_path / "new.toml"
    new.write_text(write_toml(edited(CAREFUL, SOUND, BOLD)), encoding="utf-8")
    plain = called(project, "small", str(new), "--model", "fake")
    assert "judged by fake\n" in plain.output
    assert "labels that flip      0.0 %" in plain.output, "this judge hears no difference between the questions"
    recipe = called(project, "small", str(new), "--recipe", str(project / "recipe.toml"))
    assert "labels that flip      100.0 %" in recipe.output


def test_what_cannot_be_done(project: Path, run: Run, tmp_path: Path) -> None:
    assert "nope: there is no such run" in str(called(project, "small", "small", "--run", "nope").exception)
    nothing = CliRunner().invoke(
        principles, ["impact", "small", "small", "--root", str(project / "principles"), "--warehouse", str(tmp_path)]
    )
    assert "no run has preferences" in str(nothing.exception)
    assert read_constitution(project / "principles/small/1.0.0.toml").digest == OLD.digest
