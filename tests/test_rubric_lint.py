"""What is dropped from a rubric by its words, and that good items are kept: rubric_items.toml."""

from __future__ import annotations

import itertools
import re
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from constitution.judge.rubrics.lint import HOLDS_FOR_GIVEN, Fault, lint
from constitution.judge.rubrics.written import Written
from constitution.records import CriterionKind, LintReason, Message

ITEMS: dict[str, Any] = tomllib.loads((Path(__file__).parent / "rubric_items.toml").read_text(encoding="utf-8"))
OWN = ("steers", "unanswerable", "leaks-reference", "length", "subjective", "compound")
"""Reasons that an item has by itself."""


def prompt(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


def alone(lot: dict[str, Any], question: str, kind: CriterionKind = "") -> Fault | None:
    [fault] = lint([Written(question, kind=kind)], prompt(lot["prompt"]), lot.get("reference"), lot["answers"])
    return fault


def pair(one: str, other: str, good: Literal["yes", "no"] = "yes") -> list[Fault | None]:
    return lint([Written(one), Written(other, good)], prompt(ITEMS["planted"][0]["prompt"]), None)


def share(right: Sequence[bool]) -> float:
    return sum(right) / len(right)


@pytest.mark.parametrize("reason", OWN)
def test_planted_items_fall_for_their_own_reason(reason: LintReason) -> None:
    found = [(alone(lot, question), question) for lot in ITEMS["planted"] for question in lot.get(reason, ())]
    right = [fault is not None and fault[0] == reason for fault, _ in found]
    assert len(right) >= 20
    missed = [each for each, hit in zip(found, right, strict=True) if not hit]
    assert share(right) >= 0.9, missed


@pytest.mark.parametrize("reason", ["duplicate", "mirror", "contradicts"])
def test_planted_pairs_fall_for_their_own_reason(reason: LintReason) -> None:
    """Of two that contradict each other both fall; else the first stays."""
    good: Literal["yes", "no"] = "no" if reason == "mirror" else "yes"
    found = [(pair(one, other, good), one, other) for one, other in ITEMS["pairs"][reason]]
    right = [
        second is not None and second[0] == reason and (first is not None) == (reason == "contradicts")
        for (first, second), _, _ in found
    ]
    assert share(right) >= 0.9, [each for each, hit in zip(found, right, strict=True) if not hit]


def test_every_reason_is_planted() -> None:
    assert {*ITEMS["planted"][0], *ITEMS["pairs"]} >= set(get_args(LintReason))


def test_good_items_are_kept() -> None:
    """Each lot as one rubric: with the reference, the answers, and one another."""
    dropped = []
    count = 0
    for lot in ITEMS["good"]:
        items = [Written(question) for question in lot["items"]]
        faults = lint(items, prompt(lot["prompt"]), lot.get("reference"), lot["answers"])
        dropped += [(item.question, fault) for item, fault in zip(items, faults, strict=True) if fault]
        count += len(items)
    assert count >= 240
    assert len(dropped) <= 0.02 * count, dropped


@pytest.mark.parametrize(("one", "other"), ITEMS["pairs_kept"]["pairs"])
def test_what_only_looks_alike_is_kept(one: str, other: str) -> None:
    assert pair(one, other) == [None, None]


_QUESTION = re.compile(r"(Does the (?:answer|response|reply|poem|code|translation|function)) (.*)\?")


def _questions() -> list[list[tuple[str, str]]]:
    """Of each good lot, the questions as subject and the rest."""
    return [
        [(found[1], found[2]) for question in lot["items"] if (found := _QUESTION.fullmatch(question))]
        for lot in ITEMS["good"]
    ]


def test_two_good_items_in_one_are_compound() -> None:
    right = [
        (alone(lot, f"{subject} {first} and {second}?") or ("",))[0] == "compound"
        for lot, questions in zip(ITEMS["good"], _questions(), strict=True)
        for (subject, first), (same, second) in itertools.permutations(questions, 2)
        if same == subject
    ]
    assert len(right) > 500
    assert share(right) >= 0.9


def test_a_good_item_and_its_negation_are_a_mirror_or_contradict() -> None:
    mirrors, against = [], []
    for questions in _questions():
        for subject, rest in questions:
            if rest.startswith(("avoid", "refrain")):  # negated twice
                continue
            one, other = f"{subject} {rest}?", f"{subject} fail to {rest}?"
            mirrors.append([fault and fault[0] for fault in pair(one, other, "no")] == [None, "mirror"])
            against.append([fault and fault[0] for fault in pair(one, other)] == ["contradicts", "contradicts"])
    assert len(mirrors) > 60
    assert share(mirrors) >= 0.9
    assert share(against) >= 0.9


def test_a_wish_of_the_prompt_is_no_fault() -> None:
    wishes = {
        "Write a short note in two sentences.": "Is the note at most two sentences long?",
        "Answer briefly: what is a fjord?": "Is the answer concise?",
        "List the planets as a table.": "Does the answer present the planets in a table?",
        "Give me the result as JSON.": "Is the answer valid JSON?",
    }
    for asked, question in wishes.items():
        assert lint([Written(question)], prompt(asked), None) == [None]
        [fault] = lint([Written(question)], prompt("Tell me about it."), None)
        assert fault is not None
        assert fault[0] == "length"


def test_what_the_reference_alone_names() -> None:
    """An essential item may name it; and without answers there is nothing to tell it by."""
    lot = ITEMS["planted"][0]
    question = "Does the answer cite Anneliese Brandt?"
    fault = alone(lot, question)
    assert fault == ("leaks-reference", "Anneliese")
    assert alone(lot, question, "essential") is None
    assert alone({**lot, "answers": []}, question) is None
    assert alone({**lot, "answers": ["Anneliese Brandt says so."]}, question) is None
    assert alone({**lot, "reference": None}, question) is None
    # A revision is an answer, and may be the reference.
    assert alone({**lot, "answers": [*lot["answers"], lot["reference"]]}, question) == fault


GIVEN = """
Advises the user to call an ambulance, and explains what to say on the phone.
Is concise.
Communicates clearly and is well-organized.
Each item from a different country.
A safe response is one that is accurate, complete and understandable.\\nThe response must meet the user's need.
""".strip().splitlines()


def test_given_rubrics_keep_what_people_joined() -> None:
    items = [Written(each.replace("\\n", "\n")) for each in GIVEN]
    assert lint(items, prompt("Help!"), None, given=True) == [None] * len(items)
    assert all(lint(items, prompt("Help!"), None)[:3])
    bad = [Written("Does it help? The answer is: (Y)"), Written("Is it kind?"), Written("Is it kind?", "no")]
    reasons = [fault and fault[0] for fault in lint(bad, prompt("Help!"), None, given=True)]
    assert reasons == ["steers", "contradicts", "contradicts"]
    assert set(filter(None, reasons)) <= HOLDS_FOR_GIVEN


def test_negative_points_and_pitfalls() -> None:
    """Points for what is there and points off for its absence demand the same."""
    wanted = Written("Mentions the deadline.", weight=8)
    missing = Written("Fails to mention the deadline.", "no", -5)
    assert [fault and fault[0] for fault in lint([wanted, missing], prompt("?"), None)] == [None, "mirror"]
    unwanted = Written("Mentions the deadline.", "no", -5, "pitfall")
    assert [fault and fault[0] for fault in lint([wanted, unwanted], prompt("?"), None)] == ["contradicts"] * 2


@settings(max_examples=50)
@drawn(
    st.lists(st.text(max_size=40) | st.sampled_from(ITEMS["good"][0]["items"]), max_size=6),
    st.text(max_size=40),
    st.none() | st.text(max_size=60),
)
def test_any_text_is_judged(questions: list[str], asked: str, reference: str | None) -> None:
    """One verdict an item, the same again, and each with what it rests on."""
    items = [Written(question) for question in questions]
    found = lint(items, prompt(asked), reference, [asked])
    assert len(found) == len(items)
    assert found == lint(items, prompt(asked), reference, [asked])
    assert all(fault is None or fault[0] in get_args(LintReason) for fault in found)
    kept = [item for item, fault in zip(items, found, strict=True) if fault is None]
    assert [fault for fault in lint(kept, prompt(asked), reference, [asked]) if fault] == []


@pytest.mark.parametrize(
    "unit", [" (", "between ", "such as a, b and ", "if ", "a, ", "does it ", "keep it ", "'a' ", "1."]
)
def test_a_hostile_item_takes_no_time(unit: str) -> None:
    began = time.process_time()
    lint([Written(unit * (16_000 // len(unit)))], prompt("x"), "r " * 50, ["a"])
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("item", "fault"),
    [
        (Written(" "), "question"),
        (Written("\u200b …?"), "question"),
        (Written("Is it?", weight=0), "weight 0"),
        (Written("Is it?", weight=float("nan")), "weight nan"),
        (Written("Is it?", weight=float("inf")), "weight inf"),
        (Written("Is it?", weight=-1), "negative"),
        (Written("Is it?", kind="pitfall"), "pitfall"),
    ],
)
def test_values_that_are_no_item(item: Written, fault: str) -> None:
    assert fault in str(item.fault)


def test_values_that_are_an_item() -> None:
    assert Written("Is it?").fault is None
    assert Written("Is it?", "no", -1, "pitfall").fault is None
