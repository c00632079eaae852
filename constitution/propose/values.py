"""Values, rights and duties that bear on texts, listed by a model in the shape of Value Kaleidoscope (arXiv 2309.00779:
value, right or duty; relevant or not; supports, opposes, either; an explanation), and the words that each rests on.

    listed = await list_values(engine, prompts, seed=1)
    listed.found, listed.failed

A reply must be the form that was asked for, and a quote must be in the text word for word; what is not falls with its
reason. Nothing is mended.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from constitution import templates
from constitution.engines import Engine, Request
from constitution.errors import EngineError, InputError
from constitution.identity import seed
from constitution.judge.ask import nonce
from constitution.pipeline.tasks import Window
from constitution.propose.wordings import items_of
from constitution.records import Message, Messages, Prompt, Sampling
from constitution.shown import brief, printable
from constitution.templates import VALUES

STEP = "values"
WINDOW = 32
MOST = 12
"""Items that are asked for, of a text."""
NAME = 60
"""Characters of a name, at most."""
SAMPLING = Sampling(temperature=0.0, top_p=1.0, max_tokens=2000)
KEYS = ("kind", "name", "valence", "relevance", "explanation", "quote")

Kind = Literal["value", "right", "duty"]
Valence = Literal["supports", "opposes", "either"]


@dataclass(frozen=True, slots=True)
class Value:
    """One that bears on one text."""

    prompt_id: str
    source: str
    """Where the text is, as `Prompt.source`."""
    kind: Kind
    name: str
    """As the model wrote it, but for white space."""
    valence: Valence
    """What it says to what is done or asked in the text."""
    relevance: int
    """0 to 100, by the model's own word."""
    explanation: str
    quote: str
    """Words of the text, as they stand there but for white space."""


@dataclass(frozen=True, slots=True)
class Listed:
    found: tuple[Value, ...]
    """In the order of the texts, and in each as the model has them."""
    fallen: tuple[tuple[str, str], ...]
    """Items that are not taken: source of the text, and why."""
    failed: tuple[tuple[str, str], ...]
    """Texts without a list: source, and why."""
    texts: int


async def list_values(engine: Engine, prompts: Sequence[Prompt], *, seed: int = 1, most: int = MOST) -> Listed:
    """From each prompt's own turns. An engine's failure on one text is in `failed`."""
    found: dict[int, list[Value]] = {}
    fallen: list[tuple[str, str]] = []
    failed: dict[int, str] = {}

    async def ask(place: int, prompt: Prompt) -> None:
        try:
            done = await engine.generate(request(prompt, seed, most))
            if done.finish_reason != "stop":
                raise InputError(f"the list ended before its end ({done.finish_reason})")
            items = items_of(done.text, empty=True)
            found[place] = []
            for item in items:
                try:
                    found[place].append(_value(prompt, item))
                except InputError as error:
                    fallen.append((prompt.source, str(error)))
            for surplus in found[place][most:]:
                fallen.append((prompt.source, f"{surplus.name}: more than the {most} that were asked for"))
            del found[place][most:]
        except (EngineError, InputError) as error:
            failed[place] = f"{type(error).__name__}: {brief(printable(str(error)), 300)}"

    room = Window(WINDOW)
    async with asyncio.TaskGroup() as group:
        for place, prompt in enumerate(prompts):
            await room.acquire()
            room.start(group, ask(place, prompt))
    return Listed(
        tuple(value for place in sorted(found) for value in found[place]),
        tuple(sorted(fallen)),
        tuple((prompts[place].source, failed[place]) for place in sorted(failed)),
        len(prompts),
    )


def text_of(prompt: Prompt) -> str:
    """What is read: the turns but the system's, one below the other."""
    return "\n\n".join(turn.content for turn in prompt.messages if turn.role != "system")


def request(prompt: Prompt, given: int, most: int) -> Request:
    chosen = seed(given, prompt.id, STEP)
    return Request(messages(prompt, nonce(chosen, prompt.id), most), SAMPLING, chosen, step=STEP)


def messages(prompt: Prompt, mark: str, most: int) -> Messages:
    values = {"nonce": mark, "most": str(most), "text": templates.shown(text_of(prompt), mark, VALUES)}
    return (Message("user", templates.fill(VALUES.texts["values.txt"], values)),)


def _value(prompt: Prompt, item: Mapping[str, Any]) -> Value:
    """Raises InputError for what is no such item."""
    if fault := next(_faults(prompt, item), ""):
        raise InputError(fault)
    name, explanation, quote = (plain(item[key]) for key in ("name", "explanation", "quote"))
    kind, valence = cast("Kind", item["kind"]), cast("Valence", item["valence"])
    return Value(prompt.id, prompt.source, kind, name, valence, item["relevance"], explanation, quote)


def _faults(prompt: Prompt, item: Mapping[str, Any]) -> Iterator[str]:
    if set(item) != set(KEYS):
        yield f"has the keys {brief(printable(', '.join(map(repr, sorted(item)))), 200)}, and not {', '.join(KEYS)}"
        return
    for key, choices in (("kind", get_args(Kind)), ("valence", get_args(Valence))):
        if item[key] not in choices:
            yield f"{key}: {printable(repr(item[key]))[:40]} is none of {', '.join(choices)}"
    relevance = item["relevance"]
    if isinstance(relevance, bool) or not isinstance(relevance, int) or not 0 <= relevance <= 100:
        yield f"relevance: {printable(repr(relevance))[:40]} is no whole number from 0 to 100"
    for key in ("name", "explanation", "quote"):
        if not isinstance(item[key], str) or not item[key].strip():
            yield f"{key}: is no text"
            return
        if (text := plain(item[key])) != printable(text):
            yield f"{key}: holds signs that are not shown"
    if len(plain(item["name"])) > NAME or not re.search(r"[^\W\d_]", item["name"]):
        yield f"name: {printable(brief(plain(item['name']), 80))} is not a few words"
    if plain(item["quote"]) not in plain(text_of(prompt)):
        yield f"quote: {printable(brief(plain(item['quote']), 80))} is not in the text"


def plain(text: str) -> str:
    """White space as single spaces."""
    return " ".join(text.split())
