"""Servers of batch APIs, written from their public references, with the fake engine behind them.

A batch moves on by a step with each look at it, so that no clock is needed; its requests are worked at the last one.
What is worked is paid for, and counted by its body. `fates` say what becomes of the batches that are made, in turn;
`faults` what becomes of calls, in turn for each kind of call; `heard` is called for each call, before it is answered
and after what it does is done, and can fell who called.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web
from aiohttp.test_utils import TestServer
from messages_server import KEY, MessagesServer, Refused

from rehearsal.server import FakeServer, _broken_off, _Refused

ABOUT = 'dialect = "openai"'
STEPS = ("validating", "in_progress", "finalizing")


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a batch."""

    ends: str = "completed"
    """expired, cancelled: only the first `answered` are. failed: none is, for `errors`."""
    answered: int = 10**9
    errors: Sequence[Mapping[str, Any]] = ()
    lines: Mapping[int, Mapping[str, Any] | str | None] = field(default_factory=dict)
    """By number, the line in place of an answer, which is then not worked; None: there is none."""
    twice: bool = False
    """The first line is there again, as an error."""
    stray: bool = False
    """There is a line of a request that was not sent, and one that is no JSON."""
    looks: int = len(STEPS)
    """After this many it has ended."""
    silent: bool = False
    """What was not answered has no line."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What becomes of a call."""

    status: int = 503
    done: bool = False
    """Whether it is done all the same."""
    cut: bool = False
    """The connection breaks, in place of an answer."""
    half: bool = False
    """It breaks in the middle of the answer, which is that of a sound call."""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = '{"error": {"message": "The server had an error", "type": "server_error", "code": null}}'


@dataclass(slots=True)
class Batch:
    id: str
    made: Mapping[str, Any]
    """What it was made of."""
    requests: list[dict[str, Any]]
    fate: Fate
    looks: int = 0
    state: str = STEPS[0]
    lines: list[dict[str, Any] | str] = field(default_factory=list)
    broken: list[dict[str, Any]] = field(default_factory=list)
    """Lines of the file of errors."""


