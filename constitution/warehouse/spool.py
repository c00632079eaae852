"""Prompts as they were read, until it is known which run's they are.

    with spooled(read_prompts(section, base), near=root) as source:
        source.digest, source.count
        warehouse.replace_prompts(run_id, source.slices(run_id, 500))

A source is read once: what is stored is what was counted and digested, though the file grows meanwhile and a query says
something else each time. Few prompts wait in memory, others in a file beside the warehouse that has no name, so a kill
leaves nothing.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

import pyarrow as pa

from constitution.identity import canonical_json, without_defaults
from constitution.records import Prompt
from constitution.warehouse import convert, files
from constitution.warehouse.schema import TABLES

MEMORY = 16 * 2**20
"""Bytes, compressed, that wait in memory at most."""
BATCH = 1024
"""Prompts."""


@dataclass(frozen=True, slots=True)
class Spool:
    """A source of prompts, read to its end."""

    digest: str
    """SHA-256 of the prompts in their order, without where they were read: the same prompts in a file of another name
    or kind have the same."""
    count: int
    """Prompts."""
    _file: IO[bytes]

    def slices(self, run_id: str, size: int) -> Iterator[pa.Table]:
        """The rows of `prompts` for this run, in slices of `size`; memory: one slice."""
        self._file.seek(0)
        with pa.ipc.open_stream(self._file) as reader:
            waiting: list[pa.RecordBatch] = []
            number = 0
            for batch in reader:
                waiting.append(batch)
                while sum(map(len, waiting)) >= size:
                    rows = pa.Table.from_batches(waiting)
                    yield _slice(rows[:size], run_id, number)
                    waiting, number = rows[size:].to_batches(), number + 1
            if waiting:
                yield _slice(pa.Table.from_batches(waiting), run_id, number)


@contextmanager
def spooled(prompts: Iterable[Prompt], near: Path) -> Iterator[Spool]:
    """`prompts`, read to their end, for as long as the block lasts. near: on whose disk they wait.

    Raises what reading them raises, and WarehouseError where the disk is full.
    """
    around = (near.absolute(), *near.absolute().parents)
    folder = next(path for path in around if path.is_dir())
    with tempfile.SpooledTemporaryFile(MEMORY, dir=str(folder)) as file:  # makes its file when it is full, in `_write`
        digest, count = _write(prompts, file, near)
        yield Spool(digest, count, file)


def _write(prompts: Iterable[Prompt], file: IO[bytes], near: Path) -> tuple[str, int]:
    running, count = hashlib.sha256(), 0
    iterator = iter(prompts)
    with files.storing(near):
        stream = pa.ipc.new_stream(file, TABLES["prompts"].schema, options=pa.ipc.IpcWriteOptions(compression="zstd"))
    while batch := list(islice(iterator, BATCH)):
        for prompt in batch:
            running.update(canonical_json(without_defaults(prompt, "source")) + b"\n")
        rows = convert.prompts_to_arrow("", 0, batch)
        with files.storing(near):
            stream.write_table(rows)
        count += len(batch)
    with files.storing(near):
        stream.close()
    return running.hexdigest(), count


def _slice(rows: pa.Table, run_id: str, number: int) -> pa.Table:
    own = {"run_id": [run_id] * len(rows), "slice": [number] * len(rows), "position": range(len(rows))}
    schema = TABLES["prompts"].schema
    arrays = [
        pa.array(own[field.name], field.type) if field.name in own else rows.column(field.name) for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
