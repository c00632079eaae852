"""One prompt's chain: what is asked, what is recorded, what happens when a model says nothing."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable

import pytest
from chains import EXEMPLAR, PRINCIPLES, Reply, Rows, Scripted, principle, prompt, reviser, said, step, stopped

from constitution.engines.base import FINISH_REASONS, Request
from constitution.errors import ContextTooLong, EngineUnavailable, RecipeError
from constitution.principles.selection import draw_principle, select
from constitution.records import Failure, Message, Prompt, Response


def numbered(request: Request) -> Reply:
    """Every text is different, and says which step and seed made it."""
    return f" {step(request)} {request.seed}\n"


async def test_a_chain_records_every_round() -> None:
    engine, rows = Scripted(numbered), Rows()
    chain = await reviser(engine, rounds=3).answers(prompt(), {}, rows.put)
    initial, *revisions = chain.responses
    assert [step(request) for request in engine.requests] == ["initial", *["critique", "revision"] * 3]
    assert (initial.kind, initial.round, initial.outcome, initial.parent_id) == ("initial", 0, "ok", None)
    assert initial.text == f"initial {initial.seed}"
    for number, revision in enumerate(revisions, 1):
        assert (revision.kind, revision.round, revision.outcome) == ("revision", number, "ok")
        assert revision.parent_id == chain.responses[number - 1].id
        assert revision.critique == f"critique {revision.critique_seed}"
        used = next(p for p in PRINCIPLES if p.id == revision.principle_id)
        assert revision.principle_digest == used.digest
        assert revision.template_digest
    assert rows.all == list(chain.responses)
    assert len({row.id for row in rows.all}) == 4
    assert {row.family for row in chain.responses} == {"family"}


async def test_the_answer_is_spliced_back_and_turns_are_whole() -> None:
    engine = Scripted(numbered)
    turns = (Message("user", "One"), Message("assistant", "Two"), Message("user", "Three\n\nHuman: {{x}}"))
    chain = await reviser(engine, exemplars=0).answers(Prompt(turns), {}, Rows().put)
    assert engine.requests[0].messages == turns
    for number, revision in enumerate(chain.responses[1:]):
        critique, asked = engine.requests[1 + 2 * number], engine.requests[2 + 2 * number]
        parent = chain.responses[number].text
        assert critique.messages[:4] == (*turns, Message("assistant", parent))
        assert f"Critique by {revision.principle_id}." in critique.messages[4].content
        assert asked.messages[:5] == critique.messages
        assert asked.messages[5] == Message("assistant", revision.critique or "")
        assert f"Revise by {revision.principle_id}." in asked.messages[6].content


@pytest.mark.parametrize("exemplars", [0, 1, 5])
async def test_exemplars(exemplars: int) -> None:
    engine = Scripted(numbered)
    await reviser(engine, exemplars=exemplars).answers(prompt(), {}, Rows().put)
    assert [EXEMPLAR.response in [m.content for m in request.messages] for request in engine.requests[1:]] == [
        exemplars > 0
    ] * 4


async def test_work_near_its_end_goes_first() -> None:
    engine = Scripted(numbered)
    await reviser(engine, rounds=3).answers(prompt(), {}, Rows().put)
    assert [request.priority for request in engine.requests] == [7, 6, 5, 4, 3, 2, 1]


async def test_draws_do_not_depend_on_the_order_of_completion() -> None:
    prompts = [prompt(f"Question {number}?") for number in range(30)]

    async def run(delays: bool) -> dict[str, tuple[object, ...]]:
        rows = Rows()
        engine = Scripted(numbered, delay=(lambda request: request.seed % 7 / 2000) if delays else None)
        order = prompts[::-1] if delays else prompts
        await asyncio.gather(*(reviser(engine).answers(p, {}, rows.put) for p in order))
        return {
            row.id: (row.principle_id, row.seed, row.text, row.critique)
            for row in rows.all
            if isinstance(row, Response)
        }

    assert await run(False) == await run(True)


def test_draws_respect_weights_and_repeat() -> None:
    drawn = [draw_principle(PRINCIPLES, 1, f"prompt {n}", r).id for n in range(1500) for r in (1, 2)]
    counts = Counter(drawn)
    for each in PRINCIPLES:
        share, expected = counts[each.id] / len(drawn), each.weight / 5
        assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / len(drawn))
    pairs = list(zip(drawn[::2], drawn[1::2], strict=True))
    repeated = sum(a == b for a, b in pairs) / len(pairs)
    assert abs(repeated - 11 / 25) < 0.06  # Σ p² with replacement


# --- what a model does not say


def scripted(critique: Reply = "A fault.", revision: Reply = "Better.", initial: Reply = "An answer.") -> Scripted:
    return Scripted(lambda request: {"initial": initial, "critique": critique, "revision": revision}[step(request)])


@pytest.mark.parametrize(
    ("critique", "outcome", "error"),
    [
        (" \n", "empty", "EmptyOutput"),
        ("I'm sorry, but I can’t help with that.", "refused", "CritiqueRefused"),
    ],
)
async def test_a_round_without_a_critique_is_skipped(critique: str, outcome: str, error: str) -> None:
    rows = Rows()
    chain = await reviser(scripted(critique)).answers(prompt(), {}, rows.put)
    assert [answer.outcome for answer in chain.responses] == ["ok", "skipped", "skipped"]
    assert {answer.text for answer in chain.responses} == {"An answer."}
    assert [answer.critique_outcome for answer in chain.responses] == [None, outcome, outcome]
    failures = [row for row in rows.all if isinstance(row, Failure)]
    assert [(row.step, row.error, row.retryable) for row in failures] == [
        ("critique-1", error, False),
        ("critique-2", error, False),
    ]
    assert not stopped(chain)


async def test_an_empty_revision_is_recorded_and_the_next_round_goes_on_from_the_last_text() -> None:
    texts = iter(["", "Better."])
    replies: dict[str, Callable[[], str]] = {
        "initial": lambda: "An answer.",
        "critique": lambda: "A fault.",
        "revision": lambda: next(texts),
    }
    engine = Scripted(lambda request: replies[step(request)]())
    chain = await reviser(engine).answers(prompt(), {}, Rows().put)
    initial, empty, last = chain.responses
    assert (empty.outcome, empty.text) == ("empty", "")
    assert last.parent_id == initial.id
    assert last.outcome == "ok"
    assert Message("assistant", "An answer.") in engine.requests[3].messages


async def test_half_surrogates_become_storable() -> None:
    chain = await reviser(scripted(initial="a\ud800b"), rounds=0).answers(prompt(), {}, Rows().put)
    assert chain.responses[0].text == "a?b"


# --- engines that fail, and going on


async def test_an_engine_error_is_a_failure_and_ends_the_chain() -> None:
    rows = Rows()
    chain = await reviser(scripted(revision=EngineUnavailable("server is gone"))).answers(prompt(), {}, rows.put)
    assert stopped(chain)
    assert len(chain.responses) == 1
    [failure] = chain.failures
    assert (failure.step, failure.error, failure.retryable) == ("revision-1", "EngineUnavailable", True)
    assert rows.all == [*chain.responses, failure]


async def test_a_chain_goes_on_from_every_step() -> None:
    whole = Rows()
    await reviser(Scripted(numbered)).answers(prompt(), {}, whole.put)
    for known in range(len(whole.all) + 1):
        engine, rows = Scripted(numbered), Rows()
        chain = await reviser(engine, start=2).answers(prompt(), {row.id: row for row in whole.all[:known]}, rows.put)
        assert list(chain.responses) == whole.all
        assert rows.all == whole.all[known:]
        assert len(engine.requests) == (5 if known == 0 else 2 * (3 - known))


@pytest.mark.parametrize("silent", ["initial", "critique", "revision"])
async def test_a_kill_between_an_answer_and_its_failure_loses_neither(silent: str) -> None:
    def reply(request: Request) -> Reply:
        return "" if step(request) == silent else numbered(request)

    whole = Rows()
    first = await reviser(Scripted(reply)).answers(prompt(), {}, whole.put)
    answers = {row.id: row for row in whole.all if isinstance(row, Response)}
    assert len(answers) < len(whole.all)
    engine, rows = Scripted(reply), Rows()
    assert await reviser(engine, start=2).answers(prompt(), answers, rows.put) == first
    assert not engine.requests
    assert {**answers, **rows.have} == whole.have


async def test_a_restart_tries_again_what_may_succeed_and_only_that() -> None:
    for error, calls in ((EngineUnavailable("gone"), 4), (ContextTooLong("too long"), 0)):
        rows = Rows()
        await reviser(scripted(critique=error)).answers(prompt(), {}, rows.put)
        again, more = scripted(), Rows()
        chain = await reviser(again, start=2).answers(prompt(), rows.have, more.put)
        assert len(again.requests) == calls
        assert stopped(chain) == (calls == 0)
        assert not {row.id for row in more.all} & set(rows.have)


async def test_failures_of_two_starts_have_two_ids() -> None:
    rows = Rows()
    for start in (1, 2):
        engine = scripted(initial=EngineUnavailable("gone"))
        await reviser(engine, start=start).answers(prompt(), rows.have, rows.put)
    assert len(rows.have) == len(rows.all) == 2


# --- choosing principles


def test_select_by_id_and_tag() -> None:
    assert select(PRINCIPLES, (), "revise.principles") == PRINCIPLES
    assert [p.id for p in select(PRINCIPLES, ("kind", "core"), "revise.principles")] == ["honest", "kind"]
    with pytest.raises(RecipeError, match=r"revise\.principles: .*'kindd'") as caught:
        select(PRINCIPLES, ("kindd",), "revise.principles")
    assert "core" in caught.value.hint
    with pytest.raises(RecipeError, match="no principle for this"):
        select((), (), "judge.only")
    assert principle("x").revises


# --- what a server says in place of an answer


@pytest.mark.parametrize(
    ("text", "finish", "outcome", "error"),
    [
        ("Half", "length", "cut", ""),
        ("", "length", "cut", "EmptyOutput"),
        ("", "stop", "empty", "EmptyOutput"),
        ("Let me look.", "tool_calls", "cut", ""),
        ("", "tool_calls", "empty", "EmptyOutput"),
        ("I can't help with that.", "refusal", "refused", "AnswerRefused"),
        ("", "refusal", "refused", "AnswerRefused"),
        ("Half", "content_filter", "filtered", "ContentFiltered"),
        ("", "content_filter", "filtered", "ContentFiltered"),
        ("An answer.", "stop", "ok", ""),
    ],
)
async def test_every_finish_reason_has_an_outcome_and_what_was_not_said_a_failure(
    text: str, finish: str, outcome: str, error: str
) -> None:
    for role in ("initial", "revision"):
        rows = Rows()
        engine = scripted(**{role: said(text, finish)})
        chain = await reviser(engine, rounds=1).answers(prompt(), {}, rows.put)
        answer = chain.responses[-1 if role == "revision" else 0]
        expected = "unchanged" if (role, outcome) == ("revision", "ok") else outcome
        assert (answer.kind, answer.text, answer.outcome, answer.finish_reason) == (role, text, expected, finish)
        failures = [row for row in rows.all if isinstance(row, Failure)]
        assert [(failure.error, failure.retryable) for failure in failures] == ([(error, False)] if error else [])
        assert not stopped(chain)
        # Without a text there is nothing to critique.
        assert len(engine.requests) == (1 if role == "initial" and not text else 3)


@pytest.mark.parametrize("finish", FINISH_REASONS)
@pytest.mark.parametrize("critique", ["A fault.", ""])
async def test_every_finish_reason_of_a_critique(critique: str, finish: str) -> None:
    rows = Rows()
    engine = scripted(said(critique, finish))
    chain = await reviser(engine, rounds=1).answers(prompt(), {}, rows.put)
    refused = {"refusal": "refused", "content_filter": "filtered"}.get(finish)
    used = bool(critique) and not refused
    missing = "cut" if finish == "length" else "empty"
    outcome = refused or (("ok" if finish == "stop" else "cut") if critique else missing)
    revision = chain.responses[1]
    assert (revision.critique_outcome, revision.critique) == (outcome, critique)
    assert revision.outcome == ("ok" if used else "skipped")
    assert len(engine.requests) == (3 if used else 2)  # nothing is paid for after a critique that is none
    failures = [row.error for row in rows.all if isinstance(row, Failure)]
    assert failures == (
        [] if used else [{"refused": "CritiqueRefused", "filtered": "ContentFiltered"}.get(outcome, "EmptyOutput")]
    )


@pytest.mark.parametrize(
    "critique", ["I must decline.", "I won’t write a critique of this.", "I'd rather not comment."]
)
async def test_a_critique_that_is_a_refusal_is_not_paid_for_further(critique: str) -> None:
    engine = scripted(critique)
    chain = await reviser(engine).answers(prompt(), {}, Rows().put)
    assert [answer.critique_outcome for answer in chain.responses[1:]] == ["refused", "refused"]
    assert [step(request) for request in engine.requests] == ["initial", "critique", "critique"]


async def test_max_tokens_used_up_before_any_text_end_the_prompt() -> None:
    engine = scripted(revision=said("", "length"))
    chain = await reviser(engine, rounds=3).answers(prompt(), {}, Rows().put)
    assert [(answer.outcome, answer.text) for answer in chain.responses] == [("ok", "An answer."), ("cut", "")]
    assert len(engine.requests) == 3
    again = await reviser(engine, rounds=3).answers(prompt(), {row.id: row for row in chain.responses}, Rows().put)
    assert (again, len(engine.requests)) == (chain, 3)


@pytest.mark.parametrize("finish", ["refusal", "content_filter"])
async def test_after_a_revision_that_was_held_back_the_next_begins_with_the_answer_before(finish: str) -> None:
    replies = iter([said("I can't.", finish), said("Better.")])
    engine = Scripted(lambda request: next(replies) if step(request) == "revision" else scripted()._reply(request))
    chain = await reviser(engine).answers(prompt(), {}, Rows().put)
    assert [answer.parent_id for answer in chain.responses[1:]] == [chain.responses[0].id] * 2
    assert [answer.outcome for answer in chain.responses[1:]][1] == "ok"
    assert [answer.refuses for answer in chain.responses] == [False, True, False]
