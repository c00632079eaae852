"""Whether a reference says what a prompt's samples say.

They say the same where the same can be read off their texts, as [reward.match] reads it; without that, word for word.
Word for word, open answers are hardly ever the same, which is no disagreement: where no two are, nothing is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from constitution.judge.extract import Extract, Value

WORDS = Extract("exact")


class Agreement(NamedTuple):
    agrees: float | None = None
    """Share of the samples, of those off which something can be read, that say the same as the reference; itself among
    them, where it is one. None: it cannot be said."""
    majority: bool | None = None
    """Whether it says what more of them say than anything else. None: no such thing is known."""


def agreement(reference: str, samples: Sequence[str], extract: Extract = WORDS, *, given: bool = False) -> Agreement:
    """extract: how what an answer comes to is read off its text. given: the reference came with the prompt, and may be
    what an answer comes to, alone."""
    said = [value for text in samples if (value := extract.of(text)) is not None]
    own, camps = extract.truth(reference) if given else extract.of(reference), _camps(said)
    if own is None or not camps or (extract == WORDS and len(camps[0]) < 2):
        return Agreement()
    agrees = sum(value.same(own) for value in said) / len(said)
    first, second = len(camps[0]), len(camps[1]) if len(camps) > 1 else 0
    return Agreement(agrees, camps[0][0].same(own) if first > max(second, 1) else None)


def _camps(said: Sequence[Value]) -> list[list[Value]]:
    """Those that say the same together, the most first."""
    camps: list[list[Value]] = []
    for value in said:
        camp = next((each for each in camps if each[0].same(value)), None)
        camp.append(value) if camp is not None else camps.append([value])
    return sorted(camps, key=len, reverse=True)
