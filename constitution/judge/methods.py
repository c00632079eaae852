"""The ways to take one vote: what is asked of the engine, and how a verdict is read from its replies.

label       one call: P(A) / (P(A) + P(B)) after "The answer is: (" (arXiv 2212.08073, 2309.00267)
rationale   two calls: the judge reasons, then the same reading after what it wrote
score       two calls: a grade for each answer by itself, read as a distribution
rubric      a call for each criterion and answer: P(yes) / (P(yes) + P(no))

The calls of one vote that do not build on each other go out together. One that fails fails the vote. What is made for
every vote is a NamedTuple: a frozen dataclass takes five times as long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from constitution import templates
from constitution.engines.base import Completion, Engine, Request
from constitution.errors import EngineError, MalformedReply, RequestRefused
from constitution.generate.outcomes import clean, thought_of
from constitution.judge.read import Reading, checklist_sum, outgrade, read_choices
from constitution.recipe import JudgeSection
from constitution.records import Messages, Method, Principle, Sampling

SAMPLING = Sampling(temperature=0.0, max_tokens=1)
"""Where labels are read. The text is not used: the label's probabilities are, which no temperature changes."""
STOP = templates.ENDING.removesuffix(" (")
"""Ends a rationale where the judge writes the standard ending itself: the label is then read after our own."""
TEMPLATES = {method: texts.digest for method, texts in templates.VOTES.items()}
ORDERS: Mapping[Method, tuple[str, ...]] = {
    "label": ("ab", "ba"),
    "rationale": ("ab", "ba"),
    "score": ("ab",),
    "rubric": ("ab",),
}
"""Which of the pair's answers is shown first. Where each is looked at by itself there is no order to swap."""


class Question(NamedTuple):
    """One vote, as it is put to an engine."""

    engine: Engine
    section: JudgeSection
    prompt: Messages
    first: str
    second: str
    principle: Principle
    nonce: str
    seed: int
    affinity: str


class Verdict(NamedTuple):
    """Fields of a Judgement: what was read, and what it took."""

    p_first: float
    label_mass: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    calls: int = 1
    rationale: str | None = None
    rationale_reasoning: str | None = None
    reasoning_tokens: int = 0
    read_first: tuple[float, ...] | None = None
    read_second: tuple[float, ...] | None = None
    censored: bool = False


class PartFailed(Exception):
    """A call of a vote that failed. `error` says whether asking again can help; `str` names the part and says why."""

    def __init__(self, part: str, error: EngineError) -> None:
        super().__init__(f"{part}: {error}" if part else str(error))
        self.error = error


async def ask(question: Question) -> Verdict:
    """The verdict, by the section's method. Raises PartFailed where the engine failed or the verdict cannot be read."""
    return await _METHODS[question.section.method](question)


async def _label(question: Question) -> Verdict:
    q = question
    reading = await _read(q, "", templates.vote_messages(q.prompt, q.first, q.second, q.principle, q.nonce))
    return _verdict(_share(reading), [reading])


async def _rationale(question: Question) -> Verdict:
    q, written = question, question.section.rationale.sampling
    asked = templates.rationale_messages(q.prompt, q.first, q.second, q.principle, q.nonce)
    sampling = replace(written, stop=(*written.stop, STOP))
    # Priority: the second call, which finds all but its last words in the cache, goes before other votes' first.
    reasoning = await _generate(
        "rationale", q, Request(asked, sampling, q.seed, priority=1, affinity=q.affinity, step="vote")
    )
    text = clean(reasoning.text)
    if not text and reasoning.finish_reason == "length":
        raise _final("rationale", MalformedReply("max_tokens were used up before any text"))
    ended = templates.rationale_messages(q.prompt, q.first, q.second, q.principle, q.nonce, text)
    reading = await _read(q, "label after the rationale", ended)
    verdict = _verdict(_share(reading), [reading], reasoning)
    return verdict._replace(rationale=text, rationale_reasoning=thought_of(reasoning))


