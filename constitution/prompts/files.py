"""Files of rows, told apart by what is in them; each form is the name of a module of this package with a
function `read`."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator
from importlib import import_module
from itertools import takewhile
from pathlib import Path

from constitution.errors import PromptError
from constitution.prompts.keys import AnyKeys
from constitution.prompts.packed import filled, is_parquet
from constitution.prompts.row import Row
from constitution.reading import check_file, parse_json

_TEXTS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "csv"}
ENDINGS = {
    **{ending + packed: form for ending, form in _TEXTS.items() for packed in ("", ".gz", ".zst")},
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
}
"""How a file's name ends, in lower case, and what it says of its form."""

CORRECT = "correct prompts.path, or --set prompts.path=…"
_HINT = 'name it .csv or .tsv, or set prompts.format = "csv"; lines of plain text: format sql, read_text'


def kind_of(name: str) -> str | None:
    """The form that a file's name says; None: it says none."""
    return next((kind for ending, kind in ENDINGS.items() if name.lower().endswith(ending)), None)


def read_file(
    path: Path, keys: AnyKeys, format: str = "auto", name: str = "", *, faulty: bool = False
) -> Iterator[Row]:
    """Rows of one file, told apart by what is in it where `format` leaves it open. name: the file's in the rows'
    source, if not its own. faulty: rows that cannot be read come too, with their `fault`, in place of an error.

    Raises PromptError at the end where it was written to meanwhile: the rows are then a mixture of what it was and what
    it is."""
    check_file(path, str(path), PromptError)
    before = _state(path)
    form = form_of(path) if format in ("auto", "transcripts") else format
    rows: Iterator[Row] = import_module(f"constitution.prompts.{form}").read(path, name or path.name, keys)
    for row in rows:
        if row.fault and not faulty:
            raise row.fault
        yield row
    if _state(path) != before:
        raise PromptError(f"{path}: was changed while it was read", hint="start again when it is written whole")


def _state(path: Path) -> tuple[int, ...] | None:
    """What another content of the file would change; None: it is gone."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def form_of(path: Path) -> str:
    """By the first bytes; the name decides only what they leave open: whether a text without JSON is a table.

    Raises PromptError for a file that cannot be read or told.
    """
    named = kind_of(path.name)
    if named == "parquet" or is_parquet(path):
        return "parquet"
    # An array, or an object of columns, may be one long line.
    texts = (line.strip() for _, line in filled(path, "rows are wanted", whole=False))
    first, second = next(texts, b""), next(texts, b"")
    if named == "csv" or not first:
        return named or "jsonl"
    if first[:1] == b"[":
        return "json"
    if first[:1] == b"{":
        # One object may be a row, or the columns of many: only a name says that it is a row.
        return "jsonl" if named == "jsonl" or (second and _is_json(first)) else "json"
    if named in ("jsonl", "json"):
        return named
    raise PromptError(f"{path}: neither the name nor the first line says what is in it", hint=_HINT)


def _is_json(line: bytes) -> bool:
    try:
        parse_json(line.decode(), "", PromptError)
    except (UnicodeDecodeError, PromptError):
        return False
    return True


def files_of(pattern: str, base: Path) -> list[tuple[Path, str]]:
    """The files that a path or a pattern of paths (`*`, `?`, `[…]`, `**`) names, by name, each with its name as rows
    have it. A file whose own name is the pattern is that file.

    Raises PromptError where a pattern finds no file.
    """
    path = base / pattern
    if not glob.has_magic(pattern) or os.path.lexists(path):
        return [(path, path.name)]
    names = (base / name for name in glob.iglob(pattern, root_dir=base, recursive=True))
    if not (found := sorted(name for name in names if not name.is_dir())):
        raise PromptError(f"{path}: there is no such file", hint=relative(pattern, base))
    fixed = base / Path(*takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts))
    return [(each, each.relative_to(fixed).as_posix() if fixed in each.parents else each.name) for each in found]


def relative(pattern: str, base: Path) -> str:
    """What to do about a path that leads nowhere from `base`, the recipe's folder: it may do so from the working
    directory, as `constitution prompts inspect` prints it."""
    if not os.path.isabs(pattern) and glob.glob(pattern, recursive=True):
        return f"paths are relative to the recipe's folder: prompts.path = {json.dumps(os.path.relpath(pattern, base))}"
    return CORRECT
