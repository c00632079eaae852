"""What a server is sent of a request otherwise than the engine was given it, as far as that follows from the request
and the run's record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from constitution.ask.stored import Exchange, Replay, Stored, models_of, section_of
from constitution.engines.base import Request
from constitution.engines.control import ControlTokens, spellings
from constitution.engines.odd import SENT_APART, SHORTENED, SPELLED
from constitution.engines.openai.dialect import as_turned
from constitution.engines.weights import chat_of
from constitution.errors import InputError, RequestRefused
from constitution.recipe import ModelSection, TransformersModel, VLLMModel, dated


async def as_sent(stored: Stored, replay: Replay) -> Replay:
    """The same, with each message as a server was sent it, and a note of what may have been sent otherwise."""
    if not replay.exchanges:
        return replay
    try:
        section = section_of(stored, replay.role)
    except InputError as error:  # of whose judge nothing more is known
        return replace(replay, askable=False, note="; ".join(note for note in (replay.note, str(error)) if note))
    events = {kind for kind in (SENT_APART, SPELLED, SHORTENED) if _told(stored, kind)}
    exchanges = replay.exchanges
    if section.engine == "openai":
        changed = "; ".join(facts.get("sent", "") for facts in models_of(stored.run, replay.role).values())
        control = ControlTokens(None, lambda _: None)
        broken = [await control.broken(each.request.messages) for each in exchanges]
        exchanges = tuple(
            replace(each, sent=as_turned(messages, changed)) for each, messages in zip(exchanges, broken, strict=True)
        )
    askable = section.engine != "given"
    notes = [replay.note, "" if askable else _PASSED, *_doubtful(exchanges, events)]
    return replace(replay, exchanges=exchanges, askable=askable, note="; ".join(note for note in notes if note))


_PASSED = "it was asked of an engine that a Python program passed, and only that can ask it again"


def with_text(stored: Stored, replay: Replay) -> Replay:
    """The same with `Exchange.text`. Raises as `templated`; InputError where there is none to be had."""
    requests = [exchange.request for exchange in replay.exchanges]
    if not requests:
        return replay
    section = section_of(stored, replay.role)
    texts = templated(section, stored.run.day, requests)
    if not texts:
        raise InputError(
            f"{replay.role}: engine {section.engine} makes no text of messages here",
            hint="leave --templated out; of a served model the server does it",
        )
    exchanges = [replace(each, text=text) for each, text in zip(replay.exchanges, texts, strict=True)]
    return replace(replay, exchanges=tuple(exchanges))


def templated(section: ModelSection, day: str, requests: Sequence[Request]) -> list[str]:
    """What the chat template that the model has now makes of each request, on this day, up to where the model begins.
    Empty where a server does that, or there is no template. Of messages that it does not take, why. Raises
    ModelLoadError."""
    section = dated(section, day)
    if not isinstance(section, TransformersModel | VLLMModel):
        return []
    chat = chat_of(section)
    texts = []
    for request in requests:
        try:
            texts.append(chat.text(request))
        except RequestRefused as error:
            texts.append(f"none: {error}")  # so failed the request
    return texts


def _doubtful(exchanges: Iterable[Exchange], events: set[str]) -> Iterable[str]:
    found = sorted({spelling for each in exchanges for spelling in spellings(each.messages)})
    if found and events & {SENT_APART, SPELLED}:
        yield (
            f"of {', '.join(found)} in the messages the model may have been given each with a blank after its first "
            "character, as some were in this run, so that it is no control token"
        )
    if SHORTENED in events and any(not each.request.choices for each in exchanges):
        yield "max_tokens may have been less, where the context had no more room, as for some requests of this run"


def _told(stored: Stored, kind: str) -> bool:
    """Whether the run's record has an event of this kind."""
    words = kind.partition("{n}")[2]
    return any(event.endswith(words) for role in stored.run.engines.values() for event in role.get("events", ()))
