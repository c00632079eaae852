"""Markdown (CommonMark and tables) into blocks, by markdown-it-py."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from markdown_it import MarkdownIt
from markdown_it.token import Token

from constitution.documents import html
from constitution.documents.lines import join, normal, runs
from constitution.documents.records import Block, Dropped
from constitution.errors import DocumentError

MOST_NESTED = 100
"""Lists, items and quotes inside one another."""
MOST_SIGNS = {"[": 5_000, "<!": 1_000}
"""Signs of one kind in a paragraph."""
PSEUDO_HEADING = 120
"""Characters of a paragraph that is all bold, and so a heading."""

_FRONT = re.compile(r"\A(?P<fence>---|\+\+\+)[ \t]*\n(?P<body>.*?)\n(?:(?P=fence)|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


def read(text: str, label: str) -> tuple[list[Block], list[Dropped]]:
    """The blocks of a Markdown text, and what is not in them: front matter, comments, addresses of links.

    Raises DocumentError for lists and quotes nested more deeply than MOST_NESTED.
    """
    _check_brackets(text, label)
    reader = _Reader(label)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if front := _FRONT.match(text):
        reader.dropped.append(Dropped("front matter", front["body"], line=1))
        text = "\n" * front[0].count("\n") + text[front.end() :]
    environment: dict[str, dict[str, dict[str, str]]] = {}
    parser = MarkdownIt("commonmark", {"maxNesting": MOST_NESTED}).enable("table")
    tokens = parser.parse(text, environment)
    if any(token.level >= MOST_NESTED - 1 for token in tokens):
        raise DocumentError(f"{label}: lists or quotes are nested more than {MOST_NESTED} deep", hint="make it flat")
    reader.read(tokens)
    for name, link in environment.get("references", {}).items():
        reader.dropped.append(Dropped("link address", f"[{name}]: {link['href']} {link.get('title') or ''}".strip()))
    return reader.blocks, reader.dropped


def _check_brackets(text: str, label: str) -> None:
    """Refuses a paragraph of brackets, for which the parser takes minutes: its time grows with their square."""
    line = 1
    for part in re.split(r"(\n[ \t]*\n)", text):
        for sign, most in MOST_SIGNS.items():
            if part.count(sign) > most:
                raise DocumentError(
                    f"{label}: the paragraph at line {line} has more than {most:,} {sign}",
                    hint="divide it by empty lines",
                )
        line += part.count("\n")


@dataclass
class _Reader:
    label: str
    blocks: list[Block] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    lists: list[str] = field(default_factory=list)
    """The marker of the item that is open in each list; empty once it has been shown."""
    quotes: int = 0
    row: list[str] = field(default_factory=list)
    head: str = ""
    line: int = 0

    def read(self, tokens: Sequence[Token]) -> None:
        kind = ""
        for token in tokens:
            if token.map:
                self.line = token.map[0] + 1
            if token.type == "inline":
                self._inline(kind, token)
            elif token.type in ("fence", "code_block"):
                self._code(token)
            elif token.type == "html_block":
                self._html(token.content)
            else:
                self._open_or_close(token)
                kind = token.type.removesuffix("_open") + token.tag[1:] if token.type == "heading_open" else token.type

    def _open_or_close(self, token: Token) -> None:
        match token.type:
            case "bullet_list_open" | "ordered_list_open":
                self.lists.append("")
            case "bullet_list_close" | "ordered_list_close":
                self.lists.pop()
            case "list_item_open":
                self.lists[-1] = f"{token.info}{token.markup}" if token.info else "-"
            case "list_item_close" if self.lists[-1]:  # an item without words
                self.blocks.append(Block("item", "", self.line, level=len(self.lists), marker=self._marker()))
            case "blockquote_open":
                self.quotes += 1
            case "blockquote_close":
                self.quotes -= 1
            case "table_open":
                self.head = ""
            case "tr_open":
                self.row = []
            case "tr_close":
                self._row()
            case "thead_close":
                self.head = self.blocks.pop().text if self.blocks and self.blocks[-1].kind == "row" else ""
                if self.head:
                    self.blocks.append(Block("head", self.head, self.line, level=len(self.lists)))
            case _:
                pass

    def _marker(self) -> str:
        marker = self.lists[-1] if self.lists else ""
        if self.lists:
            self.lists[-1] = ""
        return marker

    def _row(self) -> None:
        text = " | ".join(self.row)
        if text.strip(" |"):
            self.blocks.append(Block("row", text, self.line, level=len(self.lists), lead=self.head))

    def _inline(self, kind: str, token: Token) -> None:
        children = token.children or []
        lines = self._lines(children)
        if kind in ("th_open", "td_open"):
            self.row.append(join(lines))
            return
        level = len(self.lists)
        if kind.startswith("heading") and not level and not self.quotes:
            if text := join(lines):
                self.blocks.append(Block("heading", text, self.line, level=int(kind[-1])))
            return
        if not level and not self.quotes and _all_bold(children) and len(text := join(lines)) <= PSEUDO_HEADING:
            self.blocks.append(Block("heading", text, self.line, level=7))
            return
        for at, part in runs(lines):
            if text := join(part):
                marker = self._marker()
                shape = "item" if marker else "quote" if self.quotes and not level else "paragraph"
                self.blocks.append(Block(shape, text, self.line + at, level=level, marker=marker))  # type: ignore[arg-type]

    def _lines(self, children: Sequence[Token]) -> list[str]:
        lines = [""]
        for child in children:
            if child.type in ("softbreak", "hardbreak"):
                lines.append("")
            elif child.type in ("text", "code_inline", "text_special"):
                lines[-1] += child.content
            elif child.type == "image":
                lines[-1] += "".join(_words(child.children or []))
                self._address(child.attrs.get("src"))
            elif child.type == "link_open" and child.info != "auto":
                self._address(child.attrs.get("href"))
            elif child.type == "html_inline":
                self._tag(child.content, lines)
        return lines

    def _address(self, address: object) -> None:
        if address:
            self.dropped.append(Dropped("link address", str(address), line=self.line))

    def _tag(self, tag: str, lines: list[str]) -> None:
        if tag.startswith("<!--"):
            self.dropped.append(Dropped("comment", tag, line=self.line))
        elif re.match(r"<br\b", tag, re.IGNORECASE):
            lines.append("")

    def _code(self, token: Token) -> None:
        text = token.content.strip("\n")
        if text.strip():
            self.blocks.append(Block("code", text, self.line, level=len(self.lists)))

    def _html(self, text: str) -> None:
        for comment in _COMMENT.findall(text):
            self.dropped.append(Dropped("comment", comment, line=self.line))
        text = _COMMENT.sub(lambda found: "\n" * found[0].count("\n"), text)
        if not re.sub(r"<[^<>]*>", "", text).strip():
            return
        blocks, dropped = html.read(text, self.label)
        self.blocks += [replace(block, line=block.line + self.line - 1) for block in blocks]
        self.dropped += dropped


def _words(children: Sequence[Token]) -> Iterator[str]:
    yield from (normal(child.content) for child in children if child.content)


def _all_bold(children: Sequence[Token]) -> bool:
    """Whether it is one bold piece, and no sentence."""
    kept = [child for child in children if child.type != "text" or child.content.strip()]
    if len(kept) < 3 or kept[0].type != "strong_open" or kept[-1].type != "strong_close":
        return False
    inner = kept[1:-1]
    text = "".join(child.content for child in inner).strip()
    return (
        not any(child.type.startswith("strong") for child in inner)
        and bool(text)
        and text[-1] not in ".,;:!?。；：！？"
    )
