"""The figures of `methods.py`: groups of answers with their rewards, held against what the grammar says they break."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.results import Table, Verdict
from constitution.judge.groups import BY_REWARD, sample_pairs
from constitution.measures import estimate
from constitution.measures.estimate import Estimate
from constitution.measures.groups import best_of, sizes
from constitution.records import Response

Values = NDArray[np.float64]

RULES = {"best-worst": "the worst", "best-second": "the second", "best-random": "a random one", "best-low": "a low one"}
"""What the best is paired with. low: nearest to the mean less two standard deviations."""
GAP = 0.2
"""Between the rewards of a pair that is kept."""
GAPS = (0.0, 0.1, GAP, 0.25, 0.3)
HALVES = 0.25
"""The gap with which at most half of the chosen that break a principle are left."""
EXPECTED = {1: 0.78, 2: 0.62, 4: 0.42, 8: 0.22}
"""Share that breaks a principle, best of n by reward: of 150 groups that another program measured before."""
NEAR = 0.07
"""Half the width of the 95 % interval of 150 groups."""
LIMIT_S = 720.0
"""CPU seconds that all of it may take: the minutes of two cores that are quiet."""


@dataclass(frozen=True, slots=True)
class Group:
    """The samples of one prompt."""

    answers: tuple[Response, ...]
    rewards: Values
    """Of each answer."""
    faults: Values
    """Principles that each breaks, by the grammar."""
    words: Values
    request_type: str

    @property
    def prompt_id(self) -> str:
        return self.answers[0].prompt_id

    @property
    def broken(self) -> Values:
        """1 where an answer breaks a principle."""
        return (self.faults > 0).astype(float)


ORDERS: Mapping[str, Callable[[Group], Values]] = {
    "truth": lambda group: -group.faults,
    "reward": lambda group: group.rewards,
    "shortest": lambda group: -group.words,
}
"""By what the best of n is taken."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The best answer by reward, and another one."""

    prompt_id: str
    rule: str
    gap: float
    """Reward of the chosen less that of the rejected."""
    saved: float
    """Principles that the rejected breaks, less those that the chosen does: over 0 the pair is right, at 0 a tie."""
    breaks: bool
    """The chosen breaks a principle."""


@dataclass(frozen=True, slots=True)
class Result:
    groups: tuple[Group, ...]
    pairs: tuple[Pair, ...]
    left_out: int
    """Groups of which an answer has no text, and so no reward."""
    calls: int
    seconds: float
    cpu_s: float

    def best(self, order: str, n: int, groups: Sequence[Group] | None = None) -> Estimate:
        """Share that breaks a principle, of the best of n by this order; over all subsets of each group."""
        chosen = self.groups if groups is None else groups
        return mean(
            [best_of(ORDERS[order](group), group.broken, n) for group in chosen], [group.prompt_id for group in chosen]
        )

    def of(self, rule: str, gap: float = 0.0) -> list[Pair]:
        return [pair for pair in self.pairs if pair.rule == rule and pair.gap >= gap]

    def left(self, gap: float) -> float:
        """Of the chosen of best and worst that break a principle, the share that a gap leaves."""
        return sum(pair.breaks for pair in self.of("best-worst", gap)) / sum(p.breaks for p in self.of("best-worst"))


def mean(values: Sequence[float] | Values, prompts: Sequence[str]) -> Estimate:
    return estimate.mean(values, prompts, proportion=True)


def pairs_of(group: Group, seed: int) -> Iterator[Pair]:
    """By every rule that has one: as a run pairs them, and best against second, which is no rule of runs."""
    place = {answer.id: number for number, answer in enumerate(group.answers)}
    totals = {answer.id: float(reward) for answer, reward in zip(group.answers, group.rewards, strict=True)}
    chosen: list[tuple[str, tuple[str, str]]] = [*sample_pairs(group.answers, BY_REWARD, totals, seed)]
    texts = {answer.text: answer.id for answer in sorted(group.answers, key=lambda answer: answer.id, reverse=True)}
    ranked = sorted((id for text, id in texts.items() if text), key=lambda id: (-totals[id], id))
    if len(ranked) > 1:
        chosen.append(("best-second", (ranked[0], ranked[1])))
    for rule, ids in chosen:
        best, other = (place[id] for id in sorted(ids, key=lambda id: (-totals[id], id)))
        yield Pair(
            group.prompt_id,
            rule,
            float(group.rewards[best] - group.rewards[other]),
            float(group.faults[other] - group.faults[best]),
            bool(group.faults[best]),
        )


def tau(groups: Sequence[Group], one: str, other: str) -> tuple[float, int]:
    """Mean over the groups of Kendall's τ-b between two orders, and how many groups that are: those in which neither
    order finds all answers equal."""
    from scipy.stats import kendalltau

    found = [float(kendalltau(ORDERS[one](group), ORDERS[other](group)).statistic) for group in groups]
    known = [each for each in found if np.isfinite(each)]
    return (float(np.mean(known)) if known else float("nan")), len(known)


