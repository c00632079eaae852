"""A report as a reader without eyes sees it: exhibits, each with its query and its cells, headings, ids, addresses."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

from constitution.audit.report import raw
from constitution.warehouse import ask, connect

VOID = {"meta", "link"}


@dataclass
class Exhibit:
    query: str = ""
    rows: list[list[str]] = field(default_factory=list)
    drawings: int = 0
    text: str = ""


class Page(HTMLParser):
    """`exhibits` by name; a cell's value is what its `data-value` says."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.exhibits: dict[str, Exhibit] = {}
        self.headings: list[tuple[int, str]] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self._path: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        about = dict(attrs)
        self.tags.add(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.addresses += [value for name, value in attrs if name in ("href", "src", "xlink:href") and value]
        if tag not in VOID:
            self._path.append((tag, about))
        if name := about.get("data-exhibit"):
            assert name not in self.exhibits
            self.exhibits[name] = Exhibit()
        if tag in ("h1", "h2", "h3", "h4"):
            self.headings.append((int(tag[1]), ""))
        exhibit = self._exhibit()
        if exhibit is None:
            return
        exhibit.drawings += tag == "svg"
        if "data-row" in about:
            exhibit.rows.append([])
        if "data-value" in about:
            if not exhibit.rows:
                exhibit.rows.append([])
            exhibit.rows[-1].append(about["data-value"] or "")

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            opened, _ = self._path.pop()
            assert opened == tag, f"</{tag}> closes <{opened}>"

    def handle_data(self, data: str) -> None:
        if self._path and self._path[-1][0] in ("h1", "h2", "h3", "h4"):
            level, text = self.headings[-1]
            self.headings[-1] = (level, (text + data).strip())
        if exhibit := self._exhibit():
            exhibit.text += data
            if self._path and "data-query" in self._path[-1][1]:
                exhibit.query += data

    def _exhibit(self) -> Exhibit | None:
        for _, about in reversed(self._path):
            if name := about.get("data-exhibit"):
                return self.exhibits[name]
        return None


def differences(page: Page, root: Path) -> list[str]:
    """Where a cell of the page is not what the exhibit's own query answers; rows in any order."""
    found = []
    with connect(root) as connection:
        for name, exhibit in page.exhibits.items():
            answer = sorted([raw(value) for value in row] for row in ask(connection, exhibit.query).rows)
            shown = sorted(exhibit.rows)
            if len(answer) != len(shown):
                found.append(f"{name}: {len(shown)} rows shown, {len(answer)} answered")
            found += [f"{name}, {one} is not {two}" for one, two in zip(shown, answer, strict=False) if one != two]
    return found
