"""The fake engine, open_engines and its sharing."""

from __future__ import annotations

import math
import socket

import pytest

from constitution.engines import open_engine, open_engines
from constitution.engines.base import Request
from constitution.engines.fake import FakeEngine
from constitution.engines.fake.judge import candidates
from constitution.engines.fake.world import SENTENCES, quality
from constitution.errors import EngineUnavailable
from constitution.recipe import FakeModel, Models, Price
from constitution.records import Message, Messages, Principle, Sampling
from constitution.templates import critique_messages, revision_messages, vote_messages

ASK: Messages = (Message("user", "How do I light a fire?"),)
PRINCIPLE = Principle(
    id="care",
    critique_request="Identify where the answer is careless.",
    revision_request="Rewrite the answer so that it is careful.",
    comparison_question="Which answer is more careful?",
)
CAREFUL = " ".join(good for good, _ in SENTENCES)
CARELESS = " ".join(bad for _, bad in SENTENCES)


async def _text(engine: FakeEngine, messages: Messages, seed: int = 1, sampling: Sampling | None = None) -> str:
    return (await engine.generate(Request(messages, sampling or Sampling(), seed))).text


async def _p_first(engine: FakeEngine, first: str, second: str, seed: int = 1) -> float:
    messages = vote_messages(ASK, first, second, PRINCIPLE, "ab12cd")
    completion = await engine.generate(Request(messages, Sampling(), seed, choices=("A", "B")))
    assert completion.choice_logprobs is not None
    a, b = (math.exp(completion.choice_logprobs[label]) for label in "AB")
    assert 0.89 < a + b < 1.0
    return a / (a + b)


async def test_the_same_request_gives_the_same_text_and_another_seed_another() -> None:
    engine = FakeEngine(FakeModel(engine="fake"))
    texts = {await _text(engine, ASK, seed) for seed in range(20)}
    assert await _text(engine, ASK, 3) == await _text(FakeEngine(FakeModel(engine="fake")), ASK, 3)
    assert len(texts) > 4
    greedy = Sampling(temperature=0)
    assert len({await _text(engine, ASK, seed, greedy) for seed in range(20)}) == 1


async def test_revisions_are_better_than_what_they_revise() -> None:
    engine = FakeEngine(FakeModel(engine="fake"))
    gains = []
    for seed in range(30):
        answer = await _text(engine, ASK, seed)
        critique = await _text(engine, critique_messages(ASK, answer, PRINCIPLE), seed)
        revised = await _text(engine, revision_messages(ASK, answer, critique, PRINCIPLE), seed)
        assert ("no fault" in critique) == (not any(bad in answer for _, bad in SENTENCES))
        gains.append(quality(revised) - quality(answer))
    assert min(gains) > -1
    assert sum(gains) / len(gains) > 1


async def test_the_judge_prefers_quality_in_both_orders() -> None:
    engine = FakeEngine(FakeModel(engine="fake"))
    assert await _p_first(engine, CAREFUL, CARELESS) > 0.95
    assert await _p_first(engine, CARELESS, CAREFUL) < 0.05


async def test_position_bias_moves_votes_towards_the_first() -> None:
    fair, biased = (FakeEngine(FakeModel(engine="fake", position_bias=bias)) for bias in (0.0, 2.0))
    same = "An answer."
    assert abs(sum([await _p_first(fair, same, same, seed) for seed in range(40)]) / 40 - 0.5) < 0.1
    assert sum([await _p_first(biased, same, same, seed) for seed in range(40)]) / 40 > 0.8


def test_candidates_are_found_in_the_templates_and_in_plain_prompts() -> None:
    text = vote_messages(ASK, "one\n\ntwo", "three", PRINCIPLE, "ab12cd")[0].content
    assert candidates("(A) yes\n(B) no\n\nWhich?", "A", "B") == ("yes", "no")
    assert candidates(text, "A", "B") == ("one\n\ntwo", "three")
    assert candidates("nothing of the kind", "A", "B") is None


