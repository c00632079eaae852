"""The letter of a choice, where an answer says it in a form that only a choice has.

A letter alone in a sentence is none: `A` and `I` are words, and so is the C of vitamin C. Of several that it says, the
last that it calls its answer counts; letters that it merely marks have to agree.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

_FONT = re.compile(r"\\(?:text|math)[a-z]{0,4}\s*(?=\{)")


class _Forms(NamedTuple):
    stated: re.Pattern[str]
    """The answer is B; Answer: (B)."""
    right: re.Pattern[str]
    """B is correct."""
    bare: re.Pattern[str]
    """A line that is the letter."""
    labelled: re.Pattern[str]
    """A line that is the letter and the words of the choice: B) Paris."""
    marked: re.Pattern[str]
    """(B), **B**, option B."""
    more: re.Pattern[str]
    """A second letter after it: it does not choose."""
    boxed: re.Pattern[str]


@cache
def _forms(letters: str) -> _Forms:
    one = f"([{letters}])"
    opens, closes = r"[\s*_`\"'$(\[{\\]*", r"[*_`\"'$)\]}\s]*"
    ends = r"(?![A-Za-z0-9'’]|-[A-Za-z])"
    # `A` and `I` before a word are words themselves, but before some that give a reason.
    no_word = rf"{ends}(?!(?<=[AaIi])\s+(?!(?:because|since|as|and|or|but|which|for|with)\b)[A-Za-z])"
    no_verb = r"(?!\s+(?:is|was|isn|are|can|cannot|could|does|would|seems|has)\b)"
    cue = (
        r"\b(?:answer|choice|option)(?:\s+(?:to\s+[^.\n:]{1,60}|here))?\**\s*"
        r"(?:is|was|would\s+be|should\s+be|must\s+be|[:=：])"
    )
    verb = r"\bI(?:\s+would|\s+will|['’]d|['’]ll)?\s+(?:choose|pick|select|go\s+with|went\s+with)"
    between = r"(?:\s*[:：])?(?:\s+(?:clearly|therefore|thus|most\s+likely|probably|option|choice|letter|answer))*"
    return _Forms(
        re.compile(rf"(?:{cue}|{verb}){between}{opens}{one}{no_word}", re.IGNORECASE),
        re.compile(rf"(?<![A-Za-z0-9'’]){one}[)\]*_.]*\s+is\s+(?:the\s+)?(?:correct|right|best)\b"),
        re.compile(rf"{opens}{one}[*_`\"'$)\]}}.:]*"),
        re.compile(rf"{opens}{one}[*_`\"'$]*[.:)\]][*_`\"'$)\]}}]*{no_verb}\s.*"),
        re.compile(rf"[(\[]{one}[)\]]{no_verb}|\*\*{one}[.):]?\*\*{no_verb}|\b[Oo]ption\s+{one}{no_word}{no_verb}"),
        re.compile(
            rf"{closes}(?:,|/|&|\band\b|\bor\b){opens}(?:or\s|and\s)?{opens}{one}(?={closes}(?:\Z|[.,;:!?/&]|\b(?:and|or|are)\b))"
        ),
        re.compile(rf"\A\W*{one}(?:\W*\Z|[.:)\]-]\s)"),
    )


def choice(text: str, letters: str, boxed: str | None = None) -> str | None:
    """The letter, a capital. letters: those that can be chosen. boxed: what the text has in its last box. None: it
    names none in such a form, or several as its answer."""
    forms = _forms(letters.upper())
    text = _FONT.sub("", text).strip()
    if boxed is not None:
        inside = forms.boxed.match(_FONT.sub("", boxed).strip())
        return inside[1] if inside else None
    for form in (forms.stated, forms.right):
        if found := list(form.finditer(text)):
            return _single(forms, text, found[-1])
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if bare := {line[1] for line in map(forms.bare.fullmatch, lines) if line}:
        return bare.pop() if len(bare) == 1 else None
    labelled = [forms.labelled.fullmatch(line) for line in lines]
    if letters_there := {line[1] for line in labelled if line}:
        there = next(line for line in labelled if line)
        at_an_end = labelled[0] or labelled[-1]
        return _single(forms, there.string, there) if len(letters_there) == 1 and at_an_end else None
    marked = {found[found.lastindex or 0] for found in forms.marked.finditer(text)}
    return marked.pop() if len(marked) == 1 else None


def _single(forms: _Forms, text: str, found: re.Match[str]) -> str | None:
    more = forms.more.match(text, found.end(1))
    return None if more and more[1].isupper() and more[1] != found[1].upper() else found[1].upper()
