"""Checklists: what a file may hold, and what is wrong with a question."""

from __future__ import annotations

from pathlib import Path

import pytest

from constitution.principles import check, load_constitution
from constitution.principles.languages import known
from constitution.principles.lint import criteria_faults
from constitution.records import Criterion

ROOT = Path(__file__).parent.parent / "principles"

SOUND = """\
name = "kind"
version = "1.0.0"
description = "A small one."

[[principles]]
id = "kindness"
comparison_question = "Which answer is kinder?"

[[principles.criteria]]
question = "Does the answer speak to the person with respect?"

[[principles.criteria]]
question = "Does the answer mock anybody?"
good = "no"
weight = 0.7
"""

# what is wrong → (text to replace, replacement, part of the message)
CASES = {
    "no question mark": ("with respect?", "with respect", "criteria #1: 'Does the answer speak to the person with re"),
    "an open question": ("Does the answer mock anybody?", "Whom does the answer mock?", "answered with yes or no"),
    "two questions": ("mock anybody?", "mock anybody? Is it rude?", "asks more than one question"),
    "negated": (
        "Does the answer speak to",
        "Does the answer not speak to",
        "negative ('Does the answer not'), which judges misread",
    ),
    "avoided": (
        "speak to the person with respect",
        "avoid insults",
        "negative ('Does the answer avoid'), which judges misread",
    ),
    "the same question": (
        "mock anybody?",
        "speak to  the person with respect?",
        "is criteria #1 over again",
    ),
    "an order": (
        "Does the answer mock",
        "Does the first answer mock",
        "presupposes a second answer",
    ),
    "a placeholder": ("mock anybody", "mock {{prompt}}", "filled in only in"),
    "scaffolding": ("Does the answer mock anybody?", "Critique: Does the answer mock anybody?", "leftover scaffolding"),
    "an answer that is neither": ('"no"', '"never"', 'criteria #2, good: expected yes or no, found the text "never"'),
    "no text": ('good = "no"', "good = false", "criteria #2, good: expected yes or no, found false"),
    "no weight": ("weight = 0.7", "weight = 0.0", "criteria #2, weight: input should be greater than 0"),
    "no question": ('question = "Does the answer mock anybody?"\n', "", "criteria #2, question: missing field"),
    "a misspelt field": ("good =", "goood =", "criteria #2, goood: unknown field; did you mean good?"),
    "nothing to compare by": (
        'comparison_question = "Which answer is kinder?"',
        'critique_request = "Is it unkind?"\nrevision_request = "Make it kind."',
        "criteria are put to the judge, and this principle has no comparison_question",
    ),
}


def findings(text: str, folder: Path) -> list[str]:
    path = folder / "principles" / "kind" / "1.0.0.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    return [str(finding) for finding in check(folder / "principles")]


def test_a_sound_checklist_loads(tmp_path: Path) -> None:
    assert findings(SOUND, tmp_path) == []
    (kindness,) = load_constitution(tmp_path / "principles", "kind").principles
    assert kindness.criteria == (
        Criterion("Does the answer speak to the person with respect?"),
        Criterion("Does the answer mock anybody?", "no", 0.7),
    )


@pytest.mark.parametrize("case", CASES)
def test_a_fault_is_named(case: str, tmp_path: Path) -> None:
    old, new, message = CASES[case]
    assert old in SOUND, "the case does not apply"
    found = findings(SOUND.replace(old, new, 1), tmp_path)
    assert [line for line in found if message in line], found
    assert all(line.startswith("principles/kind/1.0.0.toml: principle kindness: ") for line in found)


@pytest.mark.parametrize(
    "question",
    [
        "Does the answer say what it does not know?",
        "Does the answer tell the person when not to use the method?",
        "Does the answer say “I do not know” where it cannot know?",
        "Does the answer correct the mistaken premise, if there is one?",
        "Where something is uncertain, does the answer say so?",
        "Does the answer decline in one sentence if it declines, without a reproach?",
    ],
)
def test_a_sound_question_passes(question: str) -> None:
    assert list(criteria_faults([Criterion(question)], known("en"))) == []
