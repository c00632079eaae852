"""What a contender of `make bench-vllm` did in one run, and how two of them compare."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass, field

from benchmarks.vllm_graph import Call


@dataclass(slots=True)
class Outcome:
    seconds: float
    prompts: int
    """Prompts worked to their end."""
    answers: dict[str, list[str]] = field(default_factory=dict)
    """Initial answer, critique, revision, critique, revision … by prompt id."""
    votes: dict[str, float] = field(default_factory=dict)
    """Probability of the answer shown first, by `prompt id/principle/order`."""
    calls: list[Call] = field(default_factory=list)
    """Every request in tokens, in an order in which they could have run; where that was asked for."""
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cpu_seconds: float = 0.0
    """Of the contender's processes, the engine's among them."""

    @property
    def speed(self) -> float:
        """Prompts a second."""
        return self.prompts / self.seconds


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two runs of the same job said the same."""

    chains: float
    """Share of the prompts whose texts are the same to the letter, from the initial answer to the last revision."""
    votes: float
    """Share of the votes, of those that both have, that differ by no more than 0.001."""
    votes_shared: float
    """Share of all votes that both have."""


def agreement(one: Outcome, other: Outcome) -> Agreement:
    prompts = one.answers.keys() | other.answers.keys()
    chains = sum(one.answers.get(name) == other.answers.get(name) for name in prompts)
    shared, either = one.votes.keys() & other.votes.keys(), one.votes.keys() | other.votes.keys()
    close = sum(abs(one.votes[name] - other.votes[name]) <= 0.001 for name in shared)
    return Agreement(_share(chains, prompts), _share(close, shared), _share(len(shared), either))


def _share(count: int, of: Sized) -> float:
    return count / len(of) if of else 1.0