class ChatBatchServer:
    """OpenAI's: openai-python src/openai/types/batch.py, batch_create_params.py, batch_error.py, file_object.py."""

    about = ABOUT
    """What a recipe's model section has for it."""
    alone = ("POST /v1/chat/completions",)
    """Calls that a request is sent alone by."""
    method = "label"
    """How its judges can vote."""
    body = "body"
    """Where a request has its body."""
    failed: Mapping[str, Any] = {"error": {"message": "The server had an error", "type": "server_error"}}

    def __init__(
        self,
        *,
        fates: Sequence[Fate] = (),
        faults: Mapping[str, Sequence[Fault | None]] | None = None,
        metadata: bool = True,
        most: int = 50_000,
        fake: FakeServer | None = None,
    ) -> None:
        """faults: by `METHOD /path` without ids. metadata: False does not keep it. most: requests that may wait."""
        self._fake = fake or FakeServer(prefix="continue")
        self._fates = deque(fates)
        self._faults = {call: deque(each) for call, each in (faults or {}).items()}
        self._metadata, self._most = metadata, most
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, Batch] = {}
        self.paid: Counter[str] = Counter()
        """Requests that were worked, by their body."""
        self.batched: Counter[str] = Counter()
        """Those of them that were in batches."""
        self.calls: Counter[str] = Counter()
        self.heard: Callable[[str, str], None] = lambda call, when: None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=256 * 2**20, middlewares=[self._met])
        self._routes(app)
        self._server = TestServer(app)
        await self._server.start_server(shutdown_timeout=1.0)
        self.base_url = str(self._server.make_url("/v1"))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.close()

    def _routes(self, app: web.Application) -> None:
        app.router.add_get("/v1/models", self._fake._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/files", self._upload)
        app.router.add_get("/v1/files/{id}/content", self._content)
        app.router.add_post("/v1/batches", self._create)
        app.router.add_get("/v1/batches", self._list)
        app.router.add_get("/v1/batches/{id}", self._look)

    @web.middleware
    async def _met(self, request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        route = request.match_info.route.resource
        call = f"{request.method} {route.canonical if route else request.path}".replace("/{id}", "/*")
        self.calls[call] += 1
        self.heard(call, "before")
        waiting = self._faults.get(call)
        fault = waiting.popleft() if waiting else None
        if fault is None or fault.done or fault.half:
            response: web.Response = await handler(request)
            self.heard(call, "after")
        if fault is None:
            return response
        if fault.half:
            assert isinstance(response.body, bytes)
            return await _broken_off(request, response.body)
        if fault.cut:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(
            status=fault.status, text=fault.body, headers=fault.headers, content_type="application/json"
        )

    def met(self, call: str, when: str) -> asyncio.Event:
        """Is set once it has heard this call."""
        event = asyncio.Event()
        self.heard = lambda heard, at: event.set() if (heard, at) == (call, when) else None
        return event

    def sound(self) -> None:
        """No call meets a fault any more."""
        self._faults.clear()

    # --- requests

    async def answer(self, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        try:
            reply = await self._fake._reply(body)
        except _Refused as refused:
            error = {"message": str(refused), "type": "invalid_request_error", "param": None, "code": refused.code}
            return refused.status, {"error": error}
        self.paid[json.dumps(body, sort_keys=True)] += 1
        return 200, reply

    async def _chat(self, request: web.Request) -> web.Response:
        status, reply = await self.answer(await request.json())
        return web.json_response(reply, status=status)

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        assert form["purpose"] == "batch"
        sent = form["file"]
        assert isinstance(sent, web.FileField)
        id = f"file-{len(self.files)}"
        self.files[id] = sent.file.read()
        return web.json_response(
            {"id": id, "object": "file", "bytes": len(self.files[id]), "filename": sent.filename, "purpose": "batch"}
        )

    async def _content(self, request: web.Request) -> web.Response:
        if request.match_info["id"] not in self.files:
            return web.json_response({"error": {"message": "No such File object"}}, status=404)
        return web.Response(body=self.files[request.match_info["id"]], content_type="application/octet-stream")

    async def _create(self, request: web.Request) -> web.Response:
        made = await request.json()
        assert made["endpoint"] == "/v1/chat/completions"
        assert made["completion_window"] == "24h"
        requests = [json.loads(line) for line in self.files[made["input_file_id"]].splitlines()]
        batch = self._add(made, requests)
        for each in requests:
            assert (each["method"], each["url"]) == ("POST", made["endpoint"])
            assert len(each["custom_id"]) <= 64
        return web.json_response(self._told(batch))

    def _add(self, made: Mapping[str, Any], requests: list[dict[str, Any]]) -> Batch:
        assert len({each["custom_id"] for each in requests}) == len(requests)
        queued = sum(len(each.requests) for each in self.batches.values() if each.state in STEPS)
        fate = self._fates.popleft() if self._fates else Fate()
        if queued + len(requests) > self._most:
            words = f"Enqueued token limit reached for fake. Limit: {self._most}. Please try again later."
            fate = Fate("failed", errors=[{"code": "token_limit_exceeded", "message": words, "line": None}])
        batch = self.batches[f"batch_{len(self.batches)}"] = Batch(f"batch_{len(self.batches)}", made, requests, fate)
        return batch

    async def _list(self, request: web.Request) -> web.Response:
        newest = list(reversed(self.batches.values()))
        if after := request.query.get("after", request.query.get("after_id")):
            newest = newest[[batch.id for batch in newest].index(after) + 1 :]
        page = newest[: min(int(request.query.get("limit", 20)), 2)]  # small, so that pages are turned
        return web.json_response(
            {"object": "list", "data": [self._told(each) for each in page], "has_more": len(newest) > len(page)}
        )

    async def _look(self, request: web.Request) -> web.Response:
        batch = self.batches.get(request.match_info["id"])
        if batch is None:
            return web.json_response({"error": {"message": "No batch found"}}, status=404)
        await self._step(batch)
        return web.json_response(self._told(batch))

    async def _step(self, batch: Batch) -> None:
        if batch.state not in STEPS:
            return
        batch.looks += 1
        if batch.looks < batch.fate.looks:
            batch.state = STEPS[min(batch.looks, len(STEPS) - 1)]
            return
        batch.state = batch.fate.ends
        if batch.state != "failed":
            await self._work(batch)

    async def _work(self, batch: Batch) -> None:
        fate = batch.fate
        for number, request in enumerate(batch.requests):
            id = request["custom_id"]
            if number in fate.lines:
                told = fate.lines[number]
                if isinstance(told, Mapping):
                    batch.broken.append({"custom_id": id, **told})
                elif told is not None:
                    batch.lines.append(told)
            elif number >= fate.answered:
                if not fate.silent:
                    batch.broken.append({"custom_id": id, **self._unanswered(fate)})
            else:
                status, body = await self.answer(request[self.body])
                self.batched[json.dumps(request[self.body], sort_keys=True)] += status == 200
                (batch.lines if status == 200 else batch.broken).append({"custom_id": id, **self._line(status, body)})
        batch.lines.reverse()  # in no order that could be relied on
        if fate.twice:
            first = {"custom_id": batch.requests[0]["custom_id"]}
            batch.lines.insert(0, {**first, **self._line(500, self.failed)})
        if fate.stray:
            batch.lines += [{"custom_id": "stray", **self._line(200, {})}, "{half"]
        self._publish(batch)

    def _line(self, status: int, body: Mapping[str, Any]) -> dict[str, Any]:
        return {"id": "b", "response": {"status_code": status, "request_id": "r", "body": body}, "error": None}

    def _unanswered(self, fate: Fate) -> dict[str, Any]:
        error = {"code": f"batch_{fate.ends}", "message": f"This request was not worked: {fate.ends}."}
        return {"response": None, "error": error}

    def _publish(self, batch: Batch) -> None:
        self.files |= {f"{batch.id}-out": _jsonl(batch.lines), f"{batch.id}-err": _jsonl(batch.broken)}

    def _told(self, batch: Batch) -> dict[str, Any]:
        over = batch.state not in (*STEPS, "failed")
        return {
            "id": batch.id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "created_at": 2_000_000_000,
            "input_file_id": batch.made["input_file_id"],
            "status": batch.state,
            "metadata": batch.made.get("metadata") if self._metadata else None,
            "output_file_id": f"{batch.id}-out" if over and batch.lines else None,
            "error_file_id": f"{batch.id}-err" if over and batch.broken else None,
            "errors": {"object": "list", "data": batch.fate.errors} if batch.state == "failed" else None,
        }


def _jsonl(lines: Sequence[Any]) -> bytes:
    return "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines).encode()


class MessageBatchServer(ChatBatchServer):
    """Anthropic's: anthropic-sdk-python src/anthropic/types/messages/."""

    # What is cached depends on the order in which requests come.
    about = 'dialect = "anthropic"\napi_key_env = "MESSAGES_KEY"\nomit = ["cache_control"]'
    alone = ("POST /v1/messages",)
    method = "verdict"
    body = "params"
    failed: Mapping[str, Any] = {"type": "error", "error": {"type": "api_error", "message": "Internal server error"}}

    def __init__(self, *, largest: int = 100_000, **settings: Any) -> None:
        """largest: requests of a batch."""
        super().__init__(**settings)
        self._messages, self._largest = MessagesServer(), largest

    def _routes(self, app: web.Application) -> None:
        app.router.add_get("/v1/models", self._messages._models)
        app.router.add_post("/v1/messages", self._chat)
        app.router.add_post("/v1/messages/batches", self._create)
        app.router.add_get("/v1/messages/batches", self._list)
        app.router.add_get("/v1/messages/batches/{id}", self._look)
        app.router.add_get("/v1/messages/batches/{id}/results", self._content)

    async def answer(self, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        try:
            reply = await self._messages._answer(body)
        except Refused as refused:
            error = {"type": refused.kind, "message": str(refused)}
            return refused.status, {"type": "error", "error": error, "request_id": "r"}
        self.paid[json.dumps(body, sort_keys=True)] += 1
        return 200, reply

    async def _create(self, request: web.Request) -> web.Response:
        assert request.headers["x-api-key"] == KEY
        requests = (await request.json())["requests"]
        assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", each["custom_id"]) for each in requests)
        if len(requests) > self._largest:
            error = {"type": "request_too_large", "message": "Request exceeds the maximum allowed number of bytes"}
            return web.json_response({"type": "error", "error": error}, status=413)
        return web.json_response(self._told(self._add({}, requests)))

    def _line(self, status: int, body: Mapping[str, Any]) -> dict[str, Any]:
        if status == 200:
            return {"result": {"type": "succeeded", "message": body}}
        return {"result": {"type": "errored", "error": body}}

    def _unanswered(self, fate: Fate) -> dict[str, Any]:
        return {"result": {"type": {"cancelled": "canceled"}.get(fate.ends, fate.ends)}}

    def _publish(self, batch: Batch) -> None:
        self.files[batch.id] = _jsonl([*batch.broken, *batch.lines])

    def _told(self, batch: Batch) -> dict[str, Any]:
        over = batch.state not in STEPS
        kinds = Counter(line["result"]["type"] for line in (*batch.broken, *batch.lines) if isinstance(line, dict))
        counts = {name: kinds[name] for name in ("succeeded", "errored", "canceled", "expired")}
        # "The sum of all values always matches the total number of requests in the batch."
        counts = counts | {"processing": len(batch.requests) - sum(counts.values())}
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": "ended" if over else "in_progress",
            "request_counts": counts,
            "created_at": "2033-05-18T03:33:20.000000+00:00",
            "expires_at": "2033-05-19T03:33:20.000000+00:00",
            "ended_at": "2033-05-18T04:33:20Z" if over else None,
            "cancel_initiated_at": None,
            "archived_at": None,
            "results_url": f"{self.base_url}/messages/batches/{batch.id}/results" if over else None,
        }


BatchServer = ChatBatchServer
BATCHES: dict[str, type[BatchServer]] = {"openai": ChatBatchServer, "anthropic": MessageBatchServer}
"""By the recipe's dialect."""
