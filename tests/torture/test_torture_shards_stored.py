"""Shards that write one run at once are killed at any moment and started again, while others read: no row is lost or
doubled, and nothing is damaged at any of these moments."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Torture
from warehouse_rows import RUN, failure

from constitution.errors import RunLocked
from constitution.records import Shard
from constitution.warehouse import Warehouse, ask, connect

pytestmark = pytest.mark.torture

OF, ROWS, KILLS = 8, 60, 60


def work(root: Path, shard: Shard) -> None:
    """Writes the shard's rows that are not there, a part each."""
    warehouse = Warehouse(root)
    with warehouse.lock(RUN, shard=shard) as lock:
        if lock.alone:
            warehouse.recover(RUN)
        lock.share()
        warehouse.recover(RUN, shard)
        have = warehouse.ids("failures", RUN)
        for row in (failure(shard.number * 1000 + n) for n in range(ROWS)):
            if row.id not in have:
                warehouse.write_part("failures", RUN, [row], shard)


def started(root: Path, number: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, __file__, str(root), f"{number}/{OF}"], env={"PYTHONPATH": _paths()})


def _paths() -> str:
    return ":".join(filter(None, sys.path))


def test_shards_are_killed_while_others_write_and_read(tmp_path: Path, torture: Torture) -> None:
    warehouse = Warehouse(tmp_path / "warehouse")
    warehouse.write_part("failures", RUN, [failure(0)])
    chance, kills, seen = random.Random(torture.seed), 0, 0
    shards = {number: started(warehouse.root, number) for number in range(1, OF + 1)}
    while shards:
        time.sleep(0.3)
        with connect(warehouse.root) as connection:
            [(rows, ids)] = ask(connection, "SELECT count(*), count(DISTINCT id) FROM failures").rows
        assert seen <= rows == ids
        seen = rows
        assert warehouse.verify(RUN) == []
        for number, process in list(shards.items()):
            if process.poll() is not None:
                assert process.returncode in (0, -signal.SIGKILL)
                del shards[number]
                if process.returncode:
                    shards[number] = started(warehouse.root, number)
        if kills < KILLS and shards:
            shards[chance.choice(list(shards))].kill()
            kills += 1
    torture.count("kills", kills)
    with warehouse.lock(RUN):
        warehouse.recover(RUN)
        assert warehouse.compact(RUN) == OF * ROWS
    assert len(warehouse.ids("failures", RUN)) == OF * ROWS + 1
    assert warehouse.verify(RUN) == []


if __name__ == "__main__":
    while True:
        try:
            work(Path(sys.argv[1]), Shard.parse(sys.argv[2]))
        except RunLocked:  # the process that was killed has not ended yet
            time.sleep(0.05)
        else:
            break
