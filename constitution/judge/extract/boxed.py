r"""What `\boxed{…}` holds, as mathematics are marked (Hendrycks et al., arXiv 2103.03874).

Notations are compared, and numbers by their value; algebra is not: x + 2 is not 2 + x.
"""

from __future__ import annotations

import re

_MARK = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])[ \t]*")
_BRACES = re.compile(r"\\[{}\\]|[{}]")
_WORD = re.compile(r"[-+]?\d+(?:[.,/]\d+)*|[A-Za-z](?![A-Za-z])")
_BETWEEN = re.compile(r"(?:[\s$,;.&]|\\[,;!: ()\[\]]|\\q?quad(?![a-z])|\\text\s*\{\s*(?:and|or)\s*\}|\b(?:and|or)\b)*")
_SPACE = re.compile(r"\\[,;!: ]|\\q?quad(?![a-z])|\\(?:left|right|displaystyle|big|Big|bigg|Bigg)(?![a-z])|[\s$~]")
_TEXT = re.compile(r"\\(?:text(?:bf|it|rm|sf|tt)?|math(?:bf|it|rm|sf|tt)|mbox)\s*\{([^{}]*)\}")
_SHORT_FRACTION = re.compile(r"\\frac(?:\{([^{}]*)\}|([^{}\\]))(?:\{([^{}]*)\}|([^{}\\]))")


def last_boxed(text: str) -> str | None:
    """What the last box holds. Boxes with nothing between them but commas, `and` or `or` are one list, with commas.
    None: there is none, or the last one is empty or has no end."""
    found: list[tuple[int, int, str]] = []
    place = 0
    while mark := _MARK.search(text, place):
        held = _held(text, mark.end())
        if held is None:
            found.append((mark.start(), len(text), ""))
            break
        place, inside = held
        within = _MARK.match(inside)
        again = _held(inside, within.end()) if within else None  # a box that holds a box and nothing else
        inside = again[1] if again and again[0] == len(inside) else inside
        found.append((mark.start(), place, inside))
    boxes: list[str] = []
    for number in range(len(found) - 1, -1, -1):
        boxes.append(found[number][2].strip())
        if not number or not _BETWEEN.fullmatch(text[found[number - 1][1] : found[number][0]]):
            break
    if not boxes or not all(boxes):
        return None
    return ", ".join(dict.fromkeys(reversed(boxes)))


def _held(text: str, start: int) -> tuple[int, str] | None:
    """The end of a box and what is in it: braces that close, or as `\\boxed 5` a number or a letter, or nothing.
    None: it has no end."""
    if text[start : start + 1] != "{":
        word = _WORD.match(text, start)
        return (word.end(), word[0]) if word else (start, "")
    depth = 0
    for brace in _BRACES.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return brace.end(), text[start + 1 : brace.start()]
    return None


def notation(text: str) -> str:
    r"""LaTeX without what changes no meaning: spaces, sizes, fonts, `\dfrac`, `\frac12`, a last full stop."""
    text = _TEXT.sub(lambda found: found[1], text.strip().rstrip(".").replace("\\$", ""))
    text = _SPACE.sub("", text.replace("\\\\", "\n")).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    return _SHORT_FRACTION.sub(lambda m: f"\\frac{{{m[1] or m[2]}}}{{{m[3] or m[4]}}}", text)
