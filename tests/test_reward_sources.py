"""What readings and rules come to: means, vetoes, penalties of length, patterns."""

from __future__ import annotations

import pytest

from constitution.judge.by_rule import reads as rules_of
from constitution.judge.sources import Part, combine, length_penalty
from constitution.measures import words
from constitution.recipe import LengthSection, RewardSection, RulesSection
from constitution.records import Constitution


def test_the_mean_and_the_veto() -> None:
    section = RewardSection(combine="veto", bar=0.5)
    good, bad = Part(0.9, 3.0, essential=True), Part(0.4, 1.0, essential=True)
    assert list(combine(section, [good, Part(0.1)], 1, (0.0, 1.0))) == [pytest.approx(0.7), pytest.approx(0.7), 0.9]
    assert list(combine(section, [good, bad], 2, (1.0, 9.0))) == [0.0, pytest.approx(1 + 8 * 0.775), 0.4]
    assert combine(section, [good], 2, (0.0, 1.0)).value is None  # what was not read may be under the bar
    assert combine(section, [bad], 2, (0.0, 1.0)).value == 0.0  # one that was read is
    assert combine(RewardSection(), [good], 2, (0.0, 1.0)).value == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("limit", "ramp", "length", "penalty"),
    [(10, 0, 10, 0.0), (10, 0, 11, -2.0), (10, 4, 6, 0.0), (10, 4, 7, -0.5), (10, 4, 10, -2.0), (10, 4, 99, -2.0)],
)
def test_what_is_too_long_loses(limit: int, ramp: int, length: int, penalty: float) -> None:
    section = RewardSection(length=LengthSection(limit=limit, ramp=ramp, penalty=2.0))
    assert length_penalty(section, length) == pytest.approx(penalty)
    assert length_penalty(RewardSection(), length) is None


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0), ("…!", 0), ("Don't stop: 3.14 is well-known.", 5), ("回答礼貌吗？", 5), ("Straße, naïve café", 3),
        ("안녕하세요 세계", 2), ("GPT 模型", 3),
    ],
)  # fmt: skip
def test_words(text: str, count: int) -> None:
    assert words(text) == count


def test_rules_and_patterns_that_would_take_hours() -> None:
    section = RewardSection(
        by=("rule",),
        rules=RulesSection(words=(1, 6), refusal="wanted", wanted=("(a+)+$", "^I"), unwanted=("\\bno\\b",)),
    )
    constitution = Constitution("c", "1.0.0", "", ())
    kept = rules_of(section, constitution).rules
    assert kept is not None
    assert kept("I'm sorry, I can't, no a") == [Part(value, essential=True) for value in (1.0, 1.0, 1.0, 1.0, 0.0)]
    assert kept("a" * 50_000 + "!") == [Part(value, essential=True) for value in (1.0, 0.0, 0.0, 0.0, 1.0)]
