"""The number that a clause or heading begins with: `3.2`, `Art. 5`, `§ 7 (2)`, `(b)`, `Section IV`, `第三条`.

number = leading("Art. 5 (2) Everyone …")
number.written, number.label, number.rest        # "Art. 5 (2)", "5.2", "Everyone …"
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_CONTAINERS = {
    **dict.fromkeys(("part", "teil", "partie", "parte"), "part"),
    **dict.fromkeys(("book", "buch", "livre"), "book"),
    **dict.fromkeys(("title", "titel", "titre"), "title"),
    **dict.fromkeys(("chapter", "kapitel", "chapitre"), "chapter"),
    **dict.fromkeys(("annex", "anhang", "annexe", "appendix", "anlage", "schedule", "exhibit"), "annex"),
    **dict.fromkeys(("subpart", "division", "abschnitt", "unterabschnitt"), "division"),
}
"""Words for what holds clauses; the word is in the label (`chapter-2`), so that article 2 stays free."""
_CLAUSES = (
    *("articles", "article", "artikel", "art", "section", "sec", "sect", "rule", "regel", "règle", "principle"),
    *("clause", "klausel", "guideline", "paragraph", "absatz", "abs", "ziffer", "ziff", "nr", "amendment", "recital"),
)
_WORDS = sorted((*_CONTAINERS, *_CLAUSES), key=len, reverse=True)

_GROUPS = r"(?:\s?\([0-9]{1,3}[a-z]{0,2}\)|\s?\([a-z]{1,3}\))*"
_ONE = r"(?:[0-9]{1,4}[a-z]{0,2}|[IVXLC]{1,7}|[A-Z])"
_WORD = re.compile(
    rf"(?P<word>{'|'.join(map(re.escape, _WORDS))})\.?\s{{0,4}}(?P<number>premier|première|{_ONE}(?:\.[0-9]{{1,3}})*)"
    rf"(?:er|re)?(?P<groups>{_GROUPS})(?P<end>[\s.:)–—|-]*[.:)–—|-](?=\s|$)|(?=\s|$))",
    re.IGNORECASE,
)
_SIGN = re.compile(
    rf"(?P<sign>§{{1,2}})\s?(?P<number>[0-9]{{1,4}}[a-z]{{0,2}}(?:[.-][0-9]{{1,3}})*)(?P<groups>{_GROUPS})"
    r"(?P<end>\s*[.:–—-]+(?=\s|$)|(?=\s|$))"
)
_CHINESE = re.compile(
    r"第(?P<number>[0-9]{1,4}|[〇零一二三四五六七八九十百千两]{1,8})(?P<unit>[条條章节節编編款项項部分]+)(?:之[一二三四五六七八九十])?"
)
_CHINESE_MARK = re.compile(r"(?P<open>[（(]?)(?P<number>[一二三四五六七八九十百]{1,4})(?P<close>[）)]|[、.．])")
_DOTTED = re.compile(
    rf"(?P<number>(?:[A-Z]|[IVX]{{1,4}}|[0-9]{{1,3}})(?:\.[0-9]{{1,3}}[a-z]?){{1,8}})(?P<groups>{_GROUPS})[.):]?(?=\s|$)"
)
_MARK = re.compile(
    r"(?P<open>[(（\[]?)(?P<number>[0-9]{1,3}[a-z]?|[ivxl]{1,6}|[IVXL]{1,6}|[a-zA-Z]|aa|bb|cc|dd|ee|ff)"
    r"(?P<close>[)）\]]|[.．:°])(?=\s|$|[^\x00-\x7f])"
)
_BARE = re.compile(r"(?P<number>[0-9]{1,3}|[IVX]{1,5})(?=\s+\S)")
_SPACE = re.compile(r"\s*")
_DIGITS = {char: value for value, char in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_ROMAN = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}


@dataclass(frozen=True, slots=True)
class Number:
    written: str
    """As it is in the document, without what separates it from the words."""
    label: str
    """As ids have it: `5`, `7.2`, `chapter-2`, `b`."""
    style: str
    """What its series looks like: `article`, `§`, `1.1`, `(a)`, `1.` …; numbers of one style follow one another."""
    place: int
    """Its place in the series, from 1 (or 0); 0 also where that is not known."""
    rest: str
    """What follows it."""
    absolute: bool
    """Whether it says the whole place (`Art. 5`, `3.2`) and not the place in what is above it (`(b)`)."""
    weak: bool = False
    """Whether it may be no number at all (`3.5 Million`, `10 rules`, `A. Smith`): its neighbours decide."""

    @property
    def also(self) -> tuple[str, int] | None:
        """Style and place where a Roman number is read as a letter: `(i)` after `(h)`."""
        if self.style.strip("().]:[°") in ("i", "I") and len(self.label) == 1:
            letter = self.style.replace("i", "a").replace("I", "A")
            return letter, ord(self.label.lower()) - 96
        return None


def leading(text: str, heading: bool = False) -> Number | None:
    """The number that `text` begins with. heading: whether it is one, where `3 Scope` is a number too."""
    for read in (_word, _sign, _chinese, _dotted, _mark):
        if number := read(text):
            return number
    return _bare(text) if heading else None


def _rest(text: str, end: int) -> str:
    return text[_SPACE.match(text, end).end() :]  # type: ignore[union-attr]


def _groups(text: str) -> str:
    return "".join(f".{part}" for part in re.findall(r"[0-9a-z]+", text))


def _word(text: str) -> Number | None:
    found = _WORD.match(text)
    if not found:
        return None
    word, number = found["word"].lower(), found["number"]
    if number.lower() in ("premier", "première"):
        number = "1"
    first = number.split(".")[0]
    # "section a", "part of": a letter or a Roman number is a number in capitals alone, and the word is capital too.
    if not first[0].isdigit() and not first.isupper():
        return None
    rest = _rest(text, found.end())
    if not text[0].isupper() or (not found["end"] and rest[:1].islower()):
        return None  # "Section 7 applies to …" is a sentence
    label = number + _groups(found["groups"] or "")
    container = _CONTAINERS.get(word)
    style = container or ("article" if word.startswith("art") else word)
    written = text[: found.start("end")].rstrip() if found["end"] else found[0].rstrip()
    weak = not found["end"] and bool(rest)  # "Art. 5 GG …" begins a sentence
    return Number(
        written, f"{container}-{label.lower()}" if container else label, style, value(first), rest, True, weak
    )


def _sign(text: str) -> Number | None:
    if not (found := _SIGN.match(text)):
        return None
    rest = _rest(text, found.end())
    if not found["end"] and rest[:1].islower():
        return None
    label = found["number"] + _groups(found["groups"])
    return Number(text[: found.start("end")].rstrip(), label, "§", value(found["number"]), rest, True)


def _chinese(text: str) -> Number | None:
    if found := _CHINESE.match(text):
        rest = _rest(text, found.end())
        if rest[:1] in "，。、的和至及规規" and rest:
            return None  # "第三条规定 …" speaks of it
        place, unit = value(found["number"]), found["unit"]
        label = str(place) if unit in ("条", "條", "款", "项", "項") else f"{unit}-{place}"
        return Number(found[0], label, unit, place, rest, True)
    if (found := _CHINESE_MARK.match(text)) and bool(found["open"]) == (found["close"] in "）)"):
        place = value(found["number"])
        style = "(一)" if found["open"] else "一、"
        return Number(found[0].rstrip("、.．"), str(place), style, place, _rest(text, found.end()), False)
    return None


def _dotted(text: str) -> Number | None:
    if not (found := _DOTTED.match(text)):
        return None
    parts = found["number"].split(".")
    if any(len(part) > 1 and part.startswith("0") for part in parts):
        return None
    rest = _rest(text, found.end())
    last = value(parts[-1])
    style = ".".join(parts[:-1]) + ".1"
    return Number(found[0].rstrip(".:)") if not found["groups"] else found[0].rstrip(".:"),
                  found["number"] + _groups(found["groups"]), style, last, rest, True,
                  weak=not rest or rest[:1].islower() or not rest[:1].isalpha())  # fmt: skip


def _mark(text: str) -> Number | None:
    if not (found := _MARK.match(text)):
        return None
    opened, number, close = found["open"], found["number"], found["close"]
    if bool(opened) != (close in ")）]") and opened:
        return None
    if number[0].isdigit():
        kind, place = "1", value(number)
    elif len(number) == 2 and number[0] == number[1] and number.islower() and number not in ("ii", "xx"):
        kind, place = "aa", ord(number[0]) - 96
    elif set(number.lower()) <= set("ivxl") and (roman := value(number)):
        kind, place = ("i" if number.islower() else "I"), roman
    elif len(number) == 1:
        kind, place = ("a" if number.islower() else "A"), ord(number.lower()) - 96
    else:
        return None
    table = str.maketrans("（）．", "().")
    style = f"{opened}{kind}{close}".translate(table)
    rest = _rest(text, found.end())
    weak = (kind in "aAiI" and close == ".") or close == ":"
    written = found[0] if close in ")）]" else found[0][:-1]
    return Number(written, number, style, place, rest, False, weak=weak)


def _bare(text: str) -> Number | None:
    if not (found := _BARE.match(text)):
        return None
    number = found["number"]
    style = "1 " if number.isdigit() else "I "
    return Number(number, number, style, value(number), _rest(text, found.end()), False, weak=True)


def value(number: str) -> int:
    """What it counts to: `12`, `12a`, `XII`, `xii`, `c`, `十二`; 0 where it is none of these."""
    if digits := re.match(r"[0-9]+", number):
        return int(digits[0])
    if number and all(char in _DIGITS or char in "十百千" for char in number):
        return _chinese_value(number)
    if number and set(number.lower()) <= set(_ROMAN):
        return _roman_value(number.lower())
    return ord(number.lower()) - 96 if len(number) == 1 and number.isascii() and number.isalpha() else 0


def _chinese_value(number: str) -> int:
    if not set(number) & set("十百千"):
        return int("".join(str(_DIGITS[char]) for char in number))
    total, digit = 0, 0
    for char in number:
        if char in _DIGITS:
            digit = _DIGITS[char]
        else:
            total += (digit or 1) * {"十": 10, "百": 100, "千": 1000}[char]
            digit = 0
    return total + digit


def _roman_value(number: str) -> int:
    values = [_ROMAN[char] for char in number]
    total = sum(-one if one < max(values[at + 1 :], default=0) else one for at, one in enumerate(values))
    return total if total > 0 and roman(total) == number else 0


def roman(number: int) -> str:
    """Below 400, in small letters."""
    steps = ((100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"))
    written = ""
    for step, letters in steps:
        while number >= step:
            written, number = written + letters, number - step
    return written
