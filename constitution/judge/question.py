"""One vote as it is put to an engine, its calls, and what they come to.

What is made for every vote is a NamedTuple: a frozen dataclass takes five times as long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import lru_cache
from importlib import import_module
from typing import NamedTuple

from constitution import templates
from constitution.engines.base import Completion, Engine, Request
from constitution.errors import EngineError, MalformedReply, RequestRefused
from constitution.judge.methods import METHODS
from constitution.judge.read import Reading, read_choices
from constitution.recipe import JudgeSection
from constitution.records import Messages, Method, Principle, Sampling

SAMPLING = Sampling(temperature=0.0, max_tokens=1)
"""Where labels are read. The text is not used: the label's probabilities are, which no temperature changes."""


class Question(NamedTuple):
    """One vote, as it is put to an engine."""

    engine: Engine
    section: JudgeSection
    prompt: Messages
    first: str
    second: str
    principle: Principle
    nonce: str
    texts: templates.TemplateSet
    """What its requests are rendered with."""
    seed: int
    affinity: str
    answered: int = 0
    """As `Request.answered`."""

    def request(
        self, messages: Messages, sampling: Sampling, choices: tuple[str, ...] = (), priority: int = 0
    ) -> Request:
        """One of its calls."""
        return Request(
            messages, sampling, self.seed, priority, choices, self.affinity, step="vote", answered=self.answered
        )


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
    seeded: bool = True
    """False: the server was not sent the seed."""


class PartFailed(Exception):
    """A call of a vote that failed. `error` says whether asking again can help; `str` names the part and says why."""

    def __init__(self, part: str, error: EngineError) -> None:
        super().__init__(f"{part}: {error}" if part else str(error))
        self.error = error


async def ask(question: Question) -> Verdict:
    """The verdict, by the section's method. Raises PartFailed where the engine failed or the verdict cannot be read."""
    return await _asker(question.section.method)(question)


@lru_cache
def _asker(method: Method) -> Callable[[Question], Awaitable[Verdict]]:
    module, _, name = METHODS[method].ask.partition(":")
    asker: Callable[[Question], Awaitable[Verdict]] = getattr(import_module(module), name)
    return asker


def both_answers(question: Question) -> tuple[tuple[str, str], ...]:
    """Where each answer is shown, and its text."""
    return ("first", question.first), ("second", question.second)


class Read(NamedTuple):
    """One reading, and the call that it is of."""

    read: Reading
    done: Completion


async def read(question: Question, part: str, messages: Messages, labels: tuple[str, ...] = templates.LABELS) -> Read:
    return await read_labels(part, question.engine, question.request(messages, SAMPLING, labels))


async def read_labels(part: str, engine: Engine, request: Request) -> Read:
    """What the reply says of the request's labels. Raises PartFailed."""
    done = await generate(part, engine, request)
    try:
        found = read_choices(done, request.choices)
    except MalformedReply as error:
        raise final(part, error) from None
    return Read(found, done)


async def generate(part: str, engine: Engine, request: Request) -> Completion:
    """Raises PartFailed also where the server refused or filtered what was asked for; log-probabilities that it gave
    all the same are the model's."""
    try:
        done = await engine.generate(request)
    except EngineError as error:
        raise PartFailed(part, error) from error
    if done.finish_reason in _HELD_BACK and done.choice_logprobs is None:
        raise final(part, RequestRefused(_HELD_BACK[done.finish_reason]))
    return done


_HELD_BACK = {"refusal": "the server refused it", "content_filter": "the server's content filter held it back"}


def final(part: str, error: EngineError) -> PartFailed:
    """Asked again, it would come again: the request and its seed are the same."""
    error.retryable = False
    return PartFailed(part, error)


async def together(readings: Iterable[Awaitable[Read]]) -> list[Read]:
    """The results of all, in their order. Raises the first PartFailed in that order once all are done, one that is
    final before one that is not: what is told does not depend on which came first."""

    async def outcome_of(reading: Awaitable[Read]) -> Read | PartFailed:
        try:
            return await reading
        except PartFailed as failure:
            return failure

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(outcome_of(reading)) for reading in readings]
    outcomes = [task.result() for task in tasks]
    failures = [outcome for outcome in outcomes if isinstance(outcome, PartFailed)]
    if failures:
        raise min(failures, key=lambda failure: failure.error.retryable)
    return [outcome for outcome in outcomes if isinstance(outcome, Read)]


def share(reading: Read) -> float:
    """Probability of the first of two labels, renormalised over both."""
    first, second = reading.read.found
    return first / (first + second)


def verdict(p_first: float, readings: Sequence[Read], *others: Completion) -> Verdict:
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
