"""Requests in waves: what is asked for within a short while goes out as one batch, and is waited for.

    waves = Waves(Work(api, transport, notes, settings, events))
    await waves.open()
    reply, place = await waves.post(path, body, request)

To who asks, it is a slow server: a refusal in a batch is the same exception as that of a request sent alone. Each
request is in one wave at a time: in one of an earlier start, if a note has it, or else in the next that goes out.

The first request of each step goes ahead alone, at its full price. What a server does not take (a field, the model, the
key, log-probabilities) is so known in a second, and not by a batch of refusals after hours.
"""

from __future__ import annotations

import asyncio
import copy
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

from constitution.engines.base import Request
from constitution.engines.openai.batch.api import Line, Result
from constitution.engines.openai.batch.notes import Note, key_of
from constitution.engines.openai.batch.work import Wave, Work
from constitution.errors import (
    AccessDenied,
    ConstitutionError,
    EngineError,
    EngineGone,
    EngineUnavailable,
    ModelLoadError,
    RecipeError,
    RequestRefused,
)

FRAME = 160
"""Bytes that a request takes in a batch beside its own body."""
Post = Callable[[str, bytes, Request], Awaitable[tuple[Any, str]]]
"""Sends a body to a path: the reply's JSON, and the address of the server that gave it."""


@dataclass(slots=True)
class Turn:
    post: Post
    """Sends the request."""
    answered: bool = False
    """Set by who asks: the reply has what was asked for."""


