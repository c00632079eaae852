"""One wave's way: it is sent, once and no more; its end is waited for; what came back is kept.

Whatever the server answers in between is asked again as long as that can help: a batch that is under way is not given
up for an hour without a network.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, TypeVar

import orjson

from constitution.engines.openai.batch.api import BatchAPI, Fault, Line, Result, State
from constitution.engines.openai.batch.notes import Note, Notes
from constitution.engines.openai.batch.results import Results, result_of
from constitution.engines.openai.endpoint import Events, now
from constitution.engines.openai.http import Transport
from constitution.engines.openai.refused import Said
from constitution.errors import (
    AccessDenied,
    EngineError,
    EngineGone,
    MalformedReply,
    ModelLoadError,
    RateLimited,
    RequestRefused,
)

T = TypeVar("T")

GROWS = 1.5
"""By so much each wait for a batch is longer than the one before,"""
LONGEST = 10.0
"""up to this multiple of the first."""
LOOKS = 3
"""Times that a batch is looked for that may have been made just now."""
_PLACE = re.compile(r"\brequests\.(\d+)\b")
"""How a refusal of a whole batch names one of its requests."""


Outcome = Callable[[int], Result | None]
"""What became of a request by its number; None: it was not worked, for a reason outside it."""


@dataclass(frozen=True, slots=True)
class Settings:
    wait_s: float
    """A wave goes out when so long no request came to it."""
    poll_s: float
    """The first wait between two looks at a batch."""
    patience_s: float
    """A server that answers no question about its batches for so long is gone."""
    retries: int
    """Further waves for a request that was not answered."""


class Wave:
    def __init__(self, note: Note, earlier: bool = False) -> None:
        """earlier: an earlier start sent it, or was about to."""
        self.note, self.earlier = note, earlier
        self.lines: list[Line] = []
        self.size = 0
        self.word = ""
        """The server's, for its state."""
        self.task: asyncio.Task[None] | None = None
        self.done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.done.add_done_callback(lambda done: done.cancelled() or done.exception())  # it may have no use any more


