"""A document's file: which format it is, in which encoding, and whether it can be read at all."""

from __future__ import annotations

import codecs
import hashlib
import re
from pathlib import Path

from constitution.documents import html, markdown, pdf, plain
from constitution.documents.ids import slug
from constitution.documents.records import Block, Document, Dropped, Format
from constitution.documents.split import split
from constitution.errors import DocumentError
from constitution.reading import foreign, opened

MOST_BYTES = 16 * 2**20
"""The most of Markdown, text and HTML; a PDF may have MOST_PDF_BYTES."""
MOST_PDF_BYTES = 128 * 2**20
MOST_CHARACTERS = 100_000
"""The most of one paragraph: 40 pages of a book without a break are no paragraph."""

_ENDINGS: dict[str, Format] = {
    **dict.fromkeys((".md", ".markdown", ".mdown", ".mkd", ".mdx", ".qmd", ".rmd"), "markdown"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    ".pdf": "pdf",
}
_REFUSED = {
    **dict.fromkeys((".docx", ".doc", ".odt", ".rtf", ".epub", ".pages"), "a word processor's file"),
    **dict.fromkeys((".tex", ".latex"), "LaTeX"),
}
_DECLARED = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.IGNORECASE)
_XML = re.compile(rb"\A\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([\w.:-]{2,40})", re.IGNORECASE)
_CODING = re.compile(rb"(?:coding|fileencoding)[:=][ \t]*([\w.-]{2,40})")
_MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF8, "utf-8-sig"),
          (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip


def read_document(path: Path | str) -> Document:
    """The document in `path`, divided into clauses: Markdown, HTML and PDF by their endings or first bytes, anything
    else as plain text.

    Raises DocumentError where it is no such file, has no text (a scanned PDF), is encrypted, is in an encoding that it
    does not declare, or is too large; and where the packages of the extra `documents` are missing (HTML, PDF).
    """
    path = Path(path)
    label = str(path)
    data = _bytes(path, label)
    kind = _format(path, data, label)
    if kind == "pdf":
        blocks, dropped = pdf.read(data, label)
    else:
        blocks, dropped = _of_text(_decoded(data, kind, label), kind, label)
    for block in blocks:
        if len(block.text) > MOST_CHARACTERS:
            place = f"page {block.page}" if block.page else f"line {block.line}"
            raise DocumentError(
                f"{label}: {place}: a paragraph of {len(block.text):,} characters, and at most {MOST_CHARACTERS:,} are"
                " taken", hint="divide it by empty lines")  # fmt: skip
    text, clauses = split(blocks)
    if not clauses:
        raise DocumentError(f"{label}: has no text", hint="name another file")
    return Document(_name(path), kind, hashlib.sha256(data).hexdigest(), text, clauses, tuple(dropped))


def _name(path: Path) -> str:
    known = path.suffix.lower() in (*_ENDINGS, ".txt", ".text", ".rst", ".asc")
    return slug(path.stem if known else path.name)


def _bytes(path: Path, label: str) -> bytes:
    with opened(path, label, DocumentError) as file:
        try:
            data = file.read(MOST_PDF_BYTES + 1)
        except OSError as fault:
            raise DocumentError(f"{label}: cannot be read: {fault.strerror or fault}") from None
    most = MOST_PDF_BYTES if data.startswith(b"%PDF") else MOST_BYTES
    if len(data) > most:
        raise DocumentError(
            f"{label}: has more than {most // 2**20} MiB, which is the most that is taken", hint="divide it"
        )
    if not data.strip():
        raise DocumentError(f"{label}: is empty", hint="name another file")
    return data


def _format(path: Path, data: bytes, label: str) -> Format:
    ending = path.suffix.lower()
    if b"%PDF-" in data[:1024]:
        return "pdf"
    if ending == ".pdf":
        raise DocumentError(f"{label}: is no PDF, though its name says so", hint="rename it, or save it again")
    kind = _REFUSED.get(ending) or foreign(data)
    if kind and not kind.startswith("UTF"):
        raise DocumentError(f"{label}: is {kind}", hint="save it as Markdown, plain text, HTML or PDF")
    if ending in _ENDINGS:
        return _ENDINGS[ending]
    return "html" if re.match(rb"(\xef\xbb\xbf)?\s*(<!doctype html|<html)", data[:1024], re.IGNORECASE) else "text"


def _of_text(text: str, kind: Format, label: str) -> tuple[list[Block], list[Dropped]]:
    if "\x00" in text:
        raise DocumentError(f"{label}: has zero bytes, and is no text", hint="save it as UTF-8")
    longest = max(map(len, text.split("\n")))
    if kind != "html" and longest > MOST_CHARACTERS:
        raise DocumentError(
            f"{label}: a line of {longest:,} characters, and at most {MOST_CHARACTERS:,} are taken",
            hint="divide it by empty lines",
        )
    if kind == "html":
        return html.read(text, label)
    return markdown.read(text, label) if kind == "markdown" else plain.read(text)


def _decoded(data: bytes, kind: Format, label: str) -> str:
    """The text: by its byte-order mark, by what it declares, else as UTF-8."""
    declared = next((name for mark, name in _MARKS if data.startswith(mark)), None) or _declared(data, kind)
    try:
        return data.decode(declared or "utf-8")
    except LookupError:
        raise DocumentError(f"{label}: says that it is in {declared}, which is no known encoding") from None
    except UnicodeDecodeError as fault:
        raise DocumentError(
            f"{label}: is not in {declared or 'UTF-8'} (byte {fault.start})",
            hint="save it as UTF-8" if kind != "html" else "declare its encoding (<meta charset>), or save it as UTF-8",
        ) from None


def _declared(data: bytes, kind: Format) -> str | None:
    if kind == "html":
        found = _XML.search(data[:1024]) or _DECLARED.search(data[:4096])
    else:
        found = _CODING.search(b"\n".join(data[:1024].split(b"\n")[:2]))
    name = found[1].decode("ascii").lower() if found else None
    # As browsers do: what says latin-1 or ASCII is Windows-1252, which is the same but for quotes and dashes.
    return "cp1252" if name in ("iso-8859-1", "latin-1", "latin1", "us-ascii", "ascii") else name
