"""The prompts of a trial, drawn from all of a recipe's, and what the trial saw of them."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from constitution.engines import Request
from constitution.identity import seed
from constitution.pipeline.cost import Ledger
from constitution.pipeline.proven import kind
from constitution.records import Prompt, Row


class Draw:
    """Draws a number of prompts, each with equal chance and by the seed alone, in an order that is drawn too; reads the
    source to its end, and counts it."""

    def __init__(self, run_seed: int, wanted: int) -> None:
        self._seed, self._wanted = run_seed, wanted
        self.population = 0
        """Prompts of the source."""
        self._characters = 0

    @property
    def mean_size(self) -> float:
        """Mean size of all prompts of the source."""
        return self._characters / self.population if self.population else 0.0

    def __call__(self, prompts: Iterator[Prompt]) -> Iterable[Prompt]:
        drawn = heapq.nsmallest(self._wanted, map(self._keyed, prompts), key=lambda each: each[0])
        return [prompt for _, prompt in drawn]

    def _keyed(self, prompt: Prompt) -> tuple[tuple[int, str], Prompt]:
        self.population += 1
        self._characters += size(prompt)
        return (seed(self._seed, prompt.id, "try", 0), prompt.id), prompt


def size(prompt: Prompt) -> int:
    """Characters that models will read of a prompt: its conversation, its script and the answers that came with it."""
    texts = (*(message.content for message in prompt.messages), *prompt.script, *prompt.answers)
    return sum(map(len, texts))


@dataclass(slots=True)
class Seen:
    """One prompt that was tried."""

    size: int
    rows: Sequence[Row] = ()
    used: list[Ledger] = field(default_factory=list)
    """One for each time that it was in the window."""
    seconds: float = 0.0

    @property
    def whole(self) -> bool:
        """Whether it came to an end: one that an engine failed, and that is tried again, says less than a run needs."""
        return not any(getattr(row, "retryable", False) for row in self.rows)

    def total(self, name: str) -> int:
        """Sum of one of cost.COUNTED."""
        return sum(ledger.total(name) for ledger in self.used)


@dataclass(slots=True)
class Watching:
    """An `Observer` that keeps what a trial's report is made of."""

    prompts: dict[str, Seen] = field(default_factory=dict)
    """By id."""
    examples: dict[tuple[str, str], Request] = field(default_factory=dict)
    """The first request of each kind, by role and what it is for."""

    @property
    def rows(self) -> list[Row]:
        return [row for seen in self.prompts.values() for row in seen.rows]

    @property
    def whole(self) -> Mapping[str, Seen]:
        return {id: seen for id, seen in self.prompts.items() if seen.whole}

    def asked(self, role: str, request: Request) -> None:
        step = kind(request)
        self.examples.setdefault((role, f"{step} (label)" if request.choices else step), request)

    def worked(self, prompt: Prompt, rows: Sequence[Row], used: Ledger, seconds: float) -> None:
        seen = self.prompts.setdefault(prompt.id, Seen(size(prompt)))
        seen.rows = rows
        seen.used.append(used)
        seen.seconds += seconds
