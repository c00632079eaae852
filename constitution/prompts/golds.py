"""Which of a row's answers people prefer: the one that is named, the one that a value names, or the one that has the
highest score or the lowest rank."""

from __future__ import annotations

import json
import math
from typing import Any

from constitution.errors import PromptError
from constitution.prompts.keys import is_empty
from constitution.prompts.paths import EACH, values
from constitution.prompts.row import Row
from constitution.recipe import PromptsSection


class Golds:
    """Reads which answer is better, as a recipe says."""

    def __init__(self, section: PromptsSection) -> None:
        self._section = section
        self._numbers = section.gold_highest or section.gold_lowest
        self._seen: set[str] = set()
        self._missing: set[str] = set()

    def of(self, row: Row, answers: int) -> tuple[int, ...]:
        """Place of the better one among this number of answers; empty: the row has no gold. Raises PromptError where
        what the recipe names does not say it."""
        section = self._section
        if self._numbers:
            return self._by_number(row, answers)
        better = section.gold
        if better is not None and section.gold_values:
            better = _by_value(section, row, better)
        return (section.answers.index(better),) if better else ()

    def check_end(self, name: str) -> None:
        """Raises PromptError where no row had the numbers. name: the source's."""
        if missing := self._missing - self._seen:
            raise PromptError(f"{name}: no row has the key {min(missing)!r}", hint="correct it in the recipe")

    def _by_number(self, row: Row, answers: int) -> tuple[int, ...]:
        self._seen |= {key for key in self._numbers if row.data.get(key, []) != []}
        if missing := {key for key in self._numbers if EACH in key} - row.data.keys():  # in no item of the list
            self._missing |= missing
            return ()
        numbers = [_number(row, name, value) for name, value in _held(row, self._numbers)]
        if len(numbers) != answers:
            row.refuse(f"has {answers} answers and {len(numbers)} numbers under {', '.join(self._numbers)}")
        return _best(numbers, -1 if self._section.gold_lowest else 1)


def _by_value(section: PromptsSection, row: Row, key: str) -> str:
    value = row.value(key, "correct prompts.gold")
    text = value if isinstance(value, str) else json.dumps(value)
    if text not in section.gold_values:
        row.refuse(
            f"{key} is {text!r:.100}, which prompts.gold_values does not have",
            f'{json.dumps(text)} = one of prompts.answers, or "" where the row has no gold, is missing there',
        )
    return section.gold_values[text]


def _held(row: Row, keys: tuple[str, ...]) -> list[tuple[str, Any]]:
    """What is under the keys, where they are there; null is no number."""
    return [
        pair
        for key in keys
        for pair in ([(key, None)] if key in row.data and row.data[key] is None else values(row, [key]))
    ]


def _number(row: Row, name: str, value: Any) -> float | None:
    """None: there is none. A text may be a number, as in CSV."""
    if is_empty(value):
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        row.refuse(f"{name} is {value!r:.100} and no number", "leave such rows out; format sql can")
    if isinstance(value, bool) or math.isinf(number):
        row.refuse(f"{name} is {value!r:.100} and no number", "leave such rows out; format sql can")
    return None if math.isnan(number) else number


def _best(numbers: list[float | None], sign: int) -> tuple[int, ...]:
    """None where one of them is missing, where two are the best, and of one answer, which is better than none."""
    known = [sign * number for number in numbers if number is not None]
    if len(known) < max(len(numbers), 2) or known.count(best := max(known)) > 1:
        return ()
    return (known.index(best),)
