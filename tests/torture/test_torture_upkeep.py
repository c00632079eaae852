"""Kills of `constitution warehouse gc`, `rm` and `copy`: what is left is sound, or the same command does the rest."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from click.testing import CliRunner
from conftest import Torture
from kept_warehouse import OLD, OTHER, files_of, litter, two_runs
from kill_points import kills
from warehouse_rows import RUN

from constitution.cli import app
from constitution.records import Response
from constitution.warehouse import Warehouse, ask, connect, removing
from constitution.warehouse.schema import TABLES
from constitution.warehouse.upkeep import garbage, removal
from constitution.warehouse.upkeep.copying import copy_run


def test_gc_killed_at_any_step_is_done_by_the_next(tmp_path: Path, torture: Torture) -> None:
    store = two_runs(tmp_path)
    left = litter(tmp_path, OLD)
    rows = {table: store.table(table, RUN) for table in TABLES}

    def collect() -> None:
        store = Warehouse(tmp_path)
        for each in garbage.find(store):
            garbage.collect(store, each)

    points = 0
    for _ in kills(collect, every=1 if torture.full else 17):
        points += 1
        torture.count("kills of commands that look after a warehouse")
        assert Warehouse(tmp_path).verify(RUN) == Warehouse(tmp_path).verify(OTHER) == []
    assert points > 1
    assert not any(path.exists() for path in left)
    assert {table: store.table(table, RUN) for table in TABLES} == rows


def test_removal_killed_at_any_step_is_whole_or_gone(tmp_path: Path, torture: Torture) -> None:
    """Gone: no record, no row that lacks what it names, and the same command, or `gc`, does the rest."""
    store = two_runs(tmp_path / "w")
    litter(tmp_path / "w", OLD)
    last, every = 0, 1 if torture.full else 11
    for by_gc in (False, True):
        root = tmp_path / f"w-{by_gc}"
        shutil.copytree(tmp_path / "w", root)
        whole = 0
        for point in kills(partial(_remove, root), every=every):
            last = point
            torture.count("kills of commands that look after a warehouse")
            store = Warehouse(root)
            if store.read_run(RUN):
                whole += 1
                assert store.verify(RUN) == []
                assert removing.interrupted(root) == []
            elif not removing.interrupted(root):  # all but its locks is gone
                assert all(name.endswith(".lock") for name in files_of(root) if RUN in name)
            else:
                assert removing.interrupted(root) == [RUN]
                assert "its removal was interrupted" in _verified(root)
                _no_row_lacks_what_it_names(root)
                if by_gc:
                    [found] = [each for each in garbage.find(store, 0) if each.what == "removing"]
                    for each in kills(partial(garbage.collect, store, found), every=every):
                        last = max(each, last)
                    break
        assert whole > 0
        assert not any(RUN in name for name in files_of(root))
        assert f"{OTHER}: sound" in _verified(root)
    assert last > 10


def test_a_copy_killed_at_any_step_is_done_by_the_same_command(tmp_path: Path, torture: Torture) -> None:
    """A new one, and one that brings the copy up to date with parts that were merged."""
    source = two_runs(tmp_path / "a")
    target, every = tmp_path / "b", 1 if torture.full else 23
    for merged in (False, True):
        if merged:
            [first, *_] = source.rows_of(RUN, source.ids("prompts", RUN)).values()
            source.write_part("responses", RUN, [each for each in first if isinstance(each, Response)][:1])
            source.compact(RUN)
        points = 0
        for _ in kills(partial(_copy, tmp_path), every=every):
            points += 1
            torture.count("kills of commands that look after a warehouse")
            if Warehouse(target).read_run(RUN) and not merged:
                assert Warehouse(target).verify(RUN) == []
        assert points > 1
        store = Warehouse(target)
        assert {table: store.table(table, RUN) for table in TABLES} == {
            table: source.table(table, RUN) for table in TABLES
        }
        assert [each for each in store.verify(RUN) if "record counts" not in each.fault] == []
        assert not [name for name in files_of(target) if name.endswith(".tmp")]


def _copy(folder: Path) -> None:
    copy_run(Warehouse(folder / "a"), Warehouse(folder / "b"), RUN)


def _remove(root: Path) -> None:
    removal.remove(Warehouse(root), RUN)


def _verified(root: Path) -> str:
    return CliRunner().invoke(app, ["verify", "--warehouse", str(root)], catch_exceptions=False).output


def _no_row_lacks_what_it_names(root: Path) -> None:
    with connect(root) as connection:
        for query in (
            "FROM annotations ANTI JOIN preferences ON preferences.id = pair_id",
            "FROM preferences ANTI JOIN responses ON responses.id = a_id AND responses.run_id = preferences.run_id",
            "FROM judgements ANTI JOIN responses ON responses.id = first_id AND responses.run_id = judgements.run_id",
            "FROM responses ANTI JOIN prompts ON prompts.id = prompt_id AND prompts.run_id = responses.run_id",
        ):
            assert list(ask(connection, query).rows) == []
