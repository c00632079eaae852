"""HTML, PDF and documents in other languages divided into clauses; what is not in their text is named."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

import pytest
from small_pdf import Words, pdf

from constitution.documents import Document, read_document
from constitution.errors import DocumentError

POLICY = Path("/usr/share/doc/python3/python-policy.html")
MANUAL = Path("/usr/share/doc/libtasn1-doc/libtasn1.pdf")


def read(folder: Path, data: str | bytes, name: str) -> Document:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return read_document(path)


def rows(found: Document) -> list[tuple[str, str, str]]:
    return [(clause.id, clause.lead, clause.text) for clause in found.clauses]


# --- HTML

PAGE = """<!doctype html><html><head><meta charset="utf-8"><title>Our rules</title><style>p { color: red }</style>
</head><body><nav><a href="/">Home</a></nav>
<main><h1>Rules<a class="headerlink" href="#rules">¶</a></h1>
<p>Be <b>kind</b> to<br>all &amp; each.
<p>Staff must not:
<ol type=a><li>share <a href="https://example.org/p">passwords</a>;<li>lend:<ul><li>keys</li><li>cards</li></ul></ol>
<h2>2. Data</h2>
<table><tr><th>Data<th>Shared</tr><tr><td>names<td>no</tr></table>
<dl><dt>Guest<dd>Who visits.</dl>
<blockquote><p>Quoted.</p></blockquote><pre>a  = 1</pre>
<p hidden>Not shown.</p><script>alert("x")</script><!-- a comment -->
</main><footer>Imprint</footer></body></html>
"""


def test_html(tmp_path: Path) -> None:
    found = read(tmp_path, PAGE, "rules.html")
    assert rows(found) == [
        ("rules.1", "", "Be kind to all & each."),
        ("rules.2", "", "Staff must not:"),
        ("a", "Staff must not:", "share passwords;"),
        ("b", "Staff must not:", "lend:"),
        ("b.1", "Staff must not: lend:", "keys"),
        ("b.2", "Staff must not: lend:", "cards"),
        ("2", "", "Data | Shared"),
        ("2.p2", "Data | Shared", "names | no"),
        ("2.p3", "", "Guest"),
        ("2.p4", "Guest", "Who visits."),
        ("2.p5", "", "Quoted."),
        ("2.p6", "", "a  = 1"),
    ]
    assert {(each.reason, each.text) for each in found.dropped} == {
        ("title", "Our rules"),
        ("style", "p { color: red }"),
        ("navigation", "Home"),
        ("link to a heading", "¶"),
        ("link address", "https://example.org/p"),
        ("hidden", "Not shown."),
        ("script", 'alert("x")'),
        ("comment", "a comment"),
        ("page footer", "Imprint"),
    }


@pytest.mark.skipif(not POLICY.exists(), reason="not on this machine")
def test_a_real_page_loses_no_word() -> None:
    from lxml import etree

    found = read_document(POLICY)
    root = etree.fromstring(POLICY.read_bytes(), etree.HTMLParser(encoding="utf-8"))
    texts = [text for node in root.iter() if isinstance(node.tag, str) for text in (node.text, node.tail) if text]
    kept = found.text + "".join(each.text for each in found.dropped if each.reason not in ("link address", "comment"))
    assert Counter("".join("".join(texts).split())) - Counter("".join(kept.split())) == Counter()
    assert {"3.1", "2.p3.1", "contents.2.1"} <= {clause.id for clause in found.clauses}
    assert len(found.clauses) > 150


def test_encodings_of_pages(tmp_path: Path) -> None:
    page = '<html><head><meta charset="iso-8859-1"></head><body><p>Größe – “so”</p></body></html>'
    assert read(tmp_path, page.encode("cp1252"), "a.html").text == "Größe – “so”"
    with pytest.raises(DocumentError, match="not in utf-8"):
        read(tmp_path, page.replace("iso-8859-1", "utf-8").encode("cp1252"), "b.html")
    with pytest.raises(DocumentError, match="no known encoding"):
        read(tmp_path, page.replace("iso-8859-1", "klingon"), "c.html")


def test_html_in_markdown(tmp_path: Path) -> None:
    found = read(
        tmp_path, "# A\n\n<details><summary>More</summary>\n\nInside *it*.\n\n</details>\n\nOne<br>two.\n", "a.md"
    )
    assert [clause.text for clause in found.clauses] == ["More", "Inside it.", "One two."]
    assert [clause.line for clause in found.clauses] == [3, 5, 9]


def test_a_deep_page_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="nested"):
        read(tmp_path, "<div>" * 3000 + "x", "a.html")


def test_without_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lxml", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DocumentError) as error:
        read(tmp_path, "<p>x</p>", "a.html")
    assert error.value.hint == 'pip install "constitution[documents]"'
    with pytest.raises(DocumentError, match="pypdfium2"):
        read(tmp_path, pdf([[(72, 700, 10, "x")]]), "a.pdf")


# --- PDF


def pages() -> list[list[Words]]:
    body = ["All who work here report a loss to the security off-", "ice, and use well-known tools. They are well-",
            "known to all of us who have worked here for long."]  # fmt: skip
    found = []
    for number in range(1, 5):
        lines: list[Words] = [(72, 800, 9, "House rules, second edition"), (290, 40, 9, f"{number}")]
        lines += [(72, 740, 16, f"*{number}. Chapter {'abcd'[number - 1]}")]
        lines += [(72, 710 - 12 * at, 10, text) for at, text in enumerate(body)]
        lines += [
            (72, 660, 10, "Staff must not:"),
            (90, 640, 10, "(a) share passwords;"),
            (90, 628, 10, f"(b) lend {'abcd'[number - 1]}-keys."),
        ]
        found.append(lines)
    found[0] += [
        (72, 560, 10, "2. Chapter b ........... 2"),
        (72, 500, 10, "This sentence runs over the end of the page and"),
    ]
    found[1].insert(2, (72, 770, 10, "ends here."))
    return found


def test_pdf(tmp_path: Path) -> None:
    found = read(tmp_path, pdf(pages()), "rules.pdf")
    assert rows(found)[:6] == [
        ("1", "", "All who work here report a loss to the security office, and use well-known tools. They are well-"
         "known to all of us who have worked here for long."),
        ("1.p2", "", "Staff must not:"),
        ("1.a", "Staff must not:", "share passwords;"),
        ("1.b", "Staff must not:", "lend a-keys."),
        ("1.p3", "", "This sentence runs over the end of the page and ends here."),
        ("2", "", found.clauses[0].text),
    ]  # fmt: skip
    assert [clause.page for clause in found.clauses[:6]] == [1, 1, 1, 1, 1, 2]
    assert Counter(each.reason for each in found.dropped) == {
        "page header": 4,
        "page number": 4,
        "table of contents": 1,
        "hyphen at a line's end": 4,
    }


@pytest.mark.skipif(not MANUAL.exists(), reason="not on this machine")
def test_a_real_manual() -> None:
    """Made by TeX: its headings have numbers, its words have spaces, its pages have headers."""
    found = read_document(MANUAL)
    assert {"1", "1.p2.1"} <= {clause.id for clause in found.clauses}
    assert max(map(len, re.findall(r"[a-z]+", found.text))) < 40
    assert {each.reason for each in found.dropped} >= {"page header", "table of contents"}


def test_pdfs_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="no text on its 2 pages"):
        read(tmp_path, pdf([[], []]), "scan.pdf")
    key = f"<{'41' * 32}>"
    locked = f"/ID [{key} {key}] /Encrypt << /Filter /Standard /V 1 /R 2 /O {key} /U {key} /P -4 >>"
    with pytest.raises(DocumentError, match="is encrypted"):
        read(tmp_path, pdf(pages(), locked), "locked.pdf")
    with pytest.raises(DocumentError, match="cannot be read as a PDF"):
        read(tmp_path, b"%PDF-1.7\n" + b"\x00\x01" * 500, "broken.pdf")


# --- languages


def test_german(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "Hausordnung\n\nI. Grundsätze\n\nArt. 1\n\n(1) Alle achten einander.\n\n(2) Niemand wird benachteiligt.\n\n"
        "§ 7 Pflichten\n\n(1) Beschäftigte dürfen nicht:\n1. Passwörter teilen,\n2. Schlüssel verleihen\n"
        "   a) an Gäste,\n   b) an Fremde.\n\n(2) § 7 gilt auch für Gäste.\n",
        "a.txt",
    )
    assert rows(found) == [
        ("1.1", "", "Alle achten einander."),
        ("1.2", "", "Niemand wird benachteiligt."),
        ("7.1", "", "Beschäftigte dürfen nicht:"),
        ("7.1.1", "Beschäftigte dürfen nicht:", "Passwörter teilen,"),
        ("7.1.2", "Beschäftigte dürfen nicht:", "Schlüssel verleihen"),
        ("7.1.2.a", "Beschäftigte dürfen nicht: Schlüssel verleihen", "an Gäste,"),
        ("7.1.2.b", "Beschäftigte dürfen nicht: Schlüssel verleihen", "an Fremde."),
        ("7.2", "", "§ 7 gilt auch für Gäste."),
    ]
    assert found.clauses[2].heading == ("Hausordnung", "I. Grundsätze", "§ 7 Pflichten")


def test_french_and_chinese(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "Titre premier - Des droits\n\nArticle premier\nTous sont égaux.\n\nArt. 2. - Sont interdits :\n1° le vol ;\n"
        "2° la fraude.\n",
        "a.txt",
    )
    assert rows(found) == [
        ("1", "", "Tous sont égaux."),
        ("2", "", "Sont interdits :"),
        ("2.1", "Sont interdits :", "le vol ;"),
        ("2.2", "Sont interdits :", "la fraude."),
    ]
    found = read(
        tmp_path,
        "第一章　总则\n\n第一条　为了规范数据处理活动，\n保障数据安全。\n\n第二章　义务\n\n"
        "第十二条　处理者不得：\n（一）非法获取数据；\n（二）出售数据。\n",
        "b.txt",
    )
    assert rows(found) == [
        ("1", "", "为了规范数据处理活动，保障数据安全。"),
        ("12", "", "处理者不得："),
        ("12.1", "处理者不得：", "非法获取数据；"),
        ("12.2", "处理者不得：", "出售数据。"),
    ]
