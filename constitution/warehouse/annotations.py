"""People's annotations from a file: CSV, TSV, JSONL, JSON or Parquet, also .gz. DuckDB reads it; every row is checked.

    found = read_annotations(root, Path("ann.csv"), rater="ann")
    found.annotations, found.unknown, found.blank

A row is about a pair (`pair_id`, with `preferred` or `value`) or about a response (`response_id`, with `value`); it may
name a `rater` and a `principle_id`. Ids are looked up in the warehouse, and say which run a row belongs to. The first
row that is wrong refuses the file, with its number; nothing is written here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from constitution.errors import InputError, WarehouseError
from constitution.identity import row_id
from constitution.records import Annotation
from constitution.sandbox import quiet
from constitution.shown import from_spreadsheet
from constitution.warehouse import views
from constitution.warehouse.query import connect

COLUMNS = ("pair_id", "response_id", "preferred", "value", "rater", "principle_id", "first_id", "second_id")
"""What is read of a file; further columns are ignored. The view `annotation_sheet` has `first_id` and `second_id`."""
SHOWN = ("first", "second")
"""The view's columns with the texts: a file that has them and not the ids does not say which answer was shown first."""

LONGEST = 256 * 2**20
"""Bytes of a row: a few times what a prompt may have: a sheet also has both answers, and quotes twice."""

PROMPTS_RATER = "prompts"
"""The rater under whose name the view `rated` has the gold that came with the prompts."""

_JSON = (
    "read_json({}, format = 'auto', maximum_depth = 1, sample_size = -1, hive_partitioning = false, "
    "maximum_object_size = {})"
)
_CSV = (
    "read_csv({}, header = true, all_varchar = true, hive_partitioning = false, max_line_size = {}, "
    "quote = '\"', escape = '\"', delim = ',')"
)
_READERS = {
    ".csv": (_CSV, _CSV.replace("','", "';'")),  # semicolons: Excel's, where a comma is the decimal mark
    ".tsv": (_CSV.replace("','", "'\t'"),),
    ".jsonl": (_JSON,),
    ".ndjson": (_JSON,),
    ".json": (_JSON,),
    ".parquet": ("read_parquet({}, hive_partitioning = false)",),
}
"""How each kind of file is read: the first way that finds the columns."""

_OF = "WHERE id IN (SELECT unnest($ids)) AND run_id = coalesce($run, run_id)"
_PAIRS = f"SELECT id, run_id, prompt_id, a_id, b_id FROM preferences {_OF}"
_RESPONSES = f"SELECT id, run_id, prompt_id FROM responses {_OF}"
_PRINCIPLES = "SELECT run_id, principle_id FROM principles UNION SELECT run_id, principle_id FROM scores"
"""The run's own, and those of the scorecards that it was asked."""

_Row = Mapping[str, str]
"""The columns of a row that say something."""


@dataclass(frozen=True, slots=True)
class AnnotationFile:
    """What a file says."""

    annotations: tuple[Annotation, ...]
    """At most one of each id."""
    unknown: int
    """Rows that were skipped, because what they are about is not in the warehouse."""
    blank: int
    """Rows that say nothing: neither `preferred` nor `value`."""


def read_annotations(
    root: Path,
    path: Path,
    *,
    rater: str = "",
    run_id: str | None = None,
    skip_unknown: bool = False,
    spreadsheet_safe: bool = False,
) -> AnnotationFile:
    """The annotations in the file `path`, for the warehouse in `root`.

    rater: of rows that name none; empty: the file's name up to its first dot. run_id: the only run whose pairs and
    responses are known; None: all runs'. skip_unknown: leave rows out whose pair, response or principle is not known.
    spreadsheet_safe: the texts of a CSV or TSV have the apostrophes of `shown.spreadsheet`, as an annotation sheet's
    always have.

    Raises InputError for a file that cannot be read or a row that is wrong, WarehouseError where there is no warehouse.
    """
    rows, columns = _read(path, spreadsheet_safe)
    known = _Known.of(root, rows, run_id, _words(columns))
    annotations: dict[str, Annotation] = {}
    places: dict[str, int] = {}
    unknown = blank = 0
    for number, row in enumerate(rows, 1):
        if "preferred" not in row and "value" not in row:
            blank += 1
            continue
        try:
            annotation = known.annotation(row, row.get("rater") or rater or path.name.partition(".")[0], path.name)
            if annotation.id in annotations:
                raise _Refused(f"says again what row {places[annotation.id]} says", "keep one of the two")
        except _Refused as fault:
            if not (fault.unknown and skip_unknown):
                message = f"{path}, row {number}: {fault}; nothing was imported"
                raise InputError(message, hint=fault.hint) from None
            unknown += 1
        else:
            annotations[annotation.id], places[annotation.id] = annotation, number
    return AnnotationFile(tuple(annotations.values()), unknown, blank)


class _Refused(Exception):
    """A row that cannot be taken, and what to do. unknown: it is about what is not in the warehouse."""

    def __init__(self, fault: str, hint: str, *, unknown: bool = False) -> None:
        super().__init__(fault)
        self.hint, self.unknown = hint, unknown


