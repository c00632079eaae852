"""Pairs of a prompt's samples: which of them are compared, by their rewards.

contrast        number i of one sampler and number i of another, which is meant to be better (RLCD, arXiv 2307.12950)
best-worst      the highest reward and the lowest (RLHFlow's max_min)
best-random     the highest and one of the others, drawn
best-low        the highest and the one nearest to the mean less two standard deviations (arXiv 2502.16825)
all             every two
tournament      in rounds, those that did about as well so far (swiss.py)

But for contrasts, texts come once, and an answer is never paired with its own text. Of equal texts, and of equal
rewards, the one with the least id counts, a digest: no place is preferred. Where all rewards are the same, nothing is
best, and of pairs by them there is only best-random, whose label by reward is a tie, as it may be elsewhere.

Pairs by rewards are of samples that are whole, for one of a cut or copied text is dropped; of others only where no two
whole ones differ in reward.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations

from constitution.generate.chain import best as best_of
from constitution.identity import seed
from constitution.judge.swiss import Ids, next_round, rounds_of
from constitution.recipe import JudgeSection
from constitution.records import PairKind, Response, Reward, RewardSource, Row

Totals = Mapping[str, float | None]
"""Rewards of answers by id, with their length penalty; None: no value."""


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


def waits(answers: Iterable[Response], kinds: Iterable[PairKind], known: Totals | None) -> bool:
    """Whether a reward may still come of a sample, so that it is not known which is best, where pairs go by that."""
    by_reward = any(kind in _OTHERS for kind in kinds)
    return by_reward and not all(answer.id in (known or {}) for answer in answers if answer.kind == "sample")


def places_of(answers: Iterable[Response]) -> dict[str, int]:
    """The samples that are compared, by id, and their places, by sampler and number in whatever order they are given:
    those with text, and of equal texts the least id."""
    there = [answer for answer in answers if answer.kind == "sample" and answer.text]
    samples = sorted(there, key=lambda answer: (answer.sampler or "", answer.round))
    least = {answer.text: answer.id for answer in sorted(samples, key=lambda answer: answer.id, reverse=True)}
    return {answer.id: place for place, answer in enumerate(samples) if least[answer.text] == answer.id}


def sample_pairs(
    answers: Iterable[Response], kinds: Sequence[PairKind], known: Totals | None, run_seed: int
) -> list[tuple[PairKind, Ids]]:
    """Ids of the earlier and of the later answer, by kind in the order of this table, without a tournament; none while
    it waits for a reward."""
    there = list(answers)
    places = places_of(there)
    if not places or waits(there, kinds, known):
        return []
    prompt_id = there[0].prompt_id
    found: list[tuple[PairKind, Ids]] = []
    rewarded = _whole_first({id: total for id in places if known and (total := known.get(id)) is not None}, there)
    for kind, other_of in _OTHERS.items():
        if kind in kinds and len(rewarded) > 1:
            best = best_of(rewarded)
            draw = random.Random(seed(run_seed, prompt_id, kind))
            other = other_of(rewarded, best, draw)
            if other is not None:
                first, second = sorted((best, other), key=places.__getitem__)
                found.append((kind, (first, second)))
    if "all" in kinds:
        found += [("all", pair) for pair in combinations(places, 2)]
    return found


def tournament_pairs(
    answers: Iterable[Response], rounds: int | None, labels: Mapping[Ids, float | None], run_seed: int
) -> list[Ids]:
    """Those of the rounds that are known by now: a round follows once all pairs of the one before have a label.

    rounds: None, as many as `rounds_of` finds. labels: of pairs of samples, the probability that the later one is
    better; None: no vote on it counts. run_seed: draws the first round, and between equals.
    """
    there = list(answers)
    places, found = places_of(there), list[Ids]()
    names, played = list(places), dict[Ids, float | None]()
    random.Random(seed(run_seed, there[0].prompt_id if there else "", "tournament")).shuffle(names)
    for number in range(rounds_of(len(names), rounds)):
        drawn = [sorted(ids, key=places.__getitem__) for ids in next_round(names, played, number)]
        new: list[Ids] = [(first, second) for first, second in drawn]
        found += new
        if not new or not all(ids in labels for ids in new):
            break
        played |= {ids: labels[ids] for ids in new}
    return found


def chosen_pairs(
    answers: Iterable[Response],
    section: JudgeSection,
    known: Totals | None,
    labels: Mapping[Ids, float | None],
    run_seed: int,
) -> list[tuple[PairKind, Ids]]:
    """All pairs of samples that [judge] asks for, by kind in the order of this table: those that are known by now.

    known: rewards; None: the recipe has none. labels: as of `tournament_pairs`, whichever of the two is named first.
    """
    there = list(answers)
    found: list[tuple[PairKind, Ids]] = []
    if section.contrast:
        found += [("contrast", ids) for ids in contrasts(there, *section.contrast)]
    found += sample_pairs(there, section.pairs, known, run_seed)
    if "tournament" in section.pairs and not waits(there, section.pairs, known):
        both = {**labels, **{(b, a): None if p_b is None else 1 - p_b for (a, b), p_b in labels.items()}}
        found += [("tournament", ids) for ids in tournament_pairs(there, section.tournament.rounds, both, run_seed)]
    return found


Rewarded = Mapping[str, float]


def _whole_first(rewarded: Rewarded, answers: Iterable[Response]) -> Rewarded:
    whole = {answer.id for answer in answers if answer.outcome == "ok" and answer.copied_from is None}
    found = {id: total for id, total in rewarded.items() if id in whole}
    return found if len({*found.values()}) > 1 else rewarded


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
OF_SAMPLES = (*BY_REWARD, "all", "tournament")
