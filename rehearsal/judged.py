"""Answers of the pocket world with what they break, as tokens: what the reward model and the read-out learn from."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from constitution.measures.auc import auc as measure
from constitution.pocket.world import Answer, World
from constitution.records import Message, Messages
from rehearsal.train import Encoder


@dataclass(frozen=True, slots=True)
class Judged:
    """A conversation that ends with an answer."""

    messages: Messages
    faults: int
    """Principles that the answer breaks, by the grammar."""
    words: int
    """Of the answer."""


class Answerer:
    """Draws answers; all chance comes from `rng`. `split`: train or held-out, as in `World.request`."""

    def __init__(self, rng: random.Random, split: str = "train") -> None:
        self.rng = rng
        self.split = split
        self.world = World(rng)

    def one(self) -> Judged:
        """An answer as those that the pocket model learnt to answer by: most break a principle."""
        return judged(self.world.answer(self.world.request(self.split)))

    def pair(self) -> tuple[Judged, Judged]:
        """The better and the worse of two answers to one request: of two that are independent, or of an answer and
        what is left of it where some of its faults are mended."""
        rng, world = self.rng, self.world
        while True:
            first = world.answer(world.request(self.split), tempted=rng.choice((0.3, 0.75, 1.0)))
            if rng.random() < 0.5:
                other = world.mend(first, frozenset(fault for fault in sorted(first.broken) if rng.random() < 0.5))
            else:
                other = world.answer(first.request, tempted=rng.random())
            if len(first.broken) != len(other.broken):
                better, worse = sorted((judged(first), judged(other)), key=lambda answer: answer.faults)
                return better, worse


def judged(answer: Answer) -> Judged:
    messages = (*answer.request.messages, Message("assistant", answer.text))
    return Judged(messages, len(answer.broken), len(answer.text.split()))


def closed(encoder: Encoder, messages: Messages) -> list[int]:
    """The whole conversation in the pocket model's chat template, the answer's turn closed: no generation prompt."""
    ids: list[int] = []
    for message in messages:
        turn = encoder.tokenizer.encode(message.content).ids
        ids += [encoder.special[f"<|{message.role}|>"], *turn, encoder.special["<|end|>"]]
    return ids


def padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[Any, Any]:
    """Tokens [rows, longest] padded on the right, and the mask of those that are none."""
    import torch

    longest = max(map(len, rows))
    tokens = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows])
    return tokens, torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])


def fit(model: Any, loss: Callable[[], Any], steps: int, lr: float) -> dict[str, float]:
    """Minimises what `loss` gives, each time of other answers; what it took. Ends after `steps` steps."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.01)
    begun, mean = time.monotonic(), 0.0
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 20) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        now = loss()
        optimizer.zero_grad(set_to_none=True)
        now.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        mean = 0.95 * mean + 0.05 * now.item() if step else now.item()
        if step % 25 == 0:
            print(f"step {step} of {steps}: loss {mean:.3f}, {time.monotonic() - begun:.0f} s", flush=True)
    return {"minutes": (time.monotonic() - begun) / 60, "loss": mean}


def auc(scores: Sequence[float], answers: Sequence[Judged]) -> float:
    """Chance that an answer that breaks nothing has the higher score than one that breaks something."""
    value = measure(scores, [not answer.faults for answer in answers], range(len(answers)), replicates=1).value
    return math.nan if value is None else value
