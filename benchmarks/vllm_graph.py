"""What a prefix cache can do for a job at the most: its requests, replayed through a cache that forgets nothing.

    share = reusable(calls, block=16) / sum(len(call.prompt) for call in calls)

Pure, so that it can be tested without vLLM; the rules are those of vLLM's block cache (`KVCacheManager` of V1).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Call:
    """One request as the engine saw it, in tokens."""

    prompt: Sequence[int]
    output: Sequence[int] = ()
    cached: int = 0
    """Tokens of the prompt that the engine took from its prefix cache."""


def reusable(calls: Iterable[Call], block: int) -> int:
    """Prompt tokens that stand in full blocks seen before, with blocks of `block` tokens.

    `calls` come in an order in which they could have run: a request that needs another's text, after it. As in vLLM, a
    block counts only with all that stands before it; at least the last token of a prompt is computed anew; and of an
    output all but the last token, which no step has read, is in the cache for those who come later.
    """
    numbers: dict[tuple[int, tuple[int, ...]], int] = {}
    """A block's number by the number of the block before it (0: none) and its tokens."""
    found = 0
    for call in calls:
        written = [*call.prompt, *call.output[:-1]]
        hits_allowed = (len(call.prompt) - 1) // block
        before, hitting = 0, True
        for index in range(len(written) // block):
            key = (before, tuple(written[index * block : (index + 1) * block]))
            hitting = hitting and index < hits_allowed and key in numbers
            found += block * hitting
            before = numbers.setdefault(key, len(numbers) + 1)
    return found


def hit_rates(calls: Sequence[Call], block: int) -> tuple[float, float]:
    """(share of the prompt tokens that came out of the cache, share that could have), both 0 without a token."""
    total = sum(len(call.prompt) for call in calls)
    if not total:
        return 0.0, 0.0
    return sum(call.cached for call in calls) / total, reusable(calls, block) / total
