"""Which groups the raters of annotations belong to: a column of the annotations, or a file of raters.

A group is named by its value where its column is called `group`, else `column: value`, so that columns do not mix. A
rater has one group of each column in a run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from constitution.errors import InputError, PromptError
from constitution.prompts.files import read_file
from constitution.prompts.keys import AnyKeys
from constitution.warehouse.annotations.said import as_text
from constitution.warehouse.rater_groups import COLUMN, column_of

RATERS = ("rater", "annotator", "rater_id", "annotator_id", "user_id", "worker_id", "participant")
"""Names of the column of a file of raters that says who a row is of."""
_INSIDE = ("data", "metadata", "meta")
"""Objects in which tools keep what a task brought with it."""


class _Keys(AnyKeys):
    named = frozenset(RATERS)

    def uses(self, key: str) -> bool:
        return bool(key.strip())


@dataclass(frozen=True, slots=True)
class Groups:
    """Where groups are read."""

    columns: tuple[str, ...] = ()
    """Columns of the annotations, or of the file of raters; one inside an object as `location.region`. Empty: `group`,
    where there is one."""
    of_rater: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """From the file of raters."""
    file: Path | None = None

    @classmethod
    def read(cls, columns: Sequence[str] = (), raters: Path | None = None) -> Groups:
        """Raises InputError for a file of raters that does not say who is of which group."""
        return cls(tuple(columns), _of_raters(raters, columns) if raters else {}, raters)

    def of(self, data: Mapping[str, Any]) -> tuple[str, ...]:
        """Those that a row of a file names."""
        if self.file is not None:
            return ()
        return _named(data, self.columns or (COLUMN,))

    def check(self, path: Path, seen: Collection[str]) -> None:
        """Raises InputError where no row of a file has a column that was asked for."""
        for column in () if self.file is not None else self.columns:
            if not any(column_of(name) == column for name in seen):
                hint = "correct --group, or give --raters FILE, which says whose group is what"
                raise InputError(f"{path}: no row has a group in {column!r}", hint=hint)


def _of_raters(path: Path, columns: Sequence[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    places: dict[str, str] = {}
    try:
        rows = [(row.place, row.data) for row in read_file(path, _Keys())]
    except PromptError as error:
        raise InputError(str(error), hint="a file of raters is a table: a column `rater`, and one per group") from None
    names = dict.fromkeys(name for _, data in rows for name in data)
    who = [name for name in RATERS if name in names]
    if len(who) != 1:
        raise InputError(f"{path}: has the columns {', '.join(names)}", hint=f"one of {', '.join(RATERS)} says who")
    others = [name for name in names if name != who[0]]
    if not columns and COLUMN not in others and len(others) != 1:
        raise InputError(f"{path}: has the columns {', '.join(names)}", hint="say which is a group: --group COLUMN")
    wanted = columns or ([COLUMN] if COLUMN in others else others)
    for place, data in rows:
        rater, groups = as_text(data.get(who[0])), _named(data, wanted)
        if not rater:
            raise InputError(f"{place}: names no rater", hint="take the row out")
        if found.setdefault(rater, groups) != groups:
            first, second = (", ".join(each) or "none" for each in (found[rater], groups))
            message = f"{place}: {rater!r} is of {second}, and of {first} in {places[rater]}"
            raise InputError(message, hint="a rater is of one group of each column: correct one of the two")
        places.setdefault(rater, place)
    for column in columns:
        if not any(_named(data, [column]) for _, data in rows):
            raise InputError(f"{path}: no row has a group in {column!r}", hint=f"its columns are {', '.join(names)}")
    return found


def _named(data: Mapping[str, Any], columns: Iterable[str]) -> tuple[str, ...]:
    found = []
    for column in columns:
        value = as_text(_value(data, column))
        if value:
            found.append(value if column == COLUMN else f"{column}: {value}")
    return tuple(found)


def _value(data: Mapping[str, Any], column: str) -> Any:
    holders = [data, *(data[name] for name in _INSIDE if isinstance(data.get(name), Mapping))]
    for holder in holders:
        if column in holder:
            return holder[column]
        outer, dot, inner = column.partition(".")
        if dot and isinstance(holder.get(outer), Mapping):
            return _value(holder[outer], inner)
    return None
