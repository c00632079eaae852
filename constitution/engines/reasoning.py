"""What a model thought, parted from what it answered: the forms that models write it in.

    thought = split("<think>Let me see.</think>\n\nYes.")
    thought.reasoning, thought.text        # "Let me see.", "Yes."

A thought is the text between an opening and a closing tag at the very start of an output. A tag further on is a part
of the answer, which may talk about tags. Chat templates that open the thought themselves leave the closing tag alone:
it counts where the template is known to do so, else where no sentence has it (`split`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

SWITCHES: Mapping[str, bool | int] = {"enable_thinking": False, "thinking": False, "thinking_budget": 0}
"""Variables of chat templates, each with the value that turns reasoning off."""


@dataclass(frozen=True, slots=True)
class Form:
    """How one family of models marks a thought."""

    opening: str
    closing: str
    answers: tuple[tuple[str, str], ...] = ()
    """Marks that may be around the answer that follows; they are no part of it."""
    tight: bool = False
    """True: an empty thought has no lines between its tags."""
    prose: bool = False
    """True: the tags are words, and one of them alone says nothing."""

    @property
    def tags(self) -> tuple[str, str]:
        return self.opening, self.closing

    @property
    def empty(self) -> str:
        """A thought without words, as templates write one, and what is before the answer."""
        return self.opening + self.closing if self.tight else f"{self.opening}\n\n{self.closing}\n\n"


FORMS = (
    Form("<think>", "</think>"),  # DeepSeek, Qwen, GLM, MiniMax, Nemotron, SmolLM, OLMo, Hunyuan, Granite, Kimi K2 …
    Form("<thinking>", "</thinking>"),
    Form("<thought>", "</thought>"),  # EXAONE
    Form("<reasoning>", "</reasoning>"),
    Form("<reason>", "</reason>"),
    Form("<seed:think>", "</seed:think>"),
    Form("<mm:think>", "</mm:think>"),
    Form("[THINK]", "[/THINK]", tight=True),  # Mistral
    Form("◁think▷", "◁/think▷"),  # Kimi
    Form(  # Cohere
        "<|START_THINKING|>",
        "<|END_THINKING|>",
        (("<|START_RESPONSE|>", "<|END_RESPONSE|>"), ("<|START_TEXT|>", "<|END_TEXT|>")),
        tight=True,
    ),
    Form("<|begin_of_thought|>", "<|end_of_thought|>", (("<|begin_of_solution|>", "<|end_of_solution|>"),)),
    Form("<|plamo:begin_think:plamo|>", "<|plamo:end_think:plamo|>", tight=True),
    Form("<|inner_prefix|>", "<|inner_suffix|>", tight=True),  # Apertus
    Form("<|channel>thought\n", "<channel|>", tight=True),  # Gemma 4
    Form("<unused94>thought\n", "<unused95>", tight=True),  # MedGemma
    Form(  # Kimi K3
        "<|open|>think<|sep|>",
        "<|close|>think<|sep|>",
        (("<|open|>response<|sep|>", "<|close|>response<|sep|>"),),
        tight=True,
    ),
    Form("Here is my thought process:", "Here is my response:", prose=True),  # Granite 3.2
    Form("Here's my thought process:", "Here's my response:", prose=True),
    Form(
        "Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]", (("", "[END FINAL RESPONSE]"),), prose=True
    ),  # Apriel
)
CONTROL = tuple(dict.fromkeys(tag for form in FORMS if not form.prose for tag in form.tags))
HARMONY = ("<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>", "<|return|>", "<|call|>")
"""Control tokens of gpt-oss, which thinks in other channels than it answers in."""
FINAL = "<|channel|>final<|message|>"
WRAPPERS = ("answer", "response")
"""Tags that Hunyuan, Granite and ERNIE have around an answer behind a thought."""

_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>")
_CHANNEL_END = re.compile(r"\s*(?:<\|(?:end|return|call)\|>\s*)*(?:<\|start\|>\s*assistant(?:\s+to=[^<\s]+)?\s*)?\Z")
"""What is between two channels. Such marks elsewhere are words of a text that speaks of them."""
_STRIPPED = re.compile(r"\Aanalysis(.*?)assistant(?:commentary.*?assistant)?final(.*)\Z", re.DOTALL)
"""Harmony whose control tokens a server has taken out."""
_STRIPPED_BEGINNING = re.compile(r"\Aanalysis(?=[A-Z\"'])")
_BLANK_LINES = re.compile(r"\A(?:[ \t]*\r?\n)+")
_EMPHASIS = re.compile(r"(\*+|_+)\Z")
_SENTENCE_END, _SENTENCE_BEGIN = re.compile(r"[.!?…:)]\s*\Z"), re.compile(r"\s*[A-Z0-9*#|-]")
_IN_SENTENCE = re.compile(r"[`'\"’”]?(?:[:,;]|[.…]?\s+[a-z(/&+=→-])")
"""How a sentence continues behind a tag that it speaks of."""


@dataclass(frozen=True, slots=True)
class Thought:
    """An output in two."""

    text: str
    reasoning: str | None = None
    """Without its tags and the white space around it; None: there is none."""
    closed: bool = True
    """False: the output ended before the thought did, and there is no text."""
    end: int = 0
    """Where in the output the answer begins; 0: nothing was parted off."""


def split(text: str, opened: Form | None = None, cut: bool = False, sure: bool = False) -> Thought:
    """`text`, an output from its start, parted. `opened`: the chat template has opened a thought before it. `cut`: it
    was ended by max_tokens. `sure`: its tags are control tokens, and not words of a sentence that speaks of them.

    Without `opened` a closing tag alone ends a thought only as `_closed` says, and an opening tag alone begins one only
    where the output was cut or the rest of the tag's line is empty. Anything else is kept whole.
    """
    if opened is None and not _may(text):
        return Thought(text)
    if channels := _channels(text, cut):
        return channels
    for form in (opened,) if opened else FORMS:
        body = text.lstrip()
        begun = opened is not None
        while body.startswith(form.opening):
            body, begun = body[len(form.opening) :], True
            body = body if body[:1] == "\n" else body.lstrip(" ")
            if not body.lstrip().startswith(form.opening):
                break
            body = body.lstrip()
        if not begun:
            continue
        thought, closing, answer = body.partition(form.closing) if sure else _ended(body, form)
        if closing and not (opened or sure) and _sentence(text, form):
            return Thought(text)
        if closing:
            return Thought(_answer(answer, form), thought.strip() or None, end=len(text) - len(answer))
        if opened or (not form.prose and (cut or body[:1] in ("", "\n", "\r"))):
            return Thought("", body.strip() or None, closed=False, end=len(text))
    return Thought(text) if opened else _closed(text)


def _may(text: str) -> bool:
    """What every text has that can be parted; most have none of it. A pattern would take fifty times as long."""
    return "<" in text or "[" in text or "◁" in text or text.lstrip().startswith(("analysis", "Here"))


def begins(text: str) -> bool:
    """Whether an output begins with a tag or channel that opens a thought."""
    body = text.lstrip()
    openings = tuple(form.opening.rstrip() for form in FORMS if not form.prose)
    return body.startswith((*openings, "<|start|>assistant")) or _CHANNEL.match(body) is not None


def opened_by(prompt: str) -> Form | None:
    """The form of the thought that a rendered prompt ends with, if it ends with an opening tag."""
    end = prompt.rstrip()
    return next((form for form in FORMS if end.endswith(form.opening.rstrip())), None)


def closing(prompt: str) -> str:
    """What to write behind a rendered prompt so that the next word is of the answer: the rest of an empty thought, or
    harmony's channel of answers; empty where there is nothing to close."""
    form = opened_by(prompt)
    if form is None:
        return FINAL if prompt.rstrip().endswith("<|start|>assistant") else ""
    begun = prompt[prompt.rindex(form.opening.rstrip()) :]
    return form.empty.removeprefix(begun) if form.empty.startswith(begun) else form.empty[len(form.opening) :].lstrip()


