"""The fake server, with what a plan of single faults cannot say: replies that are no HTTP, no JSON, or without end."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Any, Self

from aiohttp import web
from small_project import small_project

from rehearsal.server import FakeServer

Act = Callable[["WildServer", web.Request], Awaitable[web.StreamResponse]]
"""What becomes of one chat request."""
Play = Callable[[Mapping[str, Any]], Act | None]
"""The act for a request's body; None: it is answered soundly."""

RECIPE = """
name = "servers"
constitution = "general@1.0.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "openai"
model = "fake"
base_url = [{urls}]
concurrency = 8
timeout_s = 2
[revise]
rounds = 1
[judge]
principles = 1
[output]
slice = 500
window = 8
flush_seconds = 0.05
"""


ANSWERS = RECIPE.replace("rounds = 1", "rounds = 0").replace("[judge]\nprinciples = 1\n", "")
"""One call a prompt."""


def project(folder: Path, urls: list[str], prompts: int, recipe: str = RECIPE) -> Path:
    """The recipe's path, in a new project. The servers' addresses are no part of its run's id."""
    return small_project(folder, prompts, recipe.format(urls=", ".join(map(json.dumps, urls))))


def thing(body: Mapping[str, Any]) -> int:
    """The number of the prompt that a request is about."""
    found = re.search(r"How does thing (\d+) work", " ".join(message["content"] for message in body["messages"]))
    assert found is not None
    return int(found[1])


class WildServer(FakeServer):
    def __init__(self, play: Play = lambda body: None, **settings: Any) -> None:
        super().__init__(**settings)
        self.play = play
        self.served: Counter[str] = Counter()
        """Acts that were really played, by name."""
        self.per_thing: Counter[int] = Counter()
        """Chat requests per prompt."""
        self.arrivals: list[tuple[int, float]] = []
        """Prompt and monotonic clock of each chat request."""
        self.sent = 0
        """Bytes of bodies without end that went out."""

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        return self

    async def _chat(self, request: web.Request) -> web.StreamResponse:  # type: ignore[override]
        body = await request.json()
        number = thing(body)
        self.per_thing[number] += 1
        self.arrivals.append((number, time.monotonic()))
        act = self.play(body)
        if act is None:
            return await super()._chat(request)
        self.served[getattr(act, "__name__", "?")] += 1
        return await act(self, request)

    async def whole(self, request: web.Request) -> str:
        """The sound reply's text."""
        return str((await super()._chat(request)).text)


def named(name: str, act: Act) -> Act:
    act.__name__ = name
    return act


def says(name: str, status: int, body: str = '{"error": {"message": "made to fail"}}', **headers: str) -> Act:
    """A status with a body."""

    async def act(server: WildServer, request: web.Request) -> web.StreamResponse:
        dated = {key.replace("_", "-"): formatdate(time.time() + 1, usegmt=True) if value == "DATE" else value
                 for key, value in headers.items()}  # fmt: skip
        return web.Response(status=status, text=body, headers=dated)

    return named(name, act)


def edits(name: str, edit: Callable[[dict[str, Any]], object]) -> Act:
    """The sound reply, changed by `edit` in place, or what `edit` returns if that is not None."""

    async def act(server: WildServer, request: web.Request) -> web.StreamResponse:
        reply = json.loads(await server.whole(request))
        changed = edit(reply)
        # json and not a stricter library: it writes NaN and Infinity as some servers do.
        return web.Response(text=json.dumps(reply if changed is None else changed), content_type="application/json")

    return named(name, act)


def choice(**fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda reply: reply["choices"][0].update(fields)


def top(*entries: tuple[str, float]) -> Callable[[dict[str, Any]], object]:
    """These log-probabilities in place of those that are there."""
    listed = [{"token": token, "logprob": value} for token, value in entries]
    return choice(logprobs={"content": [{**(listed or [{}])[0], "top_logprobs": listed}]})


async def reset(server: WildServer, request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def hang(server: WildServer, request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(30)
    return web.Response()


async def no_http(server: WildServer, request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.write(b"\x00\x01 this is no HTTP\r\n\r\n")
    request.transport.close()
    return web.Response()


async def _begun(request: web.Request, **headers: str) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json", **headers})
    await response.prepare(request)
    return response


async def cut(server: WildServer, request: web.Request) -> web.StreamResponse:
    text = (await server.whole(request)).encode()
    response = await _begun(request, **{"Content-Length": str(len(text))})
    await response.write(text[: len(text) // 2])
    assert request.transport is not None
    request.transport.abort()
    return response


async def trickle(server: WildServer, request: web.Request) -> web.StreamResponse:
    response = await _begun(request)
    for byte in (await server.whole(request)).encode():
        await response.write(bytes([byte]))
        await asyncio.sleep(0.05)
    return response


async def giant(server: WildServer, request: web.Request) -> web.StreamResponse:
    response = await _begun(request)
    for _ in range(4096):  # 256 MiB
        await response.write(b" " * 2**16)
        server.sent += 2**16
    return response


async def bomb(server: WildServer, request: web.Request) -> web.StreamResponse:
    return web.Response(body=gzip.compress(b" " * 2**25), headers={"Content-Encoding": "gzip"})


async def packed(server: WildServer, request: web.Request) -> web.StreamResponse:
    text = (await server.whole(request)).encode()
    return web.Response(body=gzip.compress(text), headers={"Content-Encoding": "gzip"})


async def badly_packed(server: WildServer, request: web.Request) -> web.StreamResponse:
    return web.Response(body=(await server.whole(request)).encode(), headers={"Content-Encoding": "gzip"})


async def twice_headed(server: WildServer, request: web.Request) -> web.StreamResponse:
    response = web.Response(text=await server.whole(request), content_type="application/json")
    for name, value in (("X-Request-Id", "a"), ("X-Request-Id", "b"), ("Retry-After", "0"), ("Retry-After", "soon")):
        response.headers.add(name, value)
    return response
