"""Cleaning: each step by itself on rows laid by hand."""

from __future__ import annotations

from export_rows import Row, dropped


def test_answers_that_differ_in_white_space_alone_are_identical() -> None:
    assert dropped(
        [Row(answer="Yes.", other=" Yes.\n"), Row(answer="a\u00a0b", other="a b"), Row(answer="Yes", other="yes")]
    ) == {"r0": ("identical", None), "r1": ("identical", None)}


def test_rows_repeat_a_row_whose_conversation_and_answers_are_theirs() -> None:
    rows = [
        Row("Why?", "Because.", "No."),
        Row("why? ", "because.", "NO."),
        Row("Why?", "Because.", "Never."),
        Row("Why?", "No.", "Because."),
        Row([("system", "Be brief."), ("user", "Why?")], "Because.", "No."),
        Row("Why?", "Because.", "No.", prompt_id="p0"),
    ]
    assert dropped(rows, dedupe="exact") == {"r1": ("duplicate", "r0"), "r5": ("duplicate", "r0")}


def test_rows_without_answers_repeat_each_other_by_conversation() -> None:
    assert dropped(
        [Row("Why?", None, None), Row("WHY?", None, None), Row("How?", None, None)], "grpo", dedupe="exact"
    ) == {"r1": ("duplicate", "r0")}


def test_nothing_is_asked_for_nothing_is_done() -> None:
    assert dropped([Row(), Row()]) == {}


def test_an_export_without_candidates_is_cleaned() -> None:
    assert dropped([], dedupe="exact", min_words=3) == {}
