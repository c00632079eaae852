"""Any server that speaks OpenAI's chat completions (vLLM, SGLang, llama.cpp, OpenAI, a gateway) or an API of `WIRES`,
or a fleet of them.

    engine = await OpenAIEngine.open(OpenAIModel(engine="openai", model="m", base_url="http://127.0.0.1:8000/v1"))

Over aiohttp and not the openai package, which costs 5 ms of CPU a call against 0.2 ms. Which server a request goes to,
retries and outages are in `fleet`; this module knows what is said to a server and what it answers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from constitution.engines.base import Completion, Request
from constitution.engines.control import ControlTokens
from constitution.engines.odd import RUN_ON, SHORTENED, Oddities
from constitution.engines.openai.anthropic import MESSAGES
from constitution.engines.openai.batch.notes import Notes
from constitution.engines.openai.batch.waves import Post, Waves
from constitution.engines.openai.batch.work import Settings, Work
from constitution.engines.openai.dialect import EXACT, Dialect
from constitution.engines.openai.endpoint import Endpoint, Events
from constitution.engines.openai.fleet import Fleet
from constitution.engines.openai.http import DETOKENIZE, TOKENIZE, Transport, encoded
from constitution.engines.openai.metrics import Watch
from constitution.engines.openai.refused import room
from constitution.engines.openai.reply import Asked, read_reply
from constitution.engines.openai.served import SELF_HOSTED, Census, ServedNames
from constitution.engines.openai.template import ServedTemplate, with_tokens_of
from constitution.engines.openai.votes import LabelTokens, wanted
from constitution.engines.openai.wire import CHAT_COMPLETIONS, Wire
from constitution.engines.reasoning import FORMS, split
from constitution.errors import ContextTooLong, MalformedReply, RecipeError, RequestRefused
from constitution.recipe import OpenAIModel
from constitution.records import Message

WIRES: Mapping[str, Wire] = {"anthropic": MESSAGES}
"""By the recipe's `dialect`; all others are chat completions."""
TRIES = 12
"""Attempts of one request, each sent otherwise than those before it."""
STOPS = frozenset({"stop", "stop_sequences", "include_stop_str_in_output"})
"""Fields of extra_body with which the recipe itself says what becomes of stop strings."""


