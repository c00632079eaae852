"""Faults of a constitution file in words, as pydantic finds them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any


def place_of(loc: tuple[int | str, ...]) -> str:
    """`exemplars #1, messages #2, role`: people count from 1."""
    words: list[str] = []
    for part in loc:
        if isinstance(part, int) and words:
            words[-1] += f" #{part + 1}"
        else:
            words.append(str(part))
    return ", ".join(words)


_EXPECTED = {
    "string_type": "text in quotes",
    "float_type": "a number",
    "list_type": "a list",
    "model_type": "a table",
    "dict_type": "a table",
}


def phrase(fault: Mapping[str, Any], known: list[str]) -> str:
    kind, value = fault["type"], fault["input"]
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1)
        return "unknown field" + (f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}")
    if kind == "missing":
        return "missing field"
    if kind == "string_too_short":
        return "is empty"
    if kind == "string_pattern_mismatch":
        return f"{value!r} must be lower-case letters, digits and hyphens, 64 at most"
    if kind == "value_error":
        return str(fault["ctx"]["error"])
    if kind == "literal_error":
        return f"expected {fault['ctx']['expected'].replace(chr(39), '')}, found {toml_type(value)}"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, found {toml_type(value)}"
    return f"{fault['msg'][0].lower()}{fault['msg'][1:]}, found {value!r}"


def toml_type(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    return f'the text "{value}"' if isinstance(value, str) else str(value)
