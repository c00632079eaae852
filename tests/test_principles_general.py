"""The constitutions that ship, and the commands that show them."""

from __future__ import annotations

import json
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path

import pytest
from click.testing import CliRunner

from constitution.cli.principles import principles
from constitution.principles import Lock, check, diff_constitutions, load_constitution, status
from constitution.principles.system import used_by
from constitution.records import Constitution, CriterionKind

ROOT = Path(__file__).parent.parent / "principles"
THEMES = {
    "1.0.0": "preachiness evasion sycophancy uncertainty privacy manipulation illegal expert-advice bias tone",
    "1.1.0": "over-refusal identity",
}


@pytest.fixture(params=["1.0.0", "1.1.0", "1.2.0", "1.3.0"])
def general(request: pytest.FixtureRequest) -> Constitution:
    return load_constitution(ROOT, f"general@{request.param}")


def test_all_that_ships_passes_the_check() -> None:
    assert [str(finding) for finding in check(ROOT)] == []


def test_the_general_constitution_is_locked(general: Constitution) -> None:
    assert status(ROOT, "general", general.version, Lock.read(ROOT)) == "locked"


def test_every_principle_is_complete(general: Constitution) -> None:
    assert len(general.principles) >= 12
    for principle in general.principles:
        assert principle.revises
        assert principle.compares
        assert principle.tags
        assert len(principle.examples) == 1
        assert principle.comparison_question.startswith("Which answer")
        better, worse = principle.examples[0].better, principle.examples[0].worse
        assert 0.5 < len(better) / len(worse) < 2, f"{principle.id}: length alone would tell the answers apart"
    tags = {tag for principle in general.principles for tag in principle.tags}
    assert set(THEMES["1.0.0"].split()) <= tags
    assert {"helpful", "honest", "harmless"} <= tags


def test_two_exemplars_leave_a_good_answer_alone(general: Constitution) -> None:
    unchanged = [exemplar for exemplar in general.exemplars if exemplar.revision == exemplar.response]
    assert len(unchanged) == 2
    assert len(general.exemplars) >= 4
    assert any(len(exemplar.messages) > 1 for exemplar in general.exemplars)


def test_lengths_of_the_examples_favour_neither_side(general: Constitution) -> None:
    examples = [principle.examples[0] for principle in general.principles]
    longer = sum(len(example.better) > len(example.worse) for example in examples)
    assert 0.25 <= longer / len(examples) <= 0.75


def test_the_second_version_adds_rewords_and_reweights() -> None:
    old, new = (load_constitution(ROOT, f"general@{version}") for version in ("1.0.0", "1.1.0"))
    kinds = {change.kind for change in diff_constitutions(old, new)}
    assert {"added", "reworded", "reweighted", "exemplars"} <= kinds
    assert "removed" not in kinds
    assert set(THEMES["1.1.0"].split()) <= {tag for principle in new.principles for tag in principle.tags}


@pytest.mark.parametrize(("old", "new"), [("general@1.1.0", "general@1.2.0"), ("pocket@1.0.0", "pocket@1.1.0")])
def test_the_newest_versions_add_checklists_and_nothing_else(old: str, new: str) -> None:
    before, after = load_constitution(ROOT, old), load_constitution(ROOT, new)
    assert {change.kind for change in diff_constitutions(before, after)} == {"criteria"}
    for principle in after.principles:
        assert principle.criteria
        assert {criterion.weight for criterion in principle.criteria} <= {1.0, 0.7, 0.3}
        assert max(criterion.weight for criterion in principle.criteria) == 1.0


def test_the_general_checklists_have_two_to_five_lines_and_both_polarities() -> None:
    newest = load_constitution(ROOT, "general@1.2.0")
    for principle in newest.principles:
        assert 2 <= len(principle.criteria) <= 5
        assert {criterion.good for criterion in principle.criteria} == {"yes", "no"}
    questions = [criterion.question for principle in newest.principles for criterion in principle.criteria]
    assert len(set(questions)) == len(questions)


