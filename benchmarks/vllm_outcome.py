"""What a contender of `make bench-vllm` did in one run, how two of them compare, and what a prefix cache could do.

    share = reusable(calls, block=16) / sum(len(call.prompt) for call in calls)

Pure, so that it can be tested without vLLM; the rules are those of vLLM's block cache (`KVCacheManager` of V1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.results import Table, Verdict


@dataclass(frozen=True, slots=True)
class Call:
    """One request as the engine saw it, in tokens."""

    prompt: Sequence[int]
    output: Sequence[int] = ()
    cached: int = 0
    """Tokens of the prompt that the engine took from its prefix cache."""


def reusable(calls: Iterable[Call], block: int) -> int:
    """Prompt tokens in full blocks seen before, with blocks of `block` tokens.

    `calls` come in an order in which they could have run: a request that needs another's text, after it. As in vLLM, a
    block counts only with all that stands before it; at least the last token of a prompt is computed again; and of an
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


def figures(runs: Sequence[Outcome]) -> dict[str, Any]:
    """Of one contender's runs."""
    last = runs[-1]
    return {
        "seconds": [round(run.seconds, 2) for run in runs],
        "cpu_seconds": [round(run.cpu_seconds, 1) for run in runs],
        "prompts_per_s": median(run.speed for run in runs),
        "requests": last.requests,
        "prompt_tokens": last.prompt_tokens,
        "output_tokens": last.output_tokens,
        "hit_rate": median(run.cached_tokens / run.prompt_tokens for run in runs),
    }


def verdicts(found: Mapping[str, Any]) -> list[Verdict]:
    """found: what `vllm_job.measure` returns."""
    ours, script = found["contenders"]["ours"], found["contenders"]["script"]
    hits = ours["hit_rate"] / found["requests_allow"]["ours"]
    return [
        Verdict(
            "prompts/s of the whole job, ours / script", ours["prompts_per_s"] / script["prompts_per_s"], 1.0, False
        ),
        Verdict("prefix hit rate, ours / what the requests allow", hits, 0.9, False),
    ]


def table(found: Mapping[str, Any]) -> Table:
    contenders = found["contenders"]
    base = contenders["script"]["prompts_per_s"]
    rows = []
    for name, row in contenders.items():
        speed, cpu = row["prompts_per_s"], median(row["cpu_seconds"])
        tokens = (f"{row['prompt_tokens']:,}", f"{row['hit_rate']:.1%}", f"{row['output_tokens']:,}")
        rows.append([name, f"{speed:.2f}", f"{speed / base:.3f}", f"{cpu:.1f}", f"{row['requests']:,}", *tokens])
    columns = ["", "prompts/s", "× script", "CPU s", "requests", "prompt tokens", "out of the prefix cache"]
    return Table([*columns, "output tokens"], rows)


def note(found: Mapping[str, Any]) -> str:
    same, allowed = found["agreement"], found["requests_allow"]["ours"]
    return (
        f"Medians of {len(found['contenders']['ours']['seconds'])}. The requests allow {allowed:.1%} of the prompt "
        f"tokens out of a prefix cache with blocks of {found['block']}. Ours and script: {same.chains:.1%} of the "
        f"chains the same to the letter, {same.votes_shared:.1%} of the votes cast by both, {same.votes:.1%} of those "
        "equal within 0.001."
    )
