"""The ways to take a vote: what is asked, what is read, what it costs, and what is never a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from chains import Reply, Rows, Scripted, answer, principle, prompt, said
from fleet_servers import fleet
from hypothesis import given
from hypothesis import strategies as st

from constitution import templates
from constitution.engines.base import Completion, Engine, Request, Unseen
from constitution.engines.fake import FakeEngine
from constitution.errors import ContextTooLong, EngineUnavailable, MalformedReply
from constitution.judge.ask import Judge, vote
from constitution.judge.methods import METHODS
from constitution.judge.pairs import Pair
from constitution.judge.read import Reading, checklist_sum, outgrade, read_choices
from constitution.recipe import FakeModel, JudgeSection
from constitution.records import Criterion, Judgement, Method, Principle
from rehearsal.server import FakeServer

CRITERIA = (
    Criterion("Does it say what to check first?"),
    Criterion("Is it careless?", good="no", weight=2.0),
    Criterion("Is it in steps?", weight=0.5),
)
PRINCIPLES: tuple[Principle, ...] = tuple(replace(principle(id), criteria=CRITERIA) for id in ("calm", "kind"))
CAREFUL = (
    "Check the label before you begin. Ask someone who knows if you are unsure. Take your time and go step by step."
)
CARELESS = "Nobody reads labels, just begin. Only a fool would ask for help. Skip the boring steps."
READ = [name for name, method in METHODS.items() if not method.sampled]
"""Methods that read probabilities; test_judge_verdict.py has the other."""
PAIR = Pair("pair-1", "first-last", answer(0, CARELESS), answer(1, CAREFUL))


def judge(engine: Engine, method: Method, repeats: int = 1, **section: object) -> Judge:
    settings = JudgeSection.model_validate({"method": method, "repeats": repeats, **section})
    return Judge("run-1", 7, 1, engine, engine.model, PRINCIPLES, settings)


def fake(**settings: object) -> FakeEngine:
    return FakeEngine(FakeModel.model_validate({"engine": "fake", "noise": 0.0, **settings}))


def evenly(labels: Sequence[str], mass: float = 0.8) -> dict[str, float]:
    return {label: math.log(mass / len(labels)) for label in labels}


def replies(request: Request) -> Reply:
    """Labels with even chances; a rationale of three words."""
    return said("A", logprobs=evenly(request.choices)) if request.choices else said("It depends. Really.")


def p_b(row: Judgement) -> float:
    return row.p_first if row.first_id == "r1" else 1 - row.p_first


# --- all methods


@pytest.mark.parametrize("method", READ)
async def test_every_method_prefers_what_is_better_and_says_what_it_took(method: Method) -> None:
    rows = Rows()
    votes = await vote(judge(fake(), method), prompt(), PAIR, {}, rows.put)
    assert votes.expected == len(votes.judgements) == 2 * len(METHODS[method].orders)
    assert not votes.failures
    for row in votes.judgements:
        assert p_b(row) > 0.6
        assert 0.85 < row.label_mass <= 1
        assert (row.method, row.judge, row.repeat) == (method, "fake", 0)
        assert row.template_digest == METHODS[method].templates.digest
        assert row.calls == {"label": 1, "rationale": 2, "score": 2, "rubric": 6}[method]
        assert (row.rationale is not None) == (method == "rationale")
    orders = {(row.first_id, row.second_id) for row in votes.judgements}
    assert orders == ({("r0", "r1"), ("r1", "r0")} if method in ("label", "rationale") else {("r0", "r1")})


@pytest.mark.parametrize("method", READ)
async def test_tokens_and_calls_are_those_of_all_calls(method: Method) -> None:
    engine = Scripted(replies)
    [row, *_] = (await vote(judge(engine, method, principles=1), prompt(), PAIR, {}, Rows().put)).judgements
    calls = len(engine.requests) // len(METHODS[method].orders)
    assert row.calls == calls
    assert row.prompt_tokens == 10 * calls
    assert row.completion_tokens == calls + (2 if method == "rationale" else 0)


@pytest.mark.parametrize("method", READ)
async def test_repeats_are_votes_of_their_own_with_other_seeds(method: Method) -> None:
    engine, rows = Scripted(replies), Rows()
    once = await vote(judge(Scripted(replies), method), prompt(), PAIR, {}, Rows().put)
    votes = await vote(judge(engine, method, repeats=3), prompt(), PAIR, {}, rows.put)
    assert votes.expected == len({row.id for row in rows.all}) == 3 * once.expected
    by_repeat = {n: [row for row in votes.judgements if row.repeat == n] for n in range(3)}
    assert by_repeat[0] == list(once.judgements)  # asking for more leaves the first as they were
    seeds = {(row.principle_id, row.first_id, row.seed) for row in votes.judgements}
    assert len(seeds) == votes.expected
    again = await vote(judge(engine, method, repeats=3), prompt(), PAIR, rows.have, rows.put)
    assert set(again.judgements) == set(votes.judgements)
    assert len(rows.all) == votes.expected


@pytest.mark.parametrize("method", READ)
async def test_votes_bear_the_judges_name_and_two_judges_have_votes_of_their_own(method: Method) -> None:
    rows = Rows()
    for name in ("one", "two"):
        await vote(replace(judge(fake(), method), name=name), prompt(), PAIR, {}, rows.put)
    assert {row.judge for row in rows.all if isinstance(row, Judgement)} == {"one", "two"}
    assert len(rows.have) == len(rows.all) == 4 * len(METHODS[method].orders)


@pytest.mark.parametrize("method", READ)
async def test_what_cannot_be_read_is_a_final_failure_that_names_the_part(method: Method) -> None:
    last = {"label": "A", "rationale": "A", "score": "9", "rubric": "N"}[method]

    def unreadable(request: Request) -> Reply:
        if not request.choices:
            return said("Because.")
        return said("?", logprobs={label: -1.0 for label in request.choices if label != last})

    rows = Rows()
    votes = await vote(judge(Scripted(unreadable), method), prompt(), PAIR, {}, rows.put)
    assert not votes.judgements
    assert not votes.open
    assert {(row.error, row.retryable, row.step) for row in votes.failures} == {("MalformedReply", False, "vote")}
    part = {
        "label": "the reply has no",
        "rationale": "label after the rationale: ",
        "score": "grade of the first answer: ",
        "rubric": "criterion 1 of the first answer: ",
    }
    assert all(row.message.startswith(part[method]) for row in votes.failures)
    engine = Scripted(replies)
    again = await vote(judge(engine, method), prompt(), PAIR, rows.have, rows.put)
    assert (again.judgements, engine.requests) == ((), [])  # final: not asked again


@pytest.mark.parametrize("method", ["score", "rubric"])
async def test_one_failed_part_fails_the_vote_and_a_final_one_decides(method: Method) -> None:
    calls = 0

    def second_is_gone(request: Request) -> Reply | Exception:
        nonlocal calls
        calls += 1
        return EngineUnavailable("gone") if CAREFUL in request.messages[0].content else replies(request)

    votes = await vote(judge(Scripted(second_is_gone), method), prompt(), PAIR, {}, Rows().put)
    assert not votes.judgements
    assert votes.open
    assert all("of the second answer: gone" in row.message for row in votes.failures)

    def both(request: Request) -> Reply | Exception:
        failure = second_is_gone(request)
        return failure if CAREFUL in request.messages[0].content else ContextTooLong("too long")

    votes = await vote(judge(Scripted(both), method), prompt(), PAIR, {}, Rows().put)
    assert not votes.open
    assert {row.error for row in votes.failures} == {"ContextTooLong"}


async def test_a_vote_that_failed_on_the_way_is_cast_by_the_next_start() -> None:
    rows = Rows()

    def no_labels(request: Request) -> Reply:
        return EngineUnavailable("gone") if request.choices else said("Because.")

    first = await vote(judge(Scripted(no_labels), "rationale"), prompt(), PAIR, {}, rows.put)
    assert first.open
    assert {row.message for row in first.failures} == {"label after the rationale: gone"}
    second = replace(judge(Scripted(replies), "rationale"), attempt=2)
    votes = await vote(second, prompt(), PAIR, rows.have, rows.put)
    assert (len(votes.judgements), votes.open) == (4, False)


async def test_a_fault_of_our_own_is_not_a_failure_of_the_judge() -> None:
    def broken(request: Request) -> Reply:
        raise RuntimeError("a bug")

    with pytest.raises(BaseExceptionGroup):
        await vote(judge(Scripted(broken), "rubric"), prompt(), PAIR, {}, Rows().put)


@pytest.mark.parametrize(
    ("method", "labels"), [("rationale", ("A", "B")), ("score", templates.GRADES), ("rubric", templates.REPLIES)]
)
@pytest.mark.parametrize("prefix", ["flag", "echo"])
async def test_votes_over_http_are_those_in_process(method: Method, labels: tuple[str, ...], prefix: Any) -> None:
    inside = await vote(judge(fake(noise=0.5), method), prompt(), PAIR, {}, Rows().put)
    server = FakeServer(fake(noise=0.5), labels=labels, prefix=prefix)
    async with fleet([server]) as engine:
        votes = await vote(replace(judge(engine, method), name="fake"), prompt(), PAIR, {}, Rows().put)
    assert not votes.failures
    assert [row.id for row in votes.judgements] == [row.id for row in inside.judgements]
    for over, direct in zip(votes.judgements, inside.judgements, strict=True):
        assert over.p_first == pytest.approx(direct.p_first)
        assert over.label_mass == pytest.approx(direct.label_mass)
        assert over.rationale == direct.rationale


# --- rationale


async def test_the_judge_reasons_and_the_label_is_read_after_the_standard_ending() -> None:
    engine = Scripted(lambda request: replies(request) if request.choices else said("  One is kinder.\n"))
    judging = judge(engine, "rationale", principles=1, rationale={"max_tokens": 33, "temperature": 0.7, "stop": ["#"]})
    votes = await vote(judging, prompt(), PAIR, {}, Rows().put)
    reasoning = [request for request in engine.requests if not request.choices]
    reading = [request for request in engine.requests if request.choices]
    assert len(reasoning) == len(reading) == 2
    for request in reasoning:
        assert not request.continues
        assert request.sampling == replace(judging.section.rationale.sampling, stop=("#", "The answer is:"))
        assert (request.sampling.max_tokens, request.sampling.temperature) == (33, 0.7)
    assert {request.messages[1].content for request in reading} == {"One is kinder.\n\nThe answer is: ("}
    assert {request.messages[0] for request in reading} == {request.messages[0] for request in reasoning}
    assert {request.choices for request in reading} == {("A", "B")}
    assert all(a.priority > b.priority for a in reasoning for b in reading)
    assert {row.rationale for row in votes.judgements} == {"One is kinder."}


async def test_a_judge_that_ends_as_asked_is_stopped_there_and_read_after_our_ending() -> None:
    votes = await vote(judge(fake(), "rationale"), prompt(), PAIR, {}, Rows().put)
    for row in votes.judgements:
        assert row.rationale
        assert row.rationale.endswith("is better.")
        assert "The answer is" not in row.rationale


async def test_a_judge_that_gives_no_reasons_is_kept_as_such() -> None:
    engine = Scripted(lambda request: replies(request) if request.choices else said(""))
    votes = await vote(judge(engine, "rationale", principles=1), prompt(), PAIR, {}, Rows().put)
    assert {row.rationale for row in votes.judgements} == {""}
    assert engine.requests[-1].messages[-1].content == "The answer is: ("


# --- score


async def test_grades_are_read_raw_and_compared_as_distributions() -> None:
    def grade(request: Request) -> Reply:
        high = CAREFUL in request.messages[0].content
        p = {"8": 0.6, "5": 0.2} if high else {"5": 0.3, "2": 0.3}
        return said("5", logprobs={label: math.log(p[label]) if label in p else -math.inf for label in request.choices})

    engine = Scripted(grade)
    [row] = (await vote(judge(engine, "score", principles=1), prompt(), PAIR, {}, Rows().put)).judgements
    assert [request.choices for request in engine.requests] == [tuple("123456789")] * 2
    assert [request.messages[1].content for request in engine.requests] == ["The grade is: ("] * 2
    assert (row.first_id, row.second_id) == ("r0", "r1")
    assert row.read_first == pytest.approx((0, 0.3, 0, 0, 0.3, 0, 0, 0, 0))
    assert row.read_second == pytest.approx((0, 0, 0, 0, 0.2, 0, 0, 0.6, 0))
    assert row.label_mass == pytest.approx(0.6)  # the smaller of 0.6 and 0.8
    assert row.p_first == pytest.approx(0.5 * 0.25 / 2)  # first is never higher, and equal where both are 5


async def test_twenty_grades_are_letters_from_the_worst_to_the_best() -> None:
    def grade(request: Request) -> Reply:
        best = "B" if CAREFUL in request.messages[0].content else "S"
        return said(best, logprobs={label: 0.0 if label == best else -math.inf for label in request.choices})

    engine = Scripted(grade)
    judging = judge(engine, "score", principles=1, score={"steps": 20})
    [row] = (await vote(judging, prompt(), PAIR, {}, Rows().put)).judgements
    assert [request.choices for request in engine.requests] == [tuple("TSRQPONMLKJIHGFEDCBA")] * 2
    assert "(A) entirely" in engine.requests[0].messages[0].content
    assert row.read_first is not None
    assert row.read_second is not None
    assert (len(row.read_first), row.read_first.index(1.0), row.read_second.index(1.0)) == (20, 1, 18)
    assert row.p_first == 0.0
    assert row.template_digest == templates.SCORE_FINE.digest != templates.SCORE.digest
    [fine] = (await vote(replace(judging, engine=fake()), prompt(), PAIR, {}, Rows().put)).judgements
    assert p_b(fine) > 0.9


def test_outgrading() -> None:
    assert outgrade([0, 1, 0], [0, 1, 0]) == 0.5
    assert outgrade([0, 0, 0.1], [0.2, 0.2, 0]) == 1.0
    assert outgrade([1, 0], [0, 1]) == 0.0
    assert outgrade([1, 1], [0, 1]) == pytest.approx(0.25)


grades = st.lists(st.floats(1e-6, 1), min_size=9, max_size=9)


@given(grades, grades, st.floats(0.01, 1))
def test_outgrading_is_a_probability_its_own_opposite_and_blind_to_missing_mass(
    first: list[float], second: list[float], mass: float
) -> None:
    there, back = outgrade(first, second), outgrade(second, first)
    assert 0 <= there <= 1
    assert there + back == pytest.approx(1)
    assert outgrade([p * mass for p in first], second) == pytest.approx(there)
    by_hand = sum(p * q * ((i > j) + (i == j) / 2) for i, p in enumerate(first) for j, q in enumerate(second))
    assert there == pytest.approx(by_hand / sum(first) / sum(second))


# --- rubric


async def test_criteria_are_asked_one_by_one_and_weighed_by_what_is_good() -> None:
    # P(yes) of the criteria, renormalised: the second answer has what is good of all three.
    p_yes = {CARELESS: (0.2, 0.9, 0.5), CAREFUL: (0.8, 0.1, 0.5)}

    def check(request: Request) -> Reply:
        text = next(text for text in p_yes if text in request.messages[0].content)
        number = next(n for n, each in enumerate(CRITERIA) if each.question in request.messages[0].content)
        p, mass = p_yes[text][number], 0.9 - 0.1 * number
        return said("Y", logprobs={"Y": math.log(mass * p), "N": math.log(mass * (1 - p))})

    engine = Scripted(check)
    [row] = (await vote(judge(engine, "rubric", principles=1), prompt(), PAIR, {}, Rows().put)).judgements
    assert {request.choices for request in engine.requests} == {("Y", "N")}
    assert row.read_first == pytest.approx(p_yes[CARELESS])
    assert row.read_second == pytest.approx(p_yes[CAREFUL])
    first = (1 * 0.2 + 2 * (1 - 0.9) + 0.5 * 0.5) / 3.5
    second = (1 * 0.8 + 2 * (1 - 0.1) + 0.5 * 0.5) / 3.5
    assert row.p_first == pytest.approx(0.5 + (first - second) / 2)
    assert row.label_mass == pytest.approx(0.7)
    assert row.calls == 6


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 5), st.booleans()), min_size=1, max_size=6))
def test_a_checklist_means_the_same_whichever_way_it_is_asked(items: list[tuple[float, float, bool]]) -> None:
    asked = [Criterion("?", "yes" if good else "no", weight) for _, weight, good in items]
    turned = [replace(each, good="no" if each.good == "yes" else "yes") for each in asked]
    p_yes = [p for p, _, _ in items]
    total = checklist_sum(asked, p_yes)
    assert -1e-12 <= total <= 1 + 1e-12
    assert checklist_sum(turned, [1 - p for p in p_yes]) == pytest.approx(total)
    assert checklist_sum(turned, p_yes) == pytest.approx(1 - total)


@pytest.mark.parametrize("method", ["score", "rubric"])
async def test_what_criteria_and_principles_share_comes_first(method: Method) -> None:
    engine = Scripted(replies)
    await vote(judge(engine, method), prompt(), PAIR, {}, Rows().put)
    texts = [request.messages[0].content for request in engine.requests]
    assert len(set(texts)) == {"score": 4, "rubric": 6}[method]  # the rubric of both principles is the same
    heads = {text[: text.index("\n[end ", text.index("[answer "))] for text in texts}
    assert len(heads) == 2  # one for each answer
    assert {head.rpartition("]\n")[2] for head in heads} == {CAREFUL, CARELESS}


# --- reading


def test_reading_choices() -> None:
    def reading(logprobs: Any, unseen: Unseen | None = None) -> Reading:
        return read_choices(Completion("", "stop", 1, 1, 0, logprobs, unseen=unseen), ("1", "2"))

    read = reading({"1": math.log(0.2), "2": -math.inf})
    assert read.found == pytest.approx((0.2, 0.0))
    assert read.mass == pytest.approx(0.2)
    assert not read.censored
    assert reading({"1": 1e-4, "2": -math.inf}).mass == 1  # what rounding makes
    bounded = reading({"1": math.log(0.5)}, Unseen(0.02, 0.3))
    assert bounded.found == pytest.approx((0.5, 0.01))
    assert bounded.mass == pytest.approx(0.51)
    assert bounded.censored
    for broken in (
        *(None, {}, {"1": 0.0}, {"1": math.nan, "2": 0.0}, {"1": -math.inf, "2": -math.inf}),
        *({"1": 0.0, "2": 0.0}, {"1": 0.1, "2": -9.0}, {"1": False, "2": -1.0}, {"1": math.inf, "2": -1.0}),
    ):
        with pytest.raises(MalformedReply):
            reading(broken)
    with pytest.raises(MalformedReply, match="none of the labels 1, 2"):
        reading({}, Unseen(0.02, 0.3))
