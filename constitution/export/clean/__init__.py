"""Cleaning: steps that leave rows out of an export, each for a reason of its own; docs/export.md says what each costs.

    clean(work)     # the steps that work.settings.cleaning asks for, in the order of its fields

A row that one step has left out is not looked at by the next, so each has the first reason that held.
"""

from __future__ import annotations

from constitution.export.clean.duplicates import duplicate, identical
from constitution.export.clean.near import near_duplicate
from constitution.export.work import Work

__all__ = ["clean"]


def clean(work: Work) -> None:
    """Runs the steps that the settings ask for. `identical` is always one of them."""
    cleaning = work.settings.cleaning
    identical(work)
    if cleaning.dedupe != "off":
        duplicate(work)
    if cleaning.dedupe == "near":
        near_duplicate(work)
