"""One JSON exchange with one OpenAI-compatible server, its errors told apart. Retries are the fleet's (`_fleet`)."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import aiohttp
import orjson
from yarl import URL

from constitution.engines.openai.refused import WORDS_MOST, Said, error_of, error_within, retry_after, said
from constitution.errors import EngineError, EngineTimeout, EngineUnavailable, MalformedReply
from constitution.secrets import Secret

CHAT = "/chat/completions"
MODELS = "/models"
TOKENIZE = "/tokenize"
DETOKENIZE = "/detokenize"
HEALTH = "/health"
METRICS = "/metrics"
CLASSIFY = "/classify"
AT_ROOT = {TOKENIZE, DETOKENIZE, HEALTH, METRICS, CLASSIFY}
"""Paths that vLLM serves beside /v1 and not under it."""

REPLY_MOST = 64 * 2**20
"""Bytes, unpacked; a longer reply is no completion, and is not read to its end."""
CONNECT_SECONDS = 10.0
"""A machine that is gone takes no connection, and says nothing."""
KEEPALIVE_SECONDS = 4.0
"""Less than the 5 s after which uvicorn, vLLM's HTTP server, closes a connection, maybe just as a request is sent."""

_COMMENTS = re.compile(r"\A(?:\s*:[^\n]*\n)+")
"""Lines that keep a connection alive while the answer is made (OpenRouter)."""
_EVENTS = re.compile(r"\s*(?:data|event):")


OUTGOING: ContextVar[Mapping[str, str] | None] = ContextVar("OUTGOING", default=None)
"""Further headers of the requests that this task sends: the trace that they are part of (telemetry/otlp.py)."""
Headers = Callable[[str], Mapping[str, str]]
"""The headers that carry a key; empty: there is none."""


