"""Files of rows, told apart by their names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from constitution.errors import PromptError
from constitution.prompts.jsonl import jsonl
from constitution.prompts.parquet import parquet
from constitution.prompts.row import Row


def file_rows(path: Path, format: str = "auto") -> Iterator[Row]:
    """Rows of one JSONL or Parquet file, told apart by name where `format` leaves it open."""
    reader: Callable[[Path], Iterator[Row]]
    name = path.name.lower()
    if format == "parquet" or name.endswith((".parquet", ".pq")):
        reader = parquet
    elif format == "jsonl" or name.endswith((".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz", ".json.gz")):
        reader = jsonl
    else:
        raise PromptError(
            f"{path}: the name does not say what is in it", hint='set prompts.format = "jsonl" or "parquet"'
        )
    return reader(path)
