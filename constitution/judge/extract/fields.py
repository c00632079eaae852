"""A field of the JSON object that an answer is, or that its last fenced block holds."""

from __future__ import annotations

import re
from typing import Any

from constitution.errors import InputError
from constitution.reading import parse_json

_OPENS = re.compile(r"[ \t]*(`{3,}|~{3,})[^`]*\Z")


class Missing:
    """No value: not even null."""


def field(text: str, key: str) -> Any:
    """The value of the key, as JSON; `a.b` is b in a, where no key is called so. `Missing`: the text is neither an
    object nor has it one in its last fenced block, or the object lacks the key."""
    block = _last_block(text)
    try:
        value = parse_json(text if block is None else block, "", InputError)
    except InputError:
        return Missing
    return _inside(value, key)


def _last_block(text: str) -> str | None:
    """Line by line: a pattern over all of it takes the square of its length where blocks begin that do not end."""
    last, mark, lines = None, "", list[str]()
    for line in text.split("\n"):
        bare = line.strip(" \t")
        if not mark:
            opened = _OPENS.match(line)
            mark, lines = opened[1] if opened else "", []
        elif bare.startswith(mark) and not bare.strip("`~"):
            last, mark = "\n".join(lines), ""
        else:
            lines.append(line)
    return last


def _inside(value: Any, key: str) -> Any:
    if not isinstance(value, dict):
        return Missing
    if key in value:
        return value[key]
    name, dot, rest = key.partition(".")
    return _inside(value.get(name), rest) if dot else Missing
