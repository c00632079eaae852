"""Method verdict: what is asked, what counts as a verdict, what is none, and the interval of a share."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from chains import PRINCIPLES, Reply, Rows, Scripted, answer, labeller, prompt, said

from constitution.engines.base import Completion, Engine, Request
from constitution.engines.fake import FakeEngine
from constitution.errors import EngineUnavailable, RecipeError
from constitution.judge.ask import Judge, vote
from constitution.judge.methods import METHODS, check
from constitution.judge.pairs import Pair
from constitution.judge.verdict import P_FIRST
from constitution.labels import Rules, label_pair
from constitution.labels.votes import AveragedVotes, interval
from constitution.measures.estimate import wilson
from constitution.recipe import FakeModel, JudgeSection, Recipe
from constitution.records import Failure, Judgement, Preference

BETTER, WORSE = "Check the label before you begin.", "Nobody reads labels, just begin."
PAIR = Pair("pair-1", "first-last", answer(0, WORSE), answer(1, BETTER))
WEIGHTS = {principle.id: principle.weight for principle in PRINCIPLES}


def judge(engine: Engine, n: int = 4, **verdict: object) -> Judge:
    section = JudgeSection.model_validate({"method": "verdict", "verdict": {"n": n, **verdict}})
    return Judge("run-1", 7, 1, engine, engine.model, PRINCIPLES, section)


def writes(text: str, reason: str = "stop") -> Scripted:
    return Scripted(lambda request: said(text, reason))


# --- one verdict


async def test_each_verdict_is_a_row_with_what_the_judge_wrote() -> None:
    def written(request: Request) -> Reply:
        return replace(
            said(f"The second is safer ({request.seed}).\n\nVerdict: B\n"), reasoning=" hm ", reasoning_tokens=2
        )

    engine, rows = Scripted(written), Rows()
    votes = await vote(judge(engine, 3, temperature=0.7, max_tokens=99), prompt(), PAIR, {}, rows.put)
    assert votes.expected == len(votes.judgements) == 3 * 2 * len(PRINCIPLES)
    assert votes.heard
    for request in engine.requests:
        assert (request.choices, request.continues, request.step) == ((), False, "vote")
        assert (request.sampling.temperature, request.sampling.max_tokens, request.sampling.stop) == (0.7, 99, ())
        assert len(request.messages) == 1  # any server takes it
    assert len({request.seed for request in engine.requests}) == votes.expected
    for row in votes.judgements:
        assert (row.method, row.p_first, row.label_mass, row.calls) == ("verdict", 0.0, 1.0, 1)
        assert row.rationale == f"The second is safer ({row.seed}).\n\nVerdict: B"
        assert (row.rationale_reasoning, row.reasoning_tokens) == ("hm", 2)
        assert row.template_digest == METHODS["verdict"].templates.digest
    assert {row.repeat for row in votes.judgements} == {0, 1, 2}


@pytest.mark.parametrize(
    ("text", "p_first"),
    [
        ("Verdict: A", 1.0),
        ("A is kinder.\n\n**Verdict: B**\n\n", 0.0),
        ("## Verdict: **tie**", 0.5),
        ("Both are fine.\nVerdict: (A).", 1.0),
        ("“Verdict: B”", 0.0),
        ("verdict: TIE", 0.5),
        ("Verdict: A\nThat is,\nVerdict: A", 1.0),
        ("The second asks for it:\n> Verdict: B\n\nVerdict: A", 1.0),
        ("If it were safer I would write Verdict: B, but it is not.\nVerdict: A", 1.0),
    ],
)
async def test_what_is_a_verdict(text: str, p_first: float) -> None:
    votes = await vote(judge(writes(text), 1), prompt(), PAIR, {}, Rows().put)
    assert {row.p_first for row in votes.judgements} == {p_first}
    assert len(votes.judgements) == votes.expected


@pytest.mark.parametrize(
    ("text", "reason", "why"),
    [
        ("", "stop", "there is no text"),
        ("", "length", "max_tokens were used up, before any text"),
        ("So\nVerdict: A", "length", "max_tokens were used up, so it may not be whole"),
        ("A is better.", "stop", "the last line is no verdict: …A is better."),
        ("Verdict: A\nI hope that helps.", "stop", "the last line is no verdict: …I hope that helps."),
        ("Verdict: A or B", "stop", "the last line is no verdict: …Verdict: A or B"),
        ("Verdict: C", "stop", "the last line is no verdict: …Verdict: C"),
        ("The second asks for it:\n> Verdict: B", "stop", "the last line is no verdict: …> Verdict: B"),
        ("Verdict: tıe", "stop", "the last line is no verdict: …Verdict: tıe"),
        ("Verdict: tİe", "stop", "the last line is no verdict: …Verdict: tİe"),
        ("Verdict: А", "stop", "the last line is no verdict: …Verdict: А"),
        ("Verdict: A is better", "stop", "the last line is no verdict"),
        ("Verdict:\nA", "stop", "the last line is no verdict: …A"),
        ("The answer is: (A)", "stop", "the last line is no verdict"),
        ("[[A]]", "stop", "the last line is no verdict"),
        ("Verdict: B\nNo, wait.\nVerdict: A", "stop", "the text has several: A, B"),
        ("Verdict: A", "refusal", "the server refused it"),
        ("Verdict: A", "content_filter", "the server's content filter held it back"),
    ],
)
async def test_what_is_none_is_a_final_failure_and_never_a_vote(text: str, reason: str, why: str) -> None:
    rows = Rows()
    votes = await vote(judge(writes(text, reason), 2), prompt(), PAIR, {}, rows.put)
    assert not votes.judgements
    assert not votes.open
    assert not votes.heard
    assert all(isinstance(row, Failure) and not row.retryable and row.step == "vote" for row in rows.all)
    assert all(failure.message.startswith("verdict: ") and why in failure.message for failure in votes.failures)
    engine = writes("Verdict: A")
    again = await vote(judge(engine, 2), prompt(), PAIR, rows.have, rows.put)
    assert (again.judgements, engine.requests) == ((), [])


async def test_a_seed_that_was_not_sent_is_not_in_the_row() -> None:
    engine = Scripted(lambda request: Completion("Verdict: A", "stop", 1, 1, unsent=("seed", "temperature")))
    votes = await vote(judge(engine, 1), prompt(), PAIR, {}, Rows().put)
    assert {row.seed for row in votes.judgements} == {None}


# --- all of them


async def test_only_what_is_missing_is_asked_again_and_more_verdicts_leave_the_first() -> None:
    whole = Rows()
    first = await vote(judge(writes("Verdict: A"), 2), prompt(), PAIR, {}, whole.put)
    for known in (0, 1, 5, 12):
        engine = writes("Verdict: A")
        votes = await vote(judge(engine, 2), prompt(), PAIR, {row.id: row for row in whole.all[:known]}, Rows().put)
        assert len(engine.requests) == 12 - known
        assert set(votes.judgements) == set(first.judgements)
    more = await vote(judge(writes("Verdict: A"), 3), prompt(), PAIR, {}, Rows().put)
    assert {row.id for row in first.judgements} < {row.id for row in more.judgements}


def some_unread(request: Request) -> Reply:
    """One verdict of four, told by its seed, cannot be read."""
    return "Well." if request.seed % 4 == 0 else "Verdict: A" if request.seed % 2 else "Verdict: B"


async def test_a_pair_is_labelled_by_the_verdicts_that_can_be_read() -> None:
    rows = Rows()
    judging = labeller(JudgeSection(method="verdict"), Scripted(some_unread))
    pair_answers = [PAIR.a, PAIR.b]
    failures = await judging.label(prompt(), pair_answers, {}, rows.put)
    assert failures == []  # the judge is heard: no engine failed
    [label] = [row for row in rows.all if isinstance(row, Preference)]
    unread = [row for row in rows.all if isinstance(row, Failure)]
    assert unread
    assert (label.votes + len(unread), label.votes_missing) == (4 * 2 * 3, len(unread))
    assert label.p_low is not None
    assert label.p_high is not None
    assert 0 <= label.p_low < (label.p_b or 0) < label.p_high <= 1
    before = len(rows.all)
    assert await judging.label(prompt(), pair_answers, rows.have, rows.put) == []
    assert len(rows.all) == before


async def test_a_judge_of_which_nothing_can_be_read_is_not_heard() -> None:
    rows = Rows()
    judging = labeller(JudgeSection(method="verdict"), writes("I cannot say."))
    failures = await judging.label(prompt(), [PAIR.a, PAIR.b], {}, rows.put)
    assert len(failures) == 24
    [label] = [row for row in rows.all if isinstance(row, Preference)]
    assert (label.drop_reason, label.votes, label.votes_missing, label.p_low) == ("votes-missing", 0, 24, None)
    assert len(await judging.label(prompt(), [PAIR.a, PAIR.b], rows.have, rows.put)) == 24


async def test_an_outage_is_waited_for_though_some_verdicts_are_there() -> None:
    rows = Rows()
    broken = Scripted(lambda request: EngineUnavailable("gone") if request.seed % 2 else "Verdict: A")
    await labeller(JudgeSection(method="verdict"), broken).label(prompt(), [PAIR.a, PAIR.b], {}, rows.put)
    assert not any(isinstance(row, Preference) for row in rows.all)
    await labeller(JudgeSection(method="verdict"), writes("Verdict: A")).label(
        prompt(), [PAIR.a, PAIR.b], rows.have, rows.put
    )
    [label] = [row for row in rows.all if isinstance(row, Preference)]
    assert (label.votes, label.votes_missing, label.p_b) == (24, 0, 0.5)


def test_what_cannot_be() -> None:
    def recipe(section: dict[str, Any], **model: Any) -> Recipe:
        return Recipe.model_validate(
            {
                "name": "x",
                "constitution": "c@1.0.0",
                "prompts": {"path": "p.jsonl"},
                "judge": section,
                "model": {"policy": {"engine": "transformers", "model": "pocket"}, **model},
            }
        )

    check(recipe({"method": "verdict"}), PRINCIPLES, "c")
    for section, said_why in (
        ({"method": "verdict", "repeats": 2}, "judge.verdict.n"),
        ({"method": "verdict", "verdict": {"temperature": 0}}, "every verdict is the same"),
    ):
        with pytest.raises(RecipeError, match=said_why):
            check(recipe(section), PRINCIPLES, "c")
    check(recipe({"method": "verdict", "verdict": {"n": 1, "temperature": 0}}), PRINCIPLES, "c")
    with pytest.raises(ValueError, match="members of a jury"):
        recipe({}, judge={"engine": "fake", "method": "verdict"})
    jury = {"one": {"engine": "fake", "method": "rubric"}, "two": {"engine": "fake"}}
    with pytest.raises(RecipeError, match="rubric needs criteria"):
        check(recipe({}, jury=jury), PRINCIPLES, "c")


# --- the interval


def votes_of(p: Sequence[float], trials: Sequence[float]) -> AveragedVotes:
    count = len(p)
    return AveragedVotes(
        np.zeros(count, dtype=np.int64), np.arange(count), np.ones(count, dtype=np.int64), np.array(p),
        np.full(count, np.nan), np.array(trials),
    )  # fmt: skip


def test_the_interval_is_wilsons_and_read_votes_have_none() -> None:
    low, high = interval(votes_of([0.75], [8]), np.ones(1), 1)
    assert (low[0], high[0]) == pytest.approx(wilson(6, 8))
    low, high = interval(votes_of([0.75, 0.25], [8, 8]), np.ones(2), 1)
    assert (low[0], high[0]) == pytest.approx(wilson(8, 16))
    low, high = interval(votes_of([0.75], [math.inf]), np.ones(1), 1)
    assert np.isnan([low[0], high[0]]).all()
    low, high = interval(votes_of([1.0, 0.5], [8, math.inf]), np.array([1.0, 3.0]), 1)
    assert (low[0], high[0]) == pytest.approx(((wilson(8, 8)[0] + 1.5) / 4, (1 + 1.5) / 4))


async def test_the_interval_holds_the_judges_probability() -> None:
    """Planted judges of known probability: by principle, order and weight as unequal as they are in runs."""
    draw, inside, total = random.Random(5), 0, 3000
    weight = np.array([1.0, 3.0, 1.0])
    for _ in range(total):
        centre, place = draw.gauss(0, 1.5), draw.gauss(0, 0.7)
        truth, shares = [], []
        for _ in range(3):
            lean = centre + draw.gauss(0, 0.5)
            orders = [1 / (1 + math.exp(-(lean + sign * place))) for sign in (1, -1)]
            truth.append(sum(orders) / 2)
            shares.append(sum(sum(draw.random() < p for _ in range(4)) / 4 for p in orders) / 2)
        low, high = interval(votes_of(shares, [8.0] * 3), weight, 1)
        inside += low[0] <= (weight * truth).sum() / weight.sum() <= high[0]
    assert inside / total >= 0.93


async def planted(method: str, rows: Rows, pairs: Sequence[Pair], **section: object) -> list[Preference]:
    fake = FakeEngine(FakeModel.model_validate({"engine": "fake", "noise": 0.0, "position_bias": 0.8}))
    settings = JudgeSection.model_validate({"method": method, **section})
    judging = Judge("run-1", 7, 1, fake, "fake", PRINCIPLES, settings)
    votes = await asyncio.gather(*(vote(judging, prompt(), pair, {}, rows.put) for pair in pairs))
    return [
        label_pair(pair, each.judgements, each.expected, WEIGHTS, Rules())
        for pair, each in zip(pairs, votes, strict=True)
    ]


async def test_verdicts_prefer_what_labels_prefer_and_their_interval_covers_the_label() -> None:
    writer = FakeEngine(FakeModel(engine="fake"))
    hot = JudgeSection().verdict.sampling
    texts = [(await writer.generate(Request(prompt().messages, hot, seed))).text for seed in range(400)]
    pairs = [
        Pair(f"pair-{n}", "given", replace(answer(0, a), id=f"a{n}"), replace(answer(1, b), id=f"b{n}"))
        for n, (a, b) in enumerate(zip(texts[::2], texts[1::2], strict=True))
        if a != b
    ]
    read, written = await planted("label", Rows(), pairs), await planted("verdict", Rows(), pairs)
    covered = clear = same = 0
    for one, other in zip(read, written, strict=True):
        assert one.p_b is not None
        assert other.p_b is not None
        assert one.p_low is None
        assert other.p_low is not None
        assert other.p_high is not None
        covered += other.p_low - 1e-9 <= one.p_b <= other.p_high + 1e-9
        if abs(one.p_b - 0.5) > 0.25:
            clear += 1
            same += (one.p_b > 0.5) == (other.p_b > 0.5)
    assert clear > 80
    assert same == clear
    assert covered / len(pairs) >= 0.93
    assert set(P_FIRST.values()) >= {row.p_first for row in await _rows(pairs[:3])}


async def _rows(pairs: Sequence[Pair]) -> list[Judgement]:
    rows = Rows()
    await planted("verdict", rows, pairs)
    return [row for row in rows.all if isinstance(row, Judgement)]
