"""In which order a run that goes on takes up its slices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb

from constitution.warehouse.views import as_pattern


def most_left_first(slices: Sequence[Path], ended: Sequence[Path]) -> list[Path]:
    """`slices`, those first of whose prompts most are not in `ended`, the parts of a table in which a prompt that was
    worked to its end has a row; of as many, in their order.

    So a run of a million prompts that was killed at half is at work within seconds: to pass over what is finished takes
    minutes, which it does while others are at work. It is only an order: ids are compared by 64 bits of them, and what
    cannot be read is left to whoever needs it.
    """
    if not ended:
        return list(slices)
    with duckdb.connect() as connection:
        try:
            rows = connection.execute(
                "SELECT filename, count(*) FROM read_parquet(?, filename = true, hive_partitioning = false) WHERE "
                "hash(id) NOT IN (SELECT hash(prompt_id) FROM read_parquet(?, hive_partitioning = false)) GROUP BY ALL",
                [[as_pattern(path) for path in paths] for paths in (slices, ended)],
            ).fetchall()
        except duckdb.Error:
            return list(slices)
    left = {str(name): int(count) for name, count in rows}
    return sorted(slices, key=lambda path: -left.get(str(path.resolve()), 0))
