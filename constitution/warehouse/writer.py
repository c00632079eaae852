"""Rows from many coroutines to parts on disk, off the event loop.

    async with Writer(warehouse, run_id, flush_rows=20_000, flush_seconds=5.0) as writer:
        await writer.put([response])
        await writer.put([judgement, judgement])

Rows wait in one buffer, and a flush takes all of it and writes table by table in the order that rows name each other.
So a judgement is never on disk before the responses that it names, as long as they were put before it or with it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from constitution.errors import WarehouseError
from constitution.records import Row, Shard
from constitution.warehouse.convert import TABLE_OF, Note
from constitution.warehouse.store import Store

FULL = 4
"""`put` waits while this many times flush_rows are not yet on disk."""


class Writer:
    """Writes one run's rows; one at a time per run, or per shard, whose lock the caller holds, or of scores and
    counterfactuals `scoring`.

    A flush starts when `flush_rows` rows wait, or the oldest has waited `flush_seconds`. When a flush fails, its rows
    stay in the buffer, the next `put` raises the WarehouseError (without taking its rows), and the flush is tried again
    after `flush_seconds` and on closing.
    """

    def __init__(
        self,
        warehouse: Store,
        run_id: str,
        *,
        shard: Shard | None = None,
        flush_rows: int = 20_000,
        flush_seconds: float = 5.0,
    ) -> None:
        if flush_rows < 1:
            raise ValueError("flush_rows must be 1 or more")
        self._warehouse = warehouse
        self._run_id = run_id
        self._shard = shard
        self._flush_rows = flush_rows
        self._flush_seconds = flush_seconds
        self._buffer: list[Row | Note] = []
        self._unwritten = 0
        self._error: WarehouseError | None = None
        self._closing = False
        self._work = asyncio.Event()
        self._full = asyncio.Event()
        self._change = asyncio.Condition()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="warehouse")
        self._task: asyncio.Task[None] | None = None
        self.written: Counter[str] = Counter()
        """Rows on disk per table, written by this Writer."""

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name=f"warehouse writer of {self._run_id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def unwritten(self) -> int:
        """Rows taken and not yet on disk."""
        return self._unwritten

    async def put(self, rows: Sequence[Row | Note]) -> None:
        """Takes `rows`; returns at once unless much is waiting. Raises the WarehouseError of a flush that failed."""
        while True:
            self._raise_error()
            if self._closing or self._task is None:
                raise WarehouseError(f"run {self._run_id}: the writer is not open")
            if self._unwritten < FULL * self._flush_rows:
                break
            async with self._change:
                await self._change.wait()
        for row in rows:
            if row.run_id != self._run_id:
                raise WarehouseError(f"run {self._run_id}: was given a row of run {row.run_id}")
        if not rows:
            return
        self._buffer.extend(rows)
        self._unwritten += len(rows)
        self._work.set()
        if len(self._buffer) >= self._flush_rows:
            self._full.set()

    async def flush(self) -> None:
        """Waits until every row taken so far is on disk; raises the WarehouseError if that fails."""
        self._raise_error()
        while self._unwritten:
            self._full.set()
            async with self._change:
                await self._change.wait()
            self._raise_error()

    async def close(self) -> None:
        """Writes what waits and ends; raises the WarehouseError if rows could not be written. Again: does nothing.

        Safe while the caller is being cancelled: the write ends before the cancellation does.
        """
        if self._task is None:
            return
        task, self._task = self._task, None
        self._closing = True
        self._error = None
        self._work.set()
        self._full.set()
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError as error:
                cancelled = error
        self._thread.shutdown(wait=False)
        if cancelled:
            raise cancelled
        self._raise_error()

    async def _run(self) -> None:
        while not self._closing or self._buffer:
            await self._work.wait()
            # The clock starts with the first row that waits, not with the last flush.
            if not self._closing and not self._full.is_set():
                await _first(self._full, self._flush_seconds)
            self._full.clear()
            if await self._flush_once():
                continue
            if self._closing:
                return
            await _first(self._full, self._flush_seconds)

    async def _flush_once(self) -> bool:
        """Writes all that waits; False, with the error kept for the next `put`, if some of it could not be."""
        taken, self._buffer = self._buffer, []
        self._work.clear()
        by_table: dict[str, list[Row | Note]] = {table: [] for table in TABLE_OF.values()}
        for row in taken:
            by_table[TABLE_OF[type(row)]].append(row)
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, self._write, by_table)
        except WarehouseError as error:
            self._error = error
        except Exception as error:
            self._error = WarehouseError(f"run {self._run_id}: rows could not be written: {error!r}")
            self._error.__cause__ = error
        left = [row for rows in by_table.values() for row in rows]
        self._unwritten -= len(taken) - len(left)
        self._buffer[:0] = left
        if self._buffer:
            self._work.set()
        async with self._change:
            self._change.notify_all()
        return not left

    def _write(self, by_table: dict[str, list[Row | Note]]) -> None:
        """In the thread: one part per table that has rows, which are taken out of `by_table` once they are on disk."""
        for table, rows in by_table.items():
            if rows:
                self._warehouse.write_part(table, self._run_id, rows, self._shard)
                self.written[table] += len(rows)
                by_table[table] = []

    def _raise_error(self) -> None:
        if self._error:
            error, self._error = self._error, None
            raise error


async def _first(event: asyncio.Event, seconds: float) -> None:
    """Waits for `event`, but no longer than `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
