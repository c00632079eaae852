"""Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from constitution.errors import PromptError
from constitution.prompts.row import BATCH, Row, numbered


def parquet(path: Path) -> Iterator[Row]:
    try:
        with pq.ParquetFile(path) as file:
            batches = (batch.to_pylist() for batch in file.iter_batches(BATCH))
            yield from numbered(path.name, str(path), (row for batch in batches for row in batch))
    except (pa.ArrowException, OSError) as error:
        raise PromptError(f"{path}: cannot be read as Parquet: {error}") from None
