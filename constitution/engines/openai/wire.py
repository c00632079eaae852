"""How an API is spoken: where a request is posted, how its body is made, how a reply is read.

A further one is a `Wire` in its own file, its name in `WIRES` of engine.py and in the recipe's `dialect`. Requests
reach it in the words of OpenAI's chat completions, and it gives replies back in the same words: votes, reasoning,
refused fields and counts of tokens are read in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from constitution.engines.odd import Note
from constitution.engines.openai.batch.api import BatchAPI
from constitution.engines.openai.batch.chat import ChatBatches
from constitution.engines.openai.http import CHAT, bearer
from constitution.recipe import OpenAIModel
from constitution.records import Messages, as_dicts


@dataclass(frozen=True, slots=True)
class Wire:
    path: str
    """Under `base_url`."""
    headers: Callable[[str], Mapping[str, str]]
    """What every request has, with the key; an empty key: there is none."""
    body: Callable[[Mapping[str, Any], Messages], Mapping[str, Any]]
    """The body of a request: fields of chat completions and turns."""
    chat: Callable[[Any, str, Note], Any]
    """A reply of the server at this address as a chat completion. Raises MalformedReply for what is none; takes note of
    oddities."""
    fields: Callable[[OpenAIModel], Mapping[str, Any]] = lambda section: {}
    """Fields of every request beside the usual ones; those of the recipe's extra_body replace them."""
    needless: Mapping[str, Any] = field(default_factory=dict)
    """Values of fields that are not sent, because leaving the field out means the same at the API's maker."""
    lacks: frozenset[str] = frozenset()
    """Fields that the API does not have."""
    templated: bool = True
    """Whether requests can set variables of the model's chat template."""
    turns: int = 0
    """What turns it takes: a key of `dialect.TURNS_AS`."""
    said: str = ""
    """What is sent otherwise than a request says, for the run's record."""
    batches: BatchAPI | None = None
    """How it takes batches; None: it does not."""


CHAT_COMPLETIONS = Wire(
    path=CHAT,
    headers=bearer,
    body=lambda fields, messages: {**fields, "messages": as_dicts(messages)},
    chat=lambda reply, place, note: reply,
    batches=ChatBatches(),
)
