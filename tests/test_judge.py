"""Pairs and votes: who is compared with whom, what a vote is, and what is never one."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import pytest
from chains import PRINCIPLES, Reply, Rows, Scripted, answer, prompt, said

from constitution.engines.base import Request
from constitution.errors import EngineUnavailable
from constitution.generate.given import given_answers
from constitution.judge.ask import Judge, draw_principles, vote
from constitution.judge.pairs import Pair, pairs
from constitution.recipe import JudgeSection
from constitution.records import Failure, Judgement


def judge(engine: Scripted, principles: int | str = "all", attempt: int = 1) -> Judge:
    section = JudgeSection.model_validate({"principles": principles})
    return Judge("run-1", 7, attempt, engine, engine.model, PRINCIPLES, section)


PAIR = Pair("pair-1", "first-last", answer(0, "First text."), answer(1, "Second text."))


def prefers_second_text(request: Request) -> Reply:
    """Log-odds of 1 for the pair's b, plus 0.5 for whatever is shown first; a tenth of the mass is elsewhere."""
    shown = request.messages[0].content
    b_first = shown.index("Second text.") < shown.index("First text.")
    p = 1 / (1 + math.exp(-((1 if b_first else -1) + 0.5)))
    return said("A", logprobs={"A": math.log(0.9 * p), "B": math.log(0.9 * (1 - p))})


# --- pairs


def test_first_against_last() -> None:
    chain = [answer(0, "a"), answer(1, "b"), answer(2, "c")]
    [pair] = pairs("run-1", prompt(), chain, ("first-last",))
    assert (pair.kind, pair.a.id, pair.b.id, pair.flaw) == ("first-last", "r0", "r2", None)


def test_the_last_is_the_last_with_text() -> None:
    chain = [answer(0, "a"), answer(1, "b"), answer(2, "")]
    assert [pair.b.id for pair in pairs("run-1", prompt(), chain, ("first-last",))] == ["r1"]
    nothing = [answer(0, "a"), answer(1, "")]
    [pair] = pairs("run-1", prompt(), nothing, ("first-last",))
    assert pair.b.id == "r1"
    assert not pair.votable


def test_an_empty_initial_answer_has_its_dropped_pair() -> None:
    [pair] = pairs("run-1", prompt(), [answer(0, "")], ("first-last",))
    assert pair.a is pair.b
    assert not pair.votable


def test_every_round_against_its_parent() -> None:
    chain = [answer(0, "a"), answer(1, ""), answer(2, "c", parent_id="r0"), answer(3, "d")]
    found = pairs("run-1", prompt(), chain, ("parent",))
    assert [(pair.a.id, pair.b.id) for pair in found] == [("r0", "r1"), ("r0", "r2"), ("r2", "r3")]
    both = pairs("run-1", prompt(), chain[:2], ("first-last", "parent"))
    assert [pair.kind for pair in both] == ["first-last"]


def test_cut_texts_are_known_through_skipped_rounds() -> None:
    chain = [answer(0, "a"), answer(1, "b", outcome="cut"), answer(2, "b", outcome="skipped")]
    assert pairs("run-1", prompt(), chain, ("first-last",))[0].flaw == "cut"
    repeated = [*chain[:2], answer(2, "b", outcome="unchanged")]
    assert pairs("run-1", prompt(), repeated, ("first-last",))[0].flaw == "cut"
    assert pairs("run-1", prompt(), [chain[0], answer(1, "b")], ("first-last",))[0].flaw is None


def test_the_last_answer_is_not_one_that_the_server_held_back() -> None:
    refused = answer(2, "I can't.", outcome="refused")
    chain = [answer(0, "a"), answer(1, "b"), refused]
    [pair] = pairs("run-1", prompt(), chain, ("first-last",))
    assert (pair.b.id, pair.flaw) == ("r1", None)
    [pair] = pairs("run-1", prompt(), [chain[0], refused], ("first-last",))
    assert (pair.b.id, pair.flaw) == ("r2", "refused")


