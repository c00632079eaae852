"""Prompts as they were read, until it is known which run's they are.

    with spooled(read_prompts(section, base), near=root) as source:
        source.digest, source.count
        warehouse.replace_input("prompts", run_id, source.slices(run_id, 500))

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
from typing import IO, Any

import pyarrow as pa

from constitution.identity import canonical_json, without_defaults
from constitution.records import Prompt, SkippedRow
from constitution.warehouse import convert, files
from constitution.warehouse.schema import TABLES

MEMORY = 16 * 2**20
"""Bytes, compressed, that wait in memory at most."""
BATCH = 1024
"""Rows."""
PART = 50_000
"""Skipped rows of a part."""


@dataclass(frozen=True, slots=True)
class Spool:
    """A source of prompts, read to its end."""

    digest: str
    """SHA-256 of the prompts in their order, without where they were read and what is only kept with them: the same
    prompts in a file of another name or kind have the same."""
    beside: str
    """SHA-256 of what is only kept with them (convert.BESIDE); empty: nothing is."""
    count: int
    """Prompts."""
    cut: int
    """Those of them whose last answer was cut off."""
    _file: IO[bytes]

    def slices(self, run_id: str, size: int) -> Iterator[pa.Table]:
        """The rows of `prompts` for this run, in slices of `size`; memory: one slice."""
        for number, rows in enumerate(_sliced(self._file, size)):
            yield _owned("prompts", rows, run_id, slice=[number] * len(rows), position=range(len(rows)))


@contextmanager
def spooled(prompts: Iterable[Prompt], near: Path) -> Iterator[Spool]:
    """`prompts`, read to their end, for as long as the block lasts. near: on whose disk they wait.

    Raises what reading them raises, and WarehouseError where the disk is full.
    """
    with _temporary(near) as file:
        yield _write(prompts, file, near)


class SkipSpool:
    """Rows of a source that are skipped, as they come."""

    def __init__(self, file: IO[bytes], near: Path) -> None:
        self.count = 0
        self._file, self._near = file, near
        self._stream: pa.RecordBatchStreamWriter | None = None
        self._waiting: list[SkippedRow] = []
        self._running = hashlib.sha256()

    @property
    def digest(self) -> str:
        """SHA-256 of them in their order; empty: there are none."""
        return self._running.hexdigest() if self.count else ""

    def add(self, row: SkippedRow) -> None:
        self.count += 1
        self._running.update(canonical_json([row.source, row.reason, row.hint]) + b"\n")
        self._waiting.append(row)
        if len(self._waiting) == BATCH:
            self._flush()

    def parts(self, run_id: str) -> Iterator[pa.Table]:
        """The rows of `skipped` for this run; memory: one part. Nothing is added any more."""
        if not self.count:
            return
        self._flush()
        assert self._stream is not None
        with files.storing(self._near):
            self._stream.close()
        for rows in _sliced(self._file, PART):
            yield _owned("skipped", rows, run_id)

    def _flush(self) -> None:
        rows = convert.skipped_to_arrow("", self._waiting)
        self._waiting = []
        with files.storing(self._near):
            self._stream = self._stream or _stream("skipped", self._file)
            self._stream.write_table(rows)


@contextmanager
def skipping(near: Path) -> Iterator[SkipSpool]:
    """Where skipped rows wait for as long as the block lasts; raises WarehouseError where the disk is full."""
    with _temporary(near) as file:
        yield SkipSpool(file, near)


@contextmanager
def _temporary(near: Path) -> Iterator[IO[bytes]]:
    around = (near.absolute(), *near.absolute().parents)
    folder = next(path for path in around if path.is_dir())
    with tempfile.SpooledTemporaryFile(MEMORY, dir=str(folder)) as file:  # makes its file when it is full
        yield file


def _stream(table: str, file: IO[bytes]) -> pa.RecordBatchStreamWriter:
    return pa.ipc.new_stream(file, TABLES[table].schema, options=pa.ipc.IpcWriteOptions(compression="zstd"))


def _write(prompts: Iterable[Prompt], file: IO[bytes], near: Path) -> Spool:
    running, beside, count, cut, kept = hashlib.sha256(), hashlib.sha256(), 0, 0, False
    iterator = iter(prompts)
    with files.storing(near):
        stream = _stream("prompts", file)
    while batch := list(islice(iterator, BATCH)):
        for prompt in batch:
            running.update(canonical_json(without_defaults(prompt, "source", *convert.BESIDE)) + b"\n")
            values = [getattr(prompt, name) for name in convert.BESIDE]
            beside.update(canonical_json(values) + b"\n")
            kept = kept or any(value is not None for value in values)
            cut += prompt.cut_answer is not None
        rows = convert.prompts_to_arrow("", 0, batch)
        with files.storing(near):
            stream.write_table(rows)
        count += len(batch)
    with files.storing(near):
        stream.close()
    return Spool(running.hexdigest(), beside.hexdigest() if kept else "", count, cut, file)


def _sliced(file: IO[bytes], size: int) -> Iterator[pa.Table]:
    """The rows that `file` holds, `size` at a time."""
    file.seek(0)
    with pa.ipc.open_stream(file) as reader:
        waiting: list[pa.RecordBatch] = []
        for batch in reader:
            waiting.append(batch)
            while sum(map(len, waiting)) >= size:
                rows = pa.Table.from_batches(waiting)
                yield rows[:size]
                waiting = rows[size:].to_batches()
        if waiting:
            yield pa.Table.from_batches(waiting)


def _owned(table: str, rows: pa.Table, run_id: str, **more: Iterable[int]) -> pa.Table:
    """`rows` as this run's. more: further columns that are its own."""
    own: dict[str, Any] = {"run_id": [run_id] * len(rows), **more}
    schema = TABLES[table].schema
    arrays = [
        pa.array(own[field.name], field.type) if field.name in own else rows.column(field.name) for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