# --- reading


def _read(path: Path, spreadsheet_safe: bool) -> tuple[list[_Row], list[str]]:
    """The file's rows, as texts, and the names of all its columns; rows of a CSV are counted without its header."""
    kind = Path(path.name.lower().removesuffix(".gz")).suffix
    _check_file(path, kind)
    # DuckDB takes room for the longest row that there may be, so for no more than the file has.
    longest = LONGEST if path.name.lower().endswith(".gz") else min(LONGEST, max(path.stat().st_size + 1, 2**21))
    quoted = views.quoted(views.as_pattern(path))
    settings: dict[str, Any] = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
    with quiet(duckdb.connect(config=settings)) as reader:
        try:
            reader.execute("SET threads = 1")  # the rows in the file's order, so that their numbers are right
            source, names = _way(reader, [way.format(quoted, longest) for way in _READERS[kind]])
            plain = [name.strip().lower() for name in names]
            wanted = {name: own for name, own in zip(plain, names, strict=True) if name in COLUMNS}
            _check_columns(path, wanted, names)
            text = "{} ->> '$'" if "json" in source.split("(")[0] else "{}::VARCHAR"
            columns = ", ".join(text.format('"' + name.replace('"', '""') + '"') for name in wanted.values())
            found = reader.execute(f"SELECT {columns} FROM {source}").fetchall()
        except duckdb.Error as error:
            raise _unreadable(path, str(error)) from None
    read = from_spreadsheet if kind in (".csv", ".tsv") and (spreadsheet_safe or "first_id" in wanted) else str
    rows = [dict(zip(wanted, (read(value or "").strip() for value in values), strict=True)) for values in found]
    return [{name: value for name, value in row.items() if value} for row in rows], plain


def _check_file(path: Path, kind: str) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InputError(f"{path}: the name is not UTF-8", hint="it is stored with each row: rename the file") from None
    if not path.is_file():
        raise InputError(f"{path}: there is no such file", hint="check the path")
    if not path.stat().st_size:
        raise InputError(f"{path}: is empty", hint="`constitution annotations import --help` shows how to get a file")
    if kind not in _READERS:
        hint = f"it must end in {', '.join(_READERS)} (and .gz)"
        raise InputError(f"{path}: the name does not say what is in it", hint=hint)


def _way(reader: duckdb.DuckDBPyConnection, sources: Sequence[str]) -> tuple[str, list[str]]:
    """The first source that can be read and has a column of ours, or else the first that can be read; with its columns'
    names. Raises duckdb.Error where none can."""
    readable: list[tuple[str, list[str]]] = []
    fault: duckdb.Error | None = None
    for source in sources:
        try:
            names = [str(name) for (name, *_) in reader.execute(f"DESCRIBE FROM {source}").fetchall()]
        except duckdb.Error as error:  # a file with semicolons need not make rows where commas part them
            fault = fault or error
        else:
            readable.append((source, names))
            if any(name.strip().lower() in COLUMNS for name in names):
                return source, names
    if fault is not None:
        raise fault
    return readable[0]


def _unreadable(path: Path, said: str) -> InputError:
    if "Maximum line size" in said or "maximum_object_size" in said:
        return InputError(
            f"{path}: a row is longer than {LONGEST // 2**20} MiB",
            hint="take out the columns of texts: only ids and what was said of them are read",
        )
    return InputError(
        f"{path}: cannot be read: {said.splitlines()[0]}",
        hint="is it UTF-8, and has each row of a CSV as many cells as its header?",
    )


def _check_columns(path: Path, wanted: Collection[str], names: Sequence[str]) -> None:
    if not {"pair_id", "response_id"}.intersection(wanted) or not {"preferred", "value"}.intersection(wanted):
        raise InputError(
            f"{path}: has the columns {', '.join(names)}",
            hint="needed are pair_id with preferred or value, or response_id with value; "
            "`constitution annotations import --help` shows how to get such a file",
        )
    for name in wanted:
        # DuckDB calls the second column of a name `preferred_1`, and does not tell.
        alike = [own for own in names if re.fullmatch(rf"{name}(_\d+)?", own.strip().lower())]
        if len(alike) > 1:
            message = f"{path}: has the columns {' and '.join(alike)}, or two of one name"
            raise InputError(message, hint="keep one, or rename the other")
    if len({"first_id", "second_id"}.intersection(wanted)) == 1:
        raise InputError(f"{path}: has one of the columns first_id and second_id", hint="give both, or neither")


def _words(columns: Collection[str]) -> Mapping[str, str]:
    """Words for an answer, and what each names: `a`, `b`, or the column that has the answer's id.

    Where two answers were shown, A and B are what was seen: first and second. Else they are the earlier and the later
    answer, unless texts without ids leave open what A was.
    """
    if "first_id" in columns:
        return {"first": "first_id", "second": "second_id", "a": "first_id", "b": "second_id"}
    return {} if set(SHOWN).issubset(columns) else {"a": "a", "b": "b"}