def test_a_chain_that_stopped_before_a_revision_has_no_pair_and_one_without_text_has() -> None:
    assert pairs("run-1", prompt(), [answer(0, "a")], ("first-last", "parent")) == []
    [pair] = pairs("run-1", prompt(), [answer(0, "", outcome="cut")], ("first-last", "parent"))
    assert (pair.a.id, pair.b.id, pair.flaw) == ("r0", "r0", "cut")


def test_given_answers_and_gold() -> None:
    asked = prompt(answers=("x", "", "z"), gold=2)
    given = given_answers("run-1", asked)
    assert [(row.kind, row.model, row.outcome) for row in given] == [
        ("given", "given", "ok"),
        ("given", "given", "empty"),
        ("given", "given", "ok"),
    ]
    found = pairs("run-1", asked, given, ("given",))
    assert [(pair.a.text, pair.b.text) for pair in found] == [("x", ""), ("x", "z"), ("", "z")]
    assert [pair.gold_id for pair in found] == [None, given[2].id, given[2].id]
    assert len({pair.id for pair in found}) == 3


def test_what_a_model_thought_is_no_part_of_a_given_answer() -> None:
    """Data sets of reasoning models have it between tags; no judge sees it, and no export has it unless asked."""
    thoughts = (
        "<think>\nhm\n</think>\n\n  four",
        "hm.</think>\n\nfour",
        "  four, <think> is a tag",
        "<think>\nhm, and",
    )
    given = given_answers("run-1", prompt(answers=thoughts))
    assert [(row.text, row.reasoning, row.outcome) for row in given] == [
        ("  four", "hm", "ok"),
        ("four", "hm.", "ok"),
        ("  four, <think> is a tag", None, "ok"),
        ("", "hm, and", "cut"),
    ]
    found = pairs("run-1", prompt(answers=thoughts), given, ("given",))
    assert [(pair.votable, pair.flaw) for pair in found[1:3]] == [(True, None), (False, "cut")]


# --- votes


async def test_every_principle_votes_in_both_orders() -> None:
    engine, rows = Scripted(prefers_second_text), Rows()
    votes = await vote(judge(engine), prompt(), PAIR, {}, rows.put)
    assert votes.expected == len(votes.judgements) == len(rows.all) == 6
    assert not votes.failures
    seen = {(row.principle_id, row.first_id, row.second_id) for row in votes.judgements}
    assert seen == {(p.id, *ids) for p in PRINCIPLES for ids in (("r0", "r1"), ("r1", "r0"))}
    for row in votes.judgements:
        logit = math.log(row.p_first / (1 - row.p_first))
        assert logit == pytest.approx(1.5 if row.first_id == "r1" else -0.5)
        assert row.label_mass == pytest.approx(0.9)
    assert all(request.choices == ("A", "B") and request.continues for request in engine.requests)


async def test_votes_of_one_order_share_everything_before_the_question() -> None:
    engine = Scripted(prefers_second_text)
    await vote(judge(engine), prompt(), PAIR, {}, Rows().put)
    texts = [request.messages[0].content for request in engine.requests]
    heads = {text[: text.index("Which answer is better by")] for text in texts}
    assert len(heads) == 2


async def test_votes_go_out_together_those_of_one_order_side_by_side() -> None:
    inside: list[int] = []
    running = 0

    def note(_: Request) -> float:
        nonlocal running
        running += 1
        inside.append(running)
        return 0.01

    def leave(request: Request) -> Reply:
        nonlocal running
        running -= 1
        return prefers_second_text(request)

    engine = Scripted(leave, delay=note)
    await vote(judge(engine), prompt(), PAIR, {}, Rows().put)
    assert inside == [1, 2, 3, 4, 5, 6]
    heads = [request.messages[0].content.partition("Which answer is better by")[0] for request in engine.requests]
    assert len(set(heads[:3])) == len(set(heads[3:])) == 1


