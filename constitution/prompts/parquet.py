"""Parquet files: the columns that are wanted, and no more of them in memory than a few rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from constitution.errors import PromptError
from constitution.prompts import arrow
from constitution.prompts.keys import CONVERSATIONS, Wanted
from constitution.prompts.row import MOST_ROW, Row, numbered
from constitution.prompts.unpacked import Unpacked
from constitution.reading import check_file

BATCH = 1024
"""Rows in memory at once, each text once however many rows have it."""
FEW = 64
"""The same, each text as often as rows have it."""
SMALL = 16 * 2**20
"""Bytes of a column in a group of rows, of which each text may be kept once until the group is read."""
ROW = 16
"""Bytes that a value takes, whatever it is: rows without end can be null."""

_CAST = "write it as text, or read the file by format sql, which can CAST it"


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A column of values: a column of the table, or what it is made of."""

    index: int
    path: str
    """As Parquet writes it: messages.list.element.role."""
    type: pa.DataType
    ignored: bool
    """It is in a field that the recipe leaves out."""


def parquet(path: Path, name: str, keys: Wanted) -> Iterator[Row]:
    check_file(path, str(path), PromptError)
    try:
        yield from numbered(name, str(path), _rows(path, keys))
    except (pa.ArrowException, OSError) as error:
        raise PromptError(f"{path}: cannot be read as Parquet: {error}") from None


def _rows(path: Path, keys: Wanted) -> Iterator[dict[str, Any]]:
    size = path.stat().st_size
    with pq.ParquetFile(path) as plain:
        metadata, schema = plain.metadata, plain.schema_arrow
        leaves = _wanted(plain, path, keys)
    # What it says of itself is enough to refuse most of those that unpack without end.
    unpacked = Unpacked(path, size)
    for group in range(metadata.num_row_groups):
        chunks = [metadata.row_group(group).column(leaf.index) for leaf in leaves]
        unpacked.add(sum(max(chunk.total_uncompressed_size, ROW * chunk.num_values) for chunk in chunks))
    unpacked = Unpacked(path, size)
    first = 1
    for batch in _batches(path, metadata, leaves):
        unpacked.add(size := sum(map(_size, batch.columns)))
        original = pa.schema([_pruned(schema.field(column.name), column) for column in batch.schema])
        target = pa.schema([pa.field(field.name, _storage(field.type)) for field in original])
        converters = {field.name: convert for field in original if (convert := arrow.converter(field.type))}
        for rows in _portions(batch, path, first, size):
            yield from arrow.values(rows.cast(target), converters, str(path), first)
            first += rows.num_rows


def _batches(path: Path, metadata: pq.FileMetaData, leaves: Sequence[_Leaf]) -> Iterator[pa.RecordBatch]:
    """The rows of one group after the other; JSON as the text that it is here. Of a small group each text is kept once,
    for a few bytes may say that thousands of rows have it; a large one is read few rows at a time."""
    names = [leaf.path for leaf in leaves]
    texts = [leaf.path for leaf in leaves if arrow.holds_text(leaf.type)]
    for group in range(metadata.num_row_groups):
        chunks = [metadata.row_group(group).column(leaf.index) for leaf in leaves]
        small = max((chunk.total_uncompressed_size for chunk in chunks), default=0) <= SMALL
        once = texts if small else []
        with pq.ParquetFile(path, metadata=metadata, read_dictionary=once, arrow_extensions_enabled=False) as file:
            yield from file.iter_batches(BATCH if small else FEW, [group], names)


