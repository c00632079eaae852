"""Votes of which a label is outside the tokens that a server tells of: what is taken for it, and what that does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from chains import Rows, prompt
from fleet_servers import fleet
from numpy.typing import NDArray
from test_judge_methods import PAIR, judge

from constitution import templates
from constitution.engines.base import Completion
from constitution.engines.fake import FakeEngine
from constitution.engines.openai.votes import TOP_LOGPROBS, read
from constitution.judge.ask import vote
from constitution.judge.methods import METHODS
from constitution.judge.read import read_choices
from constitution.recipe import FakeModel
from constitution.records import Judgement
from rehearsal.server import FakeServer

EFFECT = 0.5
"""Log-odds that the first place is planted to give."""
PAIRS = 5_000
WORDS = 200


@dataclass(frozen=True)
class Simulated:
    """Votes in both orders on pairs of which a judge of known leanings sees the one as better by far, or hardly."""

    truth: NDArray[np.float64]
    """(2, n) P(A) / (P(A) + P(B)) of the order a first, and of b first."""
    read: NDArray[np.float64]
    """The same, as it is read of a server's reply."""
    censored: NDArray[np.bool_]


def simulated(seed: int, spread: float) -> Simulated:
    generator = np.random.default_rng(seed)
    better = generator.normal(0, spread, PAIRS)
    truth, found, censored = (np.empty((2, PAIRS)) for _ in range(3))
    for order, sign in enumerate((1, -1)):
        lean = sign * better + EFFECT + 0.5 * generator.normal(size=PAIRS)
        mass = generator.beta(40 * 0.97, 40 * 0.03, PAIRS)
        first = mass / (1 + np.exp(-lean))
        words = np.exp(1.5 * generator.normal(size=(PAIRS, WORDS)))
        words *= ((1 - mass) / words.sum(1))[:, None]
        words = -np.sort(-words)[:, :TOP_LOGPROBS]
        truth[order] = first / mass
        for pair in range(PAIRS):
            all_of_them = {"A": first[pair], "B": mass[pair] - first[pair]} | dict(enumerate(words[pair]))
            likeliest = sorted(all_of_them.items(), key=lambda item: -item[1])[:TOP_LOGPROBS]
            reading = read_choices(completion(likeliest), templates.LABELS)
            found[order, pair] = reading.found[0] / sum(reading.found)
            censored[order, pair] = reading.censored
    return Simulated(truth, found, censored.astype(bool))


def completion(likeliest: list[tuple[Any, float]]) -> Completion:
    told = [{"token": str(token), "logprob": math.log(p)} for token, p in likeliest]
    said = read(templates.LABELS, (), {"logprobs": {"content": [{"top_logprobs": told}]}}, "here")
    return Completion("", "length", 1, 1, 0, said.logprobs, unseen=said.unseen)


def position_effect(votes: NDArray[np.float64]) -> float:
    """With the bounds of log-odds that the view `couples` has."""
    odds = np.clip(votes / (1 - np.minimum(votes, 1 - 1e-9)), 1e-6, 1e6)
    return float(np.log(odds).mean())


def test_votes_outside_the_list_leave_a_planted_position_effect_as_it_is() -> None:
    votes = simulated(1, 5.0)
    assert 0.1 < votes.censored.any(0).mean() < 0.2
    truth = position_effect(votes.truth)
    assert truth == pytest.approx(EFFECT, abs=0.01)
    certain = np.where(votes.censored, np.where(votes.read > 0.5, 1.0, 0.0), votes.read)
    assert position_effect(certain) > truth + 0.05
    assert position_effect(votes.read) == pytest.approx(truth, abs=0.05)
    # As the audit has it: without the couples that have such a vote.
    assert position_effect(votes.read[:, ~votes.censored.any(0)]) == pytest.approx(truth, abs=0.01)
    # No vote is a certainty, all are on the side that they were on, and none is off by much, or to one side.
    assert votes.read.min() > 0
    assert votes.read.max() < 1
    assert ((votes.read > 0.5) == (votes.truth > 0.5)).all()
    off = (votes.read - votes.truth)[votes.censored]
    assert np.abs(off).max() < 0.01
    assert off.mean() == pytest.approx(0, abs=1e-4)


async def test_every_method_is_bounded_over_http_and_nothing_in_process() -> None:
    fake = FakeEngine(FakeModel(engine="fake", position_bias=5.0))
    labels = {"score": templates.GRADES, "rubric": templates.REPLIES}
    for method in (name for name, each in METHODS.items() if not each.sampled):  # a verdict is text
        shown = labels.get(method, templates.LABELS)
        server = FakeServer(fake, labels=shown, prefix="continue")
        server.others = 30
        async with fleet([server]) as engine:
            over_http = await vote(judge(engine, method), prompt(), PAIR, {}, Rows().put)
        in_process = await vote(judge(fake, method), prompt(), PAIR, {}, Rows().put)
        exact = {row.id: row for row in in_process.judgements}
        assert not any(row.censored for row in in_process.judgements)
        assert len(over_http.judgements) == len(in_process.judgements) > 0
        censored = 0
        for row in over_http.judgements:
            assert isinstance(row, Judgement)
            censored += row.censored
            near = 0.01 if row.censored else 1e-9
            assert row.p_first == pytest.approx(exact[row.id].p_first, abs=near)
            assert 0 < row.p_first < 1
        # After a rationale, and of yes and no, the fake judge is never so sure.
        assert bool(censored) is (method in ("label", "score")), method


def test_bounds_of_several_grades_do_not_add_up_to_more_than_there_is() -> None:
    likeliest = [("7", 0.9), ("8", 0.05), ("x", 0.04)]
    told = [{"token": token, "logprob": math.log(p)} for token, p in likeliest]
    said = read(templates.GRADES, (), {"logprobs": {"content": [{"top_logprobs": told}]}}, "here")
    reading = read_choices(Completion("", "stop", 1, 1, 0, said.logprobs, unseen=said.unseen), templates.GRADES)
    assert reading.censored
    assert reading.mass <= 0.96 + 1e-9
    assert reading.found[6] == pytest.approx(0.9)
    assert len(set(reading.found) - set(reading.found[6:8])) == 1
