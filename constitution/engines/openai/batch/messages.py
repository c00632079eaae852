"""Anthropic's Message Batches: the requests are the body of one call, and their results one file.

Held against anthropic-sdk-python (src/anthropic/types/messages: batch_create_params, message_batch,
message_batch_result and its kinds; resources/messages/batches). Batches bear no names of ours there: one of which the
id is not known is found by when it was made and how many requests it has, and is certain once it has ended, by its
first result.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson

from constitution.engines.openai.batch.api import CHECK_SECONDS, SLACK, Line, Result, State, id_of, number_of
from constitution.engines.openai.batch.notes import Note
from constitution.engines.openai.http import Transport
from constitution.engines.openai.refused import Said, said
from constitution.errors import MalformedReply, ModelLoadError

BATCHES = "/messages/batches"
LISTED = 100
STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The HTTP status of each kind of error (the reference's page on errors)."""


class MessageBatches:
    most = 100_000
    most_bytes = 240 * 10**6
    """A little under 256 MB."""
    certain = False

    async def check(self, transport: Transport) -> None:
        await transport.get(f"{BATCHES}?limit=1", CHECK_SECONDS)

    async def upload(self, transport: Transport, note: Note, lines: Sequence[Line]) -> str:
        return ""

    async def create(self, transport: Transport, note: Note, lines: Sequence[Line]) -> str:
        body = b'{"requests":[' + b",".join(map(_asked, lines)) + b"]}"
        return id_of(await transport.post(BATCHES, body), transport.place, "a new batch")

    async def find(self, transport: Transport, note: Note) -> list[str]:
        found: list[str] = []
        after = ""
        while True:
            page = await transport.get(f"{BATCHES}?limit={LISTED}{after}", CHECK_SECONDS)
            batches = page.get("data") if isinstance(page, dict) else None
            if not isinstance(batches, list):
                raise MalformedReply(f"{transport.place}: the list of batches is none")
            for batch in batches:
                id = id_of(batch, transport.place, "a batch")
                if _made(batch, transport.place) < note.made - SLACK:
                    return found  # the newest come first
                counts = batch.get("request_counts")
                said = sum(map(number_of, counts.values())) if isinstance(counts, dict) else 0
                if said in (0, len(note.keys)):  # 0: it does not say
                    found.append(id)
            if not batches or not page.get("has_more"):
                return found
            after = f"&after_id={id}"

    async def state(self, transport: Transport, batch: str) -> State:
        told = await transport.get(f"{BATCHES}/{batch}", CHECK_SECONDS)
        word = told.get("processing_status") if isinstance(told, dict) else None
        if not isinstance(word, str):
            raise MalformedReply(f"{transport.place}: the reply is no batch")
        if word == "ended" and told.get("archived_at"):
            raise ModelLoadError(f"its results went into the archive on {str(told['archived_at'])[:10]}")
        counts = told.get("request_counts")
        answered = number_of(counts.get("succeeded")) if isinstance(counts, dict) else 0
        results = (f"{BATCHES}/{batch}/results",) if word == "ended" else ()
        return State(word, word == "ended", results, answered=answered)

    def line(self, custom_id: str, reply: Any) -> Any:
        return {"custom_id": custom_id, "result": {"type": "succeeded", "message": reply}}

    def result(self, line: Any) -> Result | None:
        result = line.get("result") if isinstance(line, dict) else None
        if not isinstance(result, dict) or not isinstance(line.get("custom_id"), str):
            return None
        id, kind, message = line["custom_id"], result.get("type"), result.get("message")
        if kind == "succeeded" and isinstance(message, dict):
            return Result(id, reply=message)
        if kind == "errored":
            told = said(orjson.dumps(result.get("error") or {}).decode())
            return Result(id, status=next((STATUS[code] for code in told.codes & STATUS.keys()), told.meant), said=told)
        return Result(id, status=0, said=Said(str(kind)), cancelled=kind == "canceled")


def _asked(line: Line) -> bytes:
    """A request; its body is JSON already."""
    return b'{"custom_id":' + orjson.dumps(line.custom_id) + b',"params":' + line.body + b"}"


def _made(batch: Any, place: str) -> float:
    """Unix time."""
    try:
        return datetime.fromisoformat(batch["created_at"]).timestamp()
    except (KeyError, TypeError, ValueError):
        raise MalformedReply(f"{place}: a batch does not say when it was made") from None
