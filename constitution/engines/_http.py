"""One JSON exchange with an OpenAI-compatible server: errors told apart, retries with back-off, fair queueing."""

from __future__ import annotations

import asyncio
import email.utils
import heapq
import json
import random
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from constitution.errors import (
    AccessDenied,
    ContextTooLong,
    EngineError,
    EngineTimeout,
    EngineUnavailable,
    MalformedReply,
    ModelLoadError,
    RateLimited,
    RequestRefused,
)

BACKOFF_SECONDS = 0.5
"""Upper bound of the first wait; it doubles with every further one."""
BACKOFF_MOST = 30.0

_BUSY = {408, 409, 425}
_CONTEXT = re.compile(
    r"context_length_exceeded|maximum context length|exceed\w* (the )?(available )?context|context (length|window|size)"
    r"|longer than the (maximum )?model|max_model_len|prompt is too long",
    re.IGNORECASE,
)


class Gate:
    """So many at once, and of those that wait, the lowest priority number first."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0

    @asynccontextmanager
    async def place(self, priority: int) -> AsyncIterator[None]:
        if self._free:
            self._free -= 1
        else:
            self._count += 1
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (priority, self._count, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._leave()
                raise
        try:
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        """Hand the place on to the next that still waits."""
        while self._waiting:
            turn = heapq.heappop(self._waiting)[2]
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Transport:
    """Posts JSON under `base_url`, over one session with kept-alive connections. The key is never in a message."""

    def __init__(self, base_url: str, key: str, *, timeout_s: float, retries: int, connections: int) -> None:
        self._base = base_url.rstrip("/")
        self.place = self._base
        """The server's address, for messages and the provenance; the recipe sees to it that it holds no credentials."""
        self._secrets = [key] if key else []
        self._timeout_s = timeout_s
        self._retries = retries
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            connector=aiohttp.TCPConnector(limit=connections),
            timeout=aiohttp.ClientTimeout(total=timeout_s),
        )

    async def close(self) -> None:
        await self._session.close()

    async def exchange(self, path: str, body: Mapping[str, Any] | None, *, retries: int | None = None) -> Any:
        """The reply's JSON; GET without a body. Raises the last error once `retries` are used up."""
        tries = self._retries if retries is None else retries
        for attempt in range(tries + 1):
            try:
                return await self._once(path, body)
            except EngineError as error:
                asked = getattr(error, "retry_after", None) or 0.0
                # Waiting longer than a request may take is for the person who runs this to decide, as is a new key.
                hopeless = not error.retryable or isinstance(error, AccessDenied) or asked > self._timeout_s
                if hopeless or attempt == tries:
                    raise
                # Full jitter, so that requests that failed together do not come back together.
                jitter = random.uniform(0, min(BACKOFF_MOST, BACKOFF_SECONDS * 2**attempt))
            await asyncio.sleep(asked + jitter)
        raise AssertionError("unreachable")

    async def _once(self, path: str, body: Mapping[str, Any] | None) -> Any:
        method = "GET" if body is None else "POST"
        if self._session.closed:
            raise EngineUnavailable(f"{self.place}: the engine is closed", hint="")
        try:
            # A redirect would turn the POST into a GET, and could carry the key elsewhere.
            async with self._session.request(method, self._base + path, json=body, allow_redirects=False) as reply:
                raw = await reply.read()
                status, headers = reply.status, reply.headers
        except TimeoutError:
            raise EngineTimeout(f"{self.place}: no reply within {self._timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            detail = self.clean(str(error)) or type(error).__name__
            raise EngineUnavailable(f"{self.place}: {detail}") from None
        text = raw.decode("utf-8", errors="replace")
        if status != 200:
            raise self._refusal(status, headers, text)
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            # Cleaned whole: in a tail that is cut first, half of the key could stand.
            raise MalformedReply(f"{self.place}: the reply is not whole JSON: …{self._masked(text)[-60:]}") from None

    def _refusal(self, status: int, headers: Mapping[str, str], text: str) -> EngineError:
        """The exception for a reply that is not 200."""
        message = f"{self.place}: HTTP {status}: {self.clean(_message(text))}"
        if status == 429:
            return RateLimited(message, retry_after=retry_after(headers))
        if status >= 500 or status in _BUSY:
            unavailable = EngineUnavailable(message)
            wait = retry_after(headers)
            return RateLimited(message, retry_after=wait) if wait is not None else unavailable
        if status in (400, 413, 422) and _CONTEXT.search(text):
            return ContextTooLong(message)
        if status in (401, 402):
            return AccessDenied(message)
        if status == 403:
            return RequestRefused(
                message, hint="check what the key in the variable that api_key_env names may be used for"
            )
        if status in (404, 405):
            return ModelLoadError(message, hint="check `model` and `base_url`; GET /v1/models lists what is served")
        if 300 <= status < 400:
            target = self.clean(headers.get("Location", ""))
            return RequestRefused(message, hint=f"the server redirects: set base_url to {target}")
        return RequestRefused(message)

    def clean(self, text: str) -> str:
        """`text` on one line, without the key, which some servers repeat."""
        return self._masked(text)[:500]

    def _masked(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return " ".join(text.split())


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks us to wait: `Retry-After` as a number or an HTTP date (RFC 9110, 10.2.3)."""
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
    return max(0.0, seconds) if seconds < float("inf") else None


def _message(text: str) -> str:
    """The words of an error body, in OpenAI's and vLLM's shapes; else the body itself."""
    try:
        body = json.loads(text)
    except json.JSONDecodeError:
        return text
    if not isinstance(body, dict):
        return text
    error = body.get("error", body)
    return str(error.get("message", text)) if isinstance(error, dict) else str(error)
