"""Files of rows, told apart by their names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from constitution.errors import PromptError
from constitution.prompts.jsonl import jsonl
from constitution.prompts.keys import Wanted
from constitution.prompts.parquet import parquet
from constitution.prompts.row import Row

Reader = Callable[[Path, str, Wanted], Iterator[Row]]
"""Takes a file, its name in the rows' source, and the keys that are wanted."""

READERS: dict[str, Reader] = {"jsonl": jsonl, "parquet": parquet}
ENDINGS = {
    **dict.fromkeys((".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz", ".json.gz"), "jsonl"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
}
"""How a file's name ends, in lower case, and how it is read."""


def kind_of(name: str) -> str | None:
    """How a file of this name is read; None: the name does not say."""
    return next((kind for ending, kind in ENDINGS.items() if name.lower().endswith(ending)), None)


def _query(name: str) -> str:
    """A query that takes every text as it is: left to itself DuckDB makes dates and numbers of texts that look so."""
    if name.lower().endswith(".json"):
        return f"query = \"FROM read_json('{name}', maximum_depth = 1)\""
    return f"query = \"FROM read_csv('{name}', header = true, all_varchar = true)\""


def file_rows(path: Path, keys: Wanted, format: str = "auto", name: str = "") -> Iterator[Row]:
    """Rows of one file, told apart by its name where `format` leaves it open. name: the file's in the rows' source, if
    not its own."""
    kind = format if format in READERS else kind_of(path.name)
    if kind is None:
        raise PromptError(
            f"{path}: the name does not say what is in it",
            hint=f"it ends in {', '.join(ENDINGS)}, or prompts.format says it: {', '.join(READERS)}; "
            f"CSV and JSON are read by format sql: {_query(path.name)}",
        )
    return READERS[kind](path, name or path.name, keys)
