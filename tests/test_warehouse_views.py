"""The views of a connection: made once in a process, and right for every warehouse and run."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from warehouse_rows import RUN, chain, fill, prompt, run

from constitution.records import Preference, Response
from constitution.warehouse import Warehouse, ask, connect, views

OTHER = "other-0123456789ab"


def answers(root: Path, run_id: str | None = None) -> int:
    with connect(root, run_id=run_id) as connection:
        [(count,)] = ask(connection, "SELECT count(*) FROM responses").rows
        [(chains,)] = ask(connection, "SELECT count(*) FROM chains").rows  # a view of views
        assert chains >= (count > 0)
    return int(count)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's cache, empty, of a process that has made no views yet."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    monkeypatch.setattr(views, "_open", {})
    return folder / "constitution"


@pytest.fixture(params=["in memory", "no room for it", "not on this system", "not opened by DuckDB"])
def way(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    cache: Path,
) -> Iterator[str]:
    """How a connection comes by its views."""

    def full(name: str) -> int:
        raise OSError("no room")

    if request.param == "no room for it":
        monkeypatch.setattr(os, "memfd_create", full)
    elif request.param == "not on this system":
        monkeypatch.delattr(os, "memfd_create")
    elif request.param == "not opened by DuckDB":
        refused = tmp_path_factory.mktemp("refused") / "views.duckdb"
        refused.write_text("no database")
        monkeypatch.setattr(views, "_in_memory", lambda root, without: str(refused))
    yield request.param
    assert bool(views._open) is (request.param == "in memory")
    for descriptor in views._open.values():
        os.close(descriptor)


def test_every_warehouse_has_its_own_rows(way: str, tmp_path: Path) -> None:
    fill(tmp_path / "one")
    two = Warehouse(tmp_path / "two")
    two.write_prompts(RUN, 0, [prompt(0)])
    two.write_run(run())
    two.write_part("responses", RUN, [row for row in chain(0) if isinstance(row, Response)])
    assert [answers(tmp_path / name) for name in ("one", "two")] == [17, 3]
    shutil.rmtree(tmp_path / "two" / "annotations")  # as of a version that had no such table
    with connect(tmp_path / "two") as connection:
        assert list(ask(connection, "FROM annotations").rows) == []


def test_of_one_run_no_other_is_seen(way: str, tmp_path: Path) -> None:
    warehouse = fill(tmp_path)
    warehouse.write_prompts(OTHER, 0, [prompt(9)])
    assert [answers(tmp_path, run_id) for run_id in (RUN, OTHER, None)] == [17, 0, 17]
    with connect(tmp_path, run_id=OTHER) as connection:
        assert list(ask(connection, "SELECT id FROM prompts").rows) == [(prompt(9).id,)]


def test_what_a_connection_makes_is_its_own(way: str, tmp_path: Path) -> None:
    fill(tmp_path)
    with connect(tmp_path) as connection, connect(tmp_path) as other:
        connection.execute("CREATE SCHEMA work; CREATE TABLE work.few AS FROM responses LIMIT 2")
        with connection.cursor() as cursor:
            views.look(cursor, tmp_path, RUN)
            assert cursor.execute("SELECT count(*) FROM work.few JOIN responses USING (id)").fetchall() == [(2,)]
        with pytest.raises(duckdb.CatalogException):
            other.execute("FROM work.few")


def test_threads_connect_at_once(tmp_path: Path, cache: Path) -> None:
    fill(tmp_path)
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda _: answers(tmp_path), range(6))) == [17] * 6


def test_the_views_are_made_once_for_all_processes_of_a_version(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = fill(tmp_path)
    made: list[Path] = []
    create = views.create

    def counted(connection: duckdb.DuckDBPyConnection, root: Path, without: Collection[str] | None = None) -> None:
        made.append(root)
        create(connection, root, without)

    def as_a_new_process() -> int:
        monkeypatch.setattr(views, "_open", {})
        assert answers(tmp_path) == 17
        return len(made)

    monkeypatch.setattr(views, "create", counted)
    assert [as_a_new_process() for _ in range(2)] == [1, 1]
    (tmp_path / views.DATABASE).unlink()
    assert (as_a_new_process(), warehouse.rebuild_views().exists()) == (1, True)
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    for damaged in (b"", whole[:-1], whole[:40] + b"x" + whole[41:]):
        kept.write_bytes(damaged)
        before = len(made)
        assert [as_a_new_process() for _ in range(2)] == [before + 1] * 2
    monkeypatch.setattr(os, "geteuid", lambda: -1)  # another user's file is not believed
    assert as_a_new_process() == 5


def test_the_views_file_is_one_that_duckdb_1_opens(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make test-tables` asks DuckDB 1 itself: it refuses a file of a later format than 64 (its releases 1.0 and 1.1),
    and knows if() by its grammar alone, of which a stored view has no part left."""
    warehouse = fill(tmp_path)
    for in_memory in (True, False):
        if not in_memory:
            monkeypatch.setattr(views, "_in_memory", lambda root, without: None)
        path = warehouse.rebuild_views()
        assert int.from_bytes(path.read_bytes()[12:20], "little") == 64
    with duckdb.connect(str(path), read_only=True) as connection:
        [(stored,)] = connection.execute(
            "SELECT string_agg(sql, '') FROM (SELECT sql FROM duckdb_views() UNION ALL "
            "SELECT macro_definition FROM duckdb_functions() WHERE NOT internal)"
        ).fetchall()
    assert "averaged_votes" in stored
    assert not re.search(r'\bif"?\(', stored, re.IGNORECASE)


