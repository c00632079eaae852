"""Lines into paragraphs: what is wrapped is joined, and what is numbered or has a bullet begins a new one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from constitution.documents.numbers import Number, leading

BULLET = re.compile(r"(?P<marker>[-*+•‣▪●○◦∙·–—■□➢➤✓])\s+(?=\S)")

Columns = tuple[tuple[str, int], tuple[str, int]]
_WIDE = r"\u3000-\u303f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef"
_WIDE_END, _WIDE_START = re.compile(rf"[{_WIDE}]$"), re.compile(rf"[{_WIDE}]")
_BETWEEN_WIDE = re.compile(rf"(?<=[{_WIDE}])\s*\n\s*(?=[{_WIDE}])")
_SPACE = re.compile(r"[^\S\u3000]+|\u3000+")
_INVISIBLE = re.compile(r"[\u00ad\u200b\u200c\u2060\ufeff]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
_ENDS = re.compile(r"[:;.,。；：，)\]]$|\b(?:and|or|und|oder|et|ou)$")


def normal(text: str) -> str:
    """White space as one space, none between Chinese or Japanese lines; NFC; without soft hyphens, zero-width spaces
    and control characters."""
    text = _INVISIBLE.sub("", _CONTROL.sub("", text))
    text = _SPACE.sub(" ", _BETWEEN_WIDE.sub("", text)).strip()
    return unicodedata.normalize("NFC", text)


def join(lines: Sequence[str]) -> str:
    """One paragraph of its lines. A word that a hyphen breaks at a line's end keeps the hyphen."""
    text = "\n".join(line.strip() for line in lines)
    return normal(re.sub(r"(?<=[^\W\d_]-)\n(?=[a-zà-öø-ÿ])", "", text))


def runs(lines: Sequence[str]) -> list[tuple[int, list[str]]]:
    """The lines of one paragraph, divided where a line begins an item: the place of each run's first line, and its
    lines. A line that only happens to begin with a number does not: it has to start a series or follow in one."""
    found: list[tuple[int, list[str]]] = []
    numbers = [leading(line.strip()) for line in lines]
    last = {number.style: number.place for number in numbers if number}
    seen: dict[tuple[str, str, int], int] = {}
    bullets: set[str] = set()
    for at, line in enumerate(lines):
        number, mark = numbers[at], BULLET.match(line.strip())
        sign = mark["marker"] if mark else ""
        ended = at == 0 or bool(_ENDS.search(lines[at - 1].rstrip())) or _indent(line) > _indent(lines[at - 1])
        columns = (("begins", _indent(line)), ("words", len(line.rstrip()) - len(number.rest) if number else 0))
        begins = _follows(number, columns, seen, ended) if number else bool(sign) and (sign in bullets or ended)
        if number and not begins:
            begins = ended and not number.weak and number.place <= 1 < last[number.style]
        if at == 0 or begins:
            found.append((at, []))
            bullets.add(sign)
            if number:
                seen |= {(number.style, *column): number.place for column in columns}
        found[-1][1].append(line)
    return found


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _follows(number: Number, columns: Columns, seen: dict[tuple[str, str, int], int], ended: bool) -> bool:
    """Whether it is the next one of a series in the same column, where it begins or where its words do."""
    if any(seen.get((number.style, *column)) == number.place - 1 for column in columns):
        return ended or not number.weak
    if number.also and any(seen.get((number.also[0], *column)) == number.also[1] - 1 for column in columns):
        seen |= {(number.also[0], *column): number.also[1] for column in columns}
        return True
    return False
