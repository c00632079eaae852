"""Texts of the data made safe for what shows them: a terminal, Markdown, a spreadsheet. HTML is the template's, which
escapes whatever it is given.

    printable("\\x1b[2J")          # "\\\\x1b[2J"
    markdown("<b>| *")            # "\\\\<b\\\\>\\\\| \\\\*"
    spreadsheet("=1+1")           # "'=1+1"
"""

from __future__ import annotations

import re
import unicodedata

from constitution.errors import ConstitutionError
from constitution.secrets import hide_keys

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~$&])")
_BREAKS = re.compile(r"[\x00-\x20\x7f\x85\u2028\u2029]+")
_LIST = re.compile(r"^(\d+)([.)])(?=\s|$)")
_BLOCK = re.compile(r"^([-+=#])")
_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)*([eE][+-]?\d+)?%?")


def printable(text: str) -> str:
    """For one line of a terminal: what is no character to be seen (control characters, line breaks, directions of
    writing, halves of surrogate pairs) as an escape, so that a model's text does not steer the terminal."""
    return "".join(char if _seen(char) else char.encode("unicode_escape").decode() for char in text)


def printable_lines(text: str) -> str:
    """`printable` for each line of `text`."""
    return "\n".join(map(printable, text.split("\n")))


def brief(text: str, most: int = 800) -> str:
    """`text` with its middle left out where it is longer than `most` characters: for messages, which may quote a giant
    field, and whose end says what to do."""
    if len(text) <= most:
        return text
    tail = most // 3
    return f"{text[: most - tail]} … {text[-tail:]}"


def sentence(error: ConstitutionError | OSError | UnicodeEncodeError) -> str:
    """What is wrong, where, and what to do, for a person to read: printable, brief, without keys."""
    if isinstance(error, ConstitutionError):
        told = f"{error} ({error.hint})" if error.hint else str(error)
    elif isinstance(error, UnicodeEncodeError):
        told = f"{brief(str(error.object), 200)}: cannot be written as UTF-8 (rename the file or folder of that name)"
    else:
        place = f"{error.filename}: " if error.filename else ""
        told = f"{place}{error.strerror or error} (check the path, its permissions and the room on the disk)"
    return printable_lines(brief(hide_keys(told)))


def _seen(char: str) -> bool:
    return char.isprintable() or unicodedata.category(char) == "Zs"


class Markdown(str):
    """Text that is Markdown already."""


def markdown(text: str) -> Markdown:
    """`text` as a piece of one line, of a table's cell too, that shows as it is and does nothing else."""
    line = _SPECIAL.sub(r"\\\1", _BREAKS.sub(" ", text).strip(" "))
    line = _LIST.sub(r"\1\\\2", line)
    # What would begin a list, a rule, a heading or a heading's underline.
    return Markdown(_BLOCK.sub(r"\\\1", line))


def fenced(text: str, language: str = "") -> Markdown:
    """`text` as a block of code, whatever backticks are in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markdown(f"{fence}{language}\n{text}\n{fence}")


def spreadsheet(text: str) -> str:
    """For a cell of a CSV file: what a spreadsheet would run as a formula gets an apostrophe before it (OWASP, CSV
    injection). A number stays one, and `from_spreadsheet` gives back every text as it was."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def from_spreadsheet(text: str) -> str:
    """The text that `spreadsheet` made this of."""
    return text[1:] if text.startswith("'") and spreadsheet(text[1:]) == text else text
