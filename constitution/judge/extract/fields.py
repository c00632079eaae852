"""A field of the JSON object that an answer is, or that its last fenced block holds."""

from __future__ import annotations

import re
from typing import Any

from constitution.errors import InputError
from constitution.reading import parse_json

_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[^\n`]*\n(.*?)^[ \t]*\1[`~]*[ \t]*$", re.DOTALL | re.MULTILINE)


class Missing:
    """No value: not even null."""


def field(text: str, key: str) -> Any:
    """The value of the key, as JSON; `a.b` is b in a, where no key is called so. `Missing`: the text is neither an
    object nor has it one in its last fenced block, or the object lacks the key."""
    fenced = [found[2] for found in _FENCE.finditer(text)]
    try:
        value = parse_json(fenced[-1] if fenced else text, "", InputError)
    except InputError:
        return Missing
    return _inside(value, key)


def _inside(value: Any, key: str) -> Any:
    if not isinstance(value, dict):
        return Missing
    if key in value:
        return value[key]
    name, dot, rest = key.partition(".")
    return _inside(value.get(name), rest) if dot else Missing