def tables(result: Result) -> Iterator[Table]:
    groups, most = result.groups, len(result.groups[0].answers)
    rows = [
        [str(n), *(said(result.best(order, n)) for order in ORDERS), f"{EXPECTED[n]:.0%}" if n in EXPECTED else "–"]
        for n in reversed(sizes(most))
    ]
    yield Table(
        ["best of n breaks a principle", "by the truth", "by reward", "by shortness", "expected by reward"], rows
    )
    rows = [_rule(result, rule, gap) for gap in (0.0, GAP) for rule in RULES]
    columns = ["the best by reward against", "pairs", "right", "tie", "wrong", "chosen breaks a principle"]
    yield Table(columns, rows, "Pair rules, by the truth", detail=True)
    yield Table(["gap between best and worst", "pairs", "chosen breaks a principle", "of those without a gap"],
                [_gap(result, gap) for gap in GAPS], "Gaps", detail=True)  # fmt: skip
    taus = [("reward", "truth"), ("shortest", "truth"), ("shortest", "reward")]
    rows = [
        [f"τ of {one} and {other}, mean over groups", *(f"{tau(groups, one, other)[0]:.2f}",), "", str(len(groups))]
        for one, other in taus
    ]
    for what, values in _shares(groups).items():
        rows.append([what, *said(mean(values, [group.prompt_id for group in groups])).split(" ", 1), str(len(groups))])
    yield Table(["within groups", "", "95 % interval", "groups"], rows, "Groups", detail=True)
    kinds = dict.fromkeys(group.request_type for group in groups)
    rows = []
    for kind in kinds:
        those = [group for group in groups if group.request_type == kind]
        shares = [said(result.best(order, n, those)) for n in (1, most) for order in ("truth", "reward")]
        rows.append([kind, str(len(those)), shares[0], shares[2], shares[3]])
    yield Table(["requests", "groups", "any answer", f"best of {most}, truth", f"best of {most}, reward"], rows,
                "By kind of request", detail=True)  # fmt: skip


def _rule(result: Result, rule: str, gap: float) -> list[str]:
    pairs = result.of(rule, gap)
    name = f"{RULES[rule]}, gap {gap} or more" if gap else RULES[rule]
    if not pairs:
        return [name, "0", *["–"] * 4]
    prompts = [pair.prompt_id for pair in pairs]
    shares: list[list[float]] = [
        [pair.saved > 0 for pair in pairs],
        [pair.saved == 0 for pair in pairs],
        [pair.saved < 0 for pair in pairs],
        [pair.breaks for pair in pairs],
    ]
    return [name, f"{len(pairs):,}", *(said(mean(each, prompts)) for each in shares)]


def _gap(result: Result, gap: float) -> list[str]:
    pairs = result.of("best-worst", gap)
    breaks = said(mean([float(pair.breaks) for pair in pairs], [pair.prompt_id for pair in pairs]))
    return [f"{gap:g} or more", f"{len(pairs):,}", breaks, f"{result.left(gap):.0%}"]


def _shares(groups: Sequence[Group]) -> dict[str, list[float]]:
    return {
        "no answer is free of faults": [float(group.broken.all()) for group in groups],
        "truth has variance": [float(np.ptp(group.faults) > 0) for group in groups],
        "reward has variance": [float(np.ptp(group.rewards) > 1e-12) for group in groups],
        f"rewards are {GAP} apart": [float(np.ptp(group.rewards) >= GAP) for group in groups],
        "all texts differ": [
            float(len({answer.text for answer in group.answers}) == len(group.answers)) for group in groups
        ],
    }


def verdicts(result: Result) -> list[Verdict]:
    found = []
    for n in sizes(len(result.groups[0].answers)):
        values = [result.best(order, n).value or 0.0 for order in ORDERS]
        if n in EXPECTED:
            far = abs(values[1] - EXPECTED[n])
            found.append(Verdict(f"best of {n} by reward breaks a principle: from {EXPECTED[n]:.0%}", far, NEAR))
        if n > 1:
            found.append(Verdict(f"best of {n}: by the truth less than by reward", values[0] - values[1], 0.0))
            found.append(Verdict(f"best of {n}: by reward less than by shortness", values[1] - values[2], 0.0))
    left = Verdict(f"chosen that break a principle, with a gap of {HALVES} over without", result.left(HALVES), 0.5)
    return [*found, left, Verdict("CPU seconds in all", result.cpu_s, LIMIT_S)]


def note(result: Result) -> str:
    groups, pairs = result.groups, result.of("best-worst")
    rows = [_rule(result, rule, 0.0) for rule in RULES]
    ties = ", ".join(f"{row[3].partition(' ')[0]} against {row[0]}" for row in rows)
    kept = [
        f"{gap} keeps {len(result.of('best-worst', gap)):,} and leaves {result.left(gap):.0%}" for gap in (GAP, HALVES)
    ]
    taus = [f"{one} {tau(groups, one, 'truth')[0]:.2f}" for one in ("reward", "shortest")]
    return (
        f"{len(groups):,} groups of {len(groups[0].answers)} answers ({result.left_out} more had one without text), "
        f"{result.calls:,} calls, {result.seconds / 60:.0f} minutes, {result.cpu_s / 60:.0f} of CPU. "
        f"τ-b with the truth within groups: {', '.join(taus)}. True ties of the best: {ties}. Of the chosen of "
        f"{len(pairs):,} pairs of best and worst that break a principle, a gap of {kept[0]}, one of {kept[1]}."
    )


def said(of: Estimate) -> str:
    if of.value is None:
        return "–"
    interval = "" if of.low is None or of.high is None else f" [{100 * of.low:.1f}, {100 * of.high:.1f}]"
    return f"{of.value:.1%}{interval}"


def group_of(rows: Sequence[Mapping[str, Any]], faults: Sequence[int], words: Sequence[int]) -> Group:
    """rows: id, run_id, prompt_id, number, text, model, total and request_type of each answer of one prompt."""
    answers = tuple(
        Response(row["id"], row["run_id"], row["prompt_id"], "sample", row["number"], row["text"], "ok", row["model"])
        for row in rows
    )
    return Group(
        answers,
        np.array([row["total"] for row in rows], float),
        np.array(faults, float),
        np.array(words, float),
        rows[0]["request_type"],
    )
