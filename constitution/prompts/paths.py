"""Keys inside a row's values: `body.messages`, `summaries[0].text`, and of every item of a list `completions[].text`.

parted(row, ["completions[].text"])  # {"completions[].text": ["…", "…"], "completions[].model": ["…", "…"], …}
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from constitution.prompts.row import Row

EACH = "[]"
"""What says in a key that all items of a list are meant."""
_STEP = re.compile(r"(?<=.)\.|(?<=.)\[(?=\d*\])")


def is_path(key: str) -> bool:
    """Whether a key may be one inside a value; a row that has it as it is comes first."""
    return _STEP.search(key) is not None


def above(path: str) -> list[str]:
    """`a.b[0].c`: `a`, `a.b`, `a.b[0]`."""
    return [path[: step.start()] for step in _STEP.finditer(path)]


def parted(data: dict[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """The row with what is inside a value in the value's place, wherever it is on the way to one of `paths`: nothing
    that lies beside what is named goes unseen."""
    for path in paths:
        for key in above(path) if path not in data else ():
            if (inside := _inside(key, path.removeprefix(key), data.get(key))) is not None:
                data = {**{name: value for name, value in data.items() if name != key}, **inside}
    return data


def _inside(key: str, rest: str, value: Any) -> dict[str, Any] | None:
    """What `value` has, by path; None: it is not what the rest of the path asks for."""
    if isinstance(value, list):
        if rest.startswith(EACH):
            return {f"{key}{EACH}": value}
        if rest.startswith("["):
            return {f"{key}[{place}]": item for place, item in enumerate(value)}
        if EACH in key and not value:
            return {key: [], f"{key}{rest}": []}
        if EACH in key and all(isinstance(item, dict | None) for item in value):
            names = dict.fromkeys(name for item in value for name in item or ())
            return {f"{key}.{name}": [(item or {}).get(name) for item in value] for name in names}
    if isinstance(value, dict) and rest.startswith("."):
        return {f"{key}.{name}": item for name, item in value.items()}
    return None


def values(row: Row, keys: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """What each key holds; of one with `[]` what each item of its list does, under a name for messages.

    Raises PromptError for what is missing or null; a list may be empty.
    """
    for key in keys:
        value = row.value(key)
        if EACH not in key:
            yield key, value
            continue
        if not isinstance(value, list):
            row.refuse(f"{key.replace(EACH, '')} is not a list")
        yield from ((f"{key}, item {number}", item) for number, item in enumerate(value, 1))