def own_form(template: str, tokens: Iterable[str]) -> Form:
    """The form in which a model thinks: that of its chat template, else that of its tokenizer's control tokens, else
    the commonest."""
    there = set(tokens)
    tagged = [form for form in FORMS if not form.prose]
    in_template = [form for form in tagged if form.opening in template]
    in_tokens = [form for form in tagged if there & {form.opening, *re.findall(r"<[^<>\s]+>", form.opening)}]
    return next(iter((*in_template, *in_tokens)), FORMS[0])


def around(prompt: str, own: Form) -> tuple[str, str]:
    """What to write before and behind a thought that is given to the model after a rendered prompt, so that the next
    word is of the answer: in the form that the prompt opens, else in the model's own."""
    opened = opened_by(prompt)
    if opened is None and prompt.rstrip().endswith("<|start|>assistant"):
        return "<|channel|>analysis<|message|>", "<|end|><|start|>assistant" + FINAL
    form = opened or own
    lined = form.opening.endswith("\n")
    gap = "" if form.tight and not lined else "\n"
    begun = lined or (opened is not None and prompt.endswith("\n"))
    before = ("" if opened else form.opening) + ("" if begun else gap)
    return before, gap + form.closing + ("" if form.tight else "\n\n")


def switches(template: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The variables by which a template's reasoning is turned off, of those that it reads; `given` ones stay."""
    off: dict[str, Any] = {name: value for name, value in SWITCHES.items() if re.search(rf"\b{name}\b", template)}
    if re.search(r"\breasoning_effort\b", template) and re.search(r"['\"]none['\"]", template):
        off["reasoning_effort"] = "none"
    return {**off, **given}


def _channels(text: str, cut: bool) -> Thought | None:
    """By harmony's channels: `final` is the answer, all others are not; None: it does not begin with one."""
    body = re.sub(r"\A\s*(?:<\|start\|>\s*assistant\s*)?", "", text)
    if not _CHANNEL.match(body):
        if stripped := _STRIPPED.match(body):
            end = len(text) - len(stripped[2])
            return Thought(stripped[2].strip(), stripped[1].strip() or None, end=end)
        if cut and _STRIPPED_BEGINNING.match(body):
            return Thought("", body[len("analysis") :].strip(), closed=False, end=len(text))
        return None
    begins = list(_CHANNEL.finditer(body))
    answers: list[str] = []
    thoughts: list[str] = []
    for begun, following in zip(begins, [*begins[1:], None], strict=True):
        inner = body[begun.end() : following.start() if following else len(body)]
        (answers if begun[1] == "final" else thoughts).append(_CHANNEL_END.sub("", inner).strip())
    first = next((begun for begun in begins if begun[1] == "final"), None)
    end = len(text) - len(body) + first.end() if first else len(text)
    return Thought("\n\n".join(answers), "\n\n".join(filter(None, thoughts)) or None, closed=bool(answers), end=end)


def _closed(text: str) -> Thought:
    """`text` with a closing tag that no opening one precedes, parted where the tag is there once, outside of a block of
    code, and as no sentence has it: alone on its line, at the end of one, between two words without a blank, or between
    two sentences."""
    for form in FORMS:
        if form.prose or form.closing not in text or text.count(form.closing) != 1 or form.opening in text:
            continue
        thought, _, answer = text.partition(form.closing)
        if _ends(thought, answer):
            return Thought(_answer(answer, form), thought.strip() or None, end=len(text) - len(answer))
    return Thought(text)


def _sentence(text: str, form: Form) -> bool:
    """Whether the tags that an output begins with are words of its first line: "<think> opens a thought and </think>
    ends it"."""
    line = text.lstrip().partition("\n")[0]
    if form.prose or form.closing not in line:
        return False
    inner, _, after = line[len(form.opening) :].partition(form.closing)
    return bool(_IN_SENTENCE.match(inner) and _IN_SENTENCE.match(after)) and not _SENTENCE_END.search(inner)


def _ended(text: str, form: Form) -> tuple[str, str, str]:
    """`text` parted at the closing tag: the first that is placed as no sentence has it, since a thought may speak of
    tags; the first one, where all stand so."""
    end = text.find(form.closing)
    while end >= 0:
        thought, answer = text[:end], text[end + len(form.closing) :]
        if _ends(thought, answer):
            return thought, form.closing, answer
        end = text.find(form.closing, end + 1)
    return text.partition(form.closing)


def _ends(thought: str, answer: str) -> bool:
    """Whether the closing tag between the two is placed as no sentence has it, outside of a block of code."""
    before, after = thought.rpartition("\n")[2], answer.partition("\n")[0]
    alone = not before.strip() or (not after.strip() and before[-1:] not in " `")
    glued = before[-1:] not in " \t`'\"“‘(" and after[:1] not in " \t`'\"”’).,;:!?"
    between = _SENTENCE_END.search(before) and _SENTENCE_BEGIN.match(after)
    marks = _EMPHASIS.search(before)
    if marks and after.startswith(marks[0]) and before.count(marks[0]) % 2:
        return False  # **</think>**
    return thought.count("```") % 2 == 0 and bool(alone or glued or between)


def _answer(text: str, form: Form) -> str:
    """What follows a thought, without the blank lines between them and the marks around it."""
    text = _BLANK_LINES.sub("", text)
    for opening, closing in form.answers:
        if text.lstrip().startswith(opening):
            text = _without(text.lstrip()[len(opening) :] if opening else text, closing)
    return text


def _without(text: str, mark: str) -> str:
    """`text` without its first `mark`, and what follows that only where it is more than white space."""
    before, _, after = text.partition(mark)
    return before + after if after.strip() else before


def unwrapped(text: str, template: str) -> str:
    """The answer behind a thought without the tags around it, where the model's chat template writes such tags."""
    for name in WRAPPERS:
        inner = text.strip().removeprefix(f"<{name}>")
        if f"<{name}>" in template and inner != text.strip():
            return _without(inner, f"</{name}>").strip("\n")
    return text
