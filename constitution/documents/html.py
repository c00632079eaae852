"""HTML into blocks, by lxml: what a reader of the page reads; what is around it is named as dropped."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from constitution.documents import plain
from constitution.documents.lines import join, normal, runs
from constitution.documents.numbers import leading, roman
from constitution.documents.records import Block, Dropped
from constitution.errors import DocumentError

MOST_NESTED = 1_000
"""Elements inside one another."""
PSEUDO_HEADING = 120
"""Characters of a paragraph that is all bold, and so a heading."""

_BLOCKS = {
    *(
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "caption",
        "center",
        "dd",
        "details",
        "dialog",
        "dir",
        "div",
    ),
    *("dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header"),
    *("hgroup", "hr", "html", "legend", "li", "main", "menu", "nav", "ol", "p", "pre", "section", "summary", "table"),
    *("tbody", "td", "tfoot", "th", "thead", "title", "tr", "ul"),
}
_DROPPED = {
    **dict.fromkeys(("script", "template"), "script"),
    **dict.fromkeys(("button", "select", "textarea", "input", "datalist"), "form"),
    **dict.fromkeys(("iframe", "object", "audio", "video", "canvas", "svg", "map"), "embedded"),
    "style": "style",
    "noscript": "noscript",
    "nav": "navigation",
    "title": "title",
}
_CELLS = {"td", "th"}
_IN_CELLS = {"table", "ul", "ol", "dl", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "pre", "p", "div"}
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_STYLES = {"lower-alpha": "a", "lower-latin": "a", "upper-alpha": "A", "upper-latin": "A", "lower-roman": "i",
           "upper-roman": "I", "none": "none"}  # fmt: skip
_WORDS_OF_TOC = re.compile(r"(?:^|[\s_-])(?:toc|toctree|contents|table-of-contents)(?:$|[\s_-])", re.IGNORECASE)
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)


def read(text: str, label: str) -> tuple[list[Block], list[Dropped]]:
    """The blocks of a page, and what is around them: navigation, scripts, forms, addresses of links.

    Raises DocumentError for elements nested more deeply than MOST_NESTED, and where lxml is not installed.
    """
    try:
        from lxml import etree
    except ImportError:
        raise DocumentError(
            f"{label}: HTML is read by lxml, which is not installed", hint='pip install "constitution[documents]"'
        ) from None
    parser = etree.HTMLParser(encoding="utf-8", huge_tree=True)
    try:
        root = etree.fromstring(text.encode("utf-8"), parser)
    except (etree.XMLSyntaxError, UnicodeEncodeError) as fault:
        raise DocumentError(f"{label}: cannot be read as HTML: {fault}") from None
    if any(entry.type_name == "ERR_RESOURCE_LIMIT" or "depth" in entry.message.lower() for entry in parser.error_log):
        raise DocumentError(f"{label}: elements are nested too deeply", hint="save it as plain text")
    reader = _Reader(label)
    if root is not None:
        reader.read(root)
    return reader.blocks, reader.dropped


@dataclass
class _List:
    style: str
    count: int
    step: int = 1
    shown: bool = True
    """Whether the marker of the item that is open has been shown."""

    def marker(self) -> str:
        if self.style in ("-", "none"):
            return "-"
        if self.style in "aA" and 0 < self.count <= 26:
            letter = _LETTERS[self.count - 1]
        elif self.style in "iI" and 0 < self.count < 400:
            letter = roman(self.count)
        else:
            return f"{self.count}."
        return f"{letter if self.style.islower() else letter.upper()}."


@dataclass
class _Reader:
    label: str
    blocks: list[Block] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    """The paragraph that is open; a line break is \\n."""
    bold: int = 0
    plain_words: bool = False
    """Whether it has words that are not bold."""
    lists: list[_List] = field(default_factory=list)
    quotes: int = 0
    line: int = 0
    pre: int = 0
    cells: list[str] | None = None
    """What the row that is open has, in a table of data."""
    heads: int = 0
    head: str = ""
    term: str = ""
    path: list[Any] = field(default_factory=list)
    """<main> and the elements above it, where only they are read."""
    tables: list[bool] = field(default_factory=list)
    """For each table that is open: whether it is one of data."""

    def read(self, root: Any) -> None:
        """All below `root`, without recursion."""
        if (main := _main(root)) is not None:
            self.path = [main, *main.iterancestors()]
        stack: list[tuple[Any, int]] = [(root, 0)]
        while stack:
            element, depth = stack.pop()
            if depth < 0:
                self._end(element)
                self._text(element.tail)
                continue
            if depth > MOST_NESTED:
                raise DocumentError(f"{self.label}: elements are nested more than {MOST_NESTED} deep",
                                    hint="save it as plain text")  # fmt: skip
            if not isinstance(element.tag, str) or (reason := self._drops(element)):
                self._drop(element, reason if isinstance(element.tag, str) else "comment")
                self._text(element.tail)
                continue
            self._start(element)
            stack.append((element, -1))
            self._text(element.text)
            stack += [(child, depth + 1) for child in reversed(element)]
        self._flush()

    def _drops(self, element: Any) -> str:
        """Why the element is no part of the document; empty: it is one."""
        tag = element.tag
        if reason := _DROPPED.get(tag):
            return reason
        if element.get("hidden") is not None or _HIDDEN.search(element.get("style", "")):
            return "hidden"
        if element.get("role") in ("navigation", "search") or (tag == "footer" and _of_page(element)):
            return "page footer" if tag == "footer" else "navigation"
        if self.path and tag != "head" and element not in self.path and element.getparent() in self.path[1:]:
            return "outside main"
        if tag == "a" and normal("".join(element.itertext())) in ("¶", "#", "§", "🔗", "\uf0c1"):
            return "link to a heading"
        named = f"{element.get('class', '')} {element.get('id', '')}"
        if tag in _BLOCKS and len(named) > 1 and _WORDS_OF_TOC.search(named) and _mostly_links(element):
            return "table of contents"
        return ""

    def _drop(self, element: Any, reason: str) -> None:
        if isinstance(element.tag, str):
            text = normal(" ".join(element.itertext()))
            if element.tag in _BLOCKS:
                self._flush()
        else:
            text = normal(element.text or "")
        if text:
            self.dropped.append(Dropped(reason, text, line=element.sourceline or 0))

    # --- elements

    def _start(self, element: Any) -> None:
        tag = element.tag
        if tag in _BLOCKS:
            self._block_starts(element)
        elif tag == "br":
            self.words.append("\n")
        elif tag in ("b", "strong"):
            self.bold += 1
        elif tag == "img" and (alt := normal(element.get("alt", ""))):
            self._text(alt)
        elif tag == "a" and (address := element.get("href", "")) and not address.startswith(("#", "javascript:")):
            self.dropped.append(Dropped("link address", address, line=element.sourceline or 0))

    def _block_starts(self, element: Any) -> None:
        self._flush()
        self.line = element.sourceline or self.line
        match element.tag:
            case "ol" | "ul" | "menu" | "dir":
                self.lists.append(_list(element))
            case "li" if self.lists:
                self._next_item(element)
            case "blockquote":
                self.quotes += 1
            case "pre":
                self.pre += 1
            case "table":
                self.tables.append(_of_data(element) and self.cells is None)
                self.head = ""
            case "tr" if self.cells is None and self.tables and self.tables[-1]:
                self.cells, self.heads = [], 0
            case "td" | "th" if self.cells is not None:
                self.heads += element.tag == "th"
            case _:
                pass

    def _next_item(self, element: Any) -> None:
        last = self.lists[-1]
        value = element.get("value", "")
        last.count = int(value) if re.fullmatch(r"-?\d{1,6}", value) else last.count + last.step
        last.shown = False

    def _end(self, element: Any) -> None:
        tag = element.tag
        if tag in ("b", "strong"):
            self.bold = max(0, self.bold - 1)
        if tag not in _BLOCKS:
            return
        if tag in _CELLS and self.cells is not None:
            self.cells.append(join(self._taken().split("\n")))
            return
        if tag == "pre":
            self._code(element)
            self.pre -= 1
        elif tag == "tr" and self.cells is not None:
            self._row()
        elif re.fullmatch("h[1-6]", tag) and self.cells is None and not self.quotes and not self.lists:
            if text := join(self._taken().split("\n")):
                self.blocks.append(Block("heading", text, self.line, level=int(tag[1])))
        elif tag == "dt":
            self._term()
        elif tag == "dd":
            self._flush()
            self.term = ""
        else:
            self._flush()
        if tag in ("ol", "ul", "menu", "dir") and self.lists:
            self.lists.pop()
        elif tag == "table":
            self.tables.pop()
        elif tag == "dl":
            self.term = ""
        elif tag == "blockquote":
            self.quotes -= 1

    # --- words

    def _text(self, text: str | None) -> None:
        if not text:
            return
        if text.strip() and not self.bold:
            self.plain_words = True
        self.words.append(text if self.pre else re.sub(r"[ \t\r\n\f]+", " ", text))

    def _taken(self) -> str:
        text = "".join(self.words)
        self.words, self.plain_words = [], False
        return text

    def _flush(self) -> None:
        if self.cells is not None:
            self.words.append("\n")
            return
        all_bold = not self.plain_words
        text = self._taken()
        if self.pre or not text.strip():
            return
        for paragraph in re.split(r"\n\s*\n", text):
            for _, lines in runs(paragraph.split("\n")):
                if part := join(lines):
                    self._paragraph(part, all_bold)

    def _paragraph(self, text: str, all_bold: bool) -> None:
        level = len(self.lists)
        if self.term:
            self.blocks.append(Block("row", text, self.line, level=level, lead=self.term))
        elif self.lists and not self.lists[-1].shown:
            last = self.lists[-1]
            last.shown = True
            own = leading(text)  # "(1) …" in a list whose own numbers are not shown
            marker = "-" if own and own.place == last.count else last.marker()
            self.blocks.append(Block("item", text, self.line, level=level, marker=marker))
        elif (
            all_bold
            and not level
            and not self.quotes
            and len(text) <= PSEUDO_HEADING
            and text[-1] not in ".,;:!?。；：！？"
        ):
            self.blocks.append(Block("heading", text, self.line, level=7))
        else:
            self.blocks.append(
                Block("quote" if self.quotes and not level else "paragraph", text, self.line, level=level)
            )

    def _term(self) -> None:
        text = join(self._taken().split("\n"))
        if text:
            self.term = text
            self.blocks.append(Block("head", text, self.line, level=len(self.lists)))

    def _code(self, element: Any) -> None:
        text = self._taken().strip("\n")
        if self.cells is not None:
            self.words.append(text)
        elif text.count("\n") > 30 and not element.xpath(".//code"):  # a whole document as it was typed
            blocks, dropped = plain.read(text)
            self.blocks += [replace(b, line=b.line + self.line - 1) for b in blocks]
            self.dropped += dropped
        elif text.strip():
            self.blocks.append(Block("code", text, self.line, level=len(self.lists)))

    def _row(self) -> None:
        cells, self.cells = self.cells or [], None
        text = " | ".join(cells)
        self.words = []
        if not text.strip(" |"):
            return
        level = len(self.lists)
        if self.heads == len(cells) > 0:
            self.head = text
            self.blocks.append(Block("head", text, self.line, level=level))
        else:
            self.blocks.append(Block("row", text, self.line, level=level, lead=self.head))


def _list(element: Any) -> _List:
    if element.tag != "ol":
        return _List("-", 0)
    shape = re.search(r"list-style(?:-type)?\s*:\s*([\w-]+)", element.get("style", ""))
    style = _STYLES.get(shape[1], "1") if shape else element.get("type", "1")
    start = element.get("start", "1")
    first = int(start) if re.fullmatch(r"-?\d{1,6}", start) else 1
    return _List(style if style in ("a", "A", "i", "I", "none") else "1", first - 1)


def _main(root: Any) -> Any:
    """The page's one <main>, if most of its words are there."""
    found = root.xpath("//main | //*[@role='main']")
    if len(found) != 1:
        return None
    inside, whole = len("".join(found[0].itertext())), len("".join(root.itertext()))
    return found[0] if inside * 4 >= whole else None


def _of_page(element: Any) -> bool:
    return not any(above.tag in ("article", "main", "section", "blockquote") for above in element.iterancestors())


def _mostly_links(element: Any) -> bool:
    linked = sum(len(normal("".join(each.itertext()))) for each in element.iter("a"))
    return linked * 10 >= len(normal("".join(element.itertext()))) * 7 > 0


def _of_data(table: Any) -> bool:
    """Whether a table is one, and not a means to lay out a page."""
    if table.get("role") == "presentation":
        return False
    if next(table.iterdescendants("table"), None) is not None or next(table.iterancestors("table"), None) is not None:
        return False
    if next(table.iter("th"), None) is not None:
        return True
    cells: Iterator[Any] = table.iter(*_CELLS)
    return not any(sum(child.tag in _IN_CELLS for child in cell) > 1 or any(child.tag in ("ul", "ol", "h1", "h2", "h3")
               for child in cell) for cell in cells)  # fmt: skip
