"""What is kept with a prompt, and decides no answer to it: its own name, further keys of its row, its tags."""

from __future__ import annotations

import json
import math
from typing import Any

from constitution.errors import PromptError
from constitution.prompts.benchmarks import Shape
from constitution.prompts.keys import is_empty
from constitution.prompts.row import Row, are_texts, check_text
from constitution.recipe import PromptsSection


class Kept:
    """Reads it, as a recipe says."""

    def __init__(self, section: PromptsSection, shape: Shape | None) -> None:
        self._section, self._shape = section, shape
        self._missing = set(section.metadata)
        """Keys that no row has had so far."""
        self._names: dict[str, str] = {}
        """Name of a prompt → where its row is; some 200 bytes a prompt."""

    def name(self, row: Row) -> str | None:
        """What the row's key `id_field` says: a text as it is, a number as JSON writes it. None: the recipe has none.

        Raises PromptError for a row without a name, and for one whose name an earlier row has.
        """
        if (key := self._section.id_field) is None:
            return None
        value = row.value(key, "correct prompts.id_field")
        if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
            row.refuse(f"{key} is neither a text nor a number that names the row")
        if isinstance(value, float) and not math.isfinite(value):
            row.refuse(f"{key} is {value}, which names no row")
        name = value if isinstance(value, str) else json.dumps(value)
        check_text(row, key, name)
        if (place := self._names.setdefault(name, row.place)) != row.place:
            row.refuse(f"{key} is {name!r:.200}, and that of {place} too", "each row has a name that no other has")
        return name

    def metadata(self, row: Row, whole: dict[str, Any]) -> str | None:
        """The keys `metadata` as a JSON object, in the recipe's order; one that the row has not is null. None: the
        recipe names none. whole: the row as it was before values gave way to what is inside them."""
        keys = self._section.metadata
        data = {**whole, **row.data} if keys else {}
        self._missing -= data.keys()
        values = [f"{json.dumps(key, ensure_ascii=False)}: {as_json(row, key, data.get(key))}" for key in keys]
        return f"{{{', '.join(values)}}}" if keys else None

    def tags(self, row: Row) -> list[str]:
        """The benchmark's first, the subset before all."""
        tags = self._shape.tags_of(row) if self._shape else []
        if (key := self._section.tags_field) is not None:
            own = row.value(key)
            if isinstance(own, str):
                own = [] if is_empty(own) else [_one(row, key, own)]
            if not isinstance(own, list) or not all(isinstance(tag, str) for tag in own):
                row.refuse(f"{key} is neither a text nor a list of texts")
            tags += own
        for tag in tags:
            check_text(row, key or "a tag", tag)
        return tags

    def check_end(self, source: str) -> None:
        """Raises PromptError where no row had one of the keys."""
        if self._missing:
            raise PromptError(f"{source}: no row has the key {min(self._missing)!r}", hint="correct prompts.metadata")


def _one(row: Row, key: str, text: str) -> str:
    """A text that is one tag."""
    try:
        is_list = text.lstrip().startswith("[") and are_texts(json.loads(text))
    except (ValueError, RecursionError):
        is_list = False
    if is_list:
        row.refuse(f"{key} is a text that holds a list of texts", "format sql can make a list of it")
    return text


def as_json(row: Row, key: str, value: Any) -> str:
    """A value of `metadata`. Raises PromptError for one that JSON has not."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except TypeError as error:
        row.refuse(f"{key} is nothing that JSON has: {error}", "leave it out of prompts.metadata, or write it as text")
    except (ValueError, RecursionError) as error:
        row.refuse(f"{key} is nothing that JSON has: {error}", "correct it, or leave it out of prompts.metadata")
    check_text(row, key, text)
    return text
