"""Names of groups of raters, and the rule that a rater has one group of each column in a run."""

from __future__ import annotations

from collections.abc import Iterable

from constitution.errors import InputError
from constitution.records import Annotation

COLUMN = "group"
"""The column whose groups are called by their values alone."""


def column_of(group: str) -> str:
    """`country` for `country: Chile`, and `group` for a bare name."""
    column, mark, _ = group.partition(": ")
    return column if mark else COLUMN


def check_groups(annotations: Iterable[Annotation]) -> None:
    """Raises InputError where a rater has two groups of one column in one run."""
    known: dict[tuple[str, str, str], tuple[str, str]] = {}
    for each in annotations:
        for group in each.rater_groups:
            key = each.run_id, each.rater, column_of(group)
            before, source = known.setdefault(key, (group, each.source))
            if before != group:
                raise InputError(
                    f"rater {each.rater!r} is of the group {group!r} in {each.source}, and of {before!r} in {source}",
                    hint="correct one of the two files and import both at once, or call one of the raters by another "
                    "name (--name)",
                )
