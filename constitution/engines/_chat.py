"""Messages to tokens and back, by the model's own chat template and tokenizer.

Three things differ from calling apply_chat_template: a prefix to continue keeps its last blanks, whatever the template
strips; neighbouring turns of one role are merged, because many templates demand that roles alternate; and a text that
spells out a control token (`<|im_end|>` typed by a user) is encoded as that text, not as the control token.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

from constitution.errors import ModelLoadError, RequestRefused
from constitution.records import Message, Messages, as_dicts


class ChatTokenizer:
    """May be used from several threads: the tokenizer library may not, so every use is under a lock."""

    def __init__(self, tokenizer: Any, model: str) -> None:
        """Raises ModelLoadError for a tokenizer without a chat template."""
        if not tokenizer.chat_template:
            raise ModelLoadError(
                f"{model}: the tokenizer has no chat template",
                hint="use an instruction-tuned model, or put a chat_template.jinja into its folder",
            )
        self._tokenizer = tokenizer
        self._model = model
        self._lock = threading.RLock()
        # transformers' own call hands every single text to a pool of threads, which it waits for where cores are busy.
        self._backend = getattr(tokenizer, "backend_tokenizer", None)
        if self._backend is not None:
            self._backend.no_truncation()
            self._backend.no_padding()
        special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        self._control = re.compile("|".join(map(re.escape, special))) if special else None
        hello, system = Message("user", "hello"), Message("system", "SYSTEMTEXT")
        self._takes_system = self._shows(system, hello)
        self._takes_late_system = self._shows(hello, Message("assistant", "hi"), system, hello)
        self._label_tokens = lru_cache(maxsize=1024)(self._label_tokens_uncached)

    def encode(self, messages: Messages) -> list[int]:
        """The prompt's tokens. Raises RequestRefused for messages that the chat template does not take."""
        with self._lock:
            tokens: list[int] = []
            for text, plain in self._pieces(self._normal(messages)):
                tokens += self._encode(text, plain=plain)
            return tokens

    def label(self, messages: Messages, label: str) -> list[int]:
        """The tokens of `label` as the text after `messages`.

        They are what the tokenizer makes of prefix and label together where that leaves the prefix's tokens as they
        are, else what it makes of the label alone.
        """
        normal = self._normal(messages)
        prefix = normal[-1].content if normal[-1].role == "assistant" else ""
        with self._lock:
            return list(self._label_tokens(prefix, label))

    def decode(self, tokens: Sequence[int], before: Sequence[int] = ()) -> str:
        """The text of `tokens`; with `before`, as it reads after those (a blank at its start may depend on them)."""
        with self._lock:
            text = self._decode([*before, *tokens])
            return text[len(self._decode(before)) :] if before else text

    def _label_tokens_uncached(self, prefix: str, label: str) -> tuple[int, ...]:
        # Only the border of prefix and label matters. At its start, the prefix alone may read otherwise than in the
        # prompt: SentencePiece puts a blank before every text, and before a label alone too, where none belongs.
        own = self._encode(prefix, plain=True)
        both = self._encode(prefix + label, plain=True)
        return tuple(both[len(own) :] if both[: len(own)] == own else self._encode(label, plain=True))

    def _encode(self, text: str, *, plain: bool) -> list[int]:
        if self._backend is None:
            tokens: list[int] = self._tokenizer(text, add_special_tokens=False, split_special_tokens=plain)["input_ids"]
            return tokens
        self._backend.encode_special_tokens = plain
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def _decode(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _normal(self, messages: Messages) -> Messages:
        """Neighbours of one role merged, joined by a blank line; a system turn put into the user's if need be."""
        spoken = next((place for place, turn in enumerate(messages) if turn.role != "system"), len(messages))
        taken = [self._takes_system] * spoken + [self._takes_late_system] * (len(messages) - spoken)
        messages = tuple(
            turn if turn.role != "system" or takes else Message("user", turn.content)
            for turn, takes in zip(messages, taken, strict=True)
        )
        turns = ((role, [turn.content for turn in same]) for role, same in groupby(messages, lambda turn: turn.role))
        return tuple(Message(role, "\n\n".join(contents)) for role, contents in turns)

    def _pieces(self, messages: Messages) -> list[tuple[str, bool]]:
        """The rendered prompt as (text, plain) in order; in plain text nothing is read as a control token.

        Texts that need care go through the template as a mark that no template changes, and come back afterwards.
        """
        continues = messages[-1].role == "assistant"
        stem = "TURN"
        while any(stem in message.content for message in messages):
            stem += "X"
        kept: dict[str, str] = {}
        shown = list(messages)
        for place, message in enumerate(messages):
            last = continues and place == len(messages) - 1
            if last or (self._control and self._control.search(message.content)):
                mark = f"{stem}{place}E"
                kept[mark] = message.content
                shown[place] = Message(message.role, mark)
        text = self._render(tuple(shown), answer=not continues)
        if continues:
            text = self._cut(text, f"{stem}{len(messages) - 1}E")
        if not kept:
            return [(text, False)]
        pieces: list[tuple[str, bool]] = []
        for part in re.split("(" + "|".join(kept) + ")", text):
            content = kept.get(part, part)
            plain = part in kept and bool(self._control and self._control.search(content))
            if pieces and not plain and not pieces[-1][1]:
                # Tokenized in one piece, as every other engine does.
                pieces[-1] = (pieces[-1][0] + content, False)
            elif content:
                pieces.append((content, plain))
        return pieces

    def _cut(self, text: str, mark: str) -> str:
        """`text` up to the end of the last message, where the model goes on."""
        if mark not in text:
            raise RequestRefused(
                f"{self._model}: its chat template leaves out the assistant's last message, so it cannot be continued",
                hint="use another model for this role",
            )
        return text[: text.rindex(mark) + len(mark)]

    def _render(self, messages: Messages, *, answer: bool) -> str:
        """The template's text. `answer`: ends with the header of the assistant's turn."""
        import jinja2

        try:
            text: str = self._tokenizer.apply_chat_template(
                as_dicts(messages), tokenize=False, add_generation_prompt=answer
            )
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            roles = " ".join(message.role for message in messages)
            raise RequestRefused(f"{self._model}: its chat template does not take the turns {roles}: {error}") from None
        return text

    def _shows(self, *messages: Message) -> bool:
        """Whether the template takes these turns and shows the system's; some raise, some leave it out."""
        try:
            return "SYSTEMTEXT" in self._render(messages, answer=True)
        except RequestRefused:
            return False
