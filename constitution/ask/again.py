"""A stored row's requests sent once more, to the engine that the run's recipe names. Nothing is written."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from constitution.ask.questions import differs, opened
from constitution.ask.replay import cast_by
from constitution.ask.replies import Reply, of_completion
from constitution.ask.stored import Exchange, Replay, Shown, Stored, models_of, section_of
from constitution.engines import Completion, Engine, Request
from constitution.errors import EngineError, InputError
from constitution.judge.read import read_choices
from constitution.recipe import dated
from constitution.records import Judgement, Score


@dataclass(frozen=True, slots=True)
class Again:
    """What came back this time."""

    replies: tuple[Reply | EngineError, ...]
    """To each of the row's requests, in their order; or why there is none."""
    probability: float | None = None
    """p_first of a vote, p_yes of a score, as they are read now; None: neither, or it could not be read."""
    note: str = ""
    """What shows that the model is another now; empty: nothing."""


async def asked_again(stored: Stored, row: Shown, replay: Replay) -> Again:
    """Each request as it was, so that a later call has what came back to an earlier one then, and not now.

    Raises InputError where there is nothing to ask, or the recipe does not have the judge; ModelLoadError, RecipeError
    or EngineUnavailable where the engine does not open.
    """
    if not replay.exchanges:
        raise InputError(f"{row.id}: there is nothing to ask again", hint=replay.doubt or replay.note or None)
    requests = [exchange.request for exchange in replay.exchanges]
    async with opened(dated(section_of(stored, replay.role), stored.run.day)) as engine:
        was, now = models_of(stored.run, replay.role), engine.describe()
        facts = next(iter(was.values()), {})
        fact = differs(facts, now)
        replies = await asyncio.gather(*(_reply(engine, request) for request in requests))
    note = f"the model is another now: it had {fact}" if fact else ""
    read = [_read(reply, request) for reply, request in zip(replies, requests, strict=True)]
    return Again(tuple(read), await _probability(stored, row, replay.exchanges, replies), note)


async def _reply(engine: Engine, request: Request) -> Completion | EngineError:
    try:
        return await engine.generate(request)
    except EngineError as error:
        return error


def _read(reply: Completion | EngineError, request: Request) -> Reply | EngineError:
    try:
        return reply if isinstance(reply, EngineError) else of_completion(reply, request)
    except EngineError as error:
        return error


async def _probability(
    stored: Stored, row: Shown, exchanges: tuple[Exchange, ...], replies: list[Completion | EngineError]
) -> float | None:
    fresh: dict[Request, Completion] = {}
    for number, (exchange, reply) in enumerate(zip(exchanges, replies, strict=True), 1):
        # What a judge wrote then is in its later request.
        own = exchange.request.choices or number == len(exchanges)
        used = reply if own or exchange.reply is None else exchange.reply.completion(exchange.request)
        if not isinstance(used, Completion):
            return None
        fresh[exchange.request] = used
    if isinstance(row, Score) and row.raw is None:
        [(request, done)] = fresh.items()
        try:
            found = read_choices(done, request.choices).found
        except EngineError:
            return None
        return found[0] / sum(found) if row.grades is None else None
    if not isinstance(row, Judgement):
        return None
    made = await cast_by(stored, row, _Replies(row.judge, fresh))
    return made.p_first if isinstance(made, Judgement) else None


class _Replies(Engine):
    def __init__(self, model: str, replies: Mapping[Request, Completion]) -> None:
        self._model, self._replies = model, replies

    @property
    def model(self) -> str:
        return self._model

    async def generate(self, request: Request) -> Completion:
        return self._replies[request]