def _wanted(file: pq.ParquetFile, path: Path, keys: Wanted) -> list[_Leaf]:
    """The leaves to read. Raises PromptError for columns of one name, for values that cannot be taken, and for columns
    that a model would have been shown, that the recipe neither uses nor leaves out, and that are no small texts."""
    schema = file.schema_arrow
    leaves = _leaves(file, keys)
    wanted: list[_Leaf] = []
    for key in dict.fromkeys(keys.wanted(schema.names)):
        alike = [name for name in schema.names if name == key]
        if len(alike) > 1:
            raise PromptError(f"{path}: has {len(alike)} columns {key!r}", hint="give each another name")
        used = keys.uses(key)
        # What is left out of turns is theirs: an `id` of a tool is a part of the tool.
        turns = used or key in (*CONVERSATIONS, "conversation", "prompt")
        parts = [leaf for leaf in leaves[schema.names.index(key)] if not (turns and leaf.ignored)]
        for leaf in parts:
            odd = arrow.odd_leaf(leaf.path, leaf.type)
            if odd is None and (used or arrow.holds_text(leaf.type)):
                wanted.append(leaf)
            elif not keys.lenient and _holds(file, leaf):
                if used and odd is not None:
                    # A value of its own is needed in every row, the first one too.
                    raise arrow.refuse_type(f"{path}, row 1" if leaf.path == key else str(path), *odd, _CAST)
                raise PromptError(
                    f"{path}: also has {key}, which a model would have been shown",
                    hint=f'prompts.ignore = ["{key}"] leaves it out; format sql can read the file otherwise',
                )
    if not wanted and file.metadata.num_rows:
        raise arrow.refuse_all(str(path), schema.names)
    return wanted


def _leaves(file: pq.ParquetFile, keys: Wanted) -> list[list[_Leaf]]:
    """Those of each column."""
    index = 0
    found: list[list[_Leaf]] = []

    def walk(name: str, type: pa.DataType, ignored: bool, depth: int = 0) -> Iterator[_Leaf]:
        nonlocal index
        parts = arrow.inner(type)
        for part, kind in parts:
            # Keys of turns and of parts of contents; an `id` of a turn's tool call is a part of the call.
            own = part is not None and (depth == 0 or name in ("content", "value"))
            yield from walk(part or name, kind, ignored or (own and part in keys.ignored), depth + bool(part))
        if not parts:
            yield _Leaf(index, file.schema.column(index).path, type, ignored)
            index += 1

    for field in file.schema_arrow:
        found.append(list(walk(field.name, field.type, field.name in keys.ignored)))
    return found


def _holds(file: pq.ParquetFile, leaf: _Leaf) -> bool:
    """Whether there is any value in it, by what the file says of itself, or else by a look."""
    for group in range(file.metadata.num_row_groups):
        chunk = file.metadata.row_group(group).column(leaf.index)
        told = chunk.statistics
        if told is not None and told.has_null_count and told.null_count < chunk.num_values:
            return True
    batches = file.iter_batches(BATCH, columns=[leaf.path])
    return any(not _is_empty(column) for batch in batches for column in batch.columns)


def _is_empty(array: pa.Array) -> bool:
    parts = _parts(array)
    return all(map(_is_empty, parts)) if parts else array.null_count == len(array)


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
    if parts:
        return ROW * len(array) + sum(map(_size, parts))
    if pa.types.is_dictionary(array.type):
        lengths = pc.take(pc.binary_length(array.dictionary), array.indices)
    elif arrow.is_text(array.type):
        lengths = pc.binary_length(array)
    else:
        return ROW * len(array)
    return ROW * len(array) + int(pc.sum(lengths).as_py() or 0)


def _pruned(field: pa.Field, read: pa.Field) -> pa.Field:
    """`field` with no other parts than were read."""
    return pa.field(field.name, _only(field.type, read.type))


def _only(type: pa.DataType, read: pa.DataType) -> pa.DataType:
    if pa.types.is_map(type):
        return pa.map_(type.key_type, _only(type.item_type, read.item_type))
    if arrow.is_list(type):
        return pa.list_(_only(type.value_type, read.value_type))
    if pa.types.is_struct(type):
        return pa.struct([pa.field(part.name, _only(type.field(part.name).type, part.type)) for part in read])
    return type


def _storage(type: pa.DataType) -> pa.DataType:
    """`type` with JSON as the text that it is read as, and no views, which dictionaries cannot be cast to."""
    if isinstance(type, pa.JsonType) or pa.types.is_dictionary(type) or pa.types.is_string_view(type):
        return pa.large_string()
    if pa.types.is_map(type):
        return pa.map_(type.key_type, _storage(type.item_type))
    if arrow.is_list(type):
        return pa.list_(_storage(type.value_type))
    if pa.types.is_struct(type):
        return pa.struct([pa.field(part.name, _storage(part.type)) for part in type])
    return type
