"""The pairs of a tournament's next round, by what the rounds before it said: Swiss-like, as in chess.

Those that did about as well meet, no two meet twice, and where the number is odd one that has met most others sits out.
So the strongest meet each other early, and n answers take about log2 n rounds of n / 2 pairs in place of n (n - 1) / 2
pairs: Swiss-wise iterative matchmaking of models by their judge (Xu et al. 2025, arXiv 2502.14074), here of
the answers to one prompt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Ids = tuple[str, str]
Played = Mapping[Ids, float | None]
"""The pairs so far, and the probability that the second is better; None: there is no label."""

MORE = 1
"""Rounds beyond log2 n."""


def rounds_of(n: int, wanted: int | None = None) -> int:
    """Rounds among n answers, at most: those `wanted`, or ceil(log2 n), which single out one that never loses, and one
    more, because judges err."""
    if n < 2:
        return 0
    return math.ceil(math.log2(n)) + MORE if wanted is None else wanted


def next_round(names: Sequence[str], played: Played, rounds: int) -> list[Ids]:
    """The pairs of the next round, in the order of `names` each; empty once everyone has met everyone.

    names: in an order that was drawn, which decides between equals. rounds: that there were before this one.
    """
    met: dict[str, set[str]] = {name: set() for name in names}
    score = dict.fromkeys(names, rounds / 2)
    for (a, b), p_b in played.items():
        met[a].add(b)
        met[b].add(a)
        # A round in which a name had no pair, or no label, counts as one half.
        score[a] += 0.5 - p_b if p_b is not None else 0.0
        score[b] += p_b - 0.5 if p_b is not None else 0.0
    place = {name: number for number, name in enumerate(names)}
    ranked = sorted(names, key=lambda name: (-round(score[name], 9), place[name]))
    if len(ranked) % 2:
        # The least of those that sat out least.
        ranked.remove(max(reversed(ranked), key=lambda name: len(met[name])))
    return [(a, b) if place[a] < place[b] else (b, a) for a, b in _matched(ranked, met)]


def _matched(ranked: Sequence[str], met: Mapping[str, set[str]]) -> list[Ids]:
    """Each with the nearest below that it has not met. Two that are left, and have met, take a pair apart, the nearest
    whose ends they have not met: while no name has met half of the others, there is one (Dirac 1952)."""
    pairs: list[Ids] = []
    left: list[str] = []
    free = list(ranked)
    while free:
        name = free.pop(0)
        other = next((each for each in free if each not in met[name]), None)
        if other is None:
            left.append(name)
        else:
            free.remove(other)
            pairs.append((name, other))
    while len(left) > 1:
        u, v = left.pop(0), left.pop(0)
        rank = {name: number for number, name in enumerate(ranked)}
        swaps = [
            (abs(rank[u] - rank[x]) + abs(rank[v] - rank[y]), number, (u, x), (v, y))
            for number, pair in enumerate(pairs)
            for x, y in (pair, pair[::-1])
            if x not in met[u] and y not in met[v]
        ]
        if swaps:
            _, number, one, other_pair = min(swaps)
            pairs[number : number + 1] = [one, other_pair]
    return pairs
