"""Texts that repeat what a model was shown instead of answering.

    shown = Shown({"exemplar": ["…", "…"], "template": ["…"]})
    shown.copied(text)                        # "exemplar", or None

A text is a copy of a source when more than half of its words lie in runs of at least eight words that the source has,
one of them of eleven: the measure by which Tülu 3 finds evaluation prompts in training data (arXiv 2411.15124, section
3.2: 8-grams, half of the tokens). Words are between blanks, as they are written; of scripts without blanks each
character is one.

Of a text that is to stay hidden, such as a system prompt, six words in a row are enough (`recites`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Generic, TypeVar

RUN = 8
"""Words in a row; fewer are shared by any two texts on one matter."""
SHARE = 0.5
"""Above this share of its words in such runs a text is a copy."""
LEAST = 12
"""Words of a text that can be told to be a copy: a short reply may be right in many places."""
_BLOCK = RUN // 2
"""Words. A run of eleven holds a block that begins at a multiple of RUN, wherever the run begins."""

_SYLLABLES, _IDEOGRAPHS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff", "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_ALONE = re.compile(f"[{_SYLLABLES}{_IDEOGRAPHS}]")
"""Characters of scripts that put no blanks between words: Thai, Lao, Burmese, Khmer; Japanese, Chinese."""

RECITED = 6.0
"""Words in a row that give away a text that is to stay hidden."""
_LIGHT = (re.compile(f"[{_IDEOGRAPHS}]"), 0.5), (re.compile(f"[{_SYLLABLES}]"), 0.25)
"""What a character alone counts of a word."""
_SAID = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
"""A word without its punctuation and the marks of markdown."""

S = TypeVar("S", bound=str)


class Shown(Generic[S]):
    """The texts that a model was shown, by source, taken apart once."""

    def __init__(self, texts: Mapping[S, Iterable[str]]) -> None:
        words = {source: [_words(text) for text in given] for source, given in texts.items()}
        self._runs = {source: frozenset(_grams(split, RUN)) for source, split in words.items()}
        self._blocks = frozenset(_grams(chain.from_iterable(words.values()), _BLOCK))

    def copied(self, text: str) -> S | None:
        """The source that `text` repeats most of, the first of equals; None: it is no copy, or too short to tell."""
        words = _words(text)
        blocks = zip(*(words[place::RUN] for place in range(_BLOCK)), strict=False)  # most texts have none of them
        if len(words) < LEAST or self._blocks.isdisjoint(blocks):
            return None
        shares = {source: _share(words, runs) for source, runs in self._runs.items()}
        most = max(shares, key=lambda source: shares[source])
        return most if shares[most] > SHARE else None


def repeats(text: str, turns: Iterable[str]) -> bool:
    """Whether `text` is one of `turns` word for word. Nothing less is held against it: to correct or to translate a
    turn is to repeat much of it."""
    like = [turn for turn in turns if 0.9 * len(text) < len(turn) < 1.1 * len(text)]
    words = _words(text) if like else []
    return len(words) >= LEAST and any(_words(turn) == words for turn in like)


def holds(text: str, other: str) -> bool:
    """Whether all of `other`, which is no mere phrase, is in `text` word for word."""
    return other in text and len(_words(other)) >= RUN


def recites(text: str, hidden: Sequence[str], known: Sequence[str] = ()) -> bool:
    """Whether six words in a row of a text of `hidden` are in `text`, or all of one that is shorter are all of it, in
    whatever case, spacing, punctuation or markdown. What `known` has too gives nothing away."""
    said = _said(text)
    if said in filter(None, map(_said, hidden)):
        return True
    secret = frozenset[tuple[str, ...]]().union(*map(_recitable, hidden))
    if not secret or (found := secret.intersection(_runs(said))) == set():
        return False
    return not found <= frozenset[tuple[str, ...]]().union(*map(_recitable, known))


@lru_cache(maxsize=256)
def _recitable(text: str) -> frozenset[tuple[str, ...]]:
    return frozenset(_runs(_said(text)))


def _said(text: str) -> list[str]:
    return [word for part in _words(text.casefold()) for word in _SAID.findall(part)]


def _runs(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """From each word on, as many as make RECITED."""
    weights = [next((weight for script, weight in _LIGHT if script.match(word)), 1.0) for word in words]
    end, held = 0, 0.0
    for start, weight in enumerate(weights):
        while held < RECITED and end < len(words):
            held, end = held + weights[end], end + 1
        if held < RECITED:
            return
        yield tuple(words[start:end])
        held -= weight


def _words(text: str) -> list[str]:
    return (text if text.isascii() else _ALONE.sub(r" \g<0> ", text)).split()


def _grams(texts: Iterable[list[str]], size: int) -> Iterable[tuple[str, ...]]:
    return chain.from_iterable(zip(*(words[place:] for place in range(size)), strict=False) for words in texts)


def _share(words: list[str], runs: frozenset[tuple[str, ...]]) -> float:
    """Share of `words` in runs of RUN words or more that are among `runs`."""
    covered, end = 0, 0
    for start, run in enumerate(_grams([words], RUN)):
        if run in runs:
            covered += start + RUN - max(start, end)
            end = start + RUN
    return covered / len(words)
