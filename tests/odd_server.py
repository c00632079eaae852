"""Servers that are odd as real ones are, on this machine, and runs against them as policy and as judge."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from aiohttp import web
from aiohttp.test_utils import TestServer
from small_project import small_project, table

from constitution.records import Run

Body = Mapping[str, Any]
Role = Literal["policy", "judge", "both"]
"""Which model the server has; both: the policy judges."""

SERVED = """
engine = "openai"
model = "m"
base_url = "{url}"
retries = 2
timeout_s = 5
"""
RECIPE = """
name = "odd"
constitution = "general@1.0.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
{policy}
{judge}
[revise]
rounds = 1
exemplars = 0
initial = {{ max_tokens = 900, temperature = 0.7, stop = ["zzz"] }}
critique.max_tokens = 900
revision.max_tokens = 900
[judge]
principles = 1
[output]
window = 8
flush_seconds = 0.05
"""


@dataclass(frozen=True)
class Reply:
    body: Any
    """JSON, or bytes as they are."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Odd = Callable[[Body, int], Reply | None]
"""Reply to a request, by its body and how often it came; None: a sound one."""


def sound(body: Body, **message: Any) -> dict[str, Any]:
    key = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    top = [{"token": "A", "logprob": -0.3}, {"token": "B", "logprob": -1.4}]
    top += [{"token": f"t{n}", "logprob": -6.0 - n} for n in range(max(0, int(body.get("top_logprobs") or 0) - 2))]
    logprobs = {"content": [{**top[0], "top_logprobs": top}]} if body.get("logprobs") else None
    text = {"role": "assistant", "content": f"Text {key[:6]}.", **message}
    choice = {"index": 0, "message": text, "logprobs": logprobs, "finish_reason": "stop"}
    usage = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}
    return {"object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}


def refusal(message: str, status: int = 400, **more: Any) -> Reply:
    return Reply({"error": {"message": message, "type": "invalid_request_error", **more}}, status)


class OddServer:
    def __init__(self, odd: Odd) -> None:
        self._odd = odd
        self._times: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        """Of all chat requests."""
        self.statuses: list[int] = []

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        self._server = TestServer(app)
        await self._server.start_server(shutdown_timeout=1.0)
        self.base_url = str(self._server.make_url("/v1"))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.close()

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "acme"}]})

    async def _chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        key = json.dumps(body, sort_keys=True)
        self._times[key] += 1
        self.bodies.append(body)
        reply = self._odd(body, self._times[key]) or Reply(sound(body))
        self.statuses.append(reply.status)
        raw = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        return web.Response(
            body=raw, status=reply.status, headers={"Content-Type": "application/json", **reply.headers}
        )


def project(folder: Path, role: Role, url: str, prompts: int = 3, more: str = "") -> Path:
    """The recipe's path. more: further lines of the section whose model the server has."""
    turns = [
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello."},
            {"role": "user", "content": f"How does thing {number} work?"},
        ]
        for number in range(prompts)
    ]
    served, fake = SERVED.format(url=url) + more, 'engine = "fake"'
    judges = {"policy": f'[model.judge]\n{fake}\nmodel = "fake-judge"', "judge": f"[model.judge]\n{served}", "both": ""}
    sections = {"policy": fake if role == "judge" else served, "judge": judges[role]}
    return small_project(folder, [{"prompt": each} for each in turns], RECIPE.format(**sections))


@dataclass(frozen=True)
class Seen:
    """How a run ended."""

    finished: bool
    open: int
    lost: int
    outcomes: dict[str, int]
    """Of the answers that a model made."""
    votes: int
    failures: dict[tuple[str, str, bool], int]
    """Rows by step, class and whether a start tries again; not what a model did not say."""

    @classmethod
    def of(cls, run: Run, warehouse: Path) -> Self:
        failures = table(
            warehouse,
            "SELECT step, error, retryable, count(*) FROM failures WHERE error NOT IN ('EmptyOutput') GROUP BY ALL",
        )
        [[votes]] = table(warehouse, "SELECT count(*) FROM judgements")
        return cls(
            run.finished_at is not None,
            run.counts["open"],
            run.counts["lost"],
            dict(table(warehouse, "SELECT outcome, count(*) FROM responses GROUP BY ALL")),
            votes,
            {(step, error, retryable): count for step, error, retryable, count in failures},
        )


def events(run: Run) -> list[str]:
    return [event for stats in run.engines.values() for event in stats.get("events", ())]
