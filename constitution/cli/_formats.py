"""An answer of the warehouse as CSV, JSON or Parquet: every value as it is, a row or a page at a time."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from constitution.errors import ConstitutionError, QueryError
from constitution.shown import printable_lines, spreadsheet
from constitution.warehouse.answers import Kept
from constitution.writing import beside

Plain = Callable[[Any], Any]

_TIME = re.compile(r"(\d{4,}-\d\d-\d\d)?( )?(\d\d:\d\d:\d\d(?:\.\d+)?)(?:([+-]\d\d)(:.*)?)?")
"""A time, as DuckDB writes it."""


@contextmanager
def output(out: Path | None) -> Iterator[IO[str]]:
    """The file `out`, or standard output."""
    if out is None:
        yield sys.stdout
        return
    with _replacing(out) as path, path.open("w", encoding="utf-8", newline="") as file:
        yield file


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """A path to write that becomes `out` if all goes well; `out` itself where that is no plain file (a pipe)."""
    plain = out.is_file() or not out.exists()
    path = beside(out) if plain else out
    try:
        yield path
        if plain:
            path.replace(out)
    except OSError as error:
        raise ConstitutionError(f"{out}: cannot be written: {error.strerror}", hint="give another --out") from None
    finally:
        if plain:
            path.unlink(missing_ok=True)


def data_out(file: IO[str]) -> IO[str]:
    """Where data are written to: UTF-8 whatever the locale says; in a terminal, with what steers it as escapes."""
    if file.isatty():
        return Terminal(file)  # type: ignore[return-value]
    if isinstance(file, io.TextIOWrapper):
        file.reconfigure(encoding="utf-8", errors="strict")
    return file


class Terminal:
    """What steers a terminal is written as escapes."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(printable_lines(text))


def write_csv(answer: Kept, file: IO[str], safe: bool = False) -> None:
    """safe: a text that a spreadsheet would run as a formula gets an apostrophe before it (`shown.spreadsheet`)."""
    dress: Callable[[str], str] = spreadsheet if safe else str
    plains = [plain(kind, parse=False) for kind in answer.types]
    file.write(_csv_line(map(dress, answer.columns)))
    for row in answer.rows():
        cells = [_csv_cell(value, of) for value, of in zip(row, plains, strict=True)]
        file.write(_csv_line(dress(cell) if isinstance(cell, str) else cell for cell in cells))


def _csv_line(cells: Iterable[Any]) -> str:
    line = io.StringIO()
    # The module quotes a carriage return only where its own lines end in one; to a spreadsheet it ends a row.
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue().removesuffix("\r\n") + "\n"


def _csv_cell(value: Any, of: Plain) -> Any:
    if isinstance(value, Decimal):
        return value if value.as_tuple().exponent == 0 else f"{value:f}"
    said = of(value)
    return json.dumps(said, ensure_ascii=False) if isinstance(said, dict | list | bool) else said


def write_json(answer: Kept, file: IO[str]) -> None:
    """A list of objects, one a line. A column name that comes twice gets a number."""
    names = answer.columns
    plains = [plain(kind) for kind in answer.types]
    file.write("[")
    for number, row in enumerate(answer.rows()):
        try:
            values = [of(value) for value, of in zip(row, plains, strict=True)]
            text = json.dumps(dict(zip(names, values, strict=True)), ensure_ascii=False, allow_nan=False)
        except RecursionError:
            raise QueryError(
                f"row {number + 1}: JSON in it is nested too deep", hint="--format csv and parquet give it as text"
            ) from None
        file.write((",\n " if number else "\n ") + text)
    file.write("\n]\n")


def write_parquet(answer: Kept, out: Path) -> None:
    """A row group a page."""
    names = answer.columns
    with _replacing(out) as path:
        writer = None
        try:
            for batch in answer.batches():
                table = pa.Table.from_batches([batch]).rename_columns(names)
                writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
                writer.write_table(table)
        finally:
            if writer is not None:
                writer.close()


def plain(kind: Any, parse: bool = True) -> Plain:
    """What makes of a value of DuckDB's type `kind`, as `Kept.rows` gives it, one that JSON can say.

    Not-a-number and infinity are null, times are ISO 8601, bytes are base64, numbers that no double holds are texts.
    parse: JSON becomes what it says. Inside lists and structs it always does.
    """
    of = _plain(kind, parse)
    return lambda value: None if value is None else of(value)


def _plain(kind: Any, parse: bool) -> Plain:
    if kind.id in ("list", "array"):
        each = plain(dict(kind.children)["child"])
        return lambda values: [each(value) for value in values]
    if kind.id == "tuple":
        places = [plain(of) for _, of in kind.children]
        return lambda values: [each(value) for each, value in zip(places, values, strict=True)]
    if kind.id == "struct":
        fields = {name: plain(of) for name, of in kind.children}
        return lambda values: {name: fields[name](value) for name, value in values.items()}
    if kind.id == "map":
        inner = plain(kind.children[1][1])
        return lambda values: {str(key): inner(value) for key, value in values.items()}
    if str(kind) == "JSON" or kind.id in ("union", "variant"):
        return _parsed if parse else str
    if kind.id.startswith("time"):
        return _iso
    return _leaf


def _leaf(value: Any) -> Any:
    if isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        if value == value.to_integral_value():
            return int(value)
        return float(value) if Decimal(repr(float(value))) == value else f"{value:f}"
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else str(value)


def _iso(text: str) -> str:
    found = _TIME.fullmatch(text)
    if found is None:
        return text  # infinity, and years before Christ
    date, gap, time, zone, minutes = found.groups("")
    return f"{date}{'T' if gap else ''}{time}{zone}{minutes or (':00' if zone else '')}"


def _parsed(text: str) -> Any:
    """What the JSON says; the text itself where DuckDB reads it and others would not, or would read less of it."""
    try:
        return json.loads(text, parse_constant=lambda _: None, parse_float=_finite, object_pairs_hook=_once)
    except ValueError:
        return text


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name comes twice")
    return found
