"""Pairs of a prompt's samples: which of them are compared, by their rewards.

contrast        number i of one sampler and number i of another, which is meant to be better (RLCD, arXiv 2307.12950)
best-worst      the highest reward and the lowest (RLHFlow's max_min)
best-random     the highest and one of the others, drawn
best-low        the highest and the one nearest to the mean less two standard deviations (arXiv 2502.16825)
all             every two

But for contrasts, texts come once, and an answer is never paired with its own text. Of equal texts, and of equal
rewards, the one with the least id counts, a digest: no place is preferred. Where all rewards are the same, nothing is
best, and there is no pair by them.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations

from constitution.identity import seed
from constitution.records import PairKind, Response, Reward, RewardSource, Row

Totals = Mapping[str, float | None]
"""Rewards of answers by id, with their length penalty; None: no value."""
Ids = tuple[str, str]


def totals(have: Mapping[str, Row], source: RewardSource) -> Totals:
    """Those of a prompt's answers by one source; without those that may still come."""
    return {row.response_id: row.total for row in have.values() if isinstance(row, Reward) and row.source == source}


def contrasts(answers: Iterable[Response], better: str, other: str) -> list[Ids]:
    """The answer of the sampler `other` first, so that the later one is meant to be better."""
    by_number: dict[str, dict[int, str]] = {better: {}, other: {}}
    for answer in answers:
        if answer.sampler in by_number:
            by_number[answer.sampler][answer.round] = answer.id
    numbers = sorted(by_number[better].keys() & by_number[other].keys())
    return [(by_number[other][number], by_number[better][number]) for number in numbers]


def sample_pairs(
    answers: Iterable[Response], kinds: Sequence[PairKind], known: Totals | None, run_seed: int
) -> list[tuple[PairKind, Ids]]:
    """Ids of the earlier and of the later answer, by kind in the order of this table; not those that need rewards while
    one may still come, so that it is not known which is best."""
    every = [answer for answer in answers if answer.kind == "sample"]
    samples = [answer for answer in every if answer.text]
    ranked = known if known and all(answer.id in known for answer in every) else {}
    least = {answer.text: answer.id for answer in sorted(samples, key=lambda answer: answer.id, reverse=True)}
    places = {answer.id: place for place, answer in enumerate(samples) if least[answer.text] == answer.id}
    prompt_id = samples[0].prompt_id if samples else ""
    found: list[tuple[PairKind, Ids]] = []
    rewarded = {id: total for id in places if (total := ranked.get(id)) is not None}
    for kind, other_of in _OTHERS.items():
        if kind in kinds and len(rewarded) > 1:
            best = min(rewarded, key=lambda id: (-rewarded[id], id))
            draw = random.Random(seed(run_seed, prompt_id, kind))
            other = other_of(rewarded, best, draw)
            if other is not None:
                first, second = sorted((best, other), key=places.__getitem__)
                found.append((kind, (first, second)))
    if "all" in kinds:
        found += [("all", pair) for pair in combinations(places, 2)]
    return found


Rewarded = Mapping[str, float]


def _worst(rewarded: Rewarded, best: str, draw: random.Random) -> str | None:
    worst = min(rewarded, key=lambda id: (rewarded[id], id))
    return worst if rewarded[worst] < rewarded[best] else None


def _random(rewarded: Rewarded, best: str, draw: random.Random) -> str | None:
    return draw.choice(sorted(id for id in rewarded if id != best))


def _low(rewarded: Rewarded, best: str, draw: random.Random) -> str | None:
    wanted = statistics.fmean(rewarded.values()) - 2 * statistics.stdev(rewarded.values())
    lower = [id for id in rewarded if rewarded[id] < rewarded[best]]
    return min(lower, key=lambda id: (abs(rewarded[id] - wanted), id), default=None)


_OTHERS: Mapping[PairKind, Callable[[Rewarded, str, random.Random], str | None]] = {
    "best-worst": _worst,
    "best-random": _random,
    "best-low": _low,
}
"""What is paired with the best."""
BY_REWARD = tuple(_OTHERS)
OF_SAMPLES = (*BY_REWARD, "all")
