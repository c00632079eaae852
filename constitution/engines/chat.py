"""Messages to tokens and back, by the model's own chat template and tokenizer.

Four things differ from calling apply_chat_template: a prefix to continue keeps its last blanks, whatever the template
strips; neighbouring turns of one role are merged, because many templates demand that roles alternate; and a text that
spells out a control token (`<|im_end|>` typed by a user) is encoded as that text, not as the control token. Control
tokens are a tokenizer's special ones, and of those that were added besides what the chat template speaks in (some
checkpoints have `<|im_start|>` or `<think>` as such). And before an answer that is continued there is an empty thought
where the template opens one before each answer.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

from constitution.engines.base import Request
from constitution.engines.control import BARRED, broken
from constitution.engines.odd import SHORTENED, SPELLED, Oddities
from constitution.engines.reasoning import CONTROL, FORMS, Form, around, closing, opened_by, own_form
from constitution.engines.spoken import Spoken, normal
from constitution.engines.thoughts import Said, Thoughts
from constitution.errors import ContextTooLong, ModelLoadError, RequestRefused
from constitution.records import Message, Messages, as_dicts

_BRACKETED = re.compile(r"<.+>|\[.+\]", re.DOTALL)


class Prepared(NamedTuple):
    """A request in tokens."""

    prompt: list[int]
    labels: dict[str, list[int]]
    """Tokens of each of its choices."""
    max_tokens: int


class ChatTokenizer:
    """May be used from several threads: the tokenizer library may not, so every use is under a lock."""

    def __init__(self, tokenizer: Any, model: str, spoken: Spoken | None = None) -> None:
        """spoken: how the chat template is spoken to; None: as to any other. Raises ModelLoadError for a tokenizer
        without a chat template."""
        if not tokenizer.chat_template:
            raise ModelLoadError(
                f"{model}: the tokenizer has no chat template",
                hint="use an instruction-tuned model, or put a chat_template.jinja into its folder",
            )
        self._tokenizer = tokenizer
        self._model = model
        written = _texts(tokenizer.chat_template)
        self._spoken = (spoken or Spoken()).to(written)
        self._tagged = re.compile("|".join(re.escape(tag) for tag in CONTROL if tag in written) or r"(?!)")
        """Tags that the template writes: it might take a text that has them for a thought, and leave it out."""
        self._odd = Oddities()
        self.events = self._odd.events
        self._lock = threading.RLock()
        # transformers' own call hands every single text to a pool of threads, which it waits for where cores are busy.
        self._backend = getattr(tokenizer, "backend_tokenizer", None)
        if self._backend is not None:
            self._backend.no_truncation()
            self._backend.no_padding()
        hello, system = Message("user", "hello"), Message("system", "SYSTEMTEXT")
        control = self._control_tokens(hello)
        # The longest first, as the tokenizer itself matches.
        names = sorted({token.content for token in control.values()}, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, names))) if names else None
        self._never = frozenset(control) - {getattr(tokenizer, "unk_token_id", None)}
        """Ids that no text of a message may become."""
        self._heads = frozenset(name[:length] for name in names for length in range(1, len(name)))
        self._tails = frozenset(name[length:] for name in names for length in range(1, len(name)))
        self._longest = max(map(len, names), default=0)
        normalizer = getattr(self._backend, "normalizer", None)
        self._normalize = (
            normalizer.normalize_str if normalizer and any(t.normalized for t in control.values()) else None
        )
        self._own_form = own_form(written, names)
        self._opens: Form | None = None
        """The form of the thought that the template opens before each answer."""
        with suppress(RequestRefused):
            self._opens = opened_by(self._render((hello,), answer=True))
        special = {id: token.content for id, token in control.items() if token.special}
        self._thoughts = Thoughts(self._decode, special, written, self._spoken.reasoning)
        self._takes_system = self._shows(system, hello)
        self._takes_late_system = self._shows(hello, Message("assistant", "hi"), system, hello)
        self._label_tokens = lru_cache(maxsize=1024)(self._label_tokens_uncached)

    @property
    def eos_token_id(self) -> int | None:
        """The tokenizer's own end token."""
        end: int | None = self._tokenizer.eos_token_id
        return end

    @property
    def facts(self) -> dict[str, str]:
        """What of this decides the model's answers, for the run's provenance."""
        return self._spoken.facts()

    def prepared(self, request: Request, context: int) -> Prepared:
        """What a model in the process is given. context: tokens of prompt and answer together. Raises RequestRefused
        for turns or labels that cannot be; ContextTooLong for a prompt that leaves no room for a token. Where only the
        answer would be too long, max_tokens is cut to the room there is, which is counted."""
        if not all(request.choices):
            raise RequestRefused(f"{self._model}: an empty label has no probability")
        if request.closed:
            prompt = self.ended(request.messages)
            labels = {name: [self.token(name)] for name in request.choices}
        else:
            prompt = self.encode(request.messages, think=not request.choices, thought=request.thought)
            labels = {label: self.label(request.messages, label) for label in request.choices}
        room = context - len(prompt) - max((len(tokens) - 1 for tokens in labels.values()), default=0)
        if room < 1:
            raise ContextTooLong(
                f"{self._model}: the prompt has {len(prompt)} tokens, and the model takes {context}"
                " together with the answer"
            )
        if not labels and room < request.sampling.max_tokens:
            self._odd.add(SHORTENED)
        return Prepared(prompt, labels, min(room, request.sampling.max_tokens))

    def encode(self, messages: Messages, think: bool = True, thought: str = "") -> list[int]:
        """The prompt's tokens. think = False: a thought that the template opens is closed at once, so that the next
        token is of the answer. thought: the model's, as the request gives it. Raises RequestRefused for messages that
        the chat template does not take."""
        with self._lock:
            pieces = self._prompt(messages, think, thought)
            return [token for text, plain in pieces for token in self._encode(text, plain=plain)]

    def closed(self, messages: Messages) -> list[int]:
        """The tokens of a conversation whose last turn, the assistant's, is over as the chat template ends it; no
        header of another turn follows. Raises RequestRefused for messages that the chat template does not take."""
        with self._lock:
            pieces = self._pieces(self._normal(messages), closed=True)
            return [token for text, plain in pieces for token in self._encode(text, plain=plain)]

    def ended(self, messages: Messages) -> list[int]:
        """As `closed`, up to the token that ends the turn. Raises RequestRefused where there is none."""
        tokens = self.closed(messages)
        end = max((place for place, token in enumerate(tokens) if token in self._never), default=-1)
        if self.decode(tokens[end + 1 :]).strip():
            raise RequestRefused(
                f"{self._model}: its chat template does not end an answer with a token, after which to read"
            )
        return tokens[: end + 1]

    def token(self, name: str) -> int:
        """Raises RequestRefused for what is no token of the vocabulary."""
        id = self._tokenizer.get_vocab().get(name)
        if id is None:
            raise RequestRefused(f"{self._model}: its vocabulary has no token {name!r}")
        return int(id)

    def text(self, request: Request) -> str:
        """The prompt, for people: what `prepared` makes into tokens. Control tokens that the messages spell are in it
        as they are spelled. Raises RequestRefused for messages that the chat template does not take."""
        with self._lock:
            if request.closed:
                pieces = self._pieces(self._normal(request.messages), closed=True)
                return "".join(text for text, _ in pieces).rstrip()
            pieces = self._prompt(request.messages, not request.choices, request.thought)
            return "".join(text for text, _ in pieces)

    def said(self, tokens: Sequence[int], prompt: Sequence[int], continues: bool, cut: bool) -> Said:
        """What the model wrote after `prompt`: thought and answer, or all as the answer where it continues one.
        `cut`: max_tokens ended it."""
        if continues:
            return Said(self.decode(tokens, prompt[-4:]))
        with self._lock:
            return self._thoughts.read(tokens, prompt, cut)

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
        tokens = self._tokens(text, plain=plain)
        if plain and not self._never.isdisjoint(tokens):
            # Tokenizers split special tokens when told to, but not other added ones, nor what their model itself holds.
            text = self._normalize(text) if self._normalize else text
            read = broken(text, self._control) if self._control else text
            if read != text:
                self._odd.add(SPELLED)
            tokens = self._tokens(read, plain=True)
            tokens = [token for token in tokens if token not in self._never]
        return tokens

    def _tokens(self, text: str, *, plain: bool) -> list[int]:
        if self._backend is None:
            tokens: list[int] = self._tokenizer(text, add_special_tokens=False, split_special_tokens=plain)["input_ids"]
            return tokens
        self._backend.encode_special_tokens = plain
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def _control_tokens(self, hello: Message) -> dict[int, Any]:
        """By id, the special tokens and those added ones that the chat template writes, or that have bars."""
        written = _texts(self._tokenizer.chat_template)
        with suppress(RequestRefused):
            written += self._render((hello, Message("assistant", "hi"), hello), answer=True)
        return {
            id: token
            for id, token in self._tokenizer.added_tokens_decoder.items()
            if token.special
            or BARRED.fullmatch(token.content)
            or (token.content in written and _BRACKETED.fullmatch(token.content))
        }

    def _decode(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _normal(self, messages: Messages) -> Messages:
        return normal(messages, system=self._takes_system, late_system=self._takes_late_system)

    def _prompt(self, messages: Messages, think: bool, thought: str) -> list[tuple[str, bool]]:
        pieces = self._pieces(self._normal(messages))
        if thought:
            last, plain = pieces[-1]
            if not plain and (empty := next((form.empty for form in FORMS if last.endswith(form.empty)), "")):
                # The template turns reasoning off by a thought without words.
                pieces[-1] = last.removesuffix(empty), plain
            before, behind = around(pieces[-1][0], self._own_form)
            return [*pieces, (before, False), (thought, self._spells(thought)), (behind, False)]
        if not think or self._spoken.reasoning == "off":
            pieces.append((closing(pieces[-1][0]) if not pieces[-1][1] else "", False))
        return pieces

    def _pieces(self, messages: Messages, closed: bool = False) -> list[tuple[str, bool]]:
        """The rendered prompt as (text, plain) in order; in plain text nothing is read as a control token. closed: an
        assistant's last message is over, and is not continued.

        Texts that need care go through the template as a mark that no template changes, and come back afterwards.
        """
        continues = messages[-1].role == "assistant" and not closed
        plain = {place for place, message in enumerate(messages) if self._spells(message.content)}
        marked = {place for place, message in enumerate(messages) if self._tagged.search(message.content)}
        if edges := {place for place, message in enumerate(messages) if self._may_join(message.content)} - plain:
            plain |= self._joining(messages, edges | plain, closed)
        pieces: list[tuple[str, bool]] = []
        parts = self._marked(messages, plain | marked | ({len(messages) - 1} if continues else set()), closed)
        if continues and self._opens:
            header = max(at for at, (_, place) in enumerate(parts) if place is not None) - 1
            if not _thought_over(parts[header][0], self._opens):
                # The model has learnt to write answers behind a thought.
                parts[header] = (parts[header][0] + self._opens.empty, None)
        for text, place in parts:
            careful = place in plain
            if pieces and not careful and not pieces[-1][1]:
                # Tokenized in one piece, as every other engine does.
                pieces[-1] = (pieces[-1][0] + text, False)
            elif text:
                pieces.append((text, careful))
        return pieces

    def _marked(self, messages: Messages, places: set[int], closed: bool) -> list[tuple[str, int | None]]:
        """The rendered prompt in parts: the messages at `places`, with their place, and what the template makes of the
        others and around them. Ends with the last message where that is to be continued, which must be one of them."""
        continues = messages[-1].role == "assistant" and len(messages) - 1 in places and not closed
        stem = "TURN"
        while any(stem in message.content for message in messages):
            stem += "X"
        marks = {f"{stem}{place}E": place for place in sorted(places)}
        shown = list(messages)
        for mark, place in marks.items():
            shown[place] = Message(messages[place].role, mark)
        text = self._render(tuple(shown), answer=messages[-1].role != "assistant")
        if continues:
            text = self._cut(text, f"{stem}{len(messages) - 1}E")
        parts = re.split("(" + "|".join(marks) + ")", text) if marks else [text]
        return [(messages[marks[part]].content, marks[part]) if part in marks else (part, None) for part in parts]

    def _spells(self, content: str) -> bool:
        """Whether it spells a control token, as it is or as the tokenizer's normalizer makes it."""
        if self._control is None:
            return False
        return bool(
            self._control.search(content) or (self._normalize and self._control.search(self._normalize(content)))
        )

    def _may_join(self, content: str) -> bool:
        """Whether it begins or ends as if in a control token, which its neighbour might complete."""
        content = content.strip()
        lengths = range(1, min(self._longest, len(content) + 1))
        return any(content[:length] in self._tails or content[-length:] in self._heads for length in lengths)

    def _joining(self, messages: Messages, places: set[int], closed: bool) -> set[int]:
        """Those of the messages at `places` of which a part spells a control token together with its neighbour."""
        found: set[int] = set()
        parts = self._marked(messages, places | {len(messages) - 1}, closed)
        # Some templates strip the messages' blanks.
        for stripped in (False, True):
            spans, whole = [], ""
            for text, place in parts:
                read = text.strip() if stripped and place is not None else text
                spans.append((len(whole), len(whole) + len(read), place))
                whole += read
            for match in self._control.finditer(whole) if self._control else ():
                found |= {
                    place
                    for begin, end, place in spans
                    if place in places
                    and begin < match.end()
                    and match.start() < end
                    and not (begin <= match.start() and match.end() <= end)
                }
        return found

    def _cut(self, text: str, mark: str) -> str:
        """`text` up to the end of the last message, where the model continues."""
        if mark not in text:
            raise RequestRefused(
                f"{self._model}: its chat template drops the assistant's last message, so it cannot be continued",
                hint="use another model for this role",
            )
        return text[: text.rindex(mark) + len(mark)]

    def _render(self, messages: Messages, *, answer: bool) -> str:
        """The template's text. `answer`: ends with the header of the assistant's turn."""
        import jinja2

        try:
            text: str = self._tokenizer.apply_chat_template(
                as_dicts(messages),
                tokenize=False,
                add_generation_prompt=answer,
                strftime_now=self._spoken.now,
                **self._spoken.variables,
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


def _texts(template: Any) -> str:
    return "".join(template.values()) if isinstance(template, dict) else str(template)


def _thought_over(header: str, form: Form) -> bool:
    """Whether what the template writes before an answer ends with a thought that is closed."""
    return form.closing in header[-len(form.empty) - 16 :]
