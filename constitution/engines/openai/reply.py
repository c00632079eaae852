"""A chat completion's JSON, read: which choice, its text and thought, why it ended, votes, tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from constitution.engines.base import Completion, Request
from constitution.engines.odd import FULL, SEVERAL, Oddities, read_usage
from constitution.engines.openai.votes import read
from constitution.engines.reasoning import Thought
from constitution.errors import MalformedReply, RequestRefused

FINISHED = {
    "stop": ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "stop_token", "end", "complete", "completed"),
    "length": (
        "length",
        "max_tokens",
        "max_output_tokens",
        "max_completion_tokens",
        "max_length",
        "model_context_window_exceeded",
    ),
    "content_filter": ("content_filter", "content_filtered", "safety", "recitation", "blocklist", "prohibited_content"),
    "tool_calls": ("tool_calls", "tool_call", "tool_use", "function_call"),
    "refusal": ("refusal", "refused"),
}
"""Ours → the words of servers and of gateways to other protocols (Anthropic's, Google's, Hugging Face's)."""
_OURS = {theirs: ours for ours, words in FINISHED.items() for theirs in words}
FIELDS = ("reasoning", "reasoning_content", "thinking")
"""Fields of a message, in the order in which they are believed: vLLM, OpenRouter · SGLang, DeepSeek, llama.cpp, older
vLLM · Ollama. Those that have more than one say the same in both."""
DETAILS = ("reasoning_details", "thinking_blocks")
"""Lists of blocks of gateways."""
_APART = {*FIELDS, *DETAILS}
_THOUGHTS = ("thinking", "reasoning", "reasoning_content", "redacted_thinking")
"""Types of parts of the content that are no answer."""

Parted = Callable[[str, bool, str | None, bool], Thought]
"""`ServedTemplate.parted`."""


class Asked(NamedTuple):
    """What a reply is read by."""

    request: Request
    place: str
    """The server's address."""
    parted: Parted
    odd: Oddities
    ids: Sequence[int] = ()
    """Tokens of the request's choices whose log-probabilities were asked for by id."""
    most: int | None = None
    """Tokens of output that were asked for; None: not known."""


def read_reply(reply: Any, asked: Asked) -> tuple[Completion, bool]:
    """The completion, and whether all of the tokens `asked.ids` had their log-probability in the reply. Raises
    MalformedReply for what is no chat completion or lacks what was asked for, and RequestRefused for a vote that a
    filter held back."""
    try:
        return _read(reply, asked)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        said = f"the reply is not a chat completion ({type(error).__name__} {error})"
        raise MalformedReply(f"{asked.place}: {said}") from None


def _read(reply: Any, asked: Asked) -> tuple[Completion, bool]:
    request, place = asked.request, asked.place
    choice = _choice(reply["choices"], asked)
    message, reason, usage = choice["message"], _reason(choice.get("finish_reason"), place), reply.get("usage")
    thought, content = of_message(message)
    text = _text(content, "content", place)
    if text and not (request.choices or request.continues):
        parted = asked.parted(text, reason == "length", thought, _counts_reasoning(usage))
        text, thought = parted.text, thought or parted.reasoning
    if reason == "stop" and (message.get("tool_calls") or message.get("function_call")):
        reason = "tool_calls"  # some servers call that a stop
    if refusal := _text(message.get("refusal"), "refusal", place):
        reason, text = "refusal", text or refusal
    votes = _votes(choice, reason, asked) if request.choices else None
    if request.continues:
        # A server that repeats the prefix gives it back exactly; an answer that does so by itself is a rarity.
        text = text.removeprefix(request.messages[-1].content)
    used = read_usage(usage, request, text + (thought or ""), asked.most, asked.odd.add)
    if votes is not None:
        mass = sum(map(math.exp, votes.logprobs.values()))
        if (thought or used.reasoning) and not text and mass < 0.5:
            # A parser may take a label for a thought, and is known by it: the labels are likely then.
            raise MalformedReply(
                f"{place}: the log-probabilities are of the model's reasoning and not of its answer",
                hint='have the judge answer without reasoning: `reasoning = "off"`, or what the server has for it',
            )
    elif reason == "stop" and used.completion == asked.most:
        asked.odd.add(FULL)
    completion = Completion(
        text,
        reason,
        used.prompt,
        used.completion,
        used.cached,
        votes and votes.logprobs,
        thought,
        used.reasoning,
        unseen=votes and votes.unseen,
    )
    return completion, votes is not None and votes.exact


def _votes(choice: Mapping[str, Any], reason: str, asked: Asked) -> Any:
    if reason == "content_filter" and not choice.get("logprobs"):
        error = RequestRefused(f"{asked.place}: the server's content filter held the vote back")
        error.flagged = True
        raise error
    return read(asked.request.choices, asked.ids, choice, asked.place)


def _choice(choices: Any, asked: Asked) -> Mapping[str, Any]:
    """The choice of index 0, whatever its place; one alone needs not say its index."""
    if not isinstance(choices, list) or not choices:
        raise MalformedReply(f"{asked.place}: the reply has no choices")
    numbers = [choice.get("index") for choice in choices]
    if numbers == [None]:
        numbers = [0]
    first = [place for place, number in enumerate(numbers) if number == 0 and type(number) is int]
    if len(first) != 1:
        listed = ", ".join(map(repr, numbers[:5]))
        raise MalformedReply(
            f"{asked.place}: of the reply's choices {len(first)} have the index 0; their indices are {listed}"
        )
    if len(choices) > 1:
        asked.odd.add(SEVERAL)
    chosen: Mapping[str, Any] = choices[first[0]]
    return chosen


def _reason(said: Any, place: str) -> str:
    reason = _OURS.get(said.casefold()) if isinstance(said, str) else None
    if reason is None:
        raise MalformedReply(
            f"{place}: finish_reason is {str(said)[:100]!r}, so it is not known whether the answer is whole",
            hint="have the server say one of: " + ", ".join(FINISHED),
        )
    return reason


def _text(text: Any, field: str, place: str) -> str:
    """Empty for null."""
    if text is not None and not isinstance(text, str):
        raise MalformedReply(
            f"{place}: message.{field} is no text but a {type(text).__name__}",
            hint="have the server give plain text, e.g. without its reasoning in parts",
        )
    return text or ""


def _counts_reasoning(usage: Any) -> bool:
    """Whether a server tells the reasoning's tokens, and so knows which they are."""
    details = usage.get("completion_tokens_details") if isinstance(usage, Mapping) else None
    return isinstance(details, Mapping) and details.get("reasoning_tokens") is not None


def of_message(message: Mapping[str, Any]) -> tuple[str | None, Any]:
    """The reasoning of a reply's message, where the server tells it apart, and the content without it: text, None, or
    what it is that is no text. Content in parts is joined from its texts; parts that are neither stay as they are."""
    content = message.get("content")
    if isinstance(content, str) and _APART.isdisjoint(message):
        return None, content
    told = next(filter(None, (_told(message.get(name)) for name in FIELDS)), "")
    if not told:
        blocks: list[Any] = next((message[name] for name in DETAILS if isinstance(message.get(name), list)), [])
        told = "\n\n".join(filter(None, map(_thought_of, blocks)))
    if isinstance(content, list) and content and all(map(_is_part, content)):
        thoughts = [_thought_of(part) for part in content if part["type"] in _THOUGHTS]
        told = "\n\n".join(filter(None, (told, *thoughts)))
        content = "".join(part["text"] for part in content if part["type"] not in _THOUGHTS)
    return told or None, content


def _is_part(part: Any) -> bool:
    if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
        return False
    return part["type"] in _THOUGHTS or isinstance(part.get("text"), str)


def _told(value: Any) -> str:
    """The words of a field, which are text at most servers, and blocks or texts at some."""
    if isinstance(value, str):
        return value.strip()
    blocks = value if isinstance(value, list) else [value]
    return "\n\n".join(filter(None, (_told(each) if isinstance(each, str) else _thought_of(each) for each in blocks)))


def _thought_of(part: Any) -> str:
    """The words of a block or part; some are lists of texts, and some are encrypted and have none."""
    if not isinstance(part, Mapping):
        return ""
    found: Any = next((part[name] for name in ("thinking", "reasoning", "text", "summary") if part.get(name)), "")
    if isinstance(found, Sequence) and not isinstance(found, str):
        found = "".join(str(each.get("text") or "") for each in found if isinstance(each, Mapping))
    return str(found).strip()
