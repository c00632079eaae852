"""Which files an export's rows go into, and how one is written: Parquet, or JSON lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from constitution.export.outcome import DataFile
from constitution.export.settings import Settings
from constitution.warehouse.columns import COMPRESSION, COMPRESSION_LEVEL

GROUP_ROWS = 2_000
"""Rows to a Parquet row group: what the writer holds in memory, several times over, be they ever so long."""

FILE_ROWS = 100_000

_FEW = (
    *("run_id", "constitution", "kind", "label_by", "model", "outcome", "principle_id", "votes", "tags.list.element"),
    *(f"{name}.list.element.role" for name in ("prompt", "chosen", "rejected", "completion")),
)
"""Parquet paths with few distinct values."""


class Group(NamedTuple):
    """What becomes files of one config and split."""

    config: str
    split: str
    rows: int
    epsilon: float | None


def files_of(group: Group, settings: Settings) -> Iterator[DataFile]:
    layout = settings.layout_spec
    folder = "data" if group.epsilon is None else f"data/{group.config}"
    begins = f"{folder}/{group.split}" + ("/" if layout.folders else "-")
    per_file = group.rows if layout.one_file else FILE_ROWS
    count = -(-group.rows // per_file)
    for number in range(count):
        rows = min(per_file, group.rows - number * per_file)
        path = f"{begins}{number:05}-of-{count:05}.{settings.suffix}"
        yield DataFile(path, group.split, rows, group.config, group.epsilon)


@contextmanager
def opened(path: Path, schema: pa.Schema, settings: Settings) -> Iterator[Callable[[pa.Table], None]]:
    """What writes a table of at most GROUP_ROWS rows into the file. The same tables give the same bytes."""
    if settings.suffix == "parquet":
        with pq.ParquetWriter(
            path, schema, compression=COMPRESSION, compression_level=COMPRESSION_LEVEL, use_dictionary=list(_FEW)
        ) as writer:
            yield lambda table: writer.write_table(table, row_group_size=GROUP_ROWS)
    else:
        nulls = settings.layout_spec.nulls
        with path.open("wb") as file:
            yield lambda table: file.writelines(
                orjson.dumps(row if nulls else _without_nulls(row)) + b"\n" for row in table.to_pylist()
            )


def info_of(settings: Settings, files: Sequence[DataFile]) -> dict[str, Any]:
    """What `Layout.info` says: of each split, by its name, the folder of its files and what is in them."""
    folders = {file.split: str(PurePosixPath(file.path).parent) for file in files}
    return {
        f"{settings.format}_{split}": {"file_name": folder, **settings.task.entry} for split, folder in folders.items()
    }


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value
