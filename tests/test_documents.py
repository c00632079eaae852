"""Documents divided into clauses: Markdown and plain text, their numbers, leads and places."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from constitution.documents import Document, read_document
from constitution.errors import DocumentError

LICENSES = Path("/usr/share/common-licenses")


def document(folder: Path, text: str, name: str = "charter.md") -> Document:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return read_document(path)


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def check(found: Document) -> None:
    """What holds for every document: ids are unique, texts lie where they say, and the clauses with their headings and
    numbers are all of its words."""
    assert len({clause.id for clause in found.clauses}) == len(found.clauses)
    at = 0
    covered = []
    for clause in found.clauses:
        assert found.text[clause.start : clause.end] == clause.text
        assert clause.start >= at
        between = found.text[at : clause.start]
        for heading in clause.heading:
            between = between.replace(heading, " ", 1)
        if clause.number:
            between = (
                between[: between.rfind(clause.number)] + between[between.rfind(clause.number) + len(clause.number) :]
            )
        covered += words_of(between)
        at = clause.end
    assert covered + words_of(found.text[at:]) == []


MARKDOWN = """# House rules

Be *kind* to [each other](http://example.org/kind).

## 3. Conduct

### 3.2 Passwords

Employees must not:

- share passwords
- lend keys:
  1. to visitors
  2. to guests

The following apply:

(a) first;
(b) second.

## Annex A

### 3.2 Passwords of machines

| Data | Shared |
|---|---|
| names | no |
"""


def test_markdown(tmp_path: Path) -> None:
    found = document(tmp_path, MARKDOWN)
    check(found)
    assert [(clause.id, clause.lead, clause.text) for clause in found.clauses] == [
        ("house-rules.1", "", "Be kind to each other."),
        ("3.2", "", "Employees must not:"),
        ("3.2.1", "Employees must not:", "share passwords"),
        ("3.2.2", "Employees must not:", "lend keys:"),
        ("3.2.2.1", "Employees must not: lend keys:", "to visitors"),
        ("3.2.2.2", "Employees must not: lend keys:", "to guests"),
        ("3.2.p2", "", "The following apply:"),
        ("3.2.a", "The following apply:", "first;"),
        ("3.2.b", "The following apply:", "second."),
        ("annex-a.3.2", "", "Data | Shared"),
        ("annex-a.3.2.p2", "Data | Shared", "names | no"),
    ]
    assert [clause.kind for clause in found.clauses if clause.kind == "lead"] == ["lead"] * 4
    assert found.clauses[1].heading == ("House rules", "3. Conduct", "3.2 Passwords")
    assert found.clauses[1].line == 9
    assert [(each.reason, each.text) for each in found.dropped] == [("link address", "http://example.org/kind")]


@pytest.mark.parametrize("name", ["GPL-2", "GPL-3", "Apache-2.0", "MPL-2.0", "CC0-1.0", "GFDL-1.3"])
def test_licences_lose_no_word(name: str) -> None:
    path = LICENSES / name
    if not path.exists():
        pytest.skip("not on this machine")
    found = read_document(path)
    check(found)
    dropped = " ".join(each.text for each in found.dropped)
    assert words_of(found.text) == words_of(path.read_text(encoding="utf-8"))
    assert not words_of(dropped)


@pytest.mark.parametrize(
    ("data", "name", "told"),
    [
        (b"", "a.md", "is empty"),
        (b"# \n\n<!-- x -->\n", "a.md", "has no text"),
        (b"caf\xe9", "a.txt", r"not in UTF-8 \(byte 3\)"),
        (b"PK\x03\x04", "a.docx", "word processor"),
        (b"no pdf", "a.pdf", "is no PDF"),
        (b"a b " * 100_000, "a.txt", "a line of 400,000 characters"),
        (b"> " * 500 + b"deep", "a.md", "nested more than"),
        (b"x\n\n" + b"![" * 20_000, "a.md", r"line 3 has more than 5,000 \["),
    ],
)
def test_what_cannot_be_read_is_refused(data: bytes, name: str, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DocumentError, match=told):
        read_document(tmp_path / name)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_encodings_by_their_mark(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("§ 1 Größe\n\n(1) Für alle.\n\n(2) 第三条".encode(encoding))
    assert [clause.id for clause in read_document(tmp_path / "a.txt").clauses] == ["1.1", "1.2"]


PIECES = st.sampled_from(
    [
        *(
            "",
            "",
            "1. Scope",
            "2. Duties",
            "(a) first;",
            "(b) second;",
            "(i) deep",
            "- item",
            "  * nested",
            "Art. 5",
            "§ 7 (2) x",
        ),
        *(
            "CHAPTER II",
            "3.2 Keys are kept.",
            "Employees must not:",
            "A sentence of some words.",
            "    indented words",
            "====",
        ),
        *(
            "第三条　处理者",
            "word-",
            "ends here",
            "> quoted",
            "| a | b |",
            "|---|---|",
            "```",
            "# Head",
            "**Bold**",
            "IV. Four",
            "1",
        ),
    ]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PIECES, min_size=1, max_size=25))
def test_nothing_is_lost(tmp_path: Path, lines: list[str]) -> None:
    """No sign of a plain text, and no letter of a Markdown text, however its lines are put together."""
    text = "\n".join([*lines, "", "end"])
    found = document(tmp_path, text, "a.txt")
    check(found)
    kept = found.text + "".join(each.text for each in found.dropped)
    assert Counter("".join(unicodedata.normalize("NFC", text).split())) == Counter("".join(kept.split()))
    found = document(tmp_path, text, "a.md")
    check(found)
    kept = "".join([found.text, *(each.text for each in found.dropped)])
    assert Counter(filter(str.isalnum, text)) - Counter(filter(str.isalnum, kept)) == Counter()
