"""The seam: what a server's batch API is asked, and what it answers.

A further API is a `BatchAPI` in its own file, and the `batch` of its `Wire`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from constitution.engines.openai.batch.notes import Note
from constitution.engines.openai.http import Transport
from constitution.engines.openai.refused import Said
from constitution.errors import MalformedReply

CHECK_SECONDS = 30.0
"""The limit of a question about batches."""
SLACK = 26 * 3600.0
"""Seconds by which a server's clock may be behind ours: more than a clock is wrong by that has another zone's time."""


class Line(NamedTuple):
    """One request of a wave."""

    custom_id: str
    path: str
    """The path of a request that is sent alone, under `base_url`."""
    body: bytes
    """JSON."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one request."""

    custom_id: str
    reply: Any = None
    """The reply's JSON; None: there is none."""
    status: int = 200
    """The HTTP status that it would have had alone; 0: it was not answered."""
    said: Said = field(default=Said(""))
    """What the error says."""
    cancelled: bool = False
    """It was not answered because the batch was cancelled."""


class Fault(NamedTuple):
    """What a server says of a batch that it does not take."""

    line: int | None
    """The request at fault, from 0; None: it does not say."""
    said: Said


@dataclass(frozen=True, slots=True)
class State:
    """What a server says of a batch."""

    word: str
    """Its own word for it."""
    ended: bool
    results: tuple[str, ...] = ()
    """Paths under `base_url` of the files of results; there may be none."""
    faults: tuple[Fault, ...] = ()
    """Not empty: the batch was refused as a whole, and nothing of it was worked."""
    answered: int = 0
    """Requests that it says it answered; 0 also where it does not say."""
    crowded: bool = False
    """It was refused because there is no room for all its requests now."""


class BatchAPI(Protocol):
    """How one kind of server takes batches. Everything raises EngineError, by what the server answers."""

    most: int
    """Requests of a batch, at most."""
    certain: bool
    """Whether a batch that `find` finds is the note's; else only its results tell."""
    most_bytes: int
    """Bytes of the body or file that carries them, at most."""

    async def check(self, transport: Transport) -> None:
        """Raises ModelLoadError where the server has no batches."""
        ...

    async def upload(self, transport: Transport, note: Note, lines: Sequence[Line]) -> str:
        """Sends what can be sent before the batch is made, and costs nothing; returns its id there, for the note."""
        ...

    async def create(self, transport: Transport, note: Note, lines: Sequence[Line]) -> str:
        """Makes the batch; returns its id. From here on it costs."""
        ...

    async def find(self, transport: Transport, note: Note) -> Sequence[str]:
        """Ids of the batches that can have been made of this note, where it has none; empty: none was made."""
        ...

    async def state(self, transport: Transport, batch: str) -> State: ...

    def line(self, custom_id: str, reply: Any) -> Any:
        """The line of a file of results that has this reply."""
        ...

    def result(self, line: Any) -> Result | None:
        """What a line of a file of results, decoded, says; None: nothing that can be read."""
        ...


def number_of(value: Any) -> int:
    """A count, 0 where it is none."""
    return value if isinstance(value, int) else 0


def id_of(reply: Any, place: str, what: str) -> str:
    """Raises MalformedReply where it has none."""
    id = reply.get("id") if isinstance(reply, Mapping) else None
    if not isinstance(id, str) or not id:
        raise MalformedReply(f"{place}: {what} has no id")
    return id