class Waves:
    def __init__(self, work: Work, alone: Post, sends: bool = True) -> None:
        """alone: sends a request by itself. sends: False sends so whatever no earlier start sent."""
        self._work, self._settings, self._place = work, work.settings, work.transport.place
        self._alone, self._sends = alone, sends
        self._pilots: dict[str, asyncio.Event] = {}
        """By step, the request that goes ahead of the others; the event is its end."""
        self._proven: set[str] = set()
        """Steps of which a request was answered."""
        self._known: dict[str, deque[tuple[Wave, int]]] = defaultdict(deque)
        """Requests of earlier starts that this start has not asked for yet, by key."""
        self._collecting: Wave | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._last = 0.0
        """The loop's clock, when the last request came."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._again = self._earlier = self._ahead = 0
        self._closed = False

    async def open(self) -> None:
        """Reads the notes. Raises RecipeError for a server without batches."""
        work, place = self._work, self._place
        for note in await asyncio.to_thread(work.notes.read):
            if note.place != place:
                continue  # another engine's (`notes.at_places`)
            wave = Wave(note, earlier=True)
            work.named.add(note.batch)
            for number, key in enumerate(note.keys):
                self._known[key].append((wave, number))
        if self._sends:
            try:
                await work.api.check(work.transport)
            except (ModelLoadError, RequestRefused) as error:
                raise RecipeError(f"batch: {place} has no batches: {error}", hint="leave `batch` out") from None
            except EngineUnavailable as error:
                if isinstance(error, AccessDenied):
                    raise

    @asynccontextmanager
    async def turn(self, request: Request) -> AsyncIterator[Turn]:
        """For a request that is asked in the block: the first of its step is sent alone, the others, once one has been
        answered, in waves."""
        step = f"{request.step.partition('-')[0]}{' (label)' * bool(request.choices)}"
        while self._sends and request.step and step not in self._proven:
            if ahead := self._pilots.get(step):
                await ahead.wait()
                continue
            ended = self._pilots[step] = asyncio.Event()
            try:
                turn = Turn(lambda path, body, request: self._pilot(step, path, body, request))
                yield turn
                if turn.answered:
                    self._proven.add(step)
            finally:
                del self._pilots[step]
                ended.set()
            return
        yield Turn(self.post)

    async def _pilot(self, step: str, path: str, body: bytes, request: Request) -> tuple[Any, str]:
        key = key_of(path, body, request)
        if self._known.get(key):
            return await self._among_others(step, path, body, request)  # an earlier start got so far
        try:
            reply, place = await self._alone(path, body, request)
        except EngineUnavailable as error:
            if isinstance(error, AccessDenied | EngineGone):
                raise
            # Batches have limits of their own.
            return await self._among_others(step, path, body, request)
        await self._work.keep_alone(key, reply)
        self._ahead += 1
        return reply, place

    async def _among_others(self, step: str, path: str, body: bytes, request: Request) -> tuple[Any, str]:
        """Sends it in a wave, which may take hours: the others of its step do not wait for it."""
        self._proven.add(step)
        self._pilots[step].set()
        return await self.post(path, body, request)

    async def post(self, path: str, body: bytes, request: Request) -> tuple[Any, str]:
        """The reply's JSON and the server's address. Raises EngineError, as for a request that is sent alone; one that
        was not answered is sent again `retries` times."""
        key, spare = key_of(path, body, request), self._settings.retries
        while True:
            earlier = self._known.get(key)
            if not earlier and not self._sends:
                return await self._alone(path, body, request)
            wave, number = earlier.popleft() if earlier else self._joined(key, path, body)
            result = await self._result(wave, number)
            if result is not None and result.reply is not None:
                self._earlier += wave.earlier
                return result.reply, self._place
            if result is None or wave.earlier:
                continue  # what was refused in an earlier start costs nothing, and may be taken now
            error = self._error(wave, result)
            if not error.retryable or isinstance(error, AccessDenied | EngineGone) or not spare:
                raise error
            spare -= 1
            self._again += 1

    def stats(self) -> Mapping[str, Any]:
        """Counts over this start, and `open`: the batches that are waited for."""
        work = self._work
        waiting = [
            {"batch": wave.note.batch, "requests": len(wave.note.keys), "state": wave.word} for wave in work.working
        ]
        return {
            "sent": work.sent,
            "requests": work.requests,
            "asked_again": self._again,
            "of_earlier_starts": self._earlier,
            "alone": self._ahead,
            "open": waiting,
        }

    async def close(self) -> None:
        """What is at the server stays there, and is found by the next start."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._collecting is not None:
            self._collecting.done.set_exception(self._over())

    # --- collecting

    def _joined(self, key: str, path: str, body: bytes) -> tuple[Wave, int]:
        if self._closed:
            raise self._over()
        wave, size = self._collecting, len(body) + FRAME
        if wave is not None and wave.size + size > self._work.api.most_bytes:
            self._send()
            wave = None
        loop = asyncio.get_running_loop()
        if wave is None:
            wave = self._collecting = Wave(Note(token_hex(8), 0.0, self._place, []))
            self._timer = loop.call_later(self._settings.wait_s, self._due)
        number = len(wave.lines)
        wave.lines.append(Line(wave.note.custom_id(number), path, body))
        wave.note.keys.append(key)
        wave.size += size
        self._last = loop.time()
        if len(wave.lines) >= self._work.most:
            self._send()
        return wave, number

    def _due(self) -> None:
        loop = asyncio.get_running_loop()
        left = self._last + self._settings.wait_s - loop.time()
        if left > 0:
            self._timer = loop.call_later(left, self._due)
        else:
            self._send()

    def _send(self) -> None:
        assert self._collecting is not None
        assert self._timer is not None
        self._timer.cancel()
        wave, self._collecting = self._collecting, None
        self._begin(wave)

    def _begin(self, wave: Wave) -> None:
        wave.task = asyncio.create_task(self._worked(wave), name=f"batch {wave.note.wave}")
        self._tasks.add(wave.task)
        wave.task.add_done_callback(self._tasks.discard)

    async def _result(self, wave: Wave, number: int) -> Result | None:
        if wave.task is None and wave.earlier:
            self._begin(wave)
        try:
            outcome = await asyncio.shield(wave.done)
        except ConstitutionError as error:
            raise copy.copy(error) from None  # each has its own, which is written to
        return outcome(number)

    def _error(self, wave: Wave, result: Result) -> EngineError:
        place, batch = self._place, wave.note.batch
        if result.status:
            return self._work.transport.refusal(result.status, {}, result.said)
        if result.cancelled:
            return EngineGone(
                f"{place}: batch {batch} was cancelled there, with requests of this run that were not answered",
                hint="what was answered is kept; the same command asks for the rest",
            )
        said = ", ".join(filter(None, (wave.word, result.said.words)))
        return EngineUnavailable(f"{place}: batch {batch} ended without an answer to this: {said}")

    async def _worked(self, wave: Wave) -> None:
        try:
            outcome = await self._work.outcome(wave)
        except Exception as error:
            wave.done.set_exception(error)
        except asyncio.CancelledError:
            wave.done.set_exception(self._over())
            raise
        else:
            wave.done.set_result(outcome)
        finally:
            wave.lines = []

    def _over(self) -> EngineUnavailable:
        return EngineUnavailable(f"{self._place}: the engine is closed", hint="")
