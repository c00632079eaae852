"""A model's quote held against the text that it is to be of, sign by sign."""

from __future__ import annotations

from typing import NamedTuple

_ALIKE = {ord(sign): "'" for sign in "‘’‚‛′`´"} | {ord(sign): '"' for sign in "“”„‟″«»"}
_ALIKE |= {ord(sign): "-" for sign in "‐‑‒–—―−"} | {ord(sign): "" for sign in "\u00ad\u200b\u200c\u200d\u2060\ufeff"}


class Quote(NamedTuple):
    words: str
    """The document's own; empty: the quote is not there."""
    note: str
    """Where the model's differ by white space or by the form of a sign."""


def quoted(text: str, quote: str) -> Quote:
    """The words of `text` that `quote` repeats. White space, dashes and quotation marks may be of another form."""
    quote = quote.strip()
    if not any(map(str.isalnum, quote)):
        return Quote("", "")
    if quote in text:
        return Quote(quote, "")
    plain, places = _plain(text)
    wanted = _plain(quote)[0].strip()
    at = plain.find(wanted)
    if at < 0 or not wanted:
        return Quote("", "")
    words = text[places[at] : places[at + len(wanted) - 1] + 1]
    return Quote(words, "the model's quote had other white space or signs; these are the document's own words")


def _plain(text: str) -> tuple[str, list[int]]:
    """The text with one form of each sign and single blanks, and where in the text each of its characters is."""
    signs: list[str] = []
    places: list[int] = []
    for place, sign in enumerate(text):
        each = _ALIKE.get(ord(sign), " " if sign.isspace() else sign)
        if each == " " and signs and signs[-1] == " ":
            continue
        if each:
            signs.append(each)
            places.append(place)
    return "".join(signs), places
