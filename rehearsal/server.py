"""An OpenAI-compatible HTTP server over any engine, on this machine only: for tests, and to try a recipe's address.

    async with FakeServer(faults=[Fault(status=429, headers={"Retry-After": "1"})]) as server:
        engine = await OpenAIEngine.open(OpenAIModel(engine="openai", model="fake", base_url=server.base_url))

    python -m rehearsal.server --port 8000
    python -m rehearsal.server --faults 0.1 --seed 7

It serves GET /v1/models and POST /v1/chat/completions, with continued prefixes, seeds and log-probabilities, and as
vLLM does GET /health, GET /metrics, POST /tokenize and POST /detokenize. Its tokens are characters; the ids are their
code points.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import click
from aiohttp import web

from constitution.engines.base import Completion, Engine, Request
from constitution.engines.fake import FakeEngine
from constitution.errors import ContextTooLong, EngineError, EngineUnavailable
from constitution.recipe import FakeModel
from constitution.records import Message, Sampling
from rehearsal.faults import Chance, Fault, Plan, in_turn

__all__ = ["KEPT", "Chance", "FakeServer", "Fault", "Lack", "Plan", "Received", "main"]

Lack = Literal["health", "metrics", "models", "tokenize", "logprob_token_ids", "priority"]
"""What a server may be without: a path; a field that it ignores; priorities, which it refuses."""

Thinks = Literal["reasoning", "reasoning_content", "parts", "tags", "closing"]
"""How a server tells what a model thought: in a field of that name, in parts of the content, in the content between
tags or, where the chat template has the opening one, before the closing one."""

KEPT = 10_000
"""Requests that `requests` holds at most."""


@dataclass(frozen=True, slots=True)
class Received:
    headers: Mapping[str, str]
    body: Mapping[str, Any]


class FakeServer:
    """`prefix` says what becomes of an assistant message at the end: `flag` continues it where continue_final_message
    is set and otherwise begins again, as vLLM does; `continue` always continues it; `echo` also repeats it."""

    def __init__(
        self,
        engine: Engine | None = None,
        *,
        faults: Sequence[Fault | None] | Plan = (),
        prefix: Literal["flag", "continue", "echo"] = "flag",
        labels: Sequence[str] = ("A", "B"),
        context: int | None = None,
        lacks: Collection[Lack] = (),
        port: int = 0,
    ) -> None:
        """`faults`: one for each request to come, None for a sound one, and after the last all are sound; or a function
        that says so of each. `labels`: the tokens that log-probabilities are given for. `context`: words that a request
        may have, answer included, and its `max_model_len`. A `port` of 0 takes a free one, and keeps it when the server
        is started again."""
        self._engine = engine or FakeEngine(FakeModel(engine="fake"))
        self._faults = faults if callable(faults) else in_turn(faults)
        self._prefix = prefix
        self._labels = tuple(labels)
        self._context = context
        self.root = self._engine.model
        """The weights that it says it serves."""
        self._lacks = frozenset(lacks)
        self.others = 0
        """Words that share what the labels leave of the probability, and may keep one out of the likeliest."""
        self.control: Collection[str] = ()
        """Texts that are one token each, to /tokenize alone."""
        self.thinks: Thinks = "reasoning"
        self.template: Callable[[list[Any], Mapping[str, Any]], str] | None = None
        """Makes the prompt's text of messages and chat_template_kwargs; None: it is not shown."""
        self._port = port
        self._runner: web.AppRunner | None = None
        self.requests: deque[Received] = deque(maxlen=KEPT)
        """Chat requests received, faulty ones too, the newest last."""
        self._running = self._prompt_tokens = self._cached_tokens = 0
        self.tokenized: list[str] = []
        """Texts that /tokenize was asked for."""

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    async def __aenter__(self) -> FakeServer:
        app = web.Application(client_max_size=64 * 2**20)
        if "health" not in self._lacks:
            app.router.add_get("/health", self._health)
        if "metrics" not in self._lacks:
            app.router.add_get("/metrics", self._metrics)
        if "models" not in self._lacks:
            app.router.add_get("/v1/models", self._models)
        if "tokenize" not in self._lacks:
            app.router.add_post("/tokenize", self._tokenize)
            app.router.add_post("/detokenize", self._detokenize)
        app.router.add_post("/v1/chat/completions", self._chat)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _metrics(self, request: web.Request) -> web.Response:
        figures = {
            "num_requests_running": self._running,
            "num_requests_waiting": 0,
            "num_preemptions_total": 0,
            "prefix_cache_queries_total": self._prompt_tokens,
            "prefix_cache_hits_total": self._cached_tokens,
        }
        labels = f'{{engine="0",model_name="{self._engine.model}"}}'
        lines = [f"# TYPE vllm:{name} gauge\nvllm:{name}{labels} {value:.1f}\n" for name, value in figures.items()]
        return web.Response(text="".join(lines))

    async def _tokenize(self, request: web.Request) -> web.Response:
        body = await request.json()
        if "messages" in body:
            return self._rendered(body)
        text = str(body["prompt"])
        self.tokenized.append(text)
        tokens = [sys.maxunicode + 1] if text in self.control else [ord(character) for character in text]
        return web.json_response({"count": len(tokens), "tokens": tokens})

    def _rendered(self, body: Mapping[str, Any]) -> web.Response:
        """The tokens of a conversation in the server's chat template, where it has one."""
        if self.template is None:
            return _error(400, "this server has no chat template that it shows")
        text = self.template(body["messages"], body.get("chat_template_kwargs") or {})
        return web.json_response({"count": len(text), "tokens": [ord(character) for character in text]})

    async def _detokenize(self, request: web.Request) -> web.Response:
        return web.json_response({"prompt": "".join(map(chr, (await request.json())["tokens"]))})

    async def _models(self, request: web.Request) -> web.Response:
        owner = "vllm" if self._prefix == "flag" else "constitution"
        name = self._engine.model
        entry: dict[str, Any] = {"id": name, "object": "model", "owned_by": owner, "root": self.root}
        entry |= {"max_model_len": self._context} if self._context else {}
        return web.json_response({"object": "list", "data": [entry]})

    async def _chat(self, request: web.Request) -> web.Response:
        try:
            body = await request.json()
        except json.JSONDecodeError:
            return _error(400, "the body is not JSON")
        self.requests.append(Received(dict(request.headers), body))
        fault = self._faults(body) or Fault()
        await asyncio.sleep(fault.delay_s)
        if fault.reset:
            assert request.transport is not None
            request.transport.abort()
        if fault.status != 200:
            return web.Response(
                status=fault.status, text=fault.body, headers=fault.headers, content_type="application/json"
            )
        try:
            reply = await self._reply(body)
        except _Refused as refused:
            return _error(refused.status, str(refused), refused.code)
        reply["choices"][0] |= fault.changes
        text = json.dumps({**reply, **fault.reply})
        if fault.cut:
            return await _broken_off(request, text.encode())
        return web.Response(
            text=text[: len(text) // 2] if fault.truncate else text,
            headers=fault.headers,
            content_type="application/json",
        )

    async def _reply(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The completion's JSON. Raises _Refused."""
        asked, echo = self._read(body)
        self._running += 1
        try:
            completion = await self._engine.generate(asked)
        except ContextTooLong as error:
            raise _Refused(400, str(error), "context_length_exceeded") from error
        except EngineUnavailable as error:
            raise _Refused(503, str(error)) from error
        except EngineError as error:
            raise _Refused(500, str(error)) from error
        finally:
            self._running -= 1
        self._prompt_tokens += completion.prompt_tokens
        self._cached_tokens += completion.cached_tokens
        ids = [int(id) for id in body.get("logprob_token_ids") or () if "logprob_token_ids" not in self._lacks]
        choice = {
            "index": 0,
            "message": {"role": "assistant", **_message(completion, echo, self.thinks)},
            "finish_reason": completion.finish_reason,
            "logprobs": _logprobs(completion, int(body.get("top_logprobs") or 0), ids, self.others),
        }
        usage = {
            "prompt_tokens": completion.prompt_tokens,
            "completion_tokens": completion.completion_tokens,
            "total_tokens": completion.prompt_tokens + completion.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": completion.cached_tokens},
        }
        if completion.reasoning is not None and self.thinks not in ("tags", "closing"):
            usage["completion_tokens_details"] = {"reasoning_tokens": completion.reasoning_tokens}
        return {"object": "chat.completion", "model": self._engine.model, "choices": [choice], "usage": usage}

    def _read(self, body: Mapping[str, Any]) -> tuple[Request, str]:
        """The engine's request, and what the reply begins with. Raises _Refused for what a real server refuses too."""
        if body.get("model") != self._engine.model:
            raise _Refused(404, f"The model `{body.get('model')}` does not exist.")
        if body.get("stream") or body.get("n", 1) != 1:
            raise _Refused(400, "streams and several choices are not served here")
        if int(body.get("top_logprobs") or 0) > 20:
            raise _Refused(400, "top_logprobs must be at most 20")
        if "priority" in self._lacks and body.get("priority"):
            raise _Refused(400, f"Got priority {body['priority']} but priority scheduling is not enabled.")
        if body.get("logprob_token_ids") and not body.get("logprobs"):
            raise _Refused(400, "when using `logprob_token_ids`, `logprobs` must be set to true.")
        try:
            messages = tuple(Message(each["role"], each["content"]) for each in body["messages"])
        except (KeyError, TypeError):
            raise _Refused(400, "messages must be a list of {role, content}") from None
        if not messages:
            raise _Refused(400, "messages must not be empty")
        flag = bool(body.get("continue_final_message"))
        if flag and body.get("add_generation_prompt", True):
            raise _Refused(400, "Cannot set both continue_final_message and add_generation_prompt")
        continues = messages[-1].role == "assistant"
        echo = messages[-1].content if continues and self._prefix == "echo" else ""
        if continues and self._prefix == "flag" and not flag:
            messages = messages[:-1]
        maximum = int(body.get("max_tokens") or 512)
        words = sum(len(message.content.split()) for message in messages)
        if self._context is not None and words + maximum > self._context:
            raise _Refused(
                400,
                f"This model's maximum context length is {self._context} tokens. However, you requested "
                f"{words + maximum} tokens.",
                "context_length_exceeded",
            )
        stop = body.get("stop") or ()
        sampling = Sampling(
            temperature=float(body.get("temperature", 1.0)),
            top_p=float(body.get("top_p", 1.0)),
            max_tokens=maximum,
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
        )
        choices = self._labels if body.get("logprobs") else ()
        seed, priority = int(body.get("seed") or 0), int(body.get("priority") or 0)
        return Request(messages, sampling, seed, priority, choices), echo


async def _broken_off(request: web.Request, reply: bytes) -> web.Response:
    """Half of the reply, and then no connection."""
    response = web.StreamResponse(headers={"Content-Length": str(len(reply)), "Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(reply[: len(reply) // 2])
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


class _Refused(Exception):
    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def _error(status: int, message: str, code: str | None = None) -> web.Response:
    return web.json_response(
        {"error": {"message": message, "type": "invalid_request_error", "code": code}}, status=status
    )


def _message(completion: Completion, echo: str, thinks: Thinks) -> dict[str, Any]:
    """Content, and what the engine thought, in the way that the server tells it. Content that is all thought is null
    where that is told apart."""
    thought, text = completion.reasoning, echo + completion.text
    if thought is None:
        return {"content": text}
    if thinks in ("tags", "closing"):
        ended = f"\n</think>\n\n{text}" if text or completion.finish_reason == "stop" else ""
        return {"content": ("<think>\n" if thinks == "tags" else "") + thought + ended}
    if thinks == "parts":
        part = {"type": "thinking", "thinking": [{"type": "text", "text": thought}]}
        return {"content": [part, {"type": "text", "text": text}]}
    return {"content": text or None, thinks: thought}


def _logprobs(completion: Completion, top: int, ids: Sequence[int], others: int) -> dict[str, Any] | None:
    """In OpenAI's shape, for the one token that the completion has; −9999 means impossible, as in vLLM.

    With `ids`: of just these tokens, named by id; without, of the `top` likeliest, named by text.
    """
    if completion.choice_logprobs is None:
        return None
    told = dict(completion.choice_logprobs)
    if others and (rest := 1 - math.fsum(map(math.exp, told.values()))) > 0:
        told |= {f"other{number}": math.log(rest / others) for number in range(others)}
    ranked = sorted(told.items(), key=lambda item: -item[1])[: None if ids else top]
    if ids:
        known = {ord(label): value for label, value in ranked if len(label) == 1}
        ranked = sorted(((f"token_id:{id}", known.get(id, -9999.0)) for id in ids), key=lambda item: -item[1])
    entries = [{"token": token, "logprob": value if value > -math.inf else -9999.0} for token, value in ranked]
    return {"content": [{**(entries or [{}])[0], "top_logprobs": entries}]}


@click.command()
@click.option("--port", default=8000, show_default=True, help="Port on 127.0.0.1; 0 takes a free one.")
@click.option("--latency", default=0.0, show_default=True, help="Seconds that each completion takes.")
@click.option("--failure-rate", default=0.0, show_default=True, help="Share of the requests answered with 503.")
@click.option(
    "--faults",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of the requests that meet a fault: 429, 500, 502, 503, broken, cut or empty replies, delays.",
)
@click.option("--seed", default=1, show_default=True, help="Of --faults: which requests, and which faults.")
def main(port: int, latency: float, failure_rate: float, faults: float, seed: int) -> None:
    """Serve the fake model until Ctrl-C.

    \b
    Examples:
      python -m rehearsal.server --port 8000
      python -m rehearsal.server --faults 0.1 --seed 7
    """

    async def serve() -> None:
        section = FakeModel(engine="fake", latency_s=latency, failure_rate=failure_rate)
        async with FakeServer(FakeEngine(section), faults=Chance(faults, seed), port=port) as server:
            click.echo(f"model fake at {server.base_url}")
            await asyncio.Event().wait()

    try:
        asyncio.run(serve())
    except KeyboardInterrupt:
        click.echo("stopped")


if __name__ == "__main__":
    main()
