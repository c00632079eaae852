"""The bench of judges with planted faults, on a few of them (`make bench-judges` is all of it)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.judges import measure, settings
from benchmarks.judges_report import EFFECTS, Effect, Result, Setting, show, verdicts, write

PAIRS = 300


@pytest.fixture(scope="module")
def results() -> list[Result]:
    faulty = Setting(900, position=1.5, length=-10.0, style=0.0, noise=1.0, accuracy=0.9)
    return [measure(faulty, PAIRS), measure(Setting(901, 0.0, 0.0, 0.0, noise=1.0, accuracy=1.0), PAIRS)]


def test_the_grid_is_as_wide_as_promised() -> None:
    every = list(settings())
    assert len({one.number for one in every}) == len(every)
    assert sum(not one.clean for one in every) >= 24
    assert sum(one.clean for one in every) >= 10
    assert len(set(every)) == len(every)


def test_planted_faults_are_found_and_put_right(results: list[Result]) -> None:
    faulty, clean = results
    assert faulty.pairs == clean.pairs == PAIRS
    for name in ("position", "length"):
        found = faulty.effect(name)
        assert found.recovered
        assert found.reported
        # The interval says something: it is no wider than what was planted.
        assert found.high - found.low < abs(found.planted)
    assert not clean.effect("position").reported
    assert abs(clean.effect("position").found) < 0.15
    assert faulty.raw < faulty.both < 1
    assert faulty.raw < faulty.controlled
    assert clean.both > 0.9


def test_the_same_judge_is_measured_the_same_each_time(results: list[Result]) -> None:
    again, once = measure(results[0].setting, PAIRS), results[0]

    def numbers(found: Result) -> list[float]:
        effects = (number for one in found.effects for number in (one.found, one.low, one.high))
        return [*effects, found.raw, found.both, found.controlled]

    # But for the last digit: SQL sums in the order in which its threads end.
    assert numbers(again) == pytest.approx(numbers(once), rel=1e-9)


def test_a_missed_effect_an_alarm_and_a_label_made_worse_break_their_promises(
    results: list[Result], tmp_path: Path
) -> None:
    faulty, clean = results
    assert all(verdict.passes for verdict in verdicts([faulty]))
    missed = replace(faulty, effects=(Effect("position", 1.5, 0.0, -0.1, 0.1), *faulty.effects[1:]))
    worse = replace(faulty, controlled=faulty.raw)
    loud = replace(clean, effects=tuple(Effect(name, 0.0, 0.5, 0.4, 0.6) for name in EFFECTS))
    assert loud.alarms == list(EFFECTS)
    for broken in (missed, worse, loud):
        assert not all(verdict.passes for verdict in verdicts([broken]))
    assert "0.000 [−0.100, 0.100] **out**" in show([missed])
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- bench-judges: judges.json -->\nstale\n<!-- /bench-judges -->\nafter\n")
    write(tmp_path / "judges.json", page, [faulty, clean], verdicts([faulty, clean]))
    text = page.read_text()
    assert text.startswith("before\n<!-- bench-judges: judges.json -->\nMeasured 20")
    assert "stale" not in text
    assert "| 900 | 1.5 | −10 | 0 | 1 | 0.9 |" in text
