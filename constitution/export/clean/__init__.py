"""Cleaning: steps that leave rows out of an export, each for a reason of its own; docs/export.md says what each costs.

    clean(work)     # the steps that work.settings.cleaning asks for, in the order of its fields

A row that one step has left out is not looked at by the next, so each has the first reason that held.
"""

from __future__ import annotations

from constitution.export.clean.answers import boilerplate, language, length, refusal
from constitution.export.clean.broken import broken
from constitution.export.clean.contaminated import contaminated
from constitution.export.clean.duplicates import duplicate, identical
from constitution.export.clean.near import near_duplicate
from constitution.export.clean.private import private
from constitution.export.work import Work

__all__ = ["clean"]


def clean(work: Work) -> None:
    """Runs the steps that the settings ask for. `identical` is always one of them."""
    cleaning = work.settings.cleaning
    steps = (
        (True, identical),
        (cleaning.dedupe != "off", duplicate),
        (cleaning.dedupe == "near", near_duplicate),
        (bool(cleaning.decontaminate), contaminated),
        (bool(cleaning.min_words or cleaning.max_words), length),
        (bool(cleaning.languages), language),
        (cleaning.refusals, refusal),
        (cleaning.boilerplate is not None, boilerplate),
        (cleaning.private, private),
        (cleaning.broken, broken),
    )
    for asked, step in steps:
        if asked:
            step(work)
