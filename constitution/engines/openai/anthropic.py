"""The Messages API of Anthropic, which some gateways and vLLM serve too.

Held against the types of anthropic-sdk-python (src/anthropic/types: message_create_params, message, stop_reason,
content_block, usage) and the reference's page on errors. It has no log-probabilities and no seeds, takes the system
prompt apart from the turns, and caches what the request marks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from constitution.engines.odd import Note
from constitution.engines.openai.batch.messages import MessageBatches
from constitution.engines.openai.wire import Wire
from constitution.errors import MalformedReply
from constitution.recipe import OpenAIModel
from constitution.records import Message, Messages

VERSION = "2023-06-01"
"""The newest of the API's versions (header anthropic-version)."""
THOUGHTS = ("thinking", "redacted_thinking")
TOOLS = "tool_use"
PROMPT = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
"""Counts that are the prompt's tokens together."""

ENCRYPTED = "{n} replies hold reasoning that the server keeps to itself: its tokens are counted, and no words stored"
CLASSIFIED = "{{n}} replies were ended by the server's classifier of refusals, category {category}"
SAID = (
    "seed is not sent, because the Messages API has none; neighbouring turns of one role are merged, and system turns "
    "after the first ones put into the user's"
)
_CATEGORY = re.compile(r"[a-z_]{1,40}")


def headers(key: str) -> Mapping[str, str]:
    return {"anthropic-version": VERSION} | ({"x-api-key": key} if key else {})


def fields(section: OpenAIModel) -> Mapping[str, Any]:
    off = {"thinking": {"type": "disabled"}} if section.reasoning == "off" else {}
    return {"cache_control": {"type": "ephemeral"}, **off}


def body(fields: Mapping[str, Any], messages: Messages) -> Mapping[str, Any]:
    """Turns as `TURNS_AS[2]` has them: a system turn at most, and that first."""
    made = {name: value for name, value in fields.items() if name not in ("stop", "cache_control")}
    # Stop strings of white space alone are refused; the engine cuts the text where they begin.
    stops = [stop for stop in fields.get("stop", ()) if stop.strip()]
    if stops:
        made.setdefault("stop_sequences", stops)
    mark = fields.get("cache_control")
    system = [turn.content for turn in messages if turn.role == "system"]
    if system:
        made["system"] = _marked(system[0], mark)
    turns = [turn for turn in messages if turn.role != "system"]
    shared = _shared(turns)
    made["messages"] = [
        {"role": turn.role, "content": _marked(turn.content, mark if place == shared else None)}
        for place, turn in enumerate(turns)
    ]
    return made


def _shared(turns: Sequence[Message]) -> int:
    """The last turn that other requests begin with too: the one before the question; -1: there is none."""
    asked = max((place for place, turn in enumerate(turns) if turn.role == "user"), default=0)
    return asked - 1


def _marked(text: str, mark: Any) -> Any:
    """The content of a turn. What is before a mark is written to the server's cache, and read from it the next time."""
    if not mark or not text:  # an empty text cannot be marked
        return text
    return [{"type": "text", "text": text, "cache_control": mark}]


def chat(reply: Any, place: str, note: Note) -> Any:
    """A message as a chat completion. Raises MalformedReply for what is no message, and for one that is not whole."""
    blocks = reply.get("content") if isinstance(reply, Mapping) else None
    if not isinstance(blocks, list) or not all(isinstance(block, Mapping) for block in blocks):
        raise MalformedReply(
            f"{place}: the reply is no message of the Messages API",
            hint="leave `dialect` out if the server speaks OpenAI's chat completions",
        )
    reason = reply.get("stop_reason")
    known = {"text", *THOUGHTS, *([TOOLS] if reason == TOOLS else [])}
    strange = sorted({str(block.get("type"))[:40] for block in blocks} - known)
    if reason == "pause_turn" or strange:
        held = f"holds {', '.join(strange)}" if strange else "was paused (pause_turn)"
        raise MalformedReply(f"{place}: the reply {held}, and is no whole answer", hint="take tools out of extra_body")
    if any(block["type"] in THOUGHTS and not block.get("thinking") for block in blocks):
        note(ENCRYPTED)
    _note_refusal(reply.get("stop_details"), note)
    thought = "\n\n".join(_texts(blocks, "thinking", place))
    message = {"content": "".join(_texts(blocks, "text", place))} | ({"reasoning": thought} if thought else {})
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return {"choices": [choice], "usage": _usage(reply.get("usage")), "model": reply.get("model")}


def _texts(blocks: Sequence[Mapping[str, Any]], kind: str, place: str) -> list[str]:
    """The texts of the blocks of a kind, in the field of the kind's name."""
    texts = [block.get(kind) for block in blocks if block["type"] == kind]
    if wrong := [type(text).__name__ for text in texts if not isinstance(text, str)]:
        raise MalformedReply(f"{place}: a block of type {kind} has no text but {wrong[0]}")
    return [text for text in texts if isinstance(text, str) and text]


def _note_refusal(details: Any, note: Note) -> None:
    category = details.get("category") if isinstance(details, Mapping) else None
    if isinstance(category, str) and _CATEGORY.fullmatch(category):
        note(CLASSIFIED.format(category=category))


def _usage(given: Any) -> Any:
    """Counts by the names of chat completions; what is no count is handed on, to be found there."""
    if not isinstance(given, Mapping):
        return given
    parts = [given.get(name) for name in PROMPT]
    told = [part for part in parts if part is not None]
    strange = [part for part in told if isinstance(part, bool) or not isinstance(part, int) or part < 0]
    # Without the first part the sum would be of the cache alone.
    prompt = strange[0] if strange else sum(told) if parts[0] is not None else None
    details = given.get("output_tokens_details")
    thinking = details.get("thinking_tokens") if isinstance(details, Mapping) else None
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": given.get("output_tokens"),
        "prompt_tokens_details": {"cached_tokens": parts[2]},
    }
    return usage if thinking is None else {**usage, "completion_tokens_details": {"reasoning_tokens": thinking}}


MESSAGES = Wire(
    path="/messages",
    headers=headers,
    body=body,
    chat=chat,
    fields=fields,
    needless={"top_p": 1.0},
    lacks=frozenset({"seed"}),
    templated=False,
    turns=2,
    said=SAID,
    batches=MessageBatches(),
)