# --- what the rows mean


@dataclass(frozen=True, slots=True)
class _Known:
    """What a row may be about, and what it may say."""

    pairs: dict[str, tuple[str, str, str, str]]
    """Run, prompt, response a, response b of each pair."""
    responses: dict[str, tuple[str, str]]
    """Run and prompt of each response."""
    principles: set[tuple[str, str]]
    """Run and id of each principle, those of its scorecards too."""
    words: Mapping[str, str]
    """See `_words`."""

    @classmethod
    def of(cls, root: Path, rows: Sequence[_Row], run_id: str | None, words: Mapping[str, str]) -> _Known:
        """What the warehouse knows of the ids in `rows`."""
        with connect(root) as connection:

            def ask(query: str, column: str) -> dict[str, Any]:
                ids = list({row[column] for row in rows if column in row})
                found = connection.execute(query, {"ids": ids, "run": run_id}).fetchall() if ids else ()
                return {str(id): tuple(about) for id, *about in found}

            try:
                pairs, responses = ask(_PAIRS, "pair_id"), ask(_RESPONSES, "response_id")
                principles = {(str(run), str(id)) for run, id in connection.execute(_PRINCIPLES).fetchall()}
            except duckdb.Error as error:
                raise WarehouseError(f"{root}: cannot be read: {str(error).splitlines()[0]}") from None
        return cls(pairs, responses, principles, words)

    def annotation(self, row: _Row, rater: str, source: str) -> Annotation:
        """Raises _Refused."""
        if rater == PROMPTS_RATER:
            hint = "name another rater"
            raise _Refused(f"the rater is {rater!r}, which is the gold that came with the prompts", hint)
        if "pair_id" in row and "response_id" in row:
            raise _Refused("has a pair_id and a response_id", "make two rows of it")
        if "pair_id" in row:
            run_id, prompt_id, *answers = _look_up(self.pairs, row["pair_id"], "pair", "preferences")
            value = self._side(row, *answers)
        elif "response_id" in row:
            run_id, prompt_id = _look_up(self.responses, row["response_id"], "response", "responses")
            if "preferred" in row:
                raise _Refused("has `preferred`, which is said of a pair", "give the response a `value`")
            value = _number(row["value"], {"true": 1.0, "false": 0.0}, "a number, true or false", math.isfinite)
        else:
            raise _Refused("has neither a pair_id nor a response_id", "say which pair or response it is about")
        principle_id = row.get("principle_id")
        if principle_id is not None and (run_id, principle_id) not in self.principles:
            hint = "correct the id, or add --skip-unknown"
            raise _Refused(f"run {run_id} has no principle {principle_id!r}", hint, unknown=True)
        target = row.get("pair_id"), row.get("response_id")
        id = row_id(run_id, rater, *target, principle_id)
        return Annotation(id, run_id, prompt_id, rater, value, source, *target, principle_id)

    def _side(self, row: _Row, a_id: str, b_id: str) -> float:
        """0 for a, 1 for b, 0.5 for neither, or what lies between."""
        shown = {name: row[name] for name in ("first_id", "second_id") if name in row}
        if shown and (len(shown) < 2 or set(shown.values()) != {a_id, b_id}):
            hint = "keep them as the annotation sheet has them"
            raise _Refused("first_id and second_id are not the pair's two responses", hint)
        if "preferred" not in row:
            value = _number(
                row["value"], {}, "a number from 0 (a is better) to 1 (b is)", lambda value: 0 <= value <= 1
            )
            if "first_id" in self.words.values() and value != 0.5:
                hint = "write first, second or tie into `preferred`, or take the columns first_id and second_id out"
                raise _Refused("`value` is of a and b, and the file shows a first and a second", hint)
            return value
        if "value" in row:
            raise _Refused("has `preferred` and `value`", "keep one of them")
        said = row["preferred"]
        if said.lower() == "tie":
            return 0.5
        better = {"a": a_id, "b": b_id, **shown}.get(self.words.get(said.lower(), ""), said)
        if better not in (a_id, b_id):
            known = ", ".join([*self.words, "tie"])
            hint = f"expected are {known}, or the id of one of the pair's two responses"
            raise _Refused(f"preferred is {said!r}", hint)
        return float(better == b_id)


def _look_up(known: Mapping[str, Any], id: str, what: str, table: str) -> Any:
    if id not in known:
        hint = f'correct the id (`constitution sql "SELECT id FROM {table}"` has them), name another run or none with '
        hint += "--run, or leave such rows out with --skip-unknown"
        raise _Refused(f"there is no {what} {id!r}", hint, unknown=True)
    return known[id]


def _number(text: str, words: Mapping[str, float], expected: str, allowed: Callable[[float], bool]) -> float:
    try:
        value = words[text.lower()] if text.lower() in words else float(text)
    except ValueError:
        value = math.nan
    if not allowed(value):
        raise _Refused(f"value is {text!r}", f"expected is {expected}")
    return value
