"""Cleaning: each step by itself on rows laid by hand."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from export_rows import Row, fates, lay

from constitution.export.clean import clean


def test_answers_that_differ_in_white_space_alone_are_identical() -> None:
    work = lay(
        [Row(answer="Yes.", other=" Yes.\n"), Row(answer="a\u00a0b", other="a b"), Row(answer="Yes", other="yes")]
    )
    clean(work)
    assert fates(work) == {"r0": ("identical", None), "r1": ("identical", None)}


def test_rows_repeat_a_row_whose_conversation_and_answers_are_theirs() -> None:
    rows = [
        Row("Why?", "Because.", "No."),
        Row("why? ", "because.", "NO."),
        Row("Why?", "Because.", "Never."),
        Row("Why?", "No.", "Because."),
        Row([("system", "Be brief."), ("user", "Why?")], "Because.", "No."),
        Row("Why?", "Because.", "No.", prompt_id="p0"),
    ]
    work = lay(rows, dedupe="exact")
    clean(work)
    assert fates(work) == {"r1": ("duplicate", "r0"), "r5": ("duplicate", "r0")}


def test_rows_without_answers_repeat_each_other_by_conversation() -> None:
    work = lay([Row("Why?", None, None), Row("WHY?", None, None), Row("How?", None, None)], "grpo", dedupe="exact")
    clean(work)
    assert fates(work) == {"r1": ("duplicate", "r0")}


def test_nothing_is_asked_for_nothing_is_done() -> None:
    work = lay([Row(), Row()])
    clean(work)
    assert fates(work) == {}


def test_an_export_without_candidates_is_cleaned() -> None:
    work = lay([], dedupe="exact", min_words=3)
    clean(work)
    assert fates(work) == {}


def test_all_steps_together_leave_rows_out_once_each_and_nothing_when_done_again(tmp_path: Path) -> None:
    rng = random.Random(11)
    evaluation = tmp_path / "evaluation.txt"
    evaluation.write_text("How do I mend the old wooden clock in the hall before my aunt comes to visit us?\n")
    prompts = (
        *("How do I mend the old wooden clock in the hall before my aunt comes to visit us?", "Why?", "why ?"),
        *("Please tell me how I can bake bread without an oven, in the mountains, with one old pan.",) * 2,
        "Please tell me how I can bake bread without an oven, in the mountains, with one old pot.",
    )
    answers = (
        *(
            "I cannot help with that.",
            "Yes.",
            "mix flour and water, wait and",
            "Dabei kann ich dir leider nicht helfen.",
        ),
        *("Write to jane{n}@example.com about it.", "As always, please ask an expert first. Number {n}."),
        *("Mix {n} cups of flour.", "Bake {n} loaves for an hour.", "Take {n} of them, and no more."),
        "One two three four five six seven eight nine ten eleven {n}.",
    )
    rows = [
        Row(
            rng.choice((*prompts, f"What is the number {n} to {rng.random()}?")), rng.choice(answers).format(n=n),
            rng.choice(answers).format(n=n), rng.choice(((), ("harmless",))),
        )
        for n in range(400)
    ]  # fmt: skip
    asked: dict[str, Any] = {
        "dedupe": "near", "decontaminate": (evaluation,), "min_words": 2, "max_words": 11, "languages": ("en",),
        "refusals": True, "boilerplate": 0.01, "private": True,
    }  # fmt: skip
    work = lay(rows, **asked)
    clean(work)
    found = fates(work)
    assert {reason for reason, _ in found.values()} == {
        *("identical", "duplicate", "near-duplicate", "contaminated", "short", "long", "language", "refusal"),
        *("boilerplate", "private"),
    }
    left = [row for place, row in enumerate(rows) if f"r{place}" not in found]
    assert len(left) > 10
    again = lay(left, **asked | {"boilerplate": None})
    clean(again)
    assert fates(again) == {}
