"""People's annotations: from a file (of an annotation sheet, any table, or a tool of annotators), and to such a tool.

    found = read_annotations(root, Path("ann.csv"), raters={"": "ann"})
    found.annotations, found.skipped, found.notes
    write_sheet(root, run_id, "label-studio", Path("sheet"))

said (what a row says) → sheet (pairs to be shown) → table, argilla, label_studio, prodigy (one module a form) → known
(what a row is about). Files are read by the readers of prompts, so of every kind that they know; each row is taken for
that form whose keys it has. Ids are looked up in the warehouse, and say which run a row belongs to. The first row that
is wrong refuses all files, with its place; nothing is written to the warehouse here.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Literal

from constitution.errors import InputError, PromptError
from constitution.prompts.files import form_of, read_file
from constitution.prompts.keys import AnyKeys
from constitution.reading import check_file
from constitution.records import Annotation
from constitution.shown import from_spreadsheet
from constitution.warehouse.annotations import argilla, label_studio, prodigy, table
from constitution.warehouse.annotations.groups import Groups
from constitution.warehouse.annotations.known import IN_A_TABLE, ON_A_SHEET, WITH_IDS, Known
from constitution.warehouse.annotations.said import ALIASES, BLANK, COLUMNS, Refused, Said, whole
from constitution.warehouse.annotations.sheet import sheets
from constitution.warehouse.rater_groups import check_groups
from constitution.writing import beside

__all__ = ["COLUMNS", "TOOLS", "AnnotationFile", "Conflicts", "Groups", "read_annotations", "write_sheet"]

TOOLS: dict[str, ModuleType] = {"argilla": argilla, "label-studio": label_studio, "prodigy": prodigy}
"""Each module has `KEYS`, `is_one`, `said` and `write`. What is none of theirs is a table."""

UNKNOWN = "about what is not in the warehouse"
AGAIN = "saying again what the same rater says in another row"
OVERRULED = "contradicted by a later row of the same rater"
CONFLICT = "contradicting another row of the same rater"
NO_GROUP = "by a rater whom the file of raters does not have"
Conflicts = Literal["refuse", "last", "skip"]


@dataclass(frozen=True, slots=True)
class AnnotationFile:
    """What files say."""

    annotations: tuple[Annotation, ...]
    """At most one of each id."""
    skipped: dict[str, list[str]]
    """Why rows were not taken, and the places of those."""
    notes: dict[str, list[str]]
    """What is not known of rows that were taken, and their places."""

    @property
    def unknown(self) -> int:
        """Rows about what is not in the warehouse."""
        return len(self.skipped.get(UNKNOWN, ()))

    @property
    def blank(self) -> int:
        """Rows that say nothing."""
        return len(self.skipped.get(BLANK, ()))


@dataclass(frozen=True, slots=True)
class _Line:
    """What is said in a row, and where."""

    said: Said
    place: str
    """For people: `ann.csv, row 17`."""
    path: Path
    words: Mapping[str, str]
    groups: tuple[str, ...]
    """Those of the rater, as the row names them."""


class _Keys(AnyKeys):
    """Every key is read, for tools call their columns as their users like, but for columns without a name."""

    named = frozenset(COLUMNS).union(ALIASES, *(tool.KEYS for tool in TOOLS.values()))

    def uses(self, key: str) -> bool:
        return bool(key.strip())


def read_annotations(
    root: Path,
    *paths: Path,
    raters: Mapping[str, str] | None = None,
    run_id: str | None = None,
    skip_unknown: bool = False,
    spreadsheet_safe: bool = False,
    question: str | None = None,
    on_conflict: Conflicts = "refuse",
    groups: Groups | None = None,
) -> AnnotationFile:
    """The annotations in the files `paths`, for the warehouse in `root`.

    raters: names, by what a file calls a rater; "" is of rows that name none, by default the file's name up to its
    first dot. run_id: the only run whose pairs and responses are known; None: all runs'. skip_unknown: skip rows whose
    pair, response or principle is not known.
    spreadsheet_safe: the texts of a CSV or TSV have the apostrophes of `shown.spreadsheet`, as an annotation sheet's
    always have. question: which of a task's questions says what is better; None: `preferred`, or the only one.
    on_conflict: what becomes of two rows in which one rater says two things of one. groups: where the raters' groups
    are read; None: the column `group`, where there is one.

    Raises InputError for a file that cannot be read or a row that is wrong, WarehouseError where there is no warehouse.
    """
    groups = groups or Groups()
    lines = [line for path in paths for line in _read(path, spreadsheet_safe, question, groups)]
    known = Known.of(root, [line.said.row for line in lines if line.said.taken], run_id)
    taken = _Taken(on_conflict)
    for line in lines:
        if line.said.note:
            (taken.notes if line.said.taken else taken.skipped).setdefault(line.said.note, []).append(line.place)
        if not line.said.taken:
            continue
        path = line.path
        try:
            own = line.said.row.get("rater", "")
            rater = (raters or {}).get(own) or own or path.name.partition(".")[0]
            made = known.annotation(line.said.row, rater, path.name, line.words)
            own_groups = groups.of_rater.get(own) or groups.of_rater.get(rater) or line.groups
            taken.add(replace(made, rater_groups=own_groups), line.place)
            if groups.file is not None and not own_groups:
                taken.notes.setdefault(NO_GROUP, []).append(line.place)
        except Refused as fault:
            if not (fault.unknown and skip_unknown):
                raise _refusal(path, line.place, fault) from None
            taken.skipped.setdefault(UNKNOWN, []).append(f"{line.place}: {fault}")
    check_groups(taken.annotations.values())
    return AnnotationFile(tuple(taken.annotations.values()), taken.skipped, taken.notes)


def _refusal(path: Path, place: str, fault: Refused) -> InputError:
    return InputError(f"{path.parent / place}: {fault}; nothing was imported", hint=fault.hint)


@dataclass
class _Taken:
    """Annotations by their ids, and what becomes of two of one id."""

    on_conflict: Conflicts
    annotations: dict[str, Annotation] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    skipped: dict[str, list[str]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def add(self, made: Annotation, place: str) -> None:
        """Raises Refused."""
        before = self.annotations.get(made.id)
        if made.id in self.refused:
            self._skip(CONFLICT, place)
        elif before is None:
            self.annotations[made.id], self.places[made.id] = made, place
        elif before.value == made.value:
            self._skip(AGAIN, place)
        elif self.on_conflict == "refuse":
            about = f"pair {made.pair_id}" if made.pair_id else f"response {made.response_id}"
            raise Refused(
                f"{made.rater!r} says {made.value:g} of {about}, and {before.value:g} in {self.places[made.id]}",
                "correct one of the two, or add --on-conflict last (the later row counts) or skip (neither does)",
            )
        elif self.on_conflict == "last":
            self._skip(OVERRULED, self.places[made.id])
            self.annotations[made.id], self.places[made.id] = made, place
        else:
            self.refused.add(made.id)
            self._skip(CONFLICT, self.places[made.id])
            self._skip(CONFLICT, place)
            del self.annotations[made.id]

    def _skip(self, why: str, place: str) -> None:
        self.skipped.setdefault(why, []).append(place)


# --- reading


def _read(path: Path, spreadsheet_safe: bool, question: str | None, groups: Groups) -> list[_Line]:
    """What the file's rows say, in its order; rows of a CSV are counted without its header."""
    _check_file(path)
    plain: dict[str, None] = {}
    found: list[tuple[ModuleType, Said, str, tuple[str, ...]]] = []
    try:
        is_csv = form_of(path) == "csv"
        for row in read_file(path, _Keys()):
            place = path.name + row.place.removeprefix(str(path))
            data = {name: value for name, value in row.data.items() if name.strip()}
            form = next((tool for tool in TOOLS.values() if tool.is_one(data)), table)
            if form is table:
                plain.update(dict.fromkeys(data))
            try:
                found.extend((form, whole(said), place, groups.of(data)) for said in form.said(data, question))
            except Refused as fault:
                raise _refusal(path, place, fault) from None
    except PromptError as error:
        raise InputError(str(error), hint=_hint(path, error)) from None
    if not found:
        raise InputError(f"{path}: has no rows", hint=table.NEEDED)
    groups.check(path, {name for *_, named in found for name in named})
    wanted = table.check_columns(path, plain, question) if plain else set()
    lines = []
    for form, said, place, named in found:
        says, words = said.row, ON_A_SHEET if "first_id" in said.row else {}
        if form is table:
            words = dict(_words(wanted, plain))
            if is_csv and (spreadsheet_safe or "first_id" in wanted):
                cells = {name: from_spreadsheet(text).strip() for name, text in says.items()}
                says = {name: cell for name, cell in cells.items() if cell}
        lines.append(_Line(said._replace(row=says), place, path, words, named))
    return lines


