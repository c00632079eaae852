"""What an export leaves in the warehouse: a row of `exported` per candidate, one file per export of a run.

The run's lock is not needed: a run does not write this table.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from constitution.warehouse import files, views
from constitution.warehouse.columns import COMPRESSION, COMPRESSION_LEVEL, Table
from constitution.warehouse.schema import TABLES
from constitution.warehouse.store import Warehouse


def put(warehouse: Warehouse, run_id: str, export_id: str, batches: Iterable[pa.RecordBatch]) -> None:
    """The rows of this export, in place of those of the same run and settings. batches: with columns format, id,
    prompt_id, split, drop_reason, drop_detail; they are written as they come."""
    table = TABLES["exported"]
    had_none = not (warehouse.root / table.name / views.NO_ROWS).exists()
    warehouse.require()
    folder = warehouse.folder(table.name, run_id)
    with files.alone(folder):
        files.sweep(folder)  # of an export that was killed
        _write(table, folder / f"{export_id}.parquet", {"run_id": run_id, "export_id": export_id}, batches)
    if had_none:  # a warehouse from before there was such a table
        warehouse.rebuild_views()


def _write(table: Table, path: Path, names: dict[str, str], batches: Iterable[pa.RecordBatch]) -> None:
    now = pa.scalar(datetime.now(UTC), table.schema.field("created_at").type)
    always = {**{name: pa.scalar(value) for name, value in names.items()}, "created_at": now}
    with (
        files.replacing(path, part=True) as file,
        pq.ParquetWriter(
            file,
            table.schema,
            compression=COMPRESSION,
            compression_level=COMPRESSION_LEVEL,
            use_dictionary=table.dictionary_paths,
        ) as writer,
    ):
        for batch in batches:
            arrays = [
                pa.repeat(always[name], batch.num_rows) if name in always else batch.column(name)
                for name in table.schema.names
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=table.schema))
