"""OpenAI's batches of chat completions: a file of requests goes up, a batch is made of it, files come down.

Held against openai-python (src/openai/types: batch, batch_create_params, batch_error; resources/files) and what people
met: a batch of which all failed has no output file (openai-python #1643 and others), an error may be in
`response.body` with `error` null (openai-openapi #302), a line may have status 0 and an empty body.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from constitution.engines.openai.batch.api import CHECK_SECONDS, SLACK, Fault, Line, Result, State, id_of, number_of
from constitution.engines.openai.batch.notes import Note
from constitution.engines.openai.http import Transport
from constitution.engines.openai.refused import Said, error_within, said
from constitution.errors import MalformedReply

FILES = "/files"
BATCHES = "/batches"
WINDOW = "24h"
ENDED = {"completed", "failed", "expired", "cancelled", "canceled"}
CROWDED = "token_limit_exceeded"
"""Code of a batch that would put more tokens in the account's queue than it may hold."""
LISTED = 100


class ChatBatches:
    most = 50_000
    most_bytes = 190 * 10**6
    """A little under 200 MB."""
    certain = True

    async def check(self, transport: Transport) -> None:
        await transport.get(f"{BATCHES}?limit=1", CHECK_SECONDS)

    async def upload(self, transport: Transport, note: Note, lines: Sequence[Line]) -> str:
        content = b"".join(_asked(line) for line in lines)
        reply = await transport.upload(FILES, {"purpose": "batch"}, f"{note.wave}.jsonl", content)
        return id_of(reply, transport.place, "an uploaded file")

    async def create(self, transport: Transport, note: Note, lines: Sequence[Line]) -> str:
        body = {
            "input_file_id": note.file,
            "endpoint": f"/v1{lines[0].path}",
            "completion_window": WINDOW,
            "metadata": {"wave": note.wave},
        }
        return id_of(await transport.post(BATCHES, orjson.dumps(body)), transport.place, "a new batch")

    async def find(self, transport: Transport, note: Note) -> list[str]:
        """Known by the name of the wave, or by the file, which servers that keep no metadata know too."""
        after = ""
        while True:
            page = await transport.get(f"{BATCHES}?limit={LISTED}{after}", CHECK_SECONDS)
            batches = page.get("data") if isinstance(page, dict) else None
            if not isinstance(batches, list):
                raise MalformedReply(f"{transport.place}: the list of batches is none")
            for batch in filter(lambda each: isinstance(each, dict), batches):
                named = batch.get("metadata") == {"wave": note.wave}
                if named or (note.file and batch.get("input_file_id") == note.file):
                    return [id_of(batch, transport.place, "a batch")]
            # The newest come first.
            made = [each.get("created_at") for each in batches if isinstance(each, dict)]
            older = any(isinstance(moment, int) and moment < note.made - SLACK for moment in made)
            if older or not batches or not page.get("has_more"):
                return []
            after = f"&after={id_of(batches[-1], transport.place, 'a batch')}"

    async def state(self, transport: Transport, batch: str) -> State:
        told = await transport.get(f"{BATCHES}/{batch}", CHECK_SECONDS)
        if not isinstance(told, dict) or not isinstance(told.get("status"), str):
            raise MalformedReply(f"{transport.place}: the reply is no batch")
        word = told["status"].lower()
        files = [told.get(name) for name in ("output_file_id", "error_file_id")]
        results = tuple(f"{FILES}/{file}/content" for file in files if file)
        faults = tuple(_faults(told.get("errors"))) if word == "failed" and not results else ()
        if word == "failed" and not results and not faults:
            faults = (Fault(None, Said("the batch failed, and the server does not say why")),)
        counts = told.get("request_counts")
        answered = number_of(counts.get("completed")) if isinstance(counts, dict) else 0
        crowded = any(CROWDED in fault.said.codes for fault in faults)
        return State(word, word in ENDED, results, faults, answered, crowded)

    def line(self, custom_id: str, reply: Any) -> Any:
        return {"custom_id": custom_id, "response": {"status_code": 200, "body": reply}, "error": None}

    def result(self, line: Any) -> Result | None:
        if not isinstance(line, dict) or not isinstance(line.get("custom_id"), str):
            return None
        id, response, error = line["custom_id"], line.get("response"), line.get("error")
        response = response if isinstance(response, dict) else {}
        status, body = response.get("status_code"), response.get("body")
        if status == 200 and body and not error:
            within = error_within(body)
            return Result(id, reply=body) if within is None else Result(id, status=within.meant, said=within)
        told = said(orjson.dumps(error or body or {}).decode())
        if isinstance(status, int) and 300 <= status < 600:
            return Result(id, status=status, said=told)
        if not error:
            told = Said(f"it has no answer, and status {status}")
        return Result(id, status=0, said=told, cancelled="batch_cancelled" in told.codes)


def _asked(line: Line) -> bytes:
    """A line of the file; its body is JSON already."""
    head = orjson.dumps({"custom_id": line.custom_id, "method": "POST", "url": f"/v1{line.path}"})
    return head[:-1] + b',"body":' + line.body + b"}\n"


def _faults(errors: Any) -> list[Fault]:
    listed = errors.get("data") if isinstance(errors, dict) else errors
    found = []
    for error in listed if isinstance(listed, list) else []:
        if isinstance(error, dict):
            line = error.get("line")
            number = line - 1 if isinstance(line, int) and line > 0 else None
            found.append(Fault(number, said(orjson.dumps({"error": error}).decode())))
    return found
