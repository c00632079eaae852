"""What a model in the process wrote, parted into thought and answer, from its tokens.

Many tags are special tokens, which decoding leaves out: here they are put back as they are written, the thought is
parted off by `reasoning.split`, and what is left of them is taken out again.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from constitution.engines.reasoning import CONTROL, HARMONY, Form, opened_by, split, unwrapped

TAIL = 16
"""Tokens at the end of a prompt that an opening tag may be made of."""

Decode = Callable[[Sequence[int]], str]
"""The text of tokens, without special ones."""


class Said(NamedTuple):
    text: str
    reasoning: str | None = None
    reasoning_tokens: int = 0


class Thoughts:
    """What one tokenizer and chat template do."""

    def __init__(
        self, decode: Decode, special: Mapping[int, str], template: str, reasoning: Literal["auto", "keep", "off"]
    ) -> None:
        """special: by id, the tokens that `decode` leaves out."""
        tags = {*CONTROL, *HARMONY, *(mark for name in CONTROL for mark in _within(name))}
        self._marks = {id: name for id, name in special.items() if name in tags}
        self._decode, self._template, self._keep = decode, template, reasoning == "keep"
        self._spelled = re.compile("|".join(map(re.escape, self._marks.values()))) if self._marks else None

    def opened(self, prompt: Sequence[int]) -> Form | None:
        """The form of the thought that a prompt ends in."""
        return opened_by(self._shown(prompt[-TAIL:]))

    def read(self, tokens: Sequence[int], prompt: Sequence[int], cut: bool) -> Said:
        """What `tokens` say, which the model wrote after `prompt`; `cut`: max_tokens ended them."""
        if self._keep:
            return Said(self._shown(tokens))
        opened, hidden = self.opened(prompt), any(token in self._marks for token in tokens)
        plain = self._decode(tokens)
        escape = next(mark for mark in map(chr, range(0xE000, 0xE020)) if mark not in plain) if hidden else ""
        raw = self._shown(tokens, escape) if hidden else plain
        found = split(raw, opened, cut, sure=hidden)
        if not found.end:
            return Said(plain)
        text = unwrapped(self._without_marks(found.text, escape), self._template)
        if found.reasoning is None:
            return Said(text)
        counts = range(len(tokens))
        thought = bisect_left(counts, found.end, key=lambda count: len(self._shown(tokens[:count], escape)))
        return Said(text, self._without_marks(found.reasoning, escape), thought)

    def _shown(self, tokens: Sequence[int], escape: str = "") -> str:
        """The text of `tokens` with the tags among the special ones. A tag that is spelled out, in other tokens, has
        `escape` in it, if that is not empty."""
        parts, begin = [], 0
        for place, token in enumerate([*tokens, None]):
            if token is None or token in self._marks:
                said = self._decode(tokens[begin:place]) if begin < place else ""
                if escape and self._spelled is not None:
                    said = self._spelled.sub(lambda found: found[0][0] + escape + found[0][1:], said)
                parts += [said, "" if token is None else self._marks[token]]
                begin = place + 1
        return "".join(parts)

    def _without_marks(self, text: str, escape: str) -> str:
        if not escape or self._spelled is None:
            return text
        return self._spelled.sub("", text).replace(escape, "")


def _within(tag: str) -> list[str]:
    """The control tokens that a longer tag is made of: `<|channel>thought` has `<|channel>`."""
    return re.findall(r"<[^<>\s]+>", tag)