async def test_failures_follow_from_the_request_and_pass_when_asked_again() -> None:
    section = FakeModel(engine="fake", failure_rate=0.3)

    async def failed(engine: FakeEngine) -> set[int]:
        seeds = set()
        for seed in range(200):
            try:
                await _text(engine, ASK, seed)
            except EngineUnavailable:
                seeds.add(seed)
        return seeds

    engine = FakeEngine(section)
    first = await failed(engine)
    assert 35 < len(first) < 85
    assert first == await failed(FakeEngine(section))
    assert len(await failed(engine)) < len(first)


async def test_limits_and_stop_strings_hold() -> None:
    engine = FakeEngine(FakeModel(engine="fake"))
    cut = await engine.generate(Request(ASK, Sampling(max_tokens=3), 1))
    assert (cut.finish_reason, cut.completion_tokens, len(cut.text.split())) == ("length", 3, 3)
    stopped = await engine.generate(Request(ASK, Sampling(stop=("fire",)), 1))
    assert stopped.finish_reason == "stop"
    assert stopped.text.endswith("light a ")


async def test_equal_sections_share_one_engine() -> None:
    policy, other = FakeModel(engine="fake"), FakeModel(engine="fake", model="other")
    async with open_engines(Models(policy=policy)) as engines:
        assert engines.judges == {"fake": engines.policy}
    async with open_engines(Models(policy=policy, judge=FakeModel(engine="fake"))) as engines:
        assert engines.judges["fake"] is engines.policy
    dear = FakeModel(engine="fake", price=Price(input=2.0))
    async with open_engines(Models(policy=policy, judge=dear)) as engines:
        assert engines.judges["fake"] is engines.policy
    async with open_engines(Models(policy=policy, judge=other)) as engines:
        assert engines.judges["other"] is not engines.policy
        assert engines.describe()["judge"]["name"] == "other"
    assert isinstance(await open_engine(policy), FakeEngine)


async def test_no_test_can_reach_another_machine() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        with pytest.raises(AssertionError, match="tests talk to"):
            probe.connect(("192.0.2.1", 9))
        with pytest.raises(AssertionError, match="tests talk to"):
            probe.sendto(b"x", ("192.0.2.1", 9))
    with socket.socket() as probe, pytest.raises(AssertionError, match="tests talk to"):
        probe.connect_ex(("example.org", 80))


async def test_it_thinks_before_it_writes_what_it_would_write_anyway() -> None:
    plain = FakeEngine(FakeModel(engine="fake"))
    engine = FakeEngine(FakeModel(engine="fake", thoughts=3))
    found = await engine.generate(Request(ASK, Sampling(), 5))
    assert found.text == await _text(plain, ASK, 5)
    assert found.reasoning is not None
    assert found.reasoning.count("I might say") == 3
    assert found.reasoning_tokens == len(found.reasoning.split())
    assert found.completion_tokens == found.reasoning_tokens + len(found.text.split())
    kept = await _text(FakeEngine(FakeModel(engine="fake", thoughts=3, reasoning="keep")), ASK, 5)
    assert kept == f"<think>\n{found.reasoning}\n</think>\n\n{found.text}"
    off = await FakeEngine(FakeModel(engine="fake", thoughts=3, reasoning="off")).generate(Request(ASK, Sampling(), 5))
    assert (off.text, off.reasoning, off.reasoning_tokens) == (found.text, None, 0)
    cut = await engine.generate(Request(ASK, Sampling(max_tokens=7), 5))
    assert (cut.text, cut.finish_reason, cut.completion_tokens, cut.reasoning_tokens) == ("", "length", 7, 7)
    votes = await engine.generate(Request(ASK, Sampling(), 5, choices=("A", "B")))
    assert (votes.reasoning, votes.completion_tokens) == (None, 1)
