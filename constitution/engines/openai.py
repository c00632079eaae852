"""Any server that speaks OpenAI's chat completions: vLLM, SGLang, llama.cpp, OpenAI, a fleet behind a proxy.

    engine = await OpenAIEngine.open(OpenAIModel(engine="openai", model="m", base_url="http://127.0.0.1:8000/v1"))

Over aiohttp and not the openai package, which costs 5 ms of CPU a call against 0.35 ms. Retries, time-outs and errors
are in `_http`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from constitution.engines._http import Gate, Transport
from constitution.engines.base import Completion, Request
from constitution.errors import MalformedReply, ModelLoadError, RecipeError, RequestRefused
from constitution.recipe import OpenAIModel
from constitution.records import as_dicts

TOP_LOGPROBS = 20
"""As many as OpenAI and, by default, vLLM give."""


class OpenAIEngine:
    """An `Engine` over HTTP. At most `concurrency` requests are in flight; those that wait go by priority."""

    def __init__(self, section: OpenAIModel, transport: Transport, facts: Mapping[str, str]) -> None:
        self._section = section
        self._transport = transport
        self._facts = dict(facts)
        self._gate = Gate(section.concurrency)

    @classmethod
    async def open(cls, section: OpenAIModel) -> OpenAIEngine:
        """Ask the server for its models. Raises RecipeError (no key), AccessDenied, EngineUnavailable."""
        transport = Transport(
            section.base_urls[0],
            _key(section),
            timeout_s=section.timeout_s,
            retries=section.retries,
            connections=section.concurrency,
        )
        try:
            served = await _served(transport, section)
        except BaseException:
            await transport.close()
            raise
        dialect = section.dialect
        if dialect == "auto":
            dialect = "vllm" if served.get("owned_by") in ("vllm", "sglang") else "openai"
        facts = {
            "name": section.model,
            "engine": "openai",
            "base_url": transport.place,
            "dialect": dialect,
            "server_model": str(served.get("root") or served.get("id") or "unknown"),
        }
        return cls(section, transport, facts)

    @property
    def model(self) -> str:
        return self._section.model

    def describe(self) -> Mapping[str, str]:
        return dict(self._facts)

    async def generate(self, request: Request) -> Completion:
        body = self._body(request)
        async with self._gate.place(request.priority):
            reply = await self._transport.exchange("/chat/completions", body)
        try:
            return self._completion(request, reply)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise MalformedReply(
                f"{self._transport.place}: the reply is not a chat completion ({type(error).__name__} {error})"
            ) from None

    def stats(self) -> Mapping[str, Any]:
        return {}

    async def close(self) -> None:
        await self._transport.close()

    def _body(self, request: Request) -> dict[str, Any]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self._section.model,
            "messages": as_dicts(request.messages),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": request.seed,
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if request.choices:
            # At temperature 1 and top_p 1 raw and processed log-probabilities are the same, whatever a server returns.
            body |= {
                "temperature": 1.0,
                "top_p": 1.0,
                "max_tokens": 1,
                "logprobs": True,
                "top_logprobs": TOP_LOGPROBS,
            }
            body.pop("stop", None)
        if request.continues and self._facts["dialect"] == "vllm":
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        return body | self._section.extra_body

    def _completion(self, request: Request, reply: Any) -> Completion:
        choice = reply["choices"][0]
        text, reason = choice["message"].get("content"), choice.get("finish_reason")
        if reason == "content_filter":
            raise RequestRefused(f"{self._transport.place}: the server's content filter held the answer back")
        if reason not in ("stop", "length"):
            raise MalformedReply(f"{self._transport.place}: finish_reason is {reason!r}, expected stop or length")
        logprobs = self._logprobs(request, choice) if request.choices else None
        if text is None and logprobs is None:
            raise MalformedReply(
                f"{self._transport.place}: the reply has no text (message.content is null)",
                hint="a reasoning model may have used up max_tokens before its answer",
            )
        text = text or ""
        if not isinstance(text, str):
            raise MalformedReply(
                f"{self._transport.place}: message.content is no text but a {type(text).__name__}",
                hint="have the server give plain text, e.g. without its reasoning in parts",
            )
        if request.continues:
            # A server that repeats the prefix gives it back exactly; an answer that does so by itself is a rarity.
            text = text.removeprefix(request.messages[-1].content)
        usage = reply.get("usage") or {}
        details = usage.get("prompt_tokens_details") or {}
        return Completion(
            text=text,
            finish_reason=reason,
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            completion_tokens=int(usage.get("completion_tokens") or 0),
            cached_tokens=int(details.get("cached_tokens") or 0),
            choice_logprobs=logprobs,
        )

    def _logprobs(self, request: Request, choice: Mapping[str, Any]) -> dict[str, float]:
        """Per label the log-probability of the tokens that spell exactly it; −inf for one that is not in the list."""
        place = self._transport.place
        content = (choice.get("logprobs") or {}).get("content")
        if not content or not content[0].get("top_logprobs"):
            raise MalformedReply(
                f"{place}: the reply has no log-probabilities, though they were asked for",
                hint="the judge needs a server and a model that return top_logprobs",
            )
        found = dict.fromkeys(request.choices, -math.inf)
        for entry in content[0]["top_logprobs"]:
            value = float(entry["logprob"])
            if math.isnan(value) or value > 1e-3:
                raise MalformedReply(f"{place}: {value} stands for the log-probability of {entry['token']!r}")
            if entry["token"] in found:
                # Two tokens may spell the same text; their probabilities add up.
                found[entry["token"]] = _log_add(found[entry["token"]], min(value, 0.0))
        return found


def _log_add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))"""
    high, low = max(a, b), min(a, b)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


async def _served(transport: Transport, section: OpenAIModel) -> Mapping[str, Any]:
    """The server's entry for the model; empty where the server lists none or has no such list."""
    try:
        listed = await transport.exchange("/models", None, retries=min(section.retries, 2))
    except (ModelLoadError, MalformedReply):
        return {}
    entries = listed.get("data") if isinstance(listed, dict) else None
    found = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return next((entry for entry in found if entry.get("id") == section.model), {})


def _key(section: OpenAIModel) -> str:
    """The key from the environment. It goes into one header and nowhere else."""
    if not section.api_key_env:
        return ""
    key = os.environ.get(section.api_key_env, "").strip()
    if not key:
        raise RecipeError(
            f"model.api_key_env: the environment variable {section.api_key_env} is not set",
            hint=f"export {section.api_key_env}=… before the run",
        )
    if not (key.isascii() and key.isprintable()):
        raise RecipeError(f"model.api_key_env: {section.api_key_env} holds characters that no HTTP header can carry")
    return key