def bearer(key: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


class Transport:
    """Exchanges JSON under `base_url`, over kept-alive connections. The key is in no message and in no reply."""

    def __init__(self, base_url: str, key: str, *, timeout_s: float, headers: Headers = bearer) -> None:
        self.place = base_url.rstrip("/")
        """The server's address, for messages and the provenance; the recipe sees to it that it holds no credentials."""
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", **headers(key)}
        self._urls: dict[str, URL] = {}
        self._secret = Secret(key)
        self._timeout_s = timeout_s
        self._session = self._new_session()

    def _new_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            headers=self._headers,
            # The fleet bounds what is in flight.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_SECONDS),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s, sock_connect=min(CONNECT_SECONDS, self._timeout_s)),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        await self._session.close()

    async def break_off(self) -> None:
        """End all exchanges that are under way, as if the connections had been lost; new ones can be made."""
        old, self._session = self._session, self._new_session()
        await old.close()

    async def post(self, path: str, body: bytes) -> Any:
        """The reply's JSON. Raises EngineError."""
        status, headers, raw = await self._exchange("POST", path, self._timeout_s, data=body)
        if status != 200:
            raise self.refusal(status, headers, said(raw.decode("utf-8", errors="replace")))
        body = self.decoded(raw)
        if (reply := error_within(body)) is not None:
            raise self.refusal(reply.meant, headers, reply)
        return body

    async def get(self, path: str, timeout_s: float) -> Any:
        """The reply's JSON; None for an empty reply. Raises EngineError."""
        raw = await self.content(path, timeout_s)
        return self.decoded(raw) if raw.strip() else None

    async def content(self, path: str, timeout_s: float) -> bytes:
        """The reply as it is. Raises EngineError."""
        limit = min(timeout_s, self._timeout_s)
        status, headers, raw = await self._exchange("GET", path, limit, timeout=aiohttp.ClientTimeout(total=limit))
        if status != 200:
            raise self.refusal(status, headers, said(raw.decode("utf-8", errors="replace")))
        return raw

    async def upload(self, path: str, fields: Mapping[str, str], name: str, content: bytes) -> Any:
        """The reply's JSON to a form with these fields and a file. Raises EngineError."""
        form = aiohttp.FormData(fields)
        form.add_field("file", content, filename=name, content_type="application/jsonl")
        data = form()
        status, headers, raw = await self._exchange(
            *("POST", path, self._timeout_s), data=data, headers={"Content-Type": data.headers["Content-Type"]}
        )
        if status != 200:
            raise self.refusal(status, headers, said(raw.decode("utf-8", errors="replace")))
        return self.decoded(raw)

    async def lines(self, path: str) -> AsyncIterator[bytes]:
        """The lines of a reply of any length, each with its end; the key is in none of them. Raises EngineError."""
        # A whole file may take longer than any one request: what may not is a silence in the middle of it.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=self._timeout_s)
        async with self._replying("GET", path, self._timeout_s, timeout=timeout) as reply:
            if reply.status != 200:
                raw = await self._body(reply)
                raise self.refusal(reply.status, reply.headers, said(raw.decode("utf-8", errors="replace")))
            rest = b""
            async for chunk in reply.content.iter_any():
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    yield self._secret.hide_bytes(line) + b"\n"
            if rest:
                yield self._secret.hide_bytes(rest) + b"\n"

    async def _exchange(
        self, method: str, path: str, limit: float, **settings: Any
    ) -> tuple[int, Mapping[str, str], bytes]:
        async with self._replying(method, path, limit, **settings) as reply:
            return reply.status, reply.headers, await self._body(reply)

    @asynccontextmanager
    async def _replying(
        self, method: str, path: str, limit: float, **settings: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The reply, still to be read. What goes wrong in the block with the connection is an EngineUnavailable."""
        if self._session.closed:
            raise EngineUnavailable(f"{self.place}: the engine is closed", hint="")
        if further := OUTGOING.get():
            settings["headers"] = {**settings.get("headers", {}), **further}
        try:
            # A redirect would turn the POST into a GET, and could carry the key elsewhere.
            async with self._session.request(method, self._url(path), allow_redirects=False, **settings) as reply:
                yield reply
        except aiohttp.ConnectionTimeoutError:
            seconds = min(CONNECT_SECONDS, self._timeout_s)
            raise EngineUnavailable(f"{self.place}: no connection within {seconds:g} s") from None
        except TimeoutError:
            raise EngineTimeout(f"{self.place}: no reply within {limit:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise EngineUnavailable(f"{self.place}: {self.clean(_cause(error))}") from None

    def _url(self, path: str) -> URL:
        if path not in self._urls:
            root = self.place.removesuffix("/v1") if path in AT_ROOT else self.place
            self._urls[path] = URL(root + path)
        return self._urls[path]

    async def _body(self, reply: aiohttp.ClientResponse) -> bytes:
        """Raises MalformedReply for one of more than REPLY_MOST bytes."""
        packed = "Content-Encoding" in reply.headers
        if not packed and reply.content_length is not None and reply.content_length <= REPLY_MOST:
            return await reply.read()
        raw = bytearray()
        async for chunk in reply.content.iter_any():
            raw += chunk
            if len(raw) > REPLY_MOST:
                raise MalformedReply(f"{self.place}: the reply is longer than {REPLY_MOST // 2**20} MiB")
        return bytes(raw)

    def decoded(self, raw: bytes) -> Any:
        try:
            return self._secret.hide_in(raw, orjson.loads(raw))
        except orjson.JSONDecodeError:
            pass  # stricter than json: it takes no NaN and no half of a surrogate pair, which some servers send
        try:
            text = raw.decode("utf-8-sig")  # some servers begin with a mark of the order of bytes
        except UnicodeDecodeError as error:
            # What the bytes would have been is not known: replaced, they would be an answer that no model wrote.
            raise MalformedReply(
                f"{self.place}: the reply is not UTF-8 (byte {error.start + 1})",
                hint="JSON is UTF-8: correct the server, or the gateway before it",
            ) from None
        try:
            return self._secret.hide_in(raw, json.loads(_COMMENTS.sub("", text)))
        except (ValueError, RecursionError):  # also of numbers with thousands of digits
            # Cleaned whole: in a tail that is cut first, half of the key could stand.
            said, hint = f"the reply is not whole JSON: …{self._masked(text)[-60:]}", None
        if _EVENTS.match(text):
            said, hint = "the reply is a stream of events, which was not asked for", "extra_body = { stream = false }"
        raise MalformedReply(f"{self.place}: {said}", hint=hint)

    def refusal(self, status: int, headers: Mapping[str, str], reply: Said) -> EngineError:
        """The exception for a reply that is no answer."""
        reply = replace(reply, words=self._masked(reply.words))
        location = self.clean(headers.get("Location", ""))
        return error_of(self.place, status, reply, retry_after(headers), location)

    def clean(self, text: str) -> str:
        """`text` on one line, without the key, which some servers repeat."""
        return self._masked(text)[:WORDS_MOST]

    def _masked(self, text: str) -> str:
        return " ".join(self._secret.hide(text).split())


def encoded(body: Mapping[str, Any]) -> bytes:
    """JSON in UTF-8."""
    try:
        return orjson.dumps(body)
    except TypeError:
        # Stricter than json: it takes no half of a surrogate pair and no number of more than 64 bits.
        return json.dumps(body).encode()


def _cause(error: Exception) -> str:
    """`connection refused` and the like, where the system says so; else the library's words."""
    number = (error.errno if isinstance(error, OSError) else None) or 0
    return os.strerror(number).lower() if number in errno.errorcode else str(error) or type(error).__name__
