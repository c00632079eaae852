"""Time left, by clocks of our own: right within 20 % after the first tenth, whatever the run began with."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable

import pytest

from constitution.pipeline import Pace, Progress
from constitution.records import Response

CALLS = 4


def simulate(
    prompts: int, window: int, call_seconds: Callable[[float], float], skipped: int = 0, skip_seconds: float = 1e-4
) -> list[tuple[float, float | None]]:
    """A run on a machine with room for `window` prompts of CALLS calls each, the first `skipped` of them finished
    before. After each prompt: the clock and the time left that was said then, in seconds."""
    progress, pace, now = Progress(prompts, started=0.0, before=skipped), Pace(), 0.0
    said: list[tuple[float, float | None]] = []

    def tell() -> None:
        pace.update(progress, now)
        said.append((now, pace.left(progress)))

    for _ in range(skipped):
        now += skip_seconds
        progress.done += 1
        progress.resumed += 1
        tell()
    row = Response("r", "run", "p", "initial", 0, "", "ok", "m", completion_tokens=10)
    waiting = [(now + call_seconds(now), number, CALLS) for number in range(min(window, prompts - skipped))]
    heapq.heapify(waiting)
    begun = len(waiting)
    while waiting:
        now, number, calls = heapq.heappop(waiting)
        progress.count(row)
        if calls > 1:
            heapq.heappush(waiting, (now + call_seconds(now), number, calls - 1))
            continue
        progress.done += 1
        progress.ended_calls += CALLS
        tell()
        if begun < prompts - skipped:
            heapq.heappush(waiting, (now + call_seconds(now), begun, CALLS))
            begun += 1
    return said


def worst(said: list[tuple[float, float | None]], skipped: int = 0, until: float = 0.5) -> float:
    """The largest error of the time left, as a share of what was left, from the first tenth of the work to `until`.

    At the end the last prompts in flight take as long as the longest of them, which no rate foresees.
    """
    end, work = said[-1][0], len(said) - skipped
    errors = []
    for place in range(skipped + work // 10, skipped + int(until * work)):
        now, left = said[place]
        assert left is not None
        errors.append(abs(left - (end - now)) / (end - now))
    return max(errors)


def heavy(generator: random.Random, seconds: float) -> Callable[[float], float]:
    """Lengths as models write them: some are ten times as long as most."""
    return lambda now: seconds * generator.lognormvariate(-0.5, 1.0)


def test_a_hundred_thousand_prompts() -> None:
    assert worst(simulate(100_000, 256, heavy(random.Random(1), 0.25))) < 0.05


def test_a_run_of_few_windows_is_told_by_its_calls() -> None:
    """A tenth of the prompts is done while the first window still runs."""
    generator = random.Random(2)
    assert worst(simulate(2_000, 256, lambda now: generator.uniform(0.5, 1.5))) < 0.2
    assert worst(simulate(2_000, 256, lambda now: 2.0)) < 0.25  # in lockstep: all of them end at once


def test_a_resumed_run_counts_neither_what_was_done_nor_the_time_to_pass_it_over() -> None:
    said = simulate(100_000, 256, heavy(random.Random(3), 0.25), skipped=60_000, skip_seconds=2e-3)
    assert worst(said, skipped=60_000) < 0.12
    assert said[1_000][1] is None  # nothing was worked yet, so nothing is known


def test_a_slow_start_is_forgotten() -> None:
    """The first minute of a run of eleven goes twenty times slower: weights, compiling, a cold cache."""
    generator = random.Random(4)
    said = simulate(40_000, 64, lambda now: generator.uniform(0.1, 0.4) * (20 if now < 60 else 1))
    assert said[-1][0] == pytest.approx(690, rel=0.1)
    assert worst(said) < 0.2


def test_what_is_left_of_a_run_that_was_begun_before_is_known_while_it_is_passed_over() -> None:
    progress = Progress(total=100, done=50, resumed=40, before=80, started=0.0)
    assert progress.left == 10


def test_tokens_a_second() -> None:
    progress, pace = Progress(100, started=0.0), Pace()
    row = Response("r", "run", "p", "initial", 0, "", "ok", "m", completion_tokens=30)
    for second in range(1, 61):
        progress.count(row)
        progress.done += 1
        progress.ended_calls += 1
        pace.update(progress, float(second))
    assert pace.tokens() == pytest.approx(30)
    assert pace.prompts() == pytest.approx(1)
    assert pace.left(progress) == pytest.approx(40)
    assert len(pace._marks) < 110


def test_a_rate_is_never_negative() -> None:
    """The first prompts end after two calls (refused, say), and the others take forty: what a call is worth falls."""
    progress, pace, now = Progress(60, started=0.0), Pace(), 0.0
    row = Response("r", "run", "p", "initial", 0, "", "ok", "m", completion_tokens=10)
    worths, rates = [], []
    for number in range(40):
        calls = 2 if number < 10 else 40
        for _ in range(60 if number < 10 else 20):  # of all prompts in flight
            progress.count(row)
        now += 10
        progress.done += 1
        progress.ended_calls += calls
        pace.update(progress, now)
        worths.append(progress.worked)
        rates.append(pace.prompts())
    assert any(after < before for before, after in itertools.pairwise(worths))  # what made it negative
    assert min(rates) > 0