def test_principles_are_drawn_without_replacement_and_by_seed() -> None:
    engine = Scripted(prefers_second_text)
    drawn = set()
    for number in range(40):
        pair = replace(PAIR, a=replace(PAIR.a, prompt_id=f"p{number}"))
        two = draw_principles(judge(engine, 2), pair)
        assert two == draw_principles(judge(engine, 2), pair)
        assert len({p.id for p in two}) == 2
        drawn.add(tuple(p.id for p in two))
    assert len(drawn) == 3
    assert draw_principles(judge(engine, 9), PAIR) == PRINCIPLES


async def test_no_votes_where_they_would_say_nothing() -> None:
    engine = Scripted(prefers_second_text)
    for a, b in ((answer(0, "same"), answer(1, "same")), (answer(0, "a"), answer(1, ""))):
        votes = await vote(judge(engine), prompt(), Pair("x", "parent", a, b), {}, Rows().put)
        assert (votes.judgements, votes.expected) == ((), 0)
    assert not engine.requests


# --- what is no vote


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        {},
        {"A": -0.1},
        {"A": -math.inf, "B": -math.inf},
        {"A": math.nan, "B": -1.0},
    ],
)
async def test_a_reply_without_labels_is_a_final_failure(logprobs: dict[str, float] | None) -> None:
    rows = Rows()
    votes = await vote(judge(Scripted(lambda _: said("A", logprobs=logprobs)), 1), prompt(), PAIR, {}, rows.put)
    assert not votes.judgements
    assert [(row.error, row.retryable, row.step) for row in votes.failures] == [("MalformedReply", False, "vote")] * 2
    assert not votes.open


@pytest.mark.parametrize(
    ("logprobs", "p_first", "mass"),
    [
        ({"A": math.log(0.2), "B": math.log(0.6)}, 0.25, 0.8),
        ({"A": 0.0, "B": -math.inf}, 1.0, 1.0),
        ({"A": -math.inf, "B": -700.0}, 0.0, 0.0),
        ({"A": math.log(0.5) + 1e-9, "B": math.log(0.5)}, 0.5, 1.0),
    ],
)
async def test_what_a_vote_reads(logprobs: dict[str, float], p_first: float, mass: float) -> None:
    votes = await vote(judge(Scripted(lambda _: said("A", logprobs=logprobs)), 1), prompt(), PAIR, {}, Rows().put)
    for row in votes.judgements:
        assert [row.p_first, row.label_mass] == pytest.approx([p_first, mass])
        assert row.label_mass <= 1
    assert len(votes.judgements) == 2


async def test_votes_go_on_where_they_were() -> None:
    whole = Rows()
    first = await vote(judge(Scripted(prefers_second_text)), prompt(), PAIR, {}, whole.put)
    for known in range(7):
        engine, rows = Scripted(prefers_second_text), Rows()
        have = {row.id: row for row in whole.all[:known]}
        votes = await vote(judge(engine, attempt=2), prompt(), PAIR, have, rows.put)
        assert len(engine.requests) == 6 - known
        assert set(votes.judgements) == set(first.judgements)
        assert {row.id for row in rows.all} == {row.id for row in whole.all[known:]}


async def test_an_engine_that_fails_leaves_the_votes_open() -> None:
    rows = Rows()
    votes = await vote(judge(Scripted(lambda _: EngineUnavailable("gone")), 1), prompt(), PAIR, {}, rows.put)
    assert votes.open
    assert all(isinstance(row, Failure) and row.retryable for row in rows.all)
    again = await vote(judge(Scripted(prefers_second_text), 1, attempt=2), prompt(), PAIR, rows.have, rows.put)
    assert not again.open
    assert len(again.judgements) == 2
    assert sum(isinstance(row, Judgement) for row in rows.all) == 2


async def test_a_writer_that_fails_stops_the_votes() -> None:
    async def full(_: object) -> None:
        raise OSError("disk full")

    with pytest.raises(BaseExceptionGroup):
        await vote(judge(Scripted(prefers_second_text, delay=lambda _: 0.001)), prompt(), PAIR, {}, full)
    assert len(asyncio.all_tasks()) == 1
