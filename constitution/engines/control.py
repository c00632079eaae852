"""Control tokens of chat templates spelled out in texts, broken where a server would read them as what they are not.

A server makes messages into tokens by a template and a tokenizer that we do not see, and most read `<|im_end|>` typed
by a user as the end of his turn. So such a spelling is sent with a blank after its first character: `< |im_end|>`. A
blank, since no tokenizer, normalizer or filter takes it out again, and because a reader who meets it in what a model
repeats can see it; a zero-width space is neither.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence

from constitution.engines.odd import SENT_APART, Note
from constitution.errors import MalformedReply, ModelLoadError, RequestRefused
from constitution.records import Message, Messages

Tokenize = Callable[[str], Awaitable[Sequence[int]]]
"""The token ids of a text, without special tokens."""

BARRED = re.compile(r"<\|[^\s<>|]{1,64}\|>|<｜[^<>｜]{1,64}｜>")
"""Control tokens by their looks, in whatever tokenizer."""

KEPT = 1_000
"""Spellings that a server is asked about; those that come later and are not CERTAIN are left alone."""

# Each begins with another character: most texts are then searched at the speed of memchr.
_SPELLED = (
    re.compile(r"<(?:\|[^\s<>|]{1,64}\||｜[^<>｜]{1,64}｜|/?[A-Za-z][A-Za-z0-9_]{0,30})>"),
    re.compile(r"\[(?:/?[A-Z][A-Z_]{1,30}|[gs]MASK)\]"),
)
"""What can be a control token: of the families with bars (ChatML, Llama 3, Phi, harmony; DeepSeek's full-width ones),
tags (`<start_of_turn>`, `</s>`, `<think>`), capitals in brackets (`[INST]`)."""
CERTAIN = re.compile(
    r"<[|｜].*[|｜]>|<(?:(?:start|end)_of_\w+|bos|eos|pad|unk|unused\d+|extra_id_\d+|/?think|/?tool_\w+)>"
    r"|\[(?:/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS|TOOL_CONTENT|THINK)|TOOL_CALLS|[gs]MASK)\]",
    re.DOTALL,
)
"""Those that are nothing else in any text. Others, such as `<s>`, which is HTML too, are so for some models."""


def broken(text: str, spelled: re.Pattern[str]) -> str:
    """`text` with a blank after the first character of what `spelled` finds, as long as it finds any."""
    while spelled.search(text):
        text = spelled.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)
    return text


def _spelled(text: str) -> bool:
    barred, bracketed = _SPELLED
    return ("<" in text and barred.search(text) is not None) or ("[" in text and bracketed.search(text) is not None)


def spellings(messages: Messages) -> set[str]:
    """All that can be control tokens in the texts, of whatever model."""
    return {found for each in messages for spelled in _SPELLED for found in spelled.findall(each.content)}


class ControlTokens:
    """Breaks the spellings in messages for one server, or a fleet of servers of one model."""

    def __init__(self, tokenize: Tokenize | None, note: Note) -> None:
        """`tokenize`: asks the server whether a spelling is one token of its model. None: it cannot be asked."""
        self._tokenize, self._note = tokenize, note
        self._known: dict[str, bool] = {}

    async def broken(self, messages: Messages) -> Messages:
        """`messages`, of which those that spell a control token are changed. Raises EngineError where the server is
        out of reach."""
        if not any(_spelled(message.content) for message in messages):
            return messages
        sent = tuple([await self._broken(message) for message in messages])
        for old, new in zip(messages, sent, strict=True):
            if old is not new:
                self._note(SENT_APART)
        return sent if sent != messages else messages

    async def _broken(self, message: Message) -> Message:
        text = message.content
        for spelled in _SPELLED:
            # In turns: the text between two pieces of one may be another.
            if any([await self._reads(found) for found in set(spelled.findall(text))]):
                text = spelled.sub(lambda found: self._apart(found[0]), text)
        return message if text == message.content else Message(message.role, text)

    def _apart(self, spelling: str) -> str:
        return f"{spelling[0]} {spelling[1:]}" if self._known.get(spelling) or CERTAIN.fullmatch(spelling) else spelling

    async def _reads(self, spelling: str) -> bool:
        """Whether the server reads it as a control token."""
        if CERTAIN.fullmatch(spelling):
            return True
        known = self._known.get(spelling)
        if known is None and self._tokenize is not None and len(self._known) < KEPT:
            try:
                known = len(await self._tokenize(spelling)) == 1
            except (ModelLoadError, RequestRefused, MalformedReply):
                self._tokenize = None  # it does not tell
            else:
                self._known[spelling] = known
        return bool(known)