def test_another_version_makes_its_own_views(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path)
    statements = views._statements
    for version in range(views._CACHED + 3):
        monkeypatch.setattr(views, "_open", {})
        later = [f"CREATE VIEW version AS SELECT {version} AS n"]
        monkeypatch.setattr(views, "_statements", lambda without, later=later: [*statements(without), *later])
        with connect(tmp_path) as connection:
            assert list(ask(connection, "FROM version").rows) == [(version,)]
    monkeypatch.setattr(views, "_open", {})
    monkeypatch.setattr(duckdb, "__version__", "1000.0.0")
    assert answers(tmp_path) == 17
    assert len(list(cache.iterdir())) == views._CACHED


@pytest.mark.parametrize("folder", ["/dev/null/cache", "relative", "~"])
def test_without_a_cache_each_process_makes_the_views(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", folder)
    fill(tmp_path / "warehouse")
    assert answers(tmp_path / "warehouse") == 17
    assert os.listdir() == ["warehouse"]


@pytest.mark.parametrize(
    ("p_b", "agrees"), [(None, None), (0.5, None), (0.5 + 1e-13, None), (0.75, True), (0.25, False)]
)
def test_only_a_label_agrees_with_gold(tmp_path: Path, p_b: float | None, agrees: bool | None) -> None:
    """Of a tie and of a pair without votes, `chosen` is the later answer, which nobody preferred."""
    warehouse = fill(tmp_path)
    pairs = [row for row in chain(9) if isinstance(row, Preference)]
    later = [replace(pair, p_b=p_b, gold_id=pair.b_id, drop_reason=None if agrees else "tie") for pair in pairs]
    warehouse.replace_rows("preferences", RUN, later)
    with connect(tmp_path) as connection:
        assert list(ask(connection, "SELECT agrees_with_gold FROM pairs").rows) == [(agrees,)]
        shares = "SELECT value FROM run_figures($$" + RUN + "$$) WHERE figure = 'later_preferred_share'"
        expected = {None: None, 0.75: 1.0, 0.25: 0.0}.get(p_b, 0.5)
        assert list(ask(connection, shares).rows) == [(expected,)]
