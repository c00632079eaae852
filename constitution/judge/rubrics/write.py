"""A rubric that a model writes: how it is asked, and what of its reply is one. Nothing of a reply is mended.

asked = request(source, seen, shape, prompt, …)
items, done = await written(engine, asked, shape)
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, cast, get_args
from xml.etree import ElementTree

from constitution import templates
from constitution.engines.base import Completion, Engine, Request
from constitution.errors import MalformedReply
from constitution.judge.question import final, generate
from constitution.judge.rubrics.written import Written
from constitution.records import CriterionKind, Message, Messages, Principle, RubricSource
from constitution.templates import TemplateSet

Shape = Literal["json", "xml"]

KEYS = ("question", "good", "weight", "kind")
"""What an item has, in JSON; in XML the question is its text."""
LEAST, MOST = 1, 10
"""Ends of the weights that are asked for."""
_KINDS = tuple(kind for kind in get_args(CriterionKind) if kind)
_FENCED = re.compile(r"\s*```(?:json|xml)?[ \t]*\r?\n(.*?)\r?\n[ \t]*```\s*\Z", re.DOTALL | re.IGNORECASE)
"""A reply that is one block of code: how many models write either form."""
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
"""A weight in XML. Python reads more as one: `1_0` as ten, digits of any script."""


class Seen(NamedTuple):
    """What the writer is shown beside the conversation."""

    answers: tuple[str, ...] = ()
    """The reference; or the better answer and the worse one."""
    principles: tuple[Principle, ...] = ()
    ids: tuple[str, ...] = ()
    """What names what it is shown, in this order."""


class Wanted(NamedTuple):
    """How the checklist is to be."""

    least: int
    most: int
    """Questions."""
    shape: Shape


def messages(
    source: RubricSource, seen: Seen, wanted: Wanted, prompt: Messages, nonce: str, texts: TemplateSet
) -> Messages:
    """The chat that asks for a checklist. What models and strangers wrote stands between marks, disarmed."""
    counts = {"least": str(wanted.least), "most": str(wanted.most)}
    rules = templates.fill(texts.texts["write-rules.txt"], {**counts, "format": _asked(texts, wanted.shape)})
    shown = [templates.shown(text, nonce, texts) for text in seen.answers]
    values = {
        "nonce": nonce,
        "conversation": templates.conversation(prompt, nonce, texts),
        "rules": rules,
        "principles": "\n".join(f"- {_said(principle)}" for principle in seen.principles),
        **dict(zip(("first", "second") if len(shown) > 1 else ("answer",), shown, strict=False)),
    }
    return (Message("user", templates.fill(texts.texts[f"write-{source}.txt"], values)),)


def _asked(texts: TemplateSet, shape: Shape) -> str:
    return texts.texts[f"write-{shape}.txt"]


def _said(principle: Principle) -> str:
    """In its own words."""
    return principle.aim or principle.comparison_question


async def written(engine: Engine, request: Request, shape: Shape) -> tuple[list[Written], Completion]:
    """Raises PartFailed for what the engine failed, and for a reply that is no rubric, which would come again."""
    done = await generate("", engine, request)
    try:
        if done.finish_reason != "stop":
            raise MalformedReply(f"the rubric ended before its end ({done.finish_reason})")
        return parse(done.text, shape), done
    except MalformedReply as error:
        raise final("", error) from None


def parse(text: str, shape: Shape) -> list[Written]:
    """The items of a reply. Raises MalformedReply for what is anything else than the form that was asked for."""
    fenced = _FENCED.match(text)
    items = (_of_json if shape == "json" else _of_xml)(fenced[1] if fenced else text)
    if not items:
        raise MalformedReply("the rubric has no items")
    return [_item(number, item) for number, item in enumerate(items, 1)]


def _of_json(text: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise MalformedReply(f"the rubric is not JSON: {error}") from None
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise MalformedReply("the rubric is not a list of objects")
    return found


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("an object has a key twice")
    return dict(pairs)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _of_xml(text: str) -> list[dict[str, Any]]:
    if "<!" in text or "<?" in text:  # entities that grow, and what no checklist has
        raise MalformedReply("the rubric holds a declaration, a comment or an instruction of XML")
    try:
        root = ElementTree.fromstring(text.strip())  # without declarations nothing expands
    except (ElementTree.ParseError, UnicodeEncodeError) as error:  # the second: half of a surrogate pair
        raise MalformedReply(f"the rubric is not XML: {error}") from None
    between = [root.text, *(item.tail for item in root)]
    if root.tag != "rubric" or root.attrib or any((each or "").strip() for each in between):
        raise MalformedReply("the rubric is not one element rubric with items")
    found = []
    for number, item in enumerate(root, 1):
        if item.tag != "item" or len(item) or "question" in item.attrib:
            raise MalformedReply(f"the rubric's element {number} is not an item with a question")
        said: dict[str, Any] = {"question": (item.text or "").strip(), **item.attrib}
        if not _NUMBER.fullmatch(said.get("weight", "")):
            raise MalformedReply(f"item {number} of the rubric has no weight that is a number")
        found.append({**said, "weight": float(said["weight"])})
    return found


def _item(number: int, item: dict[str, Any]) -> Written:
    def refuse(what: str) -> MalformedReply:
        return MalformedReply(f"item {number} of the rubric {what}")

    if set(item) != set(KEYS):
        raise refuse(f"has the keys {', '.join(map(repr, sorted(item)))}, and not {', '.join(KEYS)}")
    question, good, weight, kind = (item[key] for key in KEYS)
    if not isinstance(question, str) or "\0" in question or not _whole(question):
        raise refuse("has no question that is a text")
    if good not in ("yes", "no"):
        raise refuse(f"has for good {good!r:.40}")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not LEAST <= weight <= MOST:
        raise refuse(f"has the weight {weight!r:.40}, which is not from {LEAST} to {MOST}")
    if kind not in _KINDS:
        raise refuse(f"has the kind {kind!r:.40}")
    found = Written(question, cast("Literal['yes', 'no']", good), float(weight), cast("CriterionKind", kind))
    if found.fault:
        raise refuse(found.fault)
    return found


def _whole(text: str) -> bool:
    """Whether UTF-8 can hold it."""
    return text == text.encode("utf-8", "replace").decode("utf-8")
