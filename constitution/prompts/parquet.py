"""Parquet files: the columns that are wanted, and no more of them in memory than a few rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from constitution.errors import PromptError
from constitution.prompts import arrow
from constitution.prompts.keys import AnyKeys
from constitution.prompts.row import MOST_ROW, Row, Unpacked, numbered
from constitution.reading import check_file

BATCH = 1024
"""Rows in memory at once, each text once however many rows have it."""
FEW = 64
"""The same, each text as often as rows have it."""
SMALL = 16 * 2**20
"""Bytes of a column in a group of rows, of which each text may be kept once until the group is read."""
VALUE = 16
"""Bytes that a value takes, whatever it is: rows without end can be null."""

_CAST = "write it as text, or read the file by format sql, which can CAST it"


def read(path: Path, name: str, keys: AnyKeys) -> Iterator[Row]:
    check_file(path, str(path), PromptError)
    try:
        yield from numbered(name, str(path), _rows(path, keys))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last: a damaged name of a column
        raise PromptError(f"{path}: cannot be read as Parquet: {error}") from None


def _rows(path: Path, keys: AnyKeys) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(path) as file:
        metadata, schema = file.metadata, file.schema_arrow
    wanted = list(dict.fromkeys(keys.wanted(schema.names)))
    for key in wanted:
        if (count := schema.names.count(key)) > 1:
            raise PromptError(f"{path}: has {count} columns {key!r}", hint="give each another name")
    if metadata.num_rows:
        arrow.check(str(path), schema.names, wanted)
    convert = arrow.converters(pa.schema([schema.field(key) for key in wanted]), keys, _CAST)
    size = path.stat().st_size
    unpacked, first = Unpacked(path, size), 1
    for batch in _batches(path, metadata, wanted):
        unpacked.add(bytes_ := sum(map(_size, batch.columns)))
        for rows in _portions(batch, path, first, bytes_):
            yield from arrow.values(rows, convert, str(path), first)
            first += rows.num_rows


def _batches(path: Path, metadata: pq.FileMetaData, wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows of one group after the other; JSON as the text that it is here. Of a small group each text is kept once,
    for a few bytes may say that thousands of rows have it; a large one is read few rows at a time."""
    leaves = [metadata.schema.column(index) for index in range(metadata.num_columns)]
    indexes = [n for n, leaf in enumerate(leaves) if any(f"{leaf.path}.".startswith(f"{key}.") for key in wanted)]
    texts = [leaves[n].path for n in indexes if leaves[n].logical_type.type in ("STRING", "JSON")]
    groups = [[metadata.row_group(group).column(n) for n in indexes] for group in range(metadata.num_row_groups)]
    # What it says of itself is enough to refuse most of those that unpack without end.
    said = Unpacked(path, path.stat().st_size)
    said.add(sum(max(c.total_uncompressed_size, VALUE * c.num_values) for chunks in groups for c in chunks))
    for group, chunks in enumerate(groups):
        small = max((chunk.total_uncompressed_size for chunk in chunks), default=0) <= SMALL
        once = texts if small else []
        with pq.ParquetFile(path, metadata=metadata, read_dictionary=once, arrow_extensions_enabled=False) as file:
            yield from file.iter_batches(BATCH if small else FEW, [group], [leaves[n].path for n in indexes])


def _portions(batch: pa.RecordBatch, path: Path, first: int, size: int) -> Iterator[pa.RecordBatch]:
    """The batch, of `size` bytes, in pieces of a few megabytes when every row has its own texts. first: number of its
    first row."""
    if size <= MOST_ROW:
        yield batch
        return
    if batch.num_rows == 1:
        raise PromptError(f"{path}, row {first}: has more than {MOST_ROW // 2**20} MiB")
    half = batch.num_rows // 2
    for start, piece in ((0, batch.slice(0, half)), (half, batch.slice(half))):
        yield from _portions(piece, path, first + start, sum(map(_size, piece.columns)))


def _parts(array: pa.Array) -> Sequence[pa.Array]:
    """What a nested array is made of; empty: its values are its own."""
    type = array.type
    if pa.types.is_map(type):
        start, end = array.offsets[0].as_py(), array.offsets[-1].as_py()
        return [array.keys.slice(start, end - start), array.items.slice(start, end - start)]
    if arrow.is_list(type):
        return [array.flatten()]
    return array.flatten() if pa.types.is_struct(type) else []


def _size(array: pa.Array) -> int:
    """Bytes of its values, with each text as often as rows have it."""
    parts = _parts(array)
    size = VALUE * len(array) + sum(map(_size, parts))
    if pa.types.is_dictionary(array.type):
        lengths = pc.take(pc.binary_length(array.dictionary), array.indices)
    elif pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        lengths = pc.binary_length(array)
    else:
        return size if parts else max(size, array.nbytes)
    return size + int(pc.sum(lengths).as_py() or 0)
