"""Plain text: paragraphs between empty lines, headings by how they are set, items by what they begin with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from constitution.documents.lines import BULLET, join, normal, runs
from constitution.documents.numbers import Number, leading
from constitution.documents.records import CONTINUES, Block, Dropped

LONG_LINE = 160
"""Characters of a line from which on each line is taken for a paragraph, and not for a part of a wrapped one."""
HEADING = 100
"""Characters of a heading at most; without a number, SHORT."""
SHORT = 60

_RULE = re.compile(r"\s*([=\-~*#^_+.])\1{2,}\s*")
_TITLES = {
    "part": 2,
    "book": 2,
    "annex": 2,
    "编": 2,
    "編": 2,
    "title": 3,
    "chapter": 4,
    "章": 4,
    "division": 5,
    "节": 5,
    "I.": 5,
    "A.": 6,
    "節": 5,
}
_ARTICLE = 7
_ENDS = re.compile(r"[.,;:!?。，；：！？]$")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Lines without an empty one between them."""

    line: int
    lines: list[str]

    @property
    def text(self) -> str:
        return join(self.lines)

    @property
    def indent(self) -> int:
        return min(len(line) - len(line.lstrip()) for line in self.lines)


def read(text: str) -> tuple[list[Block], list[Dropped]]:
    """The blocks of a plain text, and its rules (lines of one sign)."""
    chunks = list(_chunks(text))
    reader = _Reader(width=_width(chunks))
    for at, chunk in enumerate(chunks):
        reader.add(chunk, chunks[at + 1] if at + 1 < len(chunks) else None)
    return reader.blocks, reader.dropped


def _chunks(text: str) -> Iterator[Chunk]:
    kept: list[str] = []
    start = 0
    for at, written in enumerate(re.split(r"\r\n|[\n\r\f\x0b\x85\u2028\u2029]", text), 1):
        line = written.expandtabs(8).rstrip()
        if line.strip():
            start = start if kept else at
            kept.append(line)
            if len(line) < LONG_LINE:
                continue
        if kept:
            yield from _by_line(Chunk(start, kept))
            kept = []
    if kept:
        yield from _by_line(Chunk(start, kept))


def _by_line(chunk: Chunk) -> Iterator[Chunk]:
    """A chunk that ends with a long line: each of its lines is a paragraph."""
    if len(chunk.lines[-1]) < LONG_LINE:
        yield chunk
        return
    yield from (Chunk(chunk.line + at, [line]) for at, line in enumerate(chunk.lines))


def _width(chunks: Sequence[Chunk]) -> int:
    widths = sorted(len(line) for chunk in chunks for line in chunk.lines)
    return widths[len(widths) * 9 // 10] if widths else 0


@dataclass
class _Reader:
    width: int

    def __post_init__(self) -> None:
        self.blocks: list[Block] = []
        self.dropped: list[Dropped] = []
        self.underlines: list[str] = []
        self.marker_indent = -1

    def add(self, chunk: Chunk, following: Chunk | None) -> None:
        lines = chunk.lines
        if len(lines) > 1 and _RULE.fullmatch(lines[0]) and not _RULE.fullmatch(lines[1]):
            self._rule(chunk.line, lines[0])
            return self.add(Chunk(chunk.line + 1, lines[1:]), following)
        if _RULE.fullmatch(lines[0]):
            self._rule(chunk.line, lines[0])
            return self.add(Chunk(chunk.line + 1, lines[1:]), following) if len(lines) > 1 else None
        if len(lines) > 1 and (rule := _RULE.fullmatch(lines[1])) and len(lines[0]) <= HEADING:
            self._rule(chunk.line + 1, lines[1])
            self._underlined(chunk, rule[1])
            return self.add(Chunk(chunk.line + 2, lines[2:]), following) if len(lines) > 2 else None
        if level := self._heading_level(chunk, following):
            self.blocks.append(Block("heading", chunk.text, chunk.line, level=level))
            self.marker_indent = -1
            return None
        self._paragraphs(chunk)
        return None

    def _rule(self, line: int, text: str) -> None:
        self.dropped.append(Dropped("rule", text.strip(), line=line))

    def _underlined(self, chunk: Chunk, sign: str) -> None:
        if sign not in self.underlines:
            self.underlines.append(sign)
        level = min(1 + self.underlines.index(sign), _ARTICLE - 1)
        self.blocks.append(Block("heading", normal(chunk.lines[0]), chunk.line, level=level))
        self.marker_indent = -1

    def _heading_level(self, chunk: Chunk, following: Chunk | None) -> int:
        """The level of a heading; 0: it is none."""
        text = chunk.text
        if len(chunk.lines) > 3 or len(text) > HEADING or BULLET.match(text):
            return 0
        number = leading(text, heading=True)
        if all(self._centred(line) for line in chunk.lines) and not text.endswith((",", ";", ":")):
            return _level(number) if number else 2 if self.blocks else 1
        if text.isupper() and sum(char.isalpha() for char in text) > 2 and not number and not _ENDS.search(text):
            return 2 if self.blocks else 1
        if len(chunk.lines) > 1:
            return 0
        if number and (not number.weak or number.style in ("1 ", "I.", "A.")):
            return self._numbered_level(number, following)
        short = len(text) <= SHORT and not _ENDS.search(text) and not text[0].islower() and text[0].isalpha()
        if short and following and (len(following.text) > len(text) or not self.blocks):
            return 6 if self.blocks else 1
        return 0

    def _numbered_level(self, number: Number, following: Chunk | None) -> int:
        after = leading(following.text) if following else None
        if (
            number.style in ("(a)", "(i)", "(1)", "a)", "i)", "1)", "aa)", "(A)", "(I)", "(aa)")
            or number.rest[:1].islower()
        ):
            return 0
        if not number.rest:
            return _level(number) if number.absolute else 0
        if number.rest.endswith((",", ";", ":", "；", "，", "：", "。")) or len(number.rest) > SHORT + 20:
            return 0
        words = number.rest.split()
        if len(words) > 12 or (number.rest.endswith(".") and len(words) > 5 and not _title_case(words)):
            return 0
        if following is None or (after and after.style == number.style and after.place == number.place + 1):
            return 0  # an item of a list of short ones
        return _level(number)

    def _centred(self, line: str) -> bool:
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        return indent >= 8 and abs(indent - (self.width - len(text)) / 2) <= max(6, self.width * 0.12)

    def _paragraphs(self, chunk: Chunk) -> None:
        for at, lines in runs(chunk.lines):
            text = join(lines)
            indent = len(lines[0]) - len(lines[0].lstrip())
            mark = BULLET.match(text)
            if mark:
                self.blocks.append(
                    Block("item", text[mark.end() :], chunk.line + at, marker=mark["marker"], indent=indent)
                )
                self.marker_indent = indent
            elif leading(text):
                self.blocks.append(Block("paragraph", text, chunk.line + at, indent=indent))
                self.marker_indent = indent if not text.isupper() else -1
            else:
                self.blocks.append(Block("paragraph", text, chunk.line + at))
                if 0 <= self.marker_indent < indent and at == 0:
                    self.blocks[-1] = replace(self.blocks[-1], level=CONTINUES)
                elif indent <= self.marker_indent:
                    self.marker_indent = -1


def _title_case(words: Sequence[str]) -> bool:
    long = [word for word in words if len(word) > 3]
    return sum(word[0].isupper() for word in long) >= 0.8 * len(long)


def _level(number: Number) -> int:
    if title := _TITLES.get(number.style):
        return title
    return _ARTICLE + (number.label.count(".") if number.absolute else 0)