def _words(wanted: set[str], names: Mapping[str, None]) -> Mapping[str, str]:
    """Words for an answer, and what each names: `a`, `b`, or the column that has the answer's id.

    Where two answers were shown, A and B are what was seen: first and second. Else they are the earlier and the later
    answer, unless texts without ids leave open what A was.
    """
    plain = {name.strip().lower() for name in names}
    if "first_id" in wanted:
        return ON_A_SHEET if "first_id" in plain else WITH_IDS
    return {} if set(table.SHOWN) <= plain else IN_A_TABLE


def _check_file(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InputError(f"{path}: the name is not UTF-8", hint="it is stored with each row: rename the file") from None
    check_file(path, str(path), InputError)
    if not path.stat().st_size:
        raise InputError(f"{path}: is empty", hint=table.HELP)


def _hint(path: Path, error: PromptError) -> str:
    """What to do about a file that the readers of prompts refuse; theirs speak of a recipe's settings."""
    if "is longer than" in str(error) or "has more than" in str(error):
        return "take out the columns of texts: only ids and what was said of them are read"
    own = "" if any(word in error.hint for word in ("prompt", "format sql")) else f"{error.hint}; "
    if "prompts.rows" in error.hint:
        own = "write the list of its rows as a file; "
    return f"{own}`constitution prompts inspect {path}` shows what is in it; {table.HELP}"


# --- sheets


def write_sheet(root: Path, run_id: str, tool: str, out: Path, limit: int | None = None) -> str:
    """Writes the run's pairs, at most `limit`, as a folder `out` that `tool` of TOOLS can read; what to do with it.

    The answers are in the order of the view `annotation_sheet`, and each task carries their ids. Raises InputError
    where `out` is there already or the run has no pairs.
    """
    if out.exists() or out.is_symlink():
        raise InputError(f"{out}: is there already", hint="give a folder that is not there yet")
    made = beside(out)
    made.mkdir(parents=True)
    try:
        told: str = TOOLS[tool].write(sheets(root, run_id, limit), made, f"pairs-{run_id[:12]}")
        made.rename(out)
    finally:
        shutil.rmtree(made, ignore_errors=True)  # what is left of a folder that did not come to its name
    return told.replace("{}", str(out))
