"""A constitution as TOML (the standard library only reads TOML): `tomllib.loads(write_toml(c))` has the same content.

Long texts become multi-line strings, folded at spaces with a backslash: a change of one word is a change of one line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from constitution.identity import without_defaults
from constitution.records import Constitution

WIDTH = 100
_TABLES = ("system_prompts", "exemplars", "examples", "criteria", "principles", "profiles")
"""In the order in which they are written."""


def write_toml(constitution: Constitution) -> str:
    return "\n".join(_lines(without_defaults(constitution))) + "\n"


def lines_of(record: Any, path: str) -> Iterator[str]:
    """A record's fields and the tables in it, as lines of the table that is named `path` without its last dot."""
    return _lines(without_defaults(record), path)


def _lines(table: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """A table's own fields, then the tables in it."""
    for key, value in table.items():
        if key == "messages":
            yield _messages(value)
        elif key == "weights":
            yield f"weights = {{ {', '.join(f'{name} = {weight!r}' for name, weight in value)} }}"
        elif key not in _TABLES and value != "":
            yield f"{key} = {_value(key, value)}"
    for key in [name for name in _TABLES if name in table]:
        for inner in table[key]:
            yield from ("", f"[[{path}{key}]]", *_lines(inner, f"{path}{key}."))


def _messages(messages: list[dict[str, str]]) -> str:
    if len(messages) == 1 and messages[0]["role"] == "user":
        return f"prompt = {_value('prompt', messages[0]['content'])}"
    rows = [f'  {{ role = "{each["role"]}", content = {basic_string(each["content"])} }},' for each in messages]
    return "\n".join(["messages = [", *rows, "]"])


def _value(key: str, value: Any) -> str:
    if isinstance(value, float | int):
        return repr(float(value))
    if isinstance(value, list):
        return f"[{', '.join(map(basic_string, value))}]"
    line = basic_string(value)
    return line if len(key) + 3 + len(line) <= WIDTH and "\n" not in value else multiline_string(value)


def basic_string(text: str) -> str:
    """`text` as a one-line TOML string, quotes included: JSON's, with one more sign escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def multiline_string(text: str) -> str:
    """`text` as a multi-line TOML string. Line ends stay line ends; long lines are folded at single spaces."""
    body = "\n".join(_fold(line) for line in text.split("\n"))
    return f'"""\\\n{body}"""' if body[:1].strip() else f'"""\n{body}"""'


def _fold(line: str) -> str:
    """One line, escaped, in pieces of at most WIDTH where spaces allow; a piece ends in space and backslash."""
    first, *words = (basic_string(word)[1:-1] for word in line.split(" "))
    pieces, current = [], first
    for word in words:
        # TOML drops the white space after a folded line end, so a piece must begin with something visible
        if len(current) + 1 + len(word) > WIDTH and current and word:
            pieces.append(current + " \\")
            current = word
        else:
            current += " " + word
    return "\n".join([*pieces, current])
