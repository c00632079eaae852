"""What of people's and models' texts a judge is shown: all of it, but nothing that passes for the template's own frame.

Taken out: marks of the template, also in look-alike characters, and invisible characters. Quoted: lines of a
turn that begin as the transcript's turns do. All of it is a matter of what is shown; what is stored stays as it was.

Invisible characters go since a judge is to stand for a reader: a text hidden in tag characters speaks to the model
alone. Those that change how a word or a sign looks (joiners within a script or an emoji, one variation selector,
marks of direction) stay.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from itertools import chain, repeat

ROUNDS = 8
"""Nested marks that are taken out without a trace; a text of nothing but halves would take time by their square."""

REPLACED = 32
"""Up to this many different characters are replaced one by one; with more, the whole text is gone through once."""

_INVISIBLE = re.compile(
    "[\u00ad\u034f\u180e\u200b\u202a-\u202e\u2060-\u206f\ufeff\ufff0-\ufffb\U000e0000-\U000e0fff]+"
    # Joiners join nothing beside a character of ASCII; one variation selector is meant for the character before it.
    "|(?<![\x80-\U0010ffff])[\u200c\u200d]+|[\u200c\u200d]+(?![\x80-\U0010ffff])"
    "|(?<=[\ufe00-\ufe0f\u200c\u200d])[\ufe00-\ufe0f\u200c]+"
)
_UNSEEN = re.compile(
    "[\u00ad\u034f\u180e\u200b-\u200d\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff0-\ufffb\U000e0000-\U000e0fff]"
)
"""Quickly told; where there is none of these, there is nothing to take out."""
_BRACKETS = {"[": "［【〔〖〘〚⟦⟬⁅❲⦋⦍⦏⸢⎡⎣｢「『︹︻﹇﹝", "]": "］】〕〗〙〛⟧⟭⁆❳⦌⦎⦐⸣⎤⎦｣」』︺︼﹈﹞"}
_LETTERS = (
    ("abcdehimnorstuvwy", "аαɑᴀ ьʙв сϲᴄ ԁɗᴅ еєεᴇ һнʜ іιıɪ мᴍ пոηɴ оοօσᴏ гʀ ѕꜱ тτᴛ սυᴜ νѵᴠ ԝѡᴡ уγʏ"),
    ("ABCEHMNOST", "АΑᎪ ВΒᏴ СϹ ЕΕ НΗ МΜ Ν ОΟ Ѕ ТΤ"),
)
"""Letters, and for each the characters that look like it."""
_BREAKS = "\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"


class _Fold(dict[int, int]):
    """Character by character, so that places stay: what it looks like, in ASCII where there is such a character.

    Unicode's compatibility decomposition without accents, and look-alikes of the letters and brackets of the frame.
    """

    def __missing__(self, code: int) -> int:
        base = "".join(c for c in unicodedata.normalize("NFKD", chr(code)) if not unicodedata.combining(c))
        self[code] = found = self.get(ord(base), ord(base)) if len(base) == 1 else code
        return found


_FOLD = _Fold({ord(like): ord(bracket) for bracket, each in _BRACKETS.items() for like in each})
for _letters, _likes in _LETTERS:
    _FOLD |= {ord(like): ord(letter) for letter, each in zip(_letters, _likes.split(), strict=True) for like in each}
_FOLD |= dict.fromkeys(map(ord, _BREAKS), ord("\n"))
_OPENING = re.compile("[" + re.escape("[" + _BRACKETS["["]) + "]")

_BETWEEN = "[\u0300-\u036f\u200c-\u200f\ufe00-\ufe0f]*"
"""May stand after a letter and leave it what it looks like."""


def _spread(word: str) -> str:
    return _BETWEEN.join(map(re.escape, word)) + _BETWEEN


@lru_cache(maxsize=64)
def _mark(marks: tuple[str, ...]) -> re.Pattern[str]:
    """What looks like one of these marks, without regard to case; the words as they look themselves (`_folded`)."""
    # No two repeats that could share what they match, and the last ones bounded: a bracket before many blanks would
    # take time by the square of their number.
    words = "|".join(rf"\s+{_BETWEEN}".join(map(_spread, _folded(mark).split())) for mark in marks)
    return re.compile(
        rf"\[[\s/]*(?:{words})\b(?:[^\]\n]{{0,200}}|\s{{1,40}}[^\]\s]{{0,40}}\s{{0,40}})\]", re.IGNORECASE
    )


@lru_cache(maxsize=64)
def _turn(speakers: tuple[str, ...]) -> re.Pattern[str]:
    """The beginning of a line that begins as a turn of one of these does."""
    words = "|".join(_spread(_folded(name)) for name in speakers)
    return re.compile(rf"\n[^\S\n]*(?=(?:{words})\s*:)", re.IGNORECASE)


def disarm(text: str, nonce: str, marks: tuple[str, ...]) -> str:
    """`text` without invisible characters, the nonce and all that looks like one of the marks. Repeated, since taking
    one out can put another together; where that does not end, dots take their place, which end it."""
    mark = _mark(marks)
    for instead in chain([""] * ROUNDS, repeat("...")):
        stripped = _without(_visible(text).replace(nonce, instead), mark, instead)
        if stripped == text:
            break
        text = stripped
    return text


def quote_turns(content: str, speakers: tuple[str, ...]) -> str:
    """A turn's text with `> ` before each later line that begins as the transcript's own turns do ("Human:")."""
    content = _visible(content)
    return _edit(content, _turn(speakers), lambda found: content[found.start() : found.end()] + "> ")


def looks(text: str) -> str:
    """`text` as a reader sees it: without what is invisible, each character as what it looks like."""
    return _folded(_visible(text))


def _visible(text: str) -> str:
    return _INVISIBLE.sub("", text) if not text.isascii() and _UNSEEN.search(text) else text


def _without(text: str, mark: re.Pattern[str], instead: str) -> str:
    return _edit(text, mark, lambda found: instead) if _OPENING.search(text) else text


def _ascii(text: str) -> bool:
    """Whether it looks like what it is."""
    return text.isascii() and not any(each in text for each in _BREAKS)


def _folded(text: str) -> str:
    """`text` as it looks (`_Fold`), each character in its place."""
    # Most texts beyond ASCII have dashes, quotes or another script, which look like nothing else: then this is
    # `text` itself, found out character by different character and not one by one.
    likes = {char: like for char in set(text) if (like := chr(_FOLD[ord(char)])) != char}
    if len(likes) > REPLACED:
        return text.translate(_FOLD)
    for char, like in likes.items():  # in any order: what something looks like looks like itself
        text = text.replace(char, like)
    return text


def _edit(text: str, pattern: re.Pattern[str], instead: Callable[[re.Match[str]], str]) -> str:
    """`text` with something instead of what `pattern` finds in what it looks like."""
    pieces, end = [], 0
    for found in pattern.finditer(text if _ascii(text) else _folded(text)):
        pieces += [text[end : found.start()], instead(found)]
        end = found.end()
    return "".join([*pieces, text[end:]]) if end else text
