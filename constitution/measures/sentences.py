"""Where the sentences of an answer end: the steps that a process reward model is taught by."""

from __future__ import annotations

import re

# Possessive, and from the first mark of a run alone: a time in proportion to the text, however hostile.
_END = re.compile(
    r"""
    (?<![.!?…]) [.!?…]++ ["'’”»)\]*_`]*+ (?=\s)   # marks and what closes behind them, before white space
    | [。！？]++ ["'’”»」』）\]]*+                  # those of scripts without spaces
    | (?<=\S) (?=[^\S\n]*\n)                      # a line
    """,
    re.VERBOSE,
)
_OPEN = re.compile(
    r"""
    (?: (?:^|[\s("“«]) (?: Mrs? | Ms | Dr | Prof | St | Fig | vs | cf | e\.g | i\.e | \w ) \.   # a short form
    | ^\W* (?: \d+ | \w ) [.] )                                                               # an item's number
    $""",
    re.VERBOSE | re.MULTILINE,
)
_LONGEST = 12
"""Characters before a full stop that say whether it ends a sentence."""
_SMALL = re.compile(r"[^\S\n]+[a-z\u00df-\u00f6\u00f8-\u00ff\u03b1-\u03c9\u0430-\u044f]")
_SAID = re.compile(r"\w")


def sentence_ends(text: str) -> tuple[int, ...]:
    """Places in the text, in characters, behind the last one of each sentence; white space between sentences is of
    none. A line ends a sentence too. Not an end: a mark before a small letter, a full stop behind a short form, an
    initial or an item's number, and what has no letter or digit since the last end. Of a text that is not empty there
    is at least one."""
    ends: list[int] = []
    begun = 0
    for match in _END.finditer(text):
        start, end = match.span()
        if match[0] and match[0][0] in ".!?…":
            after = start + 1
            short = match[0] == "." and _OPEN.search(text, max(0, after - _LONGEST), after)
            if short or _SMALL.match(text, end):
                continue
        if _SAID.search(text, begun, end):
            ends.append(end)
        begun = end
    last = len(text.rstrip()) or len(text)
    if ends and not _SAID.search(text, ends[-1]):
        ends[-1] = last
    elif text:
        ends.append(last)
    return tuple(ends)