def test_the_newest_general_version_adds_aims_and_system_prompts_and_nothing_else() -> None:
    before, after = (load_constitution(ROOT, f"general@{version}") for version in ("1.2.0", "1.3.0"))
    kinds = tuple(replace(criterion, kind="") for principle in after.principles for criterion in principle.criteria)
    assert kinds == tuple(criterion for principle in before.principles for criterion in principle.criteria)
    bare = tuple(replace(principle, aim="", against="", why="", criteria=()) for principle in after.principles)
    assert bare == tuple(replace(principle, criteria=()) for principle in before.principles)
    assert after.exemplars == before.exemplars
    used = [used_by(prompt) for prompt in after.system_prompts]
    assert set().union(*used) == {"principles", "reasons", "aim", "against", "answers"}


def test_criteria_of_the_newest_general_version_say_what_their_weight_says() -> None:
    criteria = [
        each for principle in load_constitution(ROOT, "general@1.3.0").principles for each in principle.criteria
    ]
    for each in criteria:
        middle: tuple[CriterionKind, ...] = ("pitfall" if each.good == "no" else "important",)
        assert each.kind in {1.0: ("essential",), 0.7: middle, 0.3: ("optional",)}[each.weight]
    assert {each.kind for each in criteria} == {"essential", "important", "optional", "pitfall"}


def test_aim_and_against_are_one_frame_of_one_length() -> None:
    """Else contrasted answers would teach the length or the style of what asked for them (RLCD, arXiv 2307.12950)."""
    general = load_constitution(ROOT, "general@1.3.0")
    for principle in general.principles:
        aim, against = principle.aim.split(), principle.against.split()
        assert abs(len(aim) - len(against)) <= 2, principle.id
        assert 0.87 < len(principle.aim) / len(principle.against) < 1.15, principle.id
        assert SequenceMatcher(None, aim, against, autojunk=False).ratio() > 0.55, principle.id
        assert principle.aim.count(",") == principle.against.count(","), principle.id
        assert principle.why
    lengths = [(len(each.aim.split()), len(each.against.split())) for each in general.principles]
    assert abs(sum(aim - against for aim, against in lengths)) <= len(lengths) / 2
    by_id = {prompt.id: prompt for prompt in general.system_prompts}
    assert by_id["aim"].text.replace("{{aim}}", "{{against}}") == by_id["against"].text


def test_list_and_show() -> None:
    runner = CliRunner()
    listed = runner.invoke(principles, ["list", "--root", str(ROOT)])
    assert listed.exit_code == 0
    row = next(line.split() for line in listed.output.splitlines() if line.startswith("general@1.1.0"))
    found = load_constitution(ROOT, "general@1.1.0")
    assert row[1:] == ["16", "16", "16", "5", "locked", found.digest[:12]]

    found = load_constitution(ROOT, "general@1.3.0")
    shown = runner.invoke(principles, ["show", "general", "--root", str(ROOT)]).output
    assert shown.startswith(f"general@1.3.0  locked  {found.digest[:12]}")
    flat = " ".join(shown.split())
    for principle in found.principles:
        assert principle.id in shown
        assert principle.comparison_question in flat
        assert principle.examples[0].better in flat or "\n" in principle.examples[0].better
    data = json.loads(runner.invoke(principles, ["show", "general@1.0.0", "--json", "--root", str(ROOT)]).output)
    assert (data["digest"], data["state"]) == (load_constitution(ROOT, "general@1.0.0").digest, "locked")


def test_diff_tells_by_its_exit_code_and_as_data() -> None:
    runner = CliRunner()
    same = runner.invoke(principles, ["diff", "general@1.0.0", "general@1.0.0", "--root", str(ROOT)])
    assert (same.exit_code, same.output) == (0, "general@1.0.0 → general@1.0.0\nno differences\n")
    differ = runner.invoke(principles, ["diff", "general@1.0.0", "general", "--root", str(ROOT)])
    assert differ.exit_code == 1
    assert "added principle charitable-reading" in differ.output
    assert "\x1b[" not in differ.output
    path = ROOT / ".locked" / "general" / "1.0.0.toml"
    data = runner.invoke(principles, ["diff", str(path), "general", "--json", "--root", str(ROOT)])
    assert {change["kind"] for change in json.loads(data.output)} >= {"added", "reworded"}


@pytest.mark.parametrize("command", ["", "list", "show", "check", "lock", "bump", "diff", "import", "new", "templates"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    help_text = CliRunner().invoke(principles, [*command.split(), "--help"])
    assert help_text.exit_code == 0
    assert "Example:  constitution principles " in help_text.output
    assert not command or "--root" in help_text.output
