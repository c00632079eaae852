"""Thoughts by chance: whatever an output is made of, parting it loses nothing but tags and white space, and a text that
only mentions tags stays whole."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from itertools import count

from conftest import Torture

from constitution.engines.openai.reply import of_message
from constitution.engines.reasoning import CONTROL, FORMS, Form, opened_by, split

SPACE = ("", " ", "\n", "\n\n", "\r\n\r\n", "\n \t\n", "  ", "\t")
CHANNELS = ("analysis", "commentary", "final", "commentary to=functions.f ")
MARKS = ("<|end|>", "<|return|>", "<|call|>", "<|start|>")
QUOTES = ("`{}`", "'{}'", '"{}"', "“{}”", "({})", "‘{}’", "*{}* so", "``{}``")
_HEADER = r"(?:<\|start\|>\s*(?:assistant)?\s*)?<\|channel\|>\s*\w+[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>"
_TAGS = re.compile(
    "|".join(
        [
            _HEADER,
            r"<\|start\|>\s*assistant\s*\Z",
            *map(
                re.escape,
                sorted(
                    {tag.strip() for form in FORMS for pair in (form.tags, *form.answers) for tag in pair if tag}
                    | {*MARKS},
                    key=len,
                    reverse=True,
                ),
            ),
        ]
    )
)


def kept(text: str) -> str:
    """All that is not a tag and not white space."""
    return re.sub(r"\s+", "", _TAGS.sub(" ", text))


class Words:
    """Words that are each there once, so that one which is lost or moved is seen."""

    def __init__(self, draw: random.Random) -> None:
        self._draw, self._numbers = draw, count()

    def some(self, most: int = 4) -> str:
        draw = self._draw
        made = [f"{draw.choice(('word', 'Wort', 'слово', '字', '🙂', 'x =', '    def f', '- a', 'if a < b'))}{number}"
                for number, _ in zip(self._numbers, range(draw.randint(0, most)), strict=False)]  # fmt: skip
        return "".join(word + draw.choice((" ", "\n", ". ", ", ", "\n\n", "\r\n")) for word in made)


def output(draw: random.Random, words: Words) -> str:
    """Words and tags in any order, more often than not as a model would have them."""
    form = draw.choice(FORMS)
    opening, closing = draw.choice(form.answers or (("", ""),))

    def gap() -> str:
        return draw.choice(SPACE)

    if draw.random() < 0.5:
        begun = draw.choice((form.opening, "", form.opening + gap() + form.opening))
        pieces = [gap(), begun, gap(), words.some(), form.closing, gap(), opening, words.some(), closing]
    else:
        tags = [tag for each in (form, draw.choice(FORMS)) for tag in each.tags]
        pieces = [draw.choice((words.some(), draw.choice(tags), gap())) for _ in range(draw.randint(1, 9))]
    for _ in range(draw.choice((0, 0, 1, 2))):
        other = draw.choice((*CONTROL, "```\n", "`", opening, closing, *MARKS))
        pieces.insert(draw.randint(0, len(pieces)), other + draw.choice(("", words.some())))
    return "".join(pieces)


def harmony(draw: random.Random, words: Words) -> str:
    """Thoughts, then answers, each in a channel; the words of either may hold marks too."""
    thoughts = [draw.choice(CHANNELS[:2] + CHANNELS[3:]) for _ in range(draw.randint(0, 3))]
    made = []
    for name in (*thoughts, *["final"] * draw.randint(0 if thoughts else 1, 2)):
        begun = draw.choice(("", "<|start|>assistant")) + f"<|channel|>{name}" + draw.choice(("", "<|constrain|>json"))
        inner = words.some() + draw.choice(("", "", f"{draw.choice(MARKS[:3])} {words.some()}", "<|start|> of it. "))
        made.append(f"{begun}<|message|>{inner}{draw.choice(('<|end|>', '<|return|>', '<|call|>', ''))}")
    return "".join(made) + draw.choice(("", "", "<|start|>assistant"))


def test_nothing_but_tags_and_white_space_is_lost(torture: Torture) -> None:
    draw = random.Random(f"{torture.seed}/thoughts")
    for _ in range(40_000 if torture.full else 3_000):
        words = Words(draw)
        text = harmony(draw, words) if draw.random() < 0.25 else output(draw, words)
        opened: Form | None = draw.choice((None, None, None, *FORMS))
        found = split(text, opened, cut := draw.random() < 0.3)
        both = f"{found.reasoning or ''} {found.text}"
        assert kept(both) == kept(text), (text, opened, cut, found)
        assert found.reasoning is None or found.reasoning == found.reasoning.strip() != "", text
        assert found.closed or not found.text, text
        # What follows from `end` is the answer: of it nothing is a thought.
        assert 0 <= found.end <= len(text)
        assert kept(found.text) == kept(text[found.end :]), (text, opened, found)
        # An answer that was parted off is parted no further where it is read again.
        if found.reasoning is None and not found.end:
            assert found.text == text
        torture.count("outputs with tags by chance")


def mentions(draw: random.Random, words: Words) -> str:
    """Prose and code that speak of tags, as people write of them."""

    def sentence() -> str:
        # Of harmony's and other forms' own words: these are tags in any place.
        tags = draw.sample([tag.strip() for tag in CONTROL], draw.choice((1, 1, 2, 3)))
        said = " and ".join(draw.choice(QUOTES).format(tag) if draw.random() < 0.8 else tag for tag in tags)
        what = draw.choice(("one", "what models write", "(as here) a mark"))
        return f"The tag {said} is {what} of number {words.some(1)}"

    def code() -> str:
        tags = draw.choice(FORMS).tags
        return f"\n\n```{draw.choice(('', 'xml', 'text'))}\n" + "\n".join((*tags, words.some())) + "\n```\n\n"

    return "It is so: " + "".join(draw.choice((sentence, sentence, code))() for _ in range(draw.randint(1, 5)))


def test_a_text_that_mentions_tags_stays_whole(torture: Torture) -> None:
    draw = random.Random(f"{torture.seed}/mentions")
    for _ in range(40_000 if torture.full else 3_000):
        text = mentions(draw, Words(draw))
        for cut in (False, True):
            found = split(text, cut=cut)
            assert (found.text, found.reasoning, found.end) == (text, None, 0), text
        torture.count("texts that mention tags")


def parts(draw: random.Random, texts: Sequence[str]) -> list[dict[str, object]]:
    made: list[dict[str, object]] = []
    for text in texts:
        thought: object = draw.choice((text, [{"type": "text", "text": text}]))
        kinds: tuple[dict[str, object], ...] = (
                 {"type": "text", "text": text}, {"type": "thinking", "thinking": thought},
                 {"type": "reasoning", "text": text}, {"type": "output_text", "text": text})  # fmt: skip
        made.append(draw.choice(kinds))
    return made


def test_parts_of_servers_are_each_thought_or_text(torture: Torture) -> None:
    draw = random.Random(f"{torture.seed}/parts of messages")
    for number in range(4_000 if torture.full else 400):
        texts = [f"{number}-{part} a" for part in range(draw.randint(1, 5))]
        told, content = of_message({"content": (given := parts(draw, texts))})
        thought = [text for text, part in zip(texts, given, strict=True) if part["type"] in ("thinking", "reasoning")]
        assert (told or "").split("\n\n") == (thought or [""])
        assert content == "".join(text for text in texts if text not in thought)


def test_what_a_template_opens_is_found_by_chance(torture: Torture) -> None:
    draw = random.Random(f"{torture.seed}/opened")
    for _ in range(2_000 if torture.full else 200):
        form, words = draw.choice(FORMS), Words(draw)
        rendered = f"{words.some()}<|assistant|>{form.opening}{draw.choice(SPACE)}"
        opened = opened_by(rendered)
        assert opened is not None
        assert opened.opening.rstrip() in form.opening or form.opening.rstrip().endswith(opened.opening.rstrip())
        thought = words.some() or "w"
        found = split(f"{thought}{opened.closing}{draw.choice(SPACE)}Yes.", opened)
        assert kept(found.reasoning or "") == kept(thought)
        assert found.text.strip() == "Yes."
