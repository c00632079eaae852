"""Real processes: one killed at random while it writes, one reading all the while that another writes and compacts."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import duckdb
from warehouse_rows import RUN, chain, prompt

from constitution.warehouse import Warehouse, ask, connect

TESTS = str(Path(__file__).parent)

WRITE = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from warehouse_rows import RUN, chain, prompt
from constitution.warehouse import Warehouse, Writer

async def main(warehouse, numbers, compact):
    with warehouse.lock(RUN):
        warehouse.recover(RUN)
        have = warehouse.rows_of(RUN, [prompt(number).id for number in numbers])
        async with Writer(warehouse, RUN, flush_rows=40, flush_seconds=0.05) as writer:
            print("ready", flush=True)
            for number in numbers:
                written = {row.id for row in have.get(prompt(number).id, ())}
                await writer.put([row for row in chain(number) if row.id not in written])
                print(number, flush=True)
                await asyncio.sleep(0.0005)
        if compact:
            warehouse.compact(RUN)
            warehouse.rebuild_views()

asyncio.run(main(Warehouse(Path(sys.argv[1])), range(int(sys.argv[3])), sys.argv[4] == "compact"))
"""


def writing(root: Path, prompts: int, *, compact: bool = True) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WRITE, str(root), TESTS, str(prompts), "compact" if compact else ""]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def counts(root: Path) -> tuple[int, int, int, int]:
    """Responses, distinct ids among them, judgements, and judgements without their responses.

    One query per table, the judgements first: every mention of a table lists its files again, and what a judgement
    names is on disk before it.
    """
    with connect(root) as connection:
        named = list(ask(connection, "SELECT first_id, second_id FROM judgements").rows)
        ids = [row[0] for row in ask(connection, "SELECT id FROM responses").rows]
    known = set(ids)
    return len(ids), len(known), len(named), sum(not known.issuperset(pair) for pair in named)


def test_killed_at_any_moment_and_started_again_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    prompts = 150
    chance = random.Random(11)
    Warehouse(tmp_path).rebuild_views()
    for _ in range(4):
        with writing(tmp_path, prompts) as process:
            assert process.stdout
            for _ in range(chance.randrange(1, prompts)):
                process.stdout.readline()  # ready, and a prompt each
            process.kill()
            assert process.wait() == -9
        responses, distinct, _, orphans = counts(tmp_path)
        assert responses == distinct
        assert orphans == 0
    with writing(tmp_path, prompts) as process:
        process.communicate()
        assert process.returncode == 0
    assert counts(tmp_path) == (prompts * 3, prompts * 3, prompts * 2, 0)
    warehouse = Warehouse(tmp_path)
    ids = [prompt(number).id for number in range(prompts)]
    assert warehouse.rows_of(RUN, ids) == {prompt(number).id: list(chain(number)) for number in range(prompts)}
    assert [path for path in tmp_path.rglob(".*") if path.is_file()] == []


def test_a_reader_is_right_at_every_moment_of_a_run(tmp_path: Path) -> None:
    prompts = 400
    Warehouse(tmp_path).rebuild_views()
    with writing(tmp_path, prompts) as process:
        seen = [0]
        while process.poll() is None:
            responses, distinct, _, orphans = counts(tmp_path)
            assert responses == distinct
            assert responses >= seen[-1]
            assert orphans == 0
            seen.append(responses)
        assert process.wait() == 0
    assert len(set(seen)) > 3, "the reader must have looked while rows came in"
    assert counts(tmp_path) == (prompts * 3, prompts * 3, prompts * 2, 0)
    assert [part.name for part in Warehouse(tmp_path).parts("preferences", RUN)][1:] == []


def test_an_open_database_file_is_in_no_ones_way(tmp_path: Path) -> None:
    """A DuckDB client has warehouse.duckdb open, even for writing; a run writes and rebuilds it."""
    warehouse = Warehouse(tmp_path)
    path = warehouse.rebuild_views()
    with duckdb.connect(str(path)) as client:
        client.execute("SET VARIABLE root = ?", [str(tmp_path)])
        with writing(tmp_path, 20) as process:
            process.communicate()
            assert process.returncode == 0
        assert client.execute("SELECT count(*) FROM responses").fetchall() == [(60,)]
        assert counts(tmp_path)[0] == 60


def test_what_a_kill_left_of_the_database_file_goes_with_the_next_one(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    warehouse.rebuild_views()
    for name in (".warehouse.duckdb.1.tmp", ".warehouse.duckdb.1.tmp.wal"):
        (tmp_path / name).write_bytes(b"half")
    warehouse.rebuild_views()
    assert [path for path in tmp_path.rglob(".*") if path.is_file()] == []
    assert counts(tmp_path) == (0, 0, 0, 0)
