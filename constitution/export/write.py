"""The split, and the Parquet files: streamed, in the order of the run's prompts, the same bytes each time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from constitution.errors import WarehouseError
from constitution.export import formats
from constitution.export.card import DataFile
from constitution.export.work import Work
from constitution.warehouse.columns import COMPRESSION, COMPRESSION_LEVEL

GROUP_ROWS = 2_000
"""Rows to a Parquet row group: what the writer holds in memory, several times over, be they ever so long."""

FILE_ROWS = 100_000

_FEW = (
    *("run_id", "constitution", "kind", "label_by", "model", "outcome", "principle_id", "votes", "tags.list.element"),
    *(f"{name}.list.element.role" for name in ("prompt", "chosen", "rejected", "completion")),
)
"""Parquet paths with few distinct values."""

# A conversation goes as a whole to one side, by a number in [0, 1) that depends on the seed and on it alone: so that
# exports of several runs can be put together.
_KEPT = """
CREATE TABLE export.kept AS
WITH split AS (
    SELECT
        id, prompt_id, place, p,
        CASE WHEN md5_number_lower(concat({seed}, ' split ', conversation)) / 18446744073709551616 < {test}
             THEN 'test' ELSE 'train' END AS split
    FROM export.alive
),
sharded AS (SELECT *, {shard} AS shard FROM split),
meant AS (
    SELECT *, least(round(avg(1 - p) OVER (PARTITION BY shard), 2), 0.49) AS epsilon FROM sharded
)
SELECT id, prompt_id, place, split, {epsilon} AS epsilon, {config} AS config FROM meant
"""


class Group(NamedTuple):
    """What becomes files of one config and split."""

    config: str
    split: Literal["train", "test"]
    rows: int
    epsilon: float | None


def split(work: Work) -> list[Group]:
    """Makes export.kept: id, prompt_id, place, split, config, epsilon of what is alive. The groups in the order of
    formats.query."""
    settings = work.settings
    robust = settings.format == "robust"
    statement = _KEPT.format(
        seed=settings.seed,
        test=repr(settings.test),
        shard=f"ntile({settings.shards}) OVER (ORDER BY 1 - p, place)" if robust else "0",
        epsilon="epsilon" if robust else "NULL::DOUBLE",
        config="format('eps-{:.2f}', epsilon)" if robust else "'default'",
    )
    work.connection.execute(statement)
    counted = work.connection.execute(
        "SELECT config, split, count(*), any_value(epsilon) FROM export.kept GROUP BY config, split "
        "ORDER BY config, split DESC"
    )
    return [Group(*row) for row in counted.fetchall()]


def write(work: Work, folder: Path, groups: list[Group], constants: dict[str, Any]) -> list[DataFile]:
    """The rows of export.kept as files under `folder`. constants: formats.constants.

    Raises WarehouseError where a row's prompt or answer is not in the warehouse.
    """
    schema = formats.schema(work.settings)
    source = _Rows(work.batches(formats.query(work.settings)))
    files = []
    for group in groups:
        place = folder / "data" if group.epsilon is None else folder / "data" / group.config
        place.mkdir(parents=True, exist_ok=True)
        count = -(-group.rows // FILE_ROWS)
        for number in range(count):
            rows = min(FILE_ROWS, group.rows - number * FILE_ROWS)
            path = place / f"{group.split}-{number:05}-of-{count:05}.parquet"
            _write_file(path, schema, source, rows, constants)
            relative = path.relative_to(folder).as_posix()
            files.append(DataFile(relative, group.split, rows, group.config, group.epsilon))
    if source.more():
        raise WarehouseError("some answers are in the warehouse twice", hint="restore the run's files")
    return files


def _write_file(path: Path, schema: pa.Schema, source: _Rows, rows: int, constants: dict[str, Any]) -> None:
    with pq.ParquetWriter(
        path, schema, compression=COMPRESSION, compression_level=COMPRESSION_LEVEL, use_dictionary=list(_FEW)
    ) as writer:
        while rows:
            found = source.take(min(rows, GROUP_ROWS))
            arrays = [
                pa.chunked_array([pa.repeat(pa.scalar(constants[field.name], field.type), len(found))])
                if field.name in constants
                else found.column(field.name).cast(field.type)
                for field in schema
            ]
            # One chunk a column: the pages of a file must not depend on how the rows came.
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema).combine_chunks(), row_group_size=GROUP_ROWS)
            rows -= len(found)


class _Rows:
    """A stream of batches, taken in tables of so many rows as are asked for."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._left: list[pa.RecordBatch] = []

    def take(self, rows: int) -> pa.Table:
        """So many rows. Raises WarehouseError where there are fewer."""
        taken: list[pa.RecordBatch] = []
        while rows:
            if not self.more():
                raise WarehouseError(
                    "some rows' prompts or answers are not in the warehouse",
                    hint="was the run compacted just now? then export again; else restore its files",
                )
            batch = self._left.pop()
            taken.append(batch.slice(0, rows))
            if batch.num_rows > rows:
                self._left.append(batch.slice(rows))
            rows -= taken[-1].num_rows
        return pa.Table.from_batches(taken)

    def more(self) -> bool:
        while not self._left:
            batch = next(self._batches, None)
            if batch is None:
                return False
            if batch.num_rows:
                self._left.append(batch)
        return True
