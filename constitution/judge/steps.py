"""What the readings of an answer's sentences come to."""

from __future__ import annotations

from collections.abc import Sequence

from constitution.judge.sources import Combined, Item, means
from constitution.records import Score, Step


def by_step(asked: Sequence[Item], found: Sequence[tuple[Item, Score]]) -> tuple[Step, ...]:
    """Each sentence with its least criterion, a mean over judges; without a value where no judge's reading of one of
    its criteria is there. asked: every item, as often as it was asked. found: the readings that count."""
    items: dict[int, set[int]] = {}
    read: dict[int, list[tuple[Item, Score]]] = {}
    for item in asked:
        assert item.upto is not None
        items.setdefault(item.upto, set()).add(id(item))
    for item, row in found:
        assert item.upto is not None
        read.setdefault(item.upto, []).append((item, row))
    steps = []
    for upto, wanted in sorted(items.items()):
        parts = means(read.get(upto, ()))
        steps.append(Step(upto, min(part.value for part in parts) if len(parts) == len(wanted) else None))
    return tuple(steps)


def least_of(steps: Sequence[Step]) -> Combined:
    """The answer's reward: its worst sentence, which has to be known of all."""
    values = [step.value for step in steps if step.value is not None]
    least = min(values, default=0.0)
    return Combined(least if values and len(values) == len(steps) else None, least, None)
