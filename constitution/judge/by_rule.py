"""Rewards by rules in code: the share of them that an answer keeps. No model is asked.

Patterns are RE2's, which takes a time in proportion to the text: an answer cannot be written so that a pattern of
Python's would search it for hours.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from constitution.errors import RecipeError
from constitution.judge.sources import Part, Reads
from constitution.measures import refuses, words
from constitution.recipe import RewardSection, RulesSection
from constitution.records import Constitution


def reads(section: RewardSection, constitution: Constitution) -> Reads:
    rules = section.rules
    for name, patterns in (("wanted", rules.wanted), ("unwanted", rules.unwanted)):
        for pattern in patterns:
            try:
                _found(pattern, "")
            except pa.ArrowInvalid as error:
                raise RecipeError(
                    f"reward.rules.{name}: {pattern!r} is no regular expression of RE2: {str(error).splitlines()[0]}",
                    hint="RE2 has neither backreferences nor looking ahead or behind",
                ) from None

    def kept(text: str) -> Sequence[Part]:
        return [Part(float(keeps), essential=True) for keeps in _kept(rules, text)]

    return Reads(rules=kept)


def _kept(rules: RulesSection, text: str) -> list[bool]:
    """Which rules the text keeps, in their order."""
    found = []
    if rules.words:
        found.append(rules.words[0] <= words(text) <= rules.words[1])
    if rules.refusal is not None:
        found.append(refuses(text) is (rules.refusal == "wanted"))
    found += [_found(pattern, text) for pattern in rules.wanted]
    return found + [not _found(pattern, text) for pattern in rules.unwanted]


def _found(pattern: str, text: str) -> bool:
    return bool(pc.match_substring_regex(pa.scalar(text), pattern).as_py())