class OpenAIEngine:
    """An `Engine` over HTTP. At most `concurrency` requests are in flight per server; the others wait, by priority."""

    def __init__(self, section: OpenAIModel, fleet: Fleet, census: Census) -> None:
        self._section = section
        self._fleet = fleet
        dialect, self._wire = section.dialect, wire_of(section)
        if dialect == "auto":
            dialect = "vllm" if census.owner in SELF_HOSTED else "openai"
        given = {*section.extra_body, *(["chat_template_kwargs"] if section.chat_template_kwargs else [])}
        # Servers with the defaults of a model for sampling have them where a field is left out.
        self._needless = {} if census.owner in SELF_HOSTED else self._wire.needless
        wire, omit = self._wire, section.omitted | self._wire.lacks
        self._dialect = Dialect(omit, given, fleet.events.add, wire.turns, wire.said)
        self._template = ServedTemplate(section, fleet.events.add)
        self._continues = dialect == "vllm"
        # SGLang continues a prefix in the same way; its priorities run the other way round.
        self._vllm = dialect == "vllm" and census.owner != "sglang"
        self._labels = LabelTokens(self._tokenized, fleet.events.add)
        self._odd, self._names = Oddities(), ServedNames(section.model)
        self._control = ControlTokens(self._tokenized if self._vllm else None, self._odd.add)
        self._watch = Watch(fleet)
        self._waves: Waves | None = None
        if self._vllm:
            self._watch.start()
        self._facts = {
            "name": section.model,
            "engine": "openai",
            "base_url": ", ".join(endpoint.place for endpoint in fleet.endpoints),
            "dialect": dialect,
            "server_model": census.served.root or census.served.model or "unknown",
        }

    @classmethod
    async def open(cls, section: OpenAIModel, notes: Path | None = None) -> OpenAIEngine:
        """Ask the servers what they serve. notes: the folder in which a run keeps notes of its batches; without it
        there are none, whatever the section says. Raises RecipeError (no key, servers that differ), ModelLoadError
        (they serve another model), AccessDenied, and EngineUnavailable where none answers."""
        key, events, census = _key(section), Events(), Census(section.model)
        headers = wire_of(section).headers
        endpoints = [
            Endpoint(Transport(url, key, timeout_s=section.timeout_s, headers=headers), section.concurrency, events)
            for url in section.base_urls
        ]
        fleet = Fleet(endpoints, events, census.check, timeout_s=section.timeout_s, retries=section.retries)
        try:
            await fleet.open()
        except BaseException:
            await fleet.close()
            raise
        engine = cls(section, fleet, census)
        try:
            if engine._vllm:
                await engine._template.ask(engine._rendered)
            await engine._open_waves(notes)
        except BaseException:
            await engine.close()
            raise
        return engine

    @property
    def model(self) -> str:
        return self._section.model

    def describe(self) -> Mapping[str, str]:
        """`sent`, where it is there: what is sent otherwise than asked for, because a server refused it."""
        sent = {"sent": self._dialect.changed} if self._dialect.changed else {}
        return {**self._facts, **self._template.facts, **sent}

    async def generate(self, request: Request) -> Completion:
        if request.closed:
            raise RequestRefused(
                f"{self.model}: an API says nothing of the token after an answer that is over",
                hint='run the model in the process, by engine = "transformers" or "vllm"',
            )
        messages = await self._control.broken(request.messages)
        if messages is not request.messages:
            request = replace(request, messages=messages)
        if request.thought:
            request = await self._with_thought(request)
        body = self._body(request)
        ids: Sequence[int] = ()
        if request.choices and not self._section.logprobs:
            error = RequestRefused(
                f"{self.model}: its API has no log-probabilities, which votes by labels need",
                hint='judge.method = "verdict"',
            )
            error.no_logprobs = True
            raise error
        if request.choices:
            if self._vllm:
                # The last line is enough for the border to the label, and the lines above it differ with every vote.
                tail = request.messages[-1].content.rpartition("\n")[2] if request.continues else ""
                ids = await self._labels.of(tail, request.choices)
            body |= wanted(ids)
            body.pop("stop", None)
        body |= self._section.extra_body
        if not self._template.stops:
            body.pop("stop", None)
        completion = await self._completed(body, request, ids)
        if "stop" not in body or not self._template.ended_thought(completion):
            return completion
        # Asked again without the strings, by which the text is cut here.
        again = await self._completed({name: body[name] for name in body if name != "stop"}, request, ids)
        return with_tokens_of(again, completion)

    async def _with_thought(self, request: Request) -> Request:
        """The thought as the beginning of the assistant's turn, between its tags."""
        if self._section.dialect == "anthropic":
            raise RequestRefused(f"{self.model}: its API takes no thought that the model is given")
        form = self._template.opens or FORMS[0]
        [given] = await self._control.broken((Message("assistant", request.thought),))
        gap = "" if form.tight else "\n"
        text = f"{form.opening}{gap}{given.content}{gap}{form.closing}{gap * 2}"
        return replace(request, messages=(*request.messages, Message("assistant", text)), thought="")

    async def _completed(self, body: dict[str, Any], request: Request, ids: Sequence[int]) -> Completion:
        if self._waves is None:
            return await self._read(body, request, ids, self._alone)
        async with self._waves.turn(request) as turn:
            completion = await self._read(body, request, ids, turn.post)
            turn.answered = not request.choices or bool(completion.choice_logprobs)
        return completion

    async def _read(self, body: dict[str, Any], request: Request, ids: Sequence[int], post: Post) -> Completion:
        reply, place, request = await self._answered(body, request, post)
        self._names.saw(reply.get("model") if isinstance(reply, dict) else None)
        asked = Asked(request, place, self._template.parted, self._odd, ids, self._most(request))
        completion, exact = read_reply(self._wire.chat(reply, place, self._odd.add), asked)
        if ids and not exact:
            self._labels.note(f"{place} ignores logprob_token_ids")
        return self._as_sent(completion, request)

    async def _answered(self, body: dict[str, Any], request: Request, post: Post) -> tuple[Any, str, Request]:
        """The reply to `body`, the address that it came from, and the request with the turns and the max_tokens that
        it answers. What a server refuses is sent otherwise, as long as its words say how."""
        dialect, habits, first = self._dialect, self._dialect.habits, None
        for _ in range(TRIES):
            messages = habits.messages(request.messages)
            sent = habits.fields(body)
            try:
                reply, place = await post(self._wire.path, encoded(self._wire.body(sent, messages)), request)
                break
            except RequestRefused as refused:
                first = first or refused
                if habits | dialect.habits != habits:
                    habits = habits | dialect.habits  # another request has found out in the meantime
                elif isinstance(refused, ContextTooLong):
                    body = self._shorter(body, sent, refused)
                elif following := dialect.next(habits, body, request.messages, refused):
                    habits = following
                else:
                    refused.no_logprobs = bool(request.choices) and dialect.without_logprobs(refused)
                    raise
        else:
            raise first or MalformedReply("no request was sent")
        if first is not None and habits != dialect.habits:
            dialect.keep(habits, first)
            if not EXACT.isdisjoint(habits.removed):
                self._labels.refused("the server refuses logprob_token_ids")
        if body.get("max_tokens", 0) < request.sampling.max_tokens and not request.choices:
            self._odd.add(SHORTENED)
        return reply, place, request if messages is request.messages else replace(request, messages=messages)

    async def _alone(self, path: str, body: bytes, request: Request) -> tuple[Any, str]:
        return await self._fleet.post(path, body, request.priority, request.affinity)

    async def _open_waves(self, folder: Path | None) -> None:
        """Where requests go out in batches, and where some of an earlier start did."""
        section, sends = self._section, self._section.batch
        if folder is None:
            if sends:
                self._fleet.events.add("batches are for runs: here every request is sent alone, at its full price")
            return
        notes = Notes(folder)
        if self._wire.batches is None or not (sends or notes.there()):
            return
        settings = Settings(section.batch_wait_s, section.batch_poll_s, section.timeout_s, section.retries)
        transport, events = self._fleet.endpoints[0].transport, self._fleet.events
        waves = Waves(Work(self._wire.batches, transport, notes, settings, events), self._alone, sends)
        await waves.open()
        self._waves = waves

    def _shorter(self, body: dict[str, Any], sent: Mapping[str, Any], refused: ContextTooLong) -> dict[str, Any]:
        """`body` with the room that the context has as its max_tokens; raises the refusal where it has none."""
        asked = sent.get("max_tokens", sent.get("max_completion_tokens"))
        left = room(refused.words, asked) if isinstance(asked, int) else None
        if left is None or "max_tokens" not in body or "max_tokens" in self._section.extra_body:
            raise refused
        return body | {"max_tokens": left}

    def stats(self) -> Mapping[str, Any]:
        """`endpoints`: per server calls, failures, retries, in_flight, limit, state, out_of_service_seconds, and under
        `server` what vLLM says of itself; `events`: sentences; `served_models`: replies by the model that they name;
        `batches`: counts over this start, and those that are waited for."""
        figures = {endpoint: self._watch.stats(endpoint) for endpoint in self._fleet.endpoints}
        return {
            "endpoints": [endpoint.stats() | ({"server": told} if told else {}) for endpoint, told in figures.items()],
            "events": [
                *self._fleet.events.sentences(),
                *self._names.events(),
                *self._odd.events(),
            ],
            "served_models": self._names.counts(),
            **({"batches": self._waves.stats()} if self._waves else {}),
        }

    async def close(self) -> None:
        await self._watch.stop()
        if self._waves:
            await self._waves.close()
        await self._fleet.close()

    def _body(self, request: Request) -> dict[str, Any]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self._section.model,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": request.seed,
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if self._continues and request.continues:
            body["continue_final_message"] = True
            body["add_generation_prompt"] = False
        if self._vllm and request.priority:
            body["priority"] = request.priority
        if self._vllm and self._section.cache_salt:
            body["cache_salt"] = self._section.cache_salt
        body = {name: value for name, value in body.items() if self._needless.get(name) != value}
        templated = self._template.fields(bool(request.choices)) if self._wire.templated else {}
        return {**body, **templated, **self._wire.fields(self._section)}

    def _as_sent(self, completion: Completion, request: Request) -> Completion:
        """The completion with what of its request was not sent, and its text cut where a stop would have ended it."""
        unsent = self._dialect.habits.removed & {"seed", "stop", "temperature", "top_p"}
        unsent |= set() if self._template.stops else {"stop"}
        text, reason = completion.text, completion.finish_reason
        begin = split(text).end if self._section.reasoning == "keep" else 0
        if STOPS.isdisjoint(self._section.extra_body) and not request.choices:
            places = [at for stop in request.sampling.stop if (at := text.find(stop, begin)) >= 0]
            if places:
                text, reason = text[: min(places)], "stop"
                if "stop" not in unsent:
                    self._odd.add(RUN_ON)
        if not unsent and text == completion.text:
            return completion
        return replace(completion, text=text, finish_reason=reason, unsent=tuple(sorted(unsent - {"stop"})))

    async def _rendered(self, variables: Mapping[str, Any]) -> str:
        """The prompt that the first server makes of one user turn."""
        transport, model = self._fleet.endpoints[0].transport, {"model": self._section.model}
        asked = {"messages": [{"role": "user", "content": "hello"}], "chat_template_kwargs": dict(variables)}
        reply = await transport.post(TOKENIZE, encoded({**model, **asked, "add_generation_prompt": True}))
        tokens = reply.get("tokens") if isinstance(reply, dict) else None
        told = await transport.post(DETOKENIZE, encoded({**model, "tokens": tokens})) if tokens else None
        return str(told.get("prompt") or "") if isinstance(told, dict) else ""

    def _most(self, request: Request) -> int | None:
        """Tokens of output that are asked for; None where the recipe's extra_body says something else, and for a vote,
        of which no text is used."""
        if request.choices or self._section.extra_body.keys() & {"max_tokens", "max_completion_tokens"}:
            return None
        return request.sampling.max_tokens

    async def _tokenized(self, text: str) -> Sequence[int]:
        body = {"model": self._section.model, "prompt": text, "add_special_tokens": False}
        reply, place = await self._fleet.post(TOKENIZE, encoded(body), 0, "")
        tokens = reply.get("tokens") if isinstance(reply, dict) else None
        if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
            raise MalformedReply(f"{place}: /tokenize gives no list of token ids")
        return tokens


def wire_of(section: OpenAIModel) -> Wire:
    return WIRES.get(section.dialect, CHAT_COMPLETIONS)


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
