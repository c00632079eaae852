"""Numbers as answers write them, read exactly: as fractions, never as floats.

What looks like a number and is a part of something else (a date, a time, a range, a version, an expression without its
result, a decimal comma) is none: then there is no number, rather than a wrong one.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from typing import NamedTuple


class Number(NamedTuple):
    value: Fraction
    percent: bool
    """It is followed by a percent sign; the value is what is before it."""
    unit: str = ""
    """What follows a number that is alone, in plain letters; empty: nothing, or it is not known."""

    def same(self, other: Number) -> bool:
        """A percent sign that one of them lacks may be a unit or a hundredth: both are the same. A unit that one of
        them lacks is no difference, and two that differ are one."""
        if self.unit and other.unit and self.unit != other.unit:
            return False
        if self.percent != other.percent:
            with_sign, without = (self, other) if self.percent else (other, self)
            return without.value in (with_sign.value, with_sign.value / 100)
        return self.value == other.value

    def __str__(self) -> str:
        percent = "%" if self.percent else ""
        return f"{_shown(self.value)}{percent}" + (f" {self.unit}" if self.unit else "")


MOST_DIGITS = 400
"""How many digits, or powers of ten, are read: more are not written by hand, and would take long."""
NEAR = 40
"""Characters before a number that are looked at."""

_VULGAR = re.compile(r"(?<=\d)(?=[\u00bc-\u00be\u2150-\u215f\u2189])")
_SUPER, _SUB = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "₀₁₂₃₄₅₆₇₈₉"
_RAISED, _LOWERED = re.compile(f"[{_SUPER}]+"), re.compile(f"[{_SUB}]+")
_UP, _DOWN = str.maketrans(_SUPER, "0123456789+-"), str.maketrans(_SUB, "0123456789")
_THIN = re.compile(r"(?<=\d)(?:[\u00a0\u2009\u202f]|\\[,!]|\s?\{\s?,\s?\}\s?)(?=\d{3}(?!\d))")
_SIGNS = str.maketrans({"⁄": "/", "−": "-", "–": "-", "‐": "-", "‑": "-", "’": "'", "٫": ".", "٬": ",", "×": "*"})
_FRACTION = re.compile(r"(\d\s*)?\\[cdt]?frac\s*(?:\{\s*(-?\d+)\s*\}|(\d))\s*(?:\{\s*(\d+)\s*\}|(\d))")
_WRAPPER = re.compile(
    r"\\(?:boxed|fbox|text(?:bf|it|rm|sf|tt)?|math(?:bf|it|rm|sf|tt)|displaystyle|left|right)(?![a-z])"
)
_DEGREE = re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![a-z]))")
_POWER_OF_TEN = re.compile(r"(?<=\d)\s*(?:\*|x|·|\\times|\\cdot)\s*10\s*\^\s*([-+]?\d{1,4})")

_RUN = re.compile(r"\d(?:[\d.,:/'^_-]|(?<=\d)[eE][-+]?(?=\d))*")
_PLAIN = re.compile(
    r"(?P<whole>\d{1,3}(?:,\d{3})+|\d{1,3}(?:'\d{3})+|\d+)?(?P<part>\.\d+)?"
    r"(?:[eE](?P<power>[-+]?\d{1,4}))?(?:/(?P<under>\d+))?"
)
_CURRENCY = "[$€£¥₹]?"
_PART_OF_A_NAME = re.compile(r"[^\W\d_]{2}-\Z|[^\W\d]\Z|(?:[^\W\d]{2}|(?<![^\W\d])[ms])\^\Z")
"""Before a number that is passed over: H2, x_2, GPT-4, cm^2."""
_OPERAND = re.compile(
    rf"(?:[\d)\]}}%]|(?<![^\W\d])[A-Za-z])\s*[-+*/·÷]\s*{_CURRENCY}\s*\Z|[\w)\]}}]?\^\Z|[A-Za-z}}\])][({{]\s*[-+]?\s*\Z"
)
"""Before a number that is a part of an expression."""
_FACTOR = re.compile(r"\s*(?:\\pi|\\sqrt|\\frac|π|√|[·÷^]\s*[\w({\\]|\*\s*\d)|[xyznikKMB](?![A-Za-z])")
"""After one."""
_SIGN = re.compile(rf"([-+])(\s*){_CURRENCY}\s*\Z")
_MIXED = re.compile(r"(?<![\w.,/:'^])(\d+) \Z")
_ORDINAL = re.compile(r"(?:st|nd|rd|th)\b")
_PERCENT = re.compile(r"\s*[$*}]{0,4}\s*(?:%|percent(?:age)?\b|per cent\b|pct\b)", re.IGNORECASE)
_TIMES = re.compile(r"[\s{]+(hundred|thousand|million|billion|trillion|dozen)\b", re.IGNORECASE)
_EACH = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_UNIT = re.compile(r"(?:[A-Za-z°µΩ$€£¥₹/ .{}*\\-]|\^(?=-?\d)|(?<=\^)-?\d){0,40}")
_MARK = re.compile(rf"####[ \t]*[-+]?[ \t]*{_CURRENCY}[ \t]*[-+]?(?=\d)")
_NAMED = re.compile(r"[A-Za-z]\w{0,9}\s*=\s*")


def plain(text: str) -> str:
    """The text with one notation for each thing: digits, signs, thin spaces between thousands, fractions, powers."""
    text = _VULGAR.sub(" ", text)
    text = _RAISED.sub(lambda found: "^" + found[0].translate(_UP), text)
    text = _LOWERED.sub(lambda found: "_" + found[0].translate(_DOWN), text)
    text = unicodedata.normalize("NFKC", _THIN.sub("", text)).translate(_SIGNS)
    if not text.isascii():
        text = "".join(str(unicodedata.decimal(each)) if each.isdecimal() else each for each in text)
    text = _FRACTION.sub(lambda m: f"{m[1] + ' ' if m[1] else ''}{m[2] or m[3]}/{m[4] or m[5]}", text)
    text = _DEGREE.sub("°", _WRAPPER.sub(" ", text)).replace("\\$", "$").replace("\\%", "%").replace("^{", "^")
    return _POWER_OF_TEN.sub(r"e\1", text)


def last_number(text: str) -> Number | None:
    """The last number of a text, or what GSM8K's mark `####` names; None: there is none, or what comes last is a part
    of something else."""
    text = plain(text)
    for mark in reversed(list(_MARK.finditer(text))):
        run = _RUN.match(text, mark.end())
        named = _read(text, run) if run else None
        if named is not None:
            return named.number
    for run in reversed(list(_RUN.finditer(text))):
        found = _read(text, run)
        if found is not None:
            return found.number
    return None


def number(text: str) -> Number | None:
    """A text that is a number and nothing else but its unit, as `x = 5`, `$1,234.50` or `35 cm`; None: it is not."""
    text = plain(text).strip(" \t\n$*.")
    while (text[:1], text[-1:]) in (("{", "}"), ("(", ")")):
        text = text[1:-1].strip()
    text = text[name.end() :] if (name := _NAMED.match(text)) else text
    last = next((run for run in reversed(list(_RUN.finditer(text))) if text[: run.start()][-1:] != "^"), None)
    found = _read(text, last) if last else None
    if found is None or found.number is None or text[: found.start].strip(" {$€£¥₹"):
        return None
    unit = text[found.end :]
    if not _UNIT.fullmatch(unit):
        return None
    return found.number._replace(unit=re.sub(r"[\s{}$.\\*]+", "", unit))


class _Found(NamedTuple):
    number: Number | None
    """None: it is a part of something else."""
    start: int
    end: int


def _read(text: str, run: re.Match[str]) -> _Found | None:
    """A run of digits and what may be between them; None: it is a part of a name or a mark, and is passed over."""
    digits = run[0].rstrip(".,:/'^_-")
    start, end = run.start(), run.start() + len(digits)
    left, nothing = text[max(start - NEAR, 0) : start], _Found(None, start, end)
    if left.endswith(".") and not left.endswith("..") and not re.search(r"\w\.\Z", left):
        digits, left, start = f".{digits}", left[:-1], start - 1
    if _PART_OF_A_NAME.search(left) or _ORDINAL.match(text, end) or _is_list_mark(text, start, end):
        return None
    parts = _PLAIN.fullmatch(digits)
    value = _value(parts) if parts and len(digits) <= MOST_DIGITS else None
    if parts is None or value is None or _FACTOR.match(text, end) or re.search(r"\w\.\Z", left):
        return nothing
    if mixed := _MIXED.search(left):
        if not parts["under"] or parts["part"] or value >= 1 or len(mixed[1]) > MOST_DIGITS:
            return nothing
        value, left, start = value + int(mixed[1]), left[: mixed.start()], start - len(mixed[0])
    elif left[-2:-1].isdigit() and left.endswith(" "):
        return nothing
    if _OPERAND.search(left):
        return nothing
    if sign := _SIGN.search(left):
        before = left[: sign.start()]
        is_mark = before.endswith("-") or (sign[2] and not before.rpartition("\n")[2].strip())
        value, start = -value if sign[1] == "-" and not is_mark else value, start - len(sign[0])
    if times := _TIMES.match(text, end):
        value, end = value * _EACH[times[1].lower()], times.end()
    percent = _PERCENT.match(text, end)
    return _Found(Number(value, percent is not None), start, percent.end() if percent else end)


def _is_list_mark(text: str, start: int, end: int) -> bool:
    """Whether it numbers the item of a list, or a heading, which has words after it."""
    return (
        text[end : end + 1] in (".", ")")
        and re.match(r"[ \t]+\S", text[end + 1 : end + NEAR]) is not None
        and not text[text.rfind("\n", 0, start) + 1 : start].strip(" \t*_#")
    )


def _value(parts: re.Match[str]) -> Fraction | None:
    """None: it is no number, or one with more digits than are read."""
    whole, part = (parts["whole"] or "").replace(",", "").replace("'", ""), parts["part"] or ""
    power, under = int(parts["power"] or 0), parts["under"]
    if not (whole or part) or abs(power) > MOST_DIGITS or (under and not int(under)):
        return None
    return Fraction(f"{whole or '0'}{part}") * Fraction(10) ** power / int(under or 1)


def _shown(value: Fraction) -> str:
    """A decimal where it has an end, else a fraction."""
    places = 0
    while places <= MOST_DIGITS and (value * 10**places).denominator % 2 == 0:
        places += 1
    while places <= MOST_DIGITS and (value * 10**places).denominator % 5 == 0:
        places += 1
    whole = value * 10**places
    if whole.denominator > 1 or not places:
        return str(value)
    digits = f"{abs(whole.numerator):0{places + 1}d}"
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"