class Work:
    """The way of all waves of one engine."""

    def __init__(self, api: BatchAPI, transport: Transport, notes: Notes, settings: Settings, events: Events) -> None:
        self.api, self.transport, self.notes, self.settings = api, transport, notes, settings
        self._events = events
        self.most = api.most
        """Requests of a batch; fewer once the server had no room for them."""
        self._crowded = False
        """Whether the server had no room for all of them: then waves go one at a time."""
        self.working: list[Wave] = []
        self.named: set[str] = set()
        """Ids of batches that notes have."""
        self._change = asyncio.Condition()
        self.sent = self.requests = 0
        """Batches that were made in this start, and what was in them."""

    async def outcome(self, wave: Wave) -> Outcome:
        """What became of its requests. Raises EngineError where that cannot be known now."""
        note, path = wave.note, self.notes.results(wave.note)
        if not path.exists():
            async with self._room(wave):
                if wave.earlier and not note.batch:
                    note.batch = await self._found(note)
                    if not note.batch:
                        self.notes.forget(note)
                        return lambda number: None
                    self.named.add(note.batch)
                    await self._write(note)
                elif not note.batch and (refused := await self._sent(wave)) is not None:
                    return refused
                state = await self._ended(note, note.batch, wave)
                if state.faults:
                    self.notes.forget(note)
                    return await self._not_taken(wave, state)
                await self._kept(wave, state)
        results = await asyncio.to_thread(Results, path, note, self.api, self.transport)
        if results.odd and not wave.earlier:
            self._events.add(f"batch {note.batch}, {wave.word or 'ended'}; {'; '.join(results.odd)}")
        return results.get

    async def keep_alone(self, key: str, reply: Any) -> None:
        """Notes a request that was sent alone, and its reply, as a separate wave."""
        note = Note(token_hex(8), time.time(), self.transport.place, [key], batch="alone")

        async def line() -> AsyncIterator[bytes]:
            yield orjson.dumps(self.api.line(note.custom_id(0), reply)) + b"\n"

        await self.notes.keep(note, line())
        await self._write(note)

    async def _sent(self, wave: Wave) -> Outcome | None:
        """None: the server has it, and the note says so."""
        note, transport = wave.note, self.transport
        note.made = time.time()
        await self._write(note)
        try:
            note.file = await self._steady(lambda: self.api.upload(transport, note, wave.lines))
            note.made = time.time()
            await self._write(note)
            note.batch = await self._steady(lambda: self._created(wave))
        except EngineError as error:
            if error.retryable and not isinstance(error, AccessDenied):
                raise  # it may have been made: the next start looks for it
            self.notes.forget(note)
            if not isinstance(error, RequestRefused):
                raise
            if error.status == 413 and len(wave.lines) > 1:
                self.most = len(wave.lines) // 2
                return lambda number: None
            named = _PLACE.search(error.words)
            fault = Fault(int(named[1]) if named else None, Said(error.words, fields=error.fields))
            return _by_line([fault], len(wave.lines), error.status)
        self.named.add(note.batch)
        await self._write(note)
        self.sent += 1
        self.requests += len(wave.lines)
        return None

    async def _created(self, wave: Wave) -> str:
        """Its id. Where no reply says that it was not made, it may have been, and is looked for before it is made
        again."""
        try:
            return await self.api.create(self.transport, wave.note, wave.lines)
        except EngineError as error:
            if not error.retryable or isinstance(error, RateLimited | AccessDenied):
                raise
            if not (found := await self._found(wave.note)):
                raise
            return found

    async def _found(self, note: Note) -> str:
        """The id of its batch at the server; empty: none was made. A request whose sender is gone may still be at
        work there: it is looked for again after a while."""
        for look in range(LOOKS):
            if look:
                await asyncio.sleep(self.settings.poll_s)
            found = await self._there(note, lambda: self.api.find(self.transport, note))
            for batch in found:
                if batch not in self.named and (self.api.certain or await self._is(note, batch)):
                    return batch
        return ""

    async def _is(self, note: Note, batch: str) -> bool:
        """Whether the results of a batch, once it has ended, are of this note's requests."""
        state = await self._ended(note, batch)

        async def first() -> bool:
            for path in state.results:
                async for line in self.transport.lines(path):
                    if result := result_of(self.api, self.transport, line):
                        return result.custom_id.startswith(f"{note.wave}-")
            return False

        return await self._there(note, first)

    async def _ended(self, note: Note, batch: str, wave: Wave | None = None) -> State:
        """The state of a batch once it has ended. wave: is told the server's word for it meanwhile."""
        wait = self.settings.poll_s
        while True:
            state = await self._there(note, lambda: self.api.state(self.transport, batch))
            if wave is not None:
                wave.word = state.word
            if state.ended:
                return state
            await asyncio.sleep(wait)
            wait = min(GROWS * wait, LONGEST * self.settings.poll_s)

    async def _kept(self, wave: Wave, state: State) -> None:
        """Makes the file of results. Where it has fewer answers than the server says that there are, they may have been
        cut on their way, or not be there yet: what is missing is paid for again only if it does not come."""
        note, looks = wave.note, 0

        async def lines(state: State) -> AsyncIterator[bytes]:
            answers = 0
            for path in state.results:
                async for line in self.transport.lines(path):
                    result = result_of(self.api, self.transport, line)
                    answers += result is not None and result.reply is not None
                    yield line
            if answers < state.answered and looks < LOOKS:
                raise MalformedReply(f"batch {note.batch} has {state.answered:,} answers, and {answers:,} came")

        async def keep() -> None:
            nonlocal looks
            looks += 1
            now = state if looks == 1 else await self.api.state(self.transport, note.batch)
            await self.notes.keep(note, lines(now))

        await self._there(note, keep)

    async def _not_taken(self, wave: Wave, state: State) -> Outcome:
        if not state.crowded:
            return _by_line(state.faults, len(wave.note.keys))
        if not self._crowded:
            self._events.add(
                f"{self.transport.place} had no room for a batch of {len(wave.note.keys):,} requests at {now()} "
                f"({state.faults[0].said.words}): batches go one after the other, and smaller ones"
            )
        self._crowded = True
        if len(self.working) == 1:
            self.most = max(1, len(wave.note.keys) // 2)
        await asyncio.sleep(LONGEST * self.settings.poll_s)
        return (lambda number: None) if len(wave.note.keys) > 1 else _by_line(state.faults, 1, 429)

    @asynccontextmanager
    async def _room(self, wave: Wave) -> AsyncIterator[None]:
        async with self._change:
            await self._change.wait_for(lambda: not (self._crowded and self.working))
            self.working.append(wave)
        try:
            yield
        finally:
            self.working.remove(wave)
            async with self._change:
                self._change.notify_all()

    # --- calls

    async def _there(self, note: Note, call: Callable[[], Awaitable[T]]) -> T:
        """Raises EngineGone also where the server does not know the batch or its files, or does not show them: that is
        no refusal of the requests in it."""
        while True:
            try:
                return await self._steady(call)
            except (ModelLoadError, RequestRefused) as error:
                if not 0 <= time.time() - note.made < LONGEST * self.settings.poll_s:
                    raise EngineGone(
                        f"{note.place}: does not show batch {note.batch or '(just made)'}, or what came of it: {error}",
                        hint=f"give the address and the key that it was sent with; or delete {self.notes.path(note)}, "
                        f"and its {len(note.keys):,} requests are paid for again",
                    ) from None
            await asyncio.sleep(self.settings.poll_s)  # what was made just now may not be there for all to see

    async def _steady(self, call: Callable[[], Awaitable[T]]) -> T:
        """What it returns, asked again for as long as `patience_s` while that can help."""
        began, wait = time.monotonic(), self.settings.poll_s
        while True:
            try:
                return await call()
            except EngineError as error:
                if not error.retryable or isinstance(error, AccessDenied | EngineGone):
                    raise
                asked = getattr(error, "retry_after", None) or 0.0
                if time.monotonic() + asked - began > self.settings.patience_s:
                    raise EngineGone(f"{self.transport.place}: no answer about its batches: {error}") from None
            await asyncio.sleep(max(wait, asked))
            wait = min(GROWS * wait, LONGEST * self.settings.poll_s)

    async def _write(self, note: Note) -> None:
        await asyncio.to_thread(self.notes.write, note)


def _by_line(faults: Sequence[Fault], count: int, status: int | None = None) -> Outcome:
    """What became of the requests of a batch that was refused: those that are named were, the others are asked again;
    where none is named, all were. count: requests of the batch. status: None finds it in the
    words, and takes 400 for what they do not say."""
    named = {fault.line: fault.said for fault in faults if fault.line is not None and fault.line < count}
    whole = faults[0].said

    def outcome(number: int) -> Result | None:
        told = named.get(number) if named else whole
        if told is None:
            return None
        meant = told.meant if told.meant in (402, 429) else 404 if "model_not_found" in told.codes else 400
        return Result("", status=status or meant, said=told)

    return outcome
