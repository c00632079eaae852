"""What is asked together of a pair, and in which order.

A unit is a principle, or one repeat of it, by all judges and in both orders: so every judge is asked the same, and no
vote is without its other order. Adaptive votes are asked in waves of units, in an order that a seed draws: those of the
first wave are a random sample of the pair's votes, whatever any of them says.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import NamedTuple

WAVES = 7
"""That a pair can take, at most."""


class Unit(NamedTuple):
    principle_id: str
    repeat: int | None = None
    """Its repeat alone; None: all of each judge's."""
    wave: int = 0
    """Waves that are asked before it."""


def at_once(principles: Sequence[str]) -> tuple[Unit, ...]:
    """All votes of these principles."""
    return tuple(Unit(id) for id in principles)


def in_waves(principles: Sequence[str], repeats: int | None, draw: random.Random) -> tuple[Unit, ...]:
    """In the order in which they are asked: each principle once, then once more. repeats: of each; None: its repeats
    are asked together."""
    rounds = [None] if repeats is None else list(range(repeats))
    order = [(id, repeat) for repeat in rounds for id in draw.sample(principles, len(principles))]
    ends = looks(len(order))
    waves = [wave for wave, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)) for _ in range(begin, end)]
    return tuple(Unit(id, repeat, wave) for (id, repeat), wave in zip(order, waves, strict=True))


def looks(units: int) -> list[int]:
    """Units that have been asked at the end of each wave: a quarter, then an eighth more each time; the last is all."""
    first, step = max(2, math.ceil(units / 4)), math.ceil(units / 8)
    return [*range(first, units, step), units] if units else []
