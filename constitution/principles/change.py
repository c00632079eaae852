"""One change between two constitutions, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ChangeKind = Literal[
    "added",
    "removed",
    "renamed",
    "reworded",
    "reweighted",
    "retagged",
    "exemplars",
    "examples",
    "criteria",
    "clauses",
    "system prompts",
    "profiles",
    "reordered",
    "missing",
    "extra",
    "untranslated",
    "outdated",
]
"""The last four are those of a translation: what of the original it lacks, what it has beside it, what still says the
same words, and that it was made from another version."""


@dataclass(frozen=True, slots=True)
class Change:
    kind: ChangeKind
    principle: str | None
    """Id in the newer constitution (of a removed one, in the older); None: the constitution as a whole."""
    field: str
    """The field that changed; empty for principles that are there on one side alone."""
    before: str
    """As text; empty where there was nothing."""
    after: str
