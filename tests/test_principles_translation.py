"""A translation tied to its original: checked, and compared by ids and places."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from constitution.cli.principles import principles
from constitution.principles import changes_between, check, diff_constitutions, load_constitution, notes
from constitution.records import Criterion, SystemPrompt

ROOT = Path(__file__).parent / "german" / "principles"
ENGLISH, GERMAN = load_constitution(ROOT, "friendly"), load_constitution(ROOT, "freundlich")

FOUND = [
    ("missing", "kind", "criteria #2"),
    ("reweighted", "kind", "weight"),
    ("untranslated", "honest", "revision_request"),
    ("missing", "brief", ""),
    ("extra", "hoeflich", ""),
]


def test_the_german_example_shows_what_is_not_translated() -> None:
    assert [(each.kind, each.principle, each.field) for each in changes_between(ENGLISH, GERMAN)] == FOUND
    assert changes_between(GERMAN, ENGLISH) == changes_between(ENGLISH, GERMAN)
    done = CliRunner().invoke(principles, ["diff", "friendly@1.0.0", "freundlich", "--json", "--root", str(ROOT)])
    assert done.exit_code == 1
    assert [(each["kind"], each["principle"], each["field"]) for each in json.loads(done.output)] == FOUND
    shown = CliRunner().invoke(principles, ["diff", "friendly@1.0.0", "freundlich", "--root", str(ROOT)]).output
    assert "  untranslated revision_request: Rewrite the answer so that it claims no more" in shown
    assert shown.endswith("translation: 2 missing, 1 reweighted, 1 untranslated, 1 extra\n")


def test_the_german_example_is_linted() -> None:
    assert check(ROOT) == []
    assert notes(ROOT) == []


def test_all_that_can_be_left_untranslated_is_seen() -> None:
    """Each text of the original, left as it is, is one finding; a whole translation has none."""
    prompts = (SystemPrompt("calm", "Stay calm.", "I stay calm."),)
    kind, *others = ENGLISH.principles
    full = replace(kind, aim="Be kind.", against="Be cold.", why="People matter.")
    original = replace(ENGLISH, principles=(full, *others), system_prompts=prompts)
    copy = replace(original, name="kopie", language="de", translation_of=original.label)
    places = [(each.principle, each.field) for each in changes_between(original, copy)]
    assert {each.kind for each in changes_between(original, copy)} == {"untranslated"}
    assert [field for principle, field in places if principle is None] == [
        "description",
        *(f"exemplars #1, {field}" for field in ("prompt", "response", "critique", "revision")),
        *(f"system prompt calm, {field}" for field in ("text", "thought")),
    ]
    assert [field for principle, field in places if principle == "kind"] == [
        *("critique_request", "revision_request", "comparison_question", "aim", "against", "why"),
        *(f"examples #1, {field}" for field in ("prompt", "better", "worse")),
        *("criteria #1, question", "criteria #2, question"),
    ]
    bare = replace(copy, system_prompts=(), exemplars=())
    kinds = [(each.kind, each.field) for each in changes_between(original, bare) if each.principle is None]
    gone = [("missing", "exemplars #1"), ("missing", "system prompt calm")]
    assert kinds == [*gone, ("untranslated", "description")]


def test_what_differs_beside_the_words_is_seen() -> None:
    kind, honest, brief = ENGLISH.principles
    turned = replace(kind, criteria=(kind.criteria[0], Criterion(kind.criteria[1].question, "yes", 0.5)), tags=("x",))
    other = replace(GERMAN, principles=(honest, turned, brief), translation_of="friendly@0.9.0")
    found = [(each.kind, each.field, each.before, each.after) for each in changes_between(ENGLISH, other)]
    assert found[0] == ("outdated", "translation_of", "friendly@1.0.0", "friendly@0.9.0")
    assert ("criteria", "criteria #2, good", "no", "yes") in found
    assert ("criteria", "criteria #2, weight", "1.0", "0.5") in found
    assert ("retagged", "tags", "tone", "x") in found
    assert found[-1] == ("reordered", "principles", "kind, honest, brief", "honest, kind, brief")


def test_versions_of_one_translation_are_compared_as_any_others() -> None:
    later = replace(GERMAN, version="1.1.0", language="de-AT")
    assert changes_between(GERMAN, later) == diff_constitutions(GERMAN, later)
    assert [(each.kind, each.field) for each in changes_between(GERMAN, later)] == [("reworded", "language")]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("friendly@2.0.0", "translation_of: principles/friendly: there is no version '2.0.0'; there are: 1.0.0"),
        ("frendly@1.0.0", "there is no constitution 'frendly'; did you mean friendly?"),
        ("freundlich@1.0.0", "is this very file; name the original"),
        ("friendly", "'friendly' is no name@version, such as general@1.2.0"),
    ],
)
def test_the_original_must_be_there(named: str, message: str, tmp_path: Path) -> None:
    root = shutil.copytree(ROOT, tmp_path / "principles")
    path = root / "freundlich" / "1.0.0.toml"
    path.write_text(path.read_text("utf-8").replace("friendly@1.0.0", named), encoding="utf-8")
    (finding,) = check(root)
    assert message in str(finding)
