"""The lines of a PDF, by PDFium. A script of another process: what is hostile or damaged ends that process alone.

    python -P pdfium.py < FILE       # a line of JSON a page: [[text, left, right, bottom, size, bold, hyphen], …]

Lengths are in points, from the lower left corner. hyphen: whether the line ends within a word. Exit codes 3, 4 and 5
say why there is nothing (`REASONS`).
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

MOST_MEMORY = 4 * 2**30
"""Bytes."""
MOST_SECONDS = 600
"""Seconds of processor time."""
MOST_TEXT = 32 * 2**20
"""Characters."""
PASSWORD, DAMAGED, NOT_ALLOWED, TOO_LONG = 3, 4, 5, 6
REASONS = {
    PASSWORD: ("is encrypted", "save it without a password"),
    DAMAGED: ("cannot be read as a PDF", "save it again"),
    NOT_ALLOWED: ("does not allow its text to be copied", "ask for a document that does"),
    TOO_LONG: (f"has more than {MOST_TEXT // 2**20} million characters", "divide it"),
}
_COPY = 0x10
"""The permission to copy text (ISO 32000-1, table 22, bit 5)."""
_HYPHEN = 2
"""What PDFium gives for a hyphen that breaks a word at a line's end."""


def main() -> int:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import pypdfium2
    from pypdfium2 import raw

    try:
        document = pypdfium2.PdfDocument(sys.stdin.buffer.read())
    except pypdfium2.PdfiumError as fault:
        return PASSWORD if "assword" in str(fault) or "ecurity" in str(fault) else DAMAGED
    if raw.FPDF_GetSecurityHandlerRevision(document) >= 0 and not raw.FPDF_GetDocPermissions(document) & _COPY:
        return NOT_ALLOWED
    left = MOST_TEXT
    for number in range(len(document)):
        try:
            page = document[number]
            found = _lines(raw, page.get_textpage())
        except pypdfium2.PdfiumError:
            return DAMAGED
        left -= sum(len(line[0]) for line in found)
        if left < 0:
            return TOO_LONG
        sys.stdout.write(json.dumps(found) + "\n")
        page.close()
    return 0


def _lines(raw: Any, page: Any) -> list[list[Any]]:
    found: list[list[Any]] = []
    begin = 0
    count = raw.FPDFText_CountChars(page)
    signs = [raw.FPDFText_GetUnicode(page, at) for at in range(count)]
    for at, sign in enumerate([*signs, 10]):
        if sign in (10, 13, _HYPHEN):
            if line := _line(raw, page, begin, signs[begin:at]):
                found.append([*line, sign == _HYPHEN])
            begin = at + 1
    return found


def _line(raw: Any, page: Any, begin: int, signs: list[int]) -> list[Any] | None:
    """Text, left, right, bottom, size and bold of the characters from begin on."""
    text = "".join(map(chr, signs)).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    shown = [at for at, sign in enumerate(signs, begin) if sign > 32 and sign != 160]
    if not shown:
        return None
    left, bottom, _, _ = page.get_charbox(shown[0], loose=True)
    _, _, right, _ = page.get_charbox(shown[-1], loose=True)
    matrix = raw.FS_MATRIX()
    raw.FPDFText_GetMatrix(page, shown[0], matrix)
    scale = (matrix.b**2 + matrix.d**2) ** 0.5 or 1.0
    size = raw.FPDFText_GetFontSize(page, shown[0]) * scale
    bold = all(raw.FPDFText_GetFontWeight(page, at) >= 600 for at in (shown[0], shown[len(shown) // 2], shown[-1]))
    return [text, round(left, 1), round(right, 1), round(bottom, 1), round(size, 1), bold]


if __name__ == "__main__":
    sys.exit(main())