async def _score(question: Question) -> Verdict:
    q = question
    first, second = await _together(
        [
            _read(
                q,
                f"grade of the {place} answer",
                templates.score_messages(q.prompt, text, q.principle, q.nonce),
                templates.GRADES,
            )
            for place, text in (("first", q.first), ("second", q.second))
        ]
    )
    verdict = _verdict(outgrade(first.read.found, second.read.found), [first, second])
    return verdict._replace(read_first=first.read.found, read_second=second.read.found)


async def _rubric(question: Question) -> Verdict:
    q, criteria = question, question.principle.criteria
    readings = await _together(
        [
            _read(
                q,
                f"criterion {number} of the {place} answer",
                templates.rubric_messages(q.prompt, text, criterion, q.nonce),
                templates.REPLIES,
            )
            for place, text in (("first", q.first), ("second", q.second))
            for number, criterion in enumerate(criteria, 1)
        ]
    )
    p_yes = tuple(_share(reading) for reading in readings)
    first, second = p_yes[: len(criteria)], p_yes[len(criteria) :]
    verdict = _verdict(0.5 + (checklist_sum(criteria, first) - checklist_sum(criteria, second)) / 2, readings)
    return verdict._replace(read_first=first, read_second=second)


_METHODS: Mapping[Method, Callable[[Question], Awaitable[Verdict]]] = {
    "label": _label,
    "rationale": _rationale,
    "score": _score,
    "rubric": _rubric,
}


class _Reading(NamedTuple):
    read: Reading
    done: Completion


async def _read(
    question: Question, part: str, messages: Messages, labels: tuple[str, ...] = templates.LABELS
) -> _Reading:
    request = Request(messages, SAMPLING, question.seed, choices=labels, affinity=question.affinity, step="vote")
    done = await _generate(part, question, request)
    try:
        read = read_choices(done, labels)
    except MalformedReply as error:
        raise _final(part, error) from None
    return _Reading(read, done)


async def _generate(part: str, question: Question, request: Request) -> Completion:
    """Raises PartFailed also where the server refused or filtered what was asked for; log-probabilities that it gave
    all the same are the model's."""
    try:
        done = await question.engine.generate(request)
    except EngineError as error:
        raise PartFailed(part, error) from error
    if done.finish_reason in _HELD_BACK and done.choice_logprobs is None:
        raise _final(part, RequestRefused(_HELD_BACK[done.finish_reason]))
    return done


_HELD_BACK = {"refusal": "the server refused it", "content_filter": "the server's content filter held it back"}


def _final(part: str, error: EngineError) -> PartFailed:
    """Asked again, it would come again: the request and its seed are the same."""
    error.retryable = False
    return PartFailed(part, error)


async def _together(readings: Sequence[Awaitable[_Reading]]) -> list[_Reading]:
    """The results of all, in their order. Raises the first PartFailed in that order once all are done, one that is
    final before one that is not: what is told does not depend on which came first."""

    async def settle(reading: Awaitable[_Reading]) -> _Reading | PartFailed:
        try:
            return await reading
        except PartFailed as failure:
            return failure

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(settle(reading)) for reading in readings]
    outcomes = [task.result() for task in tasks]
    failures = [outcome for outcome in outcomes if isinstance(outcome, PartFailed)]
    if failures:
        raise min(failures, key=lambda failure: failure.error.retryable)
    return [outcome for outcome in outcomes if isinstance(outcome, _Reading)]


def _share(reading: _Reading) -> float:
    """Probability of the first of two labels, renormalised over both."""
    first, second = reading.read.found
    return first / (first + second)


def _verdict(p_first: float, readings: Sequence[_Reading], *others: Completion) -> Verdict:
    calls = [*others, *(reading.done for reading in readings)]
    return Verdict(
        p_first,
        label_mass=min(reading.read.mass for reading in readings),
        prompt_tokens=sum(call.prompt_tokens for call in calls),
        cached_tokens=sum(call.cached_tokens for call in calls),
        completion_tokens=sum(call.completion_tokens for call in calls),
        calls=len(calls),
        reasoning_tokens=sum(call.reasoning_tokens for call in calls),
        censored=any(reading.read.censored for reading in readings),
    )
