"""A simulated engine server: a ruler for the overhead of clients, and no stand-in for vLLM.

    python -m benchmarks.sim_server --port 8000 --speed 10

OpenAI's chat completions on loopback over `sim_engine`: so many slots, continuous batching, heavy-tailed lengths, a
prefix cache. No model runs; the time that a request takes is computed. GET /stats says how well the slots were used.

It must cost less per request than any client, or it would be what is measured. So it speaks HTTP itself, in the narrow
form that clients of such an API use (Content-Length, one request at a time per connection), with one timer for all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

import click
import orjson

from benchmarks.sim_engine import (
    MEDIAN_TOKENS,
    Job,
    PrefixCache,
    Slots,
    Stragglers,
    label_logprobs,
    output_tokens,
    reply_text,
)

try:
    from uvloop import new_event_loop
except ImportError:  # an extra: half the CPU a request
    new_event_loop = asyncio.new_event_loop

MODEL = "sim"
OTHERS = [{"token": f" {chr(97 + i)}", "logprob": -5.0 - i / 2, "bytes": [32, 97 + i]} for i in range(18)]
"""What else stands among the most probable tokens of a vote."""


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class SimServer:
    """`async with SimServer(slots=256) as server:` serves at `server.base_url`. At `speed` 10 requests take a tenth
    of the time."""

    def __init__(
        self,
        *,
        slots: int = 256,
        speed: float = 1.0,
        prefill_ms: float = 0.2,
        token_ms: float = 10.0,
        cache_tokens: int = 524_288,
        median_tokens: int = MEDIAN_TOKENS,
        stragglers: float = 0.0,
        straggler_times: float = 30.0,
        port: int = 0,
    ) -> None:
        """`prefill_ms`, `token_ms`: for a prompt token that is not cached, and for a token of the reply.
        `median_tokens`: of the replies' lengths. `stragglers`: share of the requests that take `straggler_times` as
        long."""
        self.median_tokens = median_tokens
        scale = 1000 * speed
        late, cache = Stragglers(stragglers, straggler_times), PrefixCache(cache_tokens // 64)
        self.slots = Slots(slots, prefill_ms / scale, token_ms / scale, cache, late)
        self._port = port
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._armed = 0.0
        self._first: tuple[float, float] | None = None
        self._last = 0.0
        self._replies = 0
        self._refusals = 0
        self._votes = 0
        self.received = self.sent = 0
        """Bytes, headers among them."""

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    async def __aenter__(self) -> SimServer:
        self._loop = asyncio.get_running_loop()
        self._server = await self._loop.create_server(lambda: Connection(self), "127.0.0.1", self._port, backlog=4096)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._timer:
            self._timer.cancel()
        if self._server:
            self._server.close()

    def stats(self) -> dict[str, Any]:
        """Seconds, tokens and counts since the start; utilisation: held slot-seconds over those there were."""
        begun, cpu = self._first or (0.0, 0.0)
        wall = max(0.0, self._last - begun)
        slots = self.slots
        return {
            "replies": self._replies,
            "votes": self._votes,
            "refusals": self._refusals,
            "running": slots.running,
            "wall_s": wall,
            "busy_slot_s": slots.busy_s,
            "utilisation": slots.busy_s / (slots.slots * wall) if wall else 0.0,
            "prompt_tokens": slots.prompt_tokens,
            "cached_tokens": slots.cached_tokens,
            "completion_tokens": slots.completion_tokens,
            "received_bytes": self.received,
            "sent_bytes": self.sent,
            "cpu_s": time.process_time() - cpu if self._first else 0.0,
        }

    def submit(self, job: Job) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = (now, time.process_time())
        self.slots.submit(job, now)
        self._arm()

    def cancel(self, job: Job) -> None:
        self.slots.cancel(job, time.monotonic())
        self._arm()

    def replied(self, job: Job) -> None:
        self._replies += 1
        self._votes += job.wants_labels
        self._last = time.monotonic()

    def refused(self) -> None:
        self._refusals += 1

    def _arm(self) -> None:
        """One timer, set to the next reply that is due; at least a millisecond, uvloop's clock knows no less."""
        due = self.slots.next_due
        if due is None or (self._timer is not None and self._armed <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed = due
        self._timer = self._loop.call_later(max(0.001, due - time.monotonic()), self._wake)

    def _wake(self) -> None:
        self._timer = None
        for job in self.slots.advance(time.monotonic()):
            job.finished(job)
        self._arm()


class Connection(asyncio.Protocol):
    """One client's connection: requests one after the other, each answered before the next is read."""

    def __init__(self, server: SimServer) -> None:
        self._server = server
        self._buffer = b""
        self._job: Job | None = None
        self._closes = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._job is not None:
            self._server.cancel(self._job)

    def data_received(self, data: bytes) -> None:
        self._server.received += len(data)
        self._buffer = self._buffer + data if self._buffer else data
        while self._job is None and self._next():
            pass

    def _next(self) -> bool:
        """Take up the next request in the buffer; False while it is not whole."""
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return False
        line, _, headers = head.partition(b"\r\n")
        headers = headers.lower()
        _, found, after = headers.partition(b"content-length:")
        length = int(after.split(b"\r\n", 1)[0]) if found else 0
        if len(rest) < length:
            if b"expect: 100-continue" in headers and not rest and self._transport:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return False
        body, self._buffer = rest[:length], rest[length:]
        self._closes = b"\r\nconnection: close" in b"\r\n" + headers
        method, path, _ = line.decode("latin-1").split(" ", 2)
        try:
            if b"transfer-encoding:" in headers:
                raise Refused(411, "say Content-Length")
            self._route(method, path, body)
        except Refused as refused:
            self._server.refused()
            self._send({"error": {"message": str(refused), "type": "invalid_request_error"}}, refused.status)
        return True

    def _route(self, method: str, path: str, body: bytes) -> None:
        match method, path.removeprefix("/v1"):
            case "POST", "/chat/completions":
                self._job = job = read_job(_json(body), self._reply, self._server.median_tokens)
                self._server.submit(job)
            case "POST", "/tokenize":
                tokens = [ord(character) for character in str(_json(body).get("prompt", ""))]
                self._send({"count": len(tokens), "max_model_len": 32_768, "tokens": tokens})
            case "GET", "/models":
                entry = {"id": MODEL, "object": "model", "owned_by": "vllm", "root": MODEL, "max_model_len": 32_768}
                self._send({"object": "list", "data": [entry]})
            case "GET", "/health":
                self._send({})
            case "GET", "/stats":
                self._send(self._server.stats())
            case _:
                raise Refused(404, f"there is no {method} {path}")

    def _reply(self, job: Job) -> None:
        self._job = None
        self._server.replied(job)
        self._send(completion(job))
        while self._buffer and self._job is None and self._next():
            pass

    def _send(self, value: object, status: int = 200) -> None:
        if self._transport is None:
            return
        body = orjson.dumps(value)
        head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
        self._server.sent += len(head) + len(body)
        self._transport.write(head + body)
        if self._closes:
            self._transport.close()


def _json(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refused(400, "the body is not JSON") from None
    if not isinstance(value, dict):
        raise Refused(400, "the body is no object")
    return value


def read_job(body: dict[str, Any], finished: Callable[[Job], None], median_tokens: int) -> Job:
    """The request as a job. Raises Refused for what is not served here."""
    if body.get("model") != MODEL:
        raise Refused(404, f"The model `{body.get('model')}` does not exist.")
    if body.get("stream") or (body.get("n") or 1) != 1:
        raise Refused(400, "streams and several choices are not served here")
    try:
        turns = [(turn["role"], _content(turn["content"])) for turn in body["messages"]]
        first = turns[0][1]
    except (KeyError, TypeError, IndexError):
        raise Refused(400, "messages must be a list of {role, content}") from None
    most = body.get("max_tokens") or body.get("max_completion_tokens") or 512
    tokens = output_tokens(first, len(turns), most, median_tokens)
    return Job(
        prompt="\n".join([f"{role}: {content}" for role, content in turns]),
        tokens=tokens,
        finished=finished,
        priority=body.get("priority") or 0,
        wants_labels=bool(body.get("logprobs")),
        label_ids=tuple(body.get("logprob_token_ids") or ()),
        top=body.get("top_logprobs") or 0,
        seed=body.get("seed") or 0,
        cut=tokens == most,
    )


def _content(content: str | list[dict[str, str]]) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def completion(job: Job) -> dict[str, Any]:
    """The reply's JSON, in OpenAI's shape."""
    logprobs = None
    if job.wants_labels:
        best = _labels(job)
        logprobs = {"content": [{**best[0], "top_logprobs": best}]}
        text = best[0]["token"]
    else:
        text = reply_text(job.prompt, job.seed, job.tokens)
    reason = "length" if job.cut else "stop"
    message = {"role": "assistant", "content": text}
    usage = {
        "prompt_tokens": job.prompt_tokens,
        "completion_tokens": job.tokens,
        "total_tokens": job.prompt_tokens + job.tokens,
        "prompt_tokens_details": {"cached_tokens": job.cached_tokens},
    }
    return {
        "id": "sim",
        "object": "chat.completion",
        "created": 0,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": logprobs}],
        "usage": usage,
    }


def _labels(job: Job) -> list[dict[str, Any]]:
    """Entries for the ids that were asked for, of which the first two are likely, or else for the `top` most probable
    tokens, of which A and B are."""
    likely = label_logprobs(job.prompt)
    ids = job.label_ids or (65, 66)
    known = [_entry(id, likely[place] if place < len(likely) else -20.0) for place, id in enumerate(ids)]
    known.sort(key=lambda entry: -float(entry["logprob"]))
    return known if job.label_ids else (known + OTHERS)[: max(1, job.top)]


def _entry(id: int, logprob: float) -> dict[str, Any]:
    return {"token": chr(id), "logprob": logprob, "bytes": [id] if id < 128 else None}


@click.command()
@click.option("--port", default=8000, show_default=True, help="Port on 127.0.0.1; 0 takes a free one.")
@click.option("--slots", default=256, show_default=True, help="Requests that run at once.")
@click.option("--speed", default=1.0, show_default=True, help="Times as fast.")
@click.option("--prefill-ms", default=0.2, show_default=True, help="Milliseconds a prompt token that is not cached.")
@click.option("--token-ms", default=10.0, show_default=True, help="Milliseconds a token of the reply.")
@click.option("--median-tokens", default=MEDIAN_TOKENS, show_default=True, help="Of the replies' lengths.")
@click.option("--stragglers", default=0.0, show_default=True, help="Share of the requests that take longer.")
@click.option("--straggler-times", default=30.0, show_default=True, help="As long as the others.")
@click.option("--cache-tokens", default=524_288, show_default=True, help="Tokens that the prefix cache holds.")
def main(**settings: Any) -> None:
    """Serve until the process is ended; the first line of output is the address."""

    async def serve() -> None:
        async with SimServer(**settings) as server:
            click.echo(server.base_url)
            await asyncio.Event().wait()

    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(serve())
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
