"""Files of rows, told apart by their names; each format is a module of this package with a function `read`."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from constitution.errors import PromptError
from constitution.prompts.keys import AnyKeys
from constitution.prompts.row import Row

ENDINGS = {
    **dict.fromkeys((".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz", ".json.gz"), "jsonl"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
}
"""How a file's name ends, in lower case, and how it is read."""


def kind_of(name: str) -> str | None:
    """How a file of this name is read; None: the name does not say."""
    return next((kind for ending, kind in ENDINGS.items() if name.lower().endswith(ending)), None)


def read_file(path: Path, keys: AnyKeys, format: str = "auto", name: str = "") -> Iterator[Row]:
    """Rows of one file, told apart by its name where `format` leaves it open. name: the file's in the rows' source, if
    not its own."""
    kind = kind_of(path.name) if format in ("auto", "transcripts") else format
    if kind is None:
        # Every text as it is: left to itself DuckDB makes dates and numbers of texts that look so.
        read = f"read_csv('{path.name}', header = true, all_varchar = true)"
        if path.name.lower().endswith(".json"):
            read = f"read_json('{path.name}', maximum_depth = 1)"
        raise PromptError(
            f"{path}: the name does not say what is in it",
            hint=f"it ends in {', '.join(ENDINGS)}, or prompts.format says it: jsonl, json, parquet; "
            f'CSV and JSON are read by format sql: query = "FROM {read}"',
        )
    rows: Iterator[Row] = import_module(f"constitution.prompts.{kind}").read(path, name or path.name, keys)
    return rows
