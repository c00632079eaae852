"""A server of Anthropic's Messages API, written from its public reference, with the fake engine behind it.

It refuses what the reference says is refused, in the words of the real one, and counts what of the prompt is cached by
the marks that a request sets. Faults come first: each takes one request.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Self

from aiohttp import web
from aiohttp.test_utils import TestServer

from constitution.engines.base import Engine, Request
from constitution.engines.fake import FakeEngine
from constitution.recipe import FakeModel
from constitution.records import Message, Sampling

KEY = "key-of-the-tests"
FIELDS = {
    *("model", "messages", "max_tokens", "system", "temperature", "top_p", "top_k", "stop_sequences", "stream"),
    *("metadata", "service_tier", "thinking", "tools", "tool_choice", "output_config", "container", "inference_geo"),
}
ENDED = {"stop": "end_turn", "length": "max_tokens"}


class Refused(Exception):
    def __init__(self, status: int, kind: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.kind, self.headers = status, kind, headers


OVERLOADED = Refused(529, "overloaded_error", "Overloaded")
LIMITED = Refused(429, "rate_limit_error", "This request would exceed your rate limit", **{"retry-after": "0"})
TOO_LARGE = Refused(413, "request_too_large", "Request exceeds the maximum size")


class MessagesServer:
    def __init__(
        self,
        *,
        strict: bool = False,
        thoughts: int = 0,
        faults: Sequence[Refused | dict[str, Any]] = (),
        owner: str = "",
        engine: Engine | None = None,
    ) -> None:
        """strict: as newer models, which take no prefill, and not temperature with top_p. faults: an error, or fields
        that replace those of the reply, in turn. owner: another server of the API, which lists its model. engine: what
        answers; None: the fake engine."""
        self._engine = engine or FakeEngine(FakeModel(engine="fake", thoughts=thoughts))
        self._strict, self._owner = strict, owner
        self.faults = list(faults)
        self.bodies: list[dict[str, Any]] = []
        self.refusals: Counter[str] = Counter()
        self._cache: set[str] = set()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/messages", self._messages)
        self._server = TestServer(app)
        await self._server.start_server(shutdown_timeout=1.0)
        self.base_url = str(self._server.make_url("/v1"))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.close()

    async def _models(self, request: web.Request) -> web.Response:
        listed = {"id": "fake", "owned_by": self._owner} if self._owner else {"type": "model", "id": "other-model"}
        return web.json_response({"data": [listed], "has_more": True})

    async def _messages(self, request: web.Request) -> web.Response:
        try:
            if request.headers.get("x-api-key") != KEY:
                raise Refused(401, "authentication_error", "invalid x-api-key")
            if request.headers.get("anthropic-version") != "2023-06-01":
                raise Refused(400, "invalid_request_error", "anthropic-version: header is required")
            body = await request.json()
            self.bodies.append(body)
            fault = self.faults.pop(0) if self.faults else {}
            if isinstance(fault, Refused):
                raise fault
            return web.json_response({**await self._answer(body), **fault})
        except Refused as refused:
            self.refusals[f"{refused.status} {refused}"] += 1
            told = {"type": "error", "error": {"type": refused.kind, "message": str(refused)}, "request_id": "req_1"}
            return web.json_response(told, status=refused.status, headers=refused.headers)

    async def _answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        self._check(body)
        turns = [Message(turn["role"], text_of(turn["content"])) for turn in body["messages"]]
        system = [Message("system", text_of(body["system"]))] if "system" in body else []
        stop = tuple(body.get("stop_sequences", ()))
        sampling = Sampling(body.get("temperature", 1.0), body.get("top_p", 1.0), body["max_tokens"], stop)
        done = await self._engine.generate(Request((*system, *turns), sampling, 0))
        thoughts = [{"type": "thinking", "thinking": done.reasoning, "signature": "c2ln"}] if done.reasoning else []
        texts = [{"type": "text", "text": done.text}] if done.text else []
        read, written = self._cached(body)
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [*thoughts, *texts],
            "stop_reason": ENDED[done.finish_reason],
            "stop_sequence": None,
            "usage": {
                "input_tokens": max(done.prompt_tokens - read - written, 0),
                "cache_creation_input_tokens": written,
                "cache_read_input_tokens": read,
                "output_tokens": done.completion_tokens,
                **({"output_tokens_details": {"thinking_tokens": done.reasoning_tokens}} if thoughts else {}),
            },
        }

    def _check(self, body: Mapping[str, Any]) -> None:
        for name in body.keys() - FIELDS:
            raise _invalid(f"{name}: Extra inputs are not permitted")
        for name in ("model", "max_tokens", "messages"):
            if name not in body:
                raise _invalid(f"{name}: Field required")
        if not 0 <= body.get("temperature", 1.0) <= 1:
            raise _invalid("temperature: range: 0..1")
        if body["max_tokens"] > 4096:
            raise _invalid(
                f"max_tokens: {body['max_tokens']} > 4096, which is the maximum allowed number of output tokens for m"
            )
        if self._strict and "temperature" in body and "top_p" in body:
            raise _invalid("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")
        if (body.get("thinking") or {}).get("type") == "enabled" and body.get("temperature", 1) != 1:
            raise _invalid("`temperature` may only be set to 1 when thinking is enabled.")
        if any(not stop.strip() for stop in body.get("stop_sequences", ())):
            raise _invalid("stop_sequences: each stop sequence must contain non-whitespace")
        self._check_turns(body["messages"])

    def _check_turns(self, turns: Sequence[Mapping[str, Any]]) -> None:
        if not turns:
            raise _invalid("messages: at least one message is required")
        for turn in turns:
            if turn["role"] not in ("user", "assistant"):
                raise _invalid(f'messages: Unexpected role "{turn["role"]}".')
            if not text_of(turn["content"]).strip():
                raise _invalid("messages: text content blocks must be non-empty")
        if turns[-1]["role"] == "assistant":
            if self._strict:
                raise _invalid(
                    "This model does not support assistant message prefill. "
                    "The conversation must end with a user message."
                )
            if text_of(turns[-1]["content"]) != text_of(turns[-1]["content"]).rstrip():
                raise _invalid("messages: final assistant content cannot end with trailing whitespace")

    def _cached(self, body: Mapping[str, Any]) -> tuple[int, int]:
        """Tokens (words) of the prompt that are read from the cache, and that are written to it."""
        blocks = [*_blocks(body.get("system", [])), *(b for turn in body["messages"] for b in _blocks(turn["content"]))]
        read = written = 0
        for place in [place for place, block in enumerate(blocks, 1) if "cache_control" in block]:
            prefix = json.dumps([block["text"] for block in blocks[:place]])
            words = sum(len(block["text"].split()) for block in blocks[:place])
            if prefix in self._cache:
                read = words
            else:
                written = words - read
            self._cache.add(prefix)
        return read, written


def _invalid(message: str) -> Refused:
    return Refused(400, "invalid_request_error", message)


def _blocks(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def text_of(content: Any) -> str:
    return "".join(block["text"] for block in _blocks(content))
