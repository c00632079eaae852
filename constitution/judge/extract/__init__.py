"""What an answer comes to in the end, read off its text by code, and whether that is the same as what it is to be.

    extract = Extract("number")
    found = extract.of("so it is 1,234.50.")                # 1234.5
    found is not None and extract.truth("1234.5").same(found)

Nothing here guesses: what cannot be read is None, which is neither right nor wrong.
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from typing import NamedTuple

from constitution.judge.extract.boxed import last_boxed, notation
from constitution.judge.extract.choice import choice
from constitution.judge.extract.fields import Missing, field
from constitution.judge.extract.numbers import Number, last_number, number
from constitution.recipe import MatchSection
from constitution.records import Extraction

_HALF = re.compile("[\ud800-\udfff]")


class Value(NamedTuple):
    text: str
    """What is compared where it is no number, and what a reader is shown."""
    number: Number | None = None

    def same(self, other: Value) -> bool:
        if self.number is not None and other.number is not None:
            return self.number.same(other.number)
        return self.text == other.text


@dataclass(frozen=True, slots=True)
class Extract:
    """How a text is read."""

    how: Extraction
    """number: the last number of the text, or what `####` names. boxed: what the last box of LaTeX holds. choice: the
    letter of a choice. exact: the text, with Unicode's composed characters (NFC) and one space for each run of white
    space, none at its ends. json: a field of an object."""
    letters: str = "ABCD"
    """Those that a choice is one of."""
    key: str = "answer"
    """The name of json's field."""

    def of(self, text: str) -> Value | None:
        """None: it cannot be read off the text."""
        match self.how:
            case "number":
                return _number(last_number(text))
            case "boxed":
                return _marked(last_boxed(text))
            case "choice":
                letter = choice(text, self.letters, last_boxed(text))
                return Value(letter) if letter else None
            case "json":
                return _json(field(text, self.key))
            case "exact":
                return _exact(text)

    def truth(self, reference: str) -> Value | None:
        """What a text says that people give with a prompt, which may be the answer alone: `1/2`, `B`, `42`."""
        found = self.of(reference)
        if found is not None or not reference.strip():
            return found
        match self.how:
            case "boxed":
                return _marked(reference.strip().strip("$"))
            case "choice":
                letter = reference.strip().upper()
                return Value(letter) if len(letter) == 1 and letter in self.letters.upper() else None
            case "json":
                return _text(reference)
            case _:
                return None


def extract_of(section: MatchSection) -> Extract:
    return Extract(section.how, section.letters, section.key)


def _number(found: Number | None) -> Value | None:
    return None if found is None else Value(str(found), found)


def _exact(text: str) -> Value | None:
    plain = " ".join(unicodedata.normalize("NFC", text).split())
    return Value(plain) if plain else None


def _text(text: str) -> Value | None:
    """A text that may be a number."""
    plain = _exact(text)
    return plain and plain._replace(number=number(text))


def _marked(latex: str | None) -> Value | None:
    shown = notation(latex) if latex else ""
    return Value(shown, number(latex)) if latex and shown else None


def _json(value: object) -> Value | None:
    if value is Missing or value is None:
        return None
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    if _HALF.search(shown):  # JSON can spell what UTF-8 cannot hold
        return None
    if isinstance(value, str):
        return _text(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return Value(shown, number(shown) if is_number else None)
