"""The writer: what is on disk when, in which order, and what happens when the disk says no."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest
from warehouse_rows import RUN, chain, failure

from constitution.errors import WarehouseError
from constitution.records import Failure, Judgement, Response, Row, Shard
from constitution.warehouse import Warehouse, Writer, convert
from constitution.warehouse.convert import TABLE_OF

R = TypeVar("R", Response, Judgement, Failure)


class Watched(Warehouse):
    """A warehouse that notes its writes, and refuses those of the tables in `broken`."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.writes: list[tuple[str, int]] = []
        self.threads: set[int] = set()
        self.broken: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()

    def write_part(
        self, table: str, run_id: str, rows: Sequence[Row | convert.Note], shard: Shard | None = None
    ) -> Path:
        self.gate.wait(10)
        if table in self.broken:
            raise WarehouseError(f"{self.root / table}: cannot be written: No space left on device")
        self.threads.add(threading.get_ident())
        self.writes.append((table, len(rows)))
        return super().write_part(table, run_id, rows, shard)


@pytest.fixture
def warehouse(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "warehouse")


async def test_rows_are_flushed_by_number_in_order_and_off_the_loop(warehouse: Watched) -> None:
    async with Writer(warehouse, RUN, flush_rows=12, flush_seconds=60) as writer:
        for number in range(2):  # 6 rows each, put one by one and the votes before the pair
            for row in chain(number):
                await writer.put([row])
        await asyncio.wait_for(_until(lambda: writer.unwritten == 0), 10)
        assert [table for table, _ in warehouse.writes] == ["responses", "judgements", "preferences"]
        assert threading.get_ident() not in warehouse.threads
        await writer.put([failure(1)])
    assert warehouse.writes[-1] == ("failures", 1), "closing writes the rest"
    assert writer.written == {"responses": 6, "judgements": 4, "preferences": 2, "failures": 1}


async def test_rows_are_flushed_when_the_oldest_is_old(warehouse: Watched) -> None:
    async with Writer(warehouse, RUN, flush_rows=1000, flush_seconds=0.2) as writer:
        await asyncio.sleep(0.3)
        assert not warehouse.root.exists(), "nothing to write, nothing written"
        started = asyncio.get_running_loop().time()
        await writer.put([failure(1)])
        await asyncio.sleep(0.05)
        assert writer.unwritten == 1, "the clock starts with the row"
        await asyncio.wait_for(_until(lambda: writer.unwritten == 0), 10)
        assert asyncio.get_running_loop().time() - started >= 0.15


async def test_votes_are_never_on_disk_before_their_answers(warehouse: Watched) -> None:
    """Many chains at once, tiny flushes: after every single write, every judgement's responses are there."""

    async def one(number: int, writer: Writer) -> None:
        for row in chain(number):
            await writer.put([row])
            await asyncio.sleep(0)

    async def watch() -> None:
        while True:
            judged = {f for row in _rows(warehouse, Judgement) for f in (row.first_id, row.second_id)}
            assert judged <= {row.id for row in _rows(warehouse, Response)}
            await asyncio.sleep(0.01)

    async with Writer(warehouse, RUN, flush_rows=7, flush_seconds=60) as writer:
        watcher = asyncio.create_task(watch())
        await asyncio.gather(*(one(number, writer) for number in range(25)))
        watcher.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watcher
    assert len(_rows(warehouse, Judgement)) == 50


async def test_put_waits_while_too_much_is_unwritten(warehouse: Watched) -> None:
    warehouse.gate.clear()
    async with Writer(warehouse, RUN, flush_rows=5, flush_seconds=60) as writer:
        for number in range(20):
            await asyncio.wait_for(writer.put([failure(number)]), 5)
        waiting = asyncio.create_task(writer.put([failure(20)]))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        assert writer.unwritten == 20
        warehouse.gate.set()
        await asyncio.wait_for(waiting, 5)
    assert len(_rows(warehouse, Failure)) == 21


async def test_a_failed_write_is_raised_and_its_rows_are_kept(warehouse: Watched) -> None:
    warehouse.broken = {"judgements"}
    async with Writer(warehouse, RUN, flush_rows=6, flush_seconds=60) as writer:
        await writer.put(list(chain(1)))
        await asyncio.wait_for(_until(lambda: writer.unwritten == 3), 10)
        with pytest.raises(WarehouseError, match="judgements: cannot be written: No space"):
            await writer.put([failure(1)])
        assert writer.unwritten == 3, "the responses are written; the row of the refused put is not taken"
        warehouse.broken = set()
        await writer.put([failure(1)])
    assert [table for table, _ in warehouse.writes] == ["responses", "judgements", "failures", "preferences"]
    *votes, label = chain(1)
    assert warehouse.rows_of(RUN, [label.prompt_id])[label.prompt_id] == [*votes, failure(1), label]


async def test_a_write_that_fails_at_the_end_is_raised_by_closing(warehouse: Watched) -> None:
    warehouse.broken = {"failures"}
    with pytest.raises(WarehouseError, match="No space"):
        async with Writer(warehouse, RUN) as writer:
            await writer.put([failure(1)])
    with pytest.raises(WarehouseError, match="not open"):
        await writer.put([failure(1)])


async def test_flush_waits_until_all_is_on_disk(warehouse: Watched) -> None:
    async with Writer(warehouse, RUN, flush_rows=1000, flush_seconds=60) as writer:
        await writer.flush()
        await writer.put([failure(1)])
        await asyncio.wait_for(writer.flush(), 10)
        assert [row.id for row in _rows(warehouse, Failure)] == [failure(1).id]
        warehouse.broken = {"failures"}
        await writer.put([failure(2)])
        with pytest.raises(WarehouseError, match="No space"):
            await asyncio.wait_for(writer.flush(), 10)
        warehouse.broken = set()


async def test_a_cancelled_run_still_writes_what_it_has(warehouse: Watched) -> None:
    warehouse.gate.clear()

    async def work() -> None:
        async with Writer(warehouse, RUN, flush_rows=1000, flush_seconds=60) as writer:
            await writer.put(list(chain(1)))
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.sleep(0.05)
    task.cancel()  # an impatient second Ctrl-C, while it is flushing
    await asyncio.sleep(0.05)
    warehouse.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)
    assert len(_rows(warehouse, Response)) == 3
    assert len(_rows(warehouse, Judgement)) == 2


async def test_a_row_of_another_run_is_refused(warehouse: Watched) -> None:
    async with Writer(warehouse, RUN) as writer:
        with pytest.raises(WarehouseError, match="a row of run other"):
            await writer.put([failure(1, "other")])
        assert writer.unwritten == 0


def _rows(warehouse: Warehouse, kind: type[R]) -> list[R]:
    table = TABLE_OF[kind]
    prompts = warehouse.ids(table, RUN, "prompt_id")
    return [row for rows in warehouse.rows_of(RUN, prompts).values() for row in rows if isinstance(row, kind)]


async def _until(done: Callable[[], bool]) -> None:
    while not done():  # noqa: ASYNC110  (what is awaited happens on the disk)
        await asyncio.sleep(0.01)
