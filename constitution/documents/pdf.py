"""PDF into blocks: paragraphs by the gaps between lines, headings by size and weight, without what repeats on pages."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

from constitution.documents import pdfium
from constitution.documents.lines import BULLET, join, runs
from constitution.documents.numbers import leading
from constitution.documents.records import Block, Dropped
from constitution.errors import DocumentError

EDGE = 2
"""Lines at the top and at the bottom of a page that may be its header or footer."""
HEADING = 160
"""Characters of a heading at most."""

_NUMBER = re.compile(
    r"[-–— ]*(?:page|seite|p\.)?\s*(?:\d{1,4}|[ivxlc]{1,7})(?:\s*(?:/|of|von|sur)\s*\d{1,4})?[-–— ]*", re.IGNORECASE
)
_LEADERS = re.compile(r"(?:\.\s?){4,}\s*(?:\d{1,4}|[ivxlc]{1,7})?\s*$")
_ENDS = re.compile(r"[.!?:;。！？：；…][\"”’»)\]]*$")
_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "ft", "ﬆ": "st"})


class Line(NamedTuple):
    """Lengths in points."""

    text: str
    left: float
    right: float
    bottom: float
    size: float
    bold: bool
    hyphen: bool
    page: int


def read(data: bytes, label: str) -> tuple[list[Block], list[Dropped]]:
    """The blocks of a PDF, and its page headers and footers, page numbers, tables of contents, hyphens at line ends.

    Raises DocumentError for a PDF that is encrypted, damaged or without text, that would take more memory or time than
    `pdfium` gives it, and where pypdfium2 is not installed.
    """
    if importlib.util.find_spec("pypdfium2") is None:
        raise DocumentError(
            f"{label}: PDF is read by pypdfium2, which is not installed", hint='pip install "constitution[documents]"'
        )
    pages = _pages(data, label)
    if not any(pages):
        raise DocumentError(
            f"{label}: has no text on its {len(pages)} pages, only pictures",
            hint="have its text recognised (OCR) first",
        )
    reader = _Reader(pages)
    return reader.blocks(), reader.dropped


def _pages(data: bytes, label: str) -> list[list[Line]]:
    done = subprocess.run(
        [sys.executable, "-P", str(Path(pdfium.__file__))], input=data, capture_output=True, check=False
    )
    if done.returncode in pdfium.REASONS:
        told, hint = pdfium.REASONS[done.returncode]
        raise DocumentError(f"{label}: {told}", hint=hint)
    if done.returncode:
        raise DocumentError(
            f"{label}: cannot be read: it is damaged, or takes more than {pdfium.MOST_MEMORY // 2**30} GiB of memory or"
            f" {pdfium.MOST_SECONDS} s", hint="save it again, or as plain text")  # fmt: skip
    return [
        [Line._make([text.translate(_LIGATURES), *rest, page]) for text, *rest in json.loads(line)]
        for page, line in enumerate(done.stdout.decode("utf-8").splitlines(), 1)
    ]


@dataclass
class _Reader:
    pages: list[list[Line]]
    dropped: list[Dropped] = field(default_factory=list)

    def blocks(self) -> list[Block]:
        for number, page in enumerate(self.pages, 1):
            if not page:
                self.dropped.append(Dropped("page without text", "", page=number))
        lines = list(self._body())
        if not lines:
            return []
        sizes: Counter[float] = Counter()
        for line in lines:
            sizes[line.size] += len(line.text)
        self.size = sizes.most_common(1)[0][0]
        gaps = [
            one.bottom - other.bottom
            for one, other in pairwise(lines)
            if one.page == other.page
            and one.size == other.size == self.size
            and 0 < one.bottom - other.bottom < 3 * self.size
        ]
        self.gap = median(gaps) if gaps else 1.2 * self.size
        body = [line for line in lines if line.size == self.size]
        self.left, self.right = _usual([line.left for line in body], 0.05), _usual([line.right for line in body], 0.95)
        self.words = Counter(re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)*", " ".join(line.text for line in lines).lower()))
        chunks = list(self._chunks(lines))
        styles = sorted({style for chunk in chunks if (style := self._style(chunk))}, reverse=True)
        return [block for chunk in chunks for block in self._blocks(chunk, styles)]

    # --- what repeats

    def _body(self) -> Iterator[Line]:
        seen: Counter[str] = Counter()
        edges = [_edges(page) for page in self.pages]
        for found in edges:
            seen.update({_key(line) for line in found})
        least = max(3, len(self.pages) // 10)
        counted = _counted(edges)
        for page, found in zip(self.pages, edges, strict=True):
            contents = sum(bool(_LEADERS.search(line.text)) for line in page) >= 4
            for line in page:
                text = line.text.strip()
                if line in found and (seen[_key(line)] >= least or line in counted):
                    where = "header" if line.bottom > (found[0].bottom + found[-1].bottom) / 2 else "footer"
                    reason = "page number" if _NUMBER.fullmatch(text) else f"page {where}"
                    self.dropped.append(Dropped(reason, text, page=line.page))
                elif _LEADERS.search(text) or (contents and re.search(r"\s\d{1,4}$", text)):
                    self.dropped.append(Dropped("table of contents", text, page=line.page))
                else:
                    yield line

    # --- paragraphs

    def _chunks(self, lines: Sequence[Line]) -> Iterator[list[Line]]:
        chunk: list[Line] = []
        for line in lines:
            if chunk and not self._continues(chunk, line):
                yield chunk
                chunk = []
            chunk.append(line)
        if chunk:
            yield chunk

    def _continues(self, chunk: list[Line], line: Line) -> bool:
        last = chunk[-1]
        if abs(line.size - last.size) > 0.6:
            return False
        if last.hyphen:
            return True
        if line.bold != last.bold and (line.bold or last.size > self.size or all(each.bold for each in chunk)):
            return False
        ended = bool(_ENDS.search(last.text.rstrip()))
        gap = last.bottom - line.bottom
        if line.page != last.page or gap < -self.gap:  # a new page or column
            return not ended and not BULLET.match(line.text) and line.size == self.size and not last.bold
        if gap > 1.35 * max(self.gap, self.gap * line.size / self.size):
            return False
        width = max(self.right - self.left, 1)
        short = last.right < self.right - 0.15 * width
        indented = line.left > max(last.left, chunk[0].left) + 0.8 * line.size
        return not (ended and (short or indented) and not leading(line.text.strip()))

    def _style(self, chunk: Sequence[Line]) -> tuple[float, bool] | None:
        """Size and weight of a heading; None: it is a paragraph."""
        text = join([line.text for line in chunk])
        if len(text) > HEADING or len(chunk) > 4 or BULLET.match(text) or not any(char.isalpha() for char in text):
            return None
        size, bold = max(line.size for line in chunk), all(line.bold for line in chunk)
        larger = size > self.size * 1.1
        if larger or (bold and text[-1] not in ".,;:" and size >= self.size * 0.95):
            return (round(size), bold)
        return None

    def _blocks(self, chunk: list[Line], styles: Sequence[tuple[float, bool]]) -> Iterator[Block]:
        first = chunk[0]
        if style := self._style(chunk):
            number = leading(join([line.text for line in chunk]), heading=True)
            deeper = number.label.count(".") if number and number.absolute else 0
            yield Block("heading", self._joined(chunk), page=first.page, level=1 + styles.index(style) + deeper)
            return
        written = [f"{' ' * self._columns(line)}{line.text.strip()}" for line in chunk]
        for at, part in runs(written):
            lines = chunk[at : at + len(part)]
            text = self._joined(lines)
            mark = BULLET.match(text)
            indent = self._columns(lines[0])
            if mark:
                text, marker = text[mark.end() :], mark["marker"]
                yield Block("item", text, page=lines[0].page, marker=marker, indent=indent)
            elif text:
                yield Block("paragraph", text, page=lines[0].page, indent=indent)

    def _columns(self, line: Line) -> int:
        return max(0, round((line.left - self.left) / (0.5 * self.size)))

    def _joined(self, lines: Sequence[Line]) -> str:
        """The lines as one paragraph, with the words whole that hyphens break at their ends."""
        pieces = [line.text.strip() for line in lines]
        for at, line in enumerate(lines[:-1]):
            if not (line.hyphen or re.search(r"[^\W\d_][-‐]$", pieces[at])) or not pieces[at + 1][:1].islower():
                pieces[at] += "-" if line.hyphen else ""
                continue
            head, tail = pieces[at].rstrip("-‐"), pieces[at + 1]
            one, other = re.search(r"[^\W\d_]*$", head), re.match(r"[^\W\d_]*", tail)
            begin, rest = (one[0] if one else ""), (other[0] if other else "")
            if self.words[f"{begin}-{rest}".lower()]:
                pieces[at] = f"{head}-"
            else:
                self.dropped.append(Dropped("hyphen at a line's end", f"{begin}-{rest}", page=line.page))
                pieces[at] = head
            pieces[at], pieces[at + 1] = "", f"{pieces[at]}{tail}"
        return join([piece for piece in pieces if piece])


def _usual(values: Sequence[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


def _edges(page: Sequence[Line]) -> list[Line]:
    by_height = sorted(page, key=lambda line: line.bottom)
    return by_height[:EDGE] + by_height[-EDGE:] if len(page) > EDGE else list(page)


def _counted(edges: Sequence[Sequence[Line]]) -> set[Line]:
    """The first and last lines of pages that begin or end with the page's number: it grows by one a page, on most."""
    numbers: dict[Line, set[int]] = {}
    for found in edges:
        for line in {*found[:1], *found[-1:]}:
            text = line.text.strip()
            near = [
                each[0] for each in (re.match(r"\d{1,4}(?=\s|$)", text), re.search(r"(?<!\S)\d{1,4}$", text)) if each
            ]
            numbers[line] = {int(number) - line.page for number in near}
    shifts = Counter(shift for each in numbers.values() for shift in each)
    shift, count = shifts.most_common(1)[0] if shifts else (0, 0)
    return {line for line, each in numbers.items() if shift in each} if count >= max(3, len(edges) // 2) else set()


def _key(line: Line) -> str:
    """What is the same in a header of every page: its words without numbers, and how high it is."""
    return f"{round(line.bottom / 6)} {re.sub(r'[0-9]+|^[ivxlc]+$', '#', line.text.strip())}"
