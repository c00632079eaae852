"""The warehouse's folder: the same one from first to last, mended where its own files are damaged, and never written
through a link."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from small_project import small_project, table
from warehouse_rows import CONSTITUTION, RUN, chain, fill, prompt, run

from constitution.cli import app
from constitution.errors import InputError, RunLocked, WarehouseError
from constitution.pipeline.plan import prepare
from constitution.pipeline.session import open_run
from constitution.recipe import load_recipe
from constitution.records import Annotation, Figure, Response
from constitution.warehouse import Warehouse, checksums, connect, convert, place, views
from constitution.warehouse.layout import Place

RESPONSES = [row for row in chain(0) if isinstance(row, Response)]

WRITES: dict[str, Callable[[Warehouse], Any]] = {
    "part": lambda warehouse: warehouse.write_part("responses", RUN, RESPONSES),
    "rows": lambda warehouse: warehouse.replace_rows("responses", RUN, RESPONSES),
    "prompts": lambda warehouse: warehouse.write_prompts(RUN, 0, [prompt(0)]),
    "slices": lambda warehouse: warehouse.replace_input(
        "prompts", RUN, [convert.prompts_to_arrow(RUN, 0, [prompt(0)])]
    ),
    "principles": lambda warehouse: warehouse.write_principles(RUN, CONSTITUTION),
    "run": lambda warehouse: warehouse.write_run(run()),
    "annotations": lambda warehouse: warehouse.write_annotations(
        RUN, [Annotation("l", RUN, "p", "a", 1.0, "a.csv", "q", None, None)]
    ),
    "figures": lambda warehouse: warehouse.write_figures(RUN, [Figure(RUN, "f", 1.0, 1)]),
    "lock": lambda warehouse: warehouse.lock(RUN).__enter__(),
    "recover": lambda warehouse: warehouse.recover(RUN),
    "repair": lambda warehouse: warehouse.repair(RUN),
    "compact": lambda warehouse: warehouse.compact(RUN),
    "views": lambda warehouse: warehouse.rebuild_views(),
    "scores": lambda warehouse: warehouse.scoring(RUN).__enter__(),
    "exported": lambda warehouse: warehouse.write_exported(RUN, "dpo-0123456789ab", []),
    "rows of": lambda warehouse: warehouse.rows_of(RUN, [prompt(0).id]),
    "runs": lambda warehouse: warehouse.read_run(RUN),
}


HOW = ("renamed", "deleted", "another in its place")


@pytest.mark.parametrize(("name", "how"), [*zip(WRITES, cycle(HOW), strict=False), *(("part", how) for how in HOW[1:])])
def test_a_warehouse_that_is_gone_is_not_made_again(tmp_path: Path, name: str, how: str) -> None:
    warehouse = fill(tmp_path / "warehouse")
    if how == "deleted":
        shutil.rmtree(warehouse.root)
    else:
        warehouse.root.rename(tmp_path / "moved")
    if how == "another in its place":
        warehouse.root.mkdir()
    with pytest.raises(WarehouseError, match="renamed or deleted") as refused:
        WRITES[name](warehouse)
    assert refused.value.hint
    left = {} if how == "deleted" else {"moved"}
    assert set(os.listdir(tmp_path)) == {*left, *(["warehouse"] if how == "another in its place" else [])}
    assert not warehouse.root.exists() or not os.listdir(warehouse.root)


@pytest.mark.parametrize("name", ["annotations", "figures", "scores", "exported"])
def test_what_is_said_of_a_run_makes_no_warehouse(tmp_path: Path, name: str) -> None:
    with pytest.raises(WarehouseError, match="no warehouse"):
        WRITES[name](Warehouse(tmp_path / "warehouse"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["part", "slices", "principles", "run", "lock"])
def test_between_looking_and_writing_it_is_not_made_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    warehouse = fill(tmp_path / "warehouse")
    warehouse.root.rename(tmp_path / "moved")
    monkeypatch.setattr(Place, "check", lambda self: None)
    with pytest.raises(WarehouseError, match="cannot be written"):
        WRITES[name](warehouse)
    assert os.listdir(tmp_path) == ["moved"]


async def test_a_run_whose_warehouse_is_renamed_stops_and_resumes_there(tmp_path: Path) -> None:
    recipe, root = small_project(tmp_path), tmp_path / "warehouse"
    settings = ["output.flush_seconds=0.01", "model.policy.latency_s=0.01", "output.window=2"]
    plan = prepare(load_recipe(recipe, settings), recipe, root)
    moved = False

    async def whole() -> None:
        async with open_run(plan) as session:

            async def work(part: Path) -> None:
                nonlocal moved
                await session.work(part)
                if not moved:
                    root.rename(tmp_path / "moved")
                    moved = True

            await session.walk(work)
            await session.finish()

    with pytest.raises(WarehouseError, match="renamed or deleted"):
        await whole()
    assert not root.exists()
    [stored] = Warehouse(tmp_path / "moved").runs()
    assert stored.finished_at is None
    (tmp_path / "moved").rename(root)
    async with open_run(prepare(load_recipe(recipe), recipe, root)) as session:
        await session.walk()
        done = await session.finish()
    assert done.finished_at
    assert table(root, "SELECT count(*) FILTER (complete) FROM chains") == [(50,)]
    assert Warehouse(root).verify(done.run_id) == []


async def test_a_warehouse_that_went_before_the_run_began(tmp_path: Path) -> None:
    recipe, root = small_project(tmp_path), tmp_path / "warehouse"
    plan = prepare(load_recipe(recipe), recipe, root)
    root.rename(tmp_path / "moved")
    with pytest.raises(WarehouseError, match="not there any more"):
        async with open_run(plan):
            pass
    assert not root.exists()


async def test_a_run_with_rows_missing_is_not_finished(tmp_path: Path) -> None:
    """A part that is lost while the run works: it has no checksum that would tell."""
    recipe, root = small_project(tmp_path), tmp_path / "warehouse"
    plan = prepare(load_recipe(recipe, ["output.flush_seconds=0.01"]), recipe, root)

    async def lossy() -> None:
        async with open_run(plan) as session:
            await session.walk()
            assert session._steps
            await session._steps.writer.flush()
            shutil.rmtree(session._state.warehouse.folder("responses", plan.run_id))
            await session.finish()

    with pytest.raises(WarehouseError, match=r"has made .* responses") as refused:
        await lossy()
    assert refused.value.hint
    async with open_run(prepare(load_recipe(recipe), recipe, root)) as session:
        await session.walk()
        done = await session.finish()
    assert done.finished_at
    # Verified the same way, however much of a table went with its checksums.
    for name in ("responses", "judgements", "preferences"):
        folder = Warehouse(root).folder(name, done.run_id)
        both = folder, checksums.aside(folder)
        whole = convert.rows_from_arrow(name, Warehouse(root).table(name, done.run_id))
        for each in both:
            each.rename(each.with_name("kept"))
        Warehouse(root).write_part(name, done.run_id, whole[:-1])
        [damage] = Warehouse(root).verify(done.run_id)
        assert str(damage).endswith(f"has {len(whole) - 1:,} rows, and the run's record counts {len(whole):,}")
        assert Warehouse(root).verify(done.run_id, read_parts=False) == [damage]
        for each in both:
            shutil.rmtree(each)
            each.with_name("kept").rename(each)
    assert Warehouse(root).verify(done.run_id) == []


# --- what holds no data is mended by any command


def test_a_warehouse_that_cannot_be_written_is_read_all_the_same(tmp_path: Path) -> None:
    root = fill(tmp_path / "warehouse").root
    (root / views.DATABASE).unlink()
    shutil.rmtree(root / "annotations")
    if os.geteuid() == 0:
        pytest.skip("root writes everywhere")
    for folder in (root, *root.rglob("*")):
        folder.chmod(0o555 if folder.is_dir() else 0o444)
    try:
        assert table(root, "SELECT count(*) FROM responses") == [(17,)]
    finally:
        for folder in (root, *root.rglob("*")):
            folder.chmod(0o755)


def test_a_project_that_has_runs_of_its_own_is_no_warehouse(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "1.json").write_text("{}")
    (tmp_path / "prompts" / "train").mkdir(parents=True)
    (tmp_path / "prompts" / "train" / "mine.parquet").write_bytes(b"")
    assert "no warehouse here" in str(
        CliRunner().invoke(app, ["sql", "SELECT 1", "--warehouse", str(tmp_path)]).exception
    )
    assert sorted(os.listdir(tmp_path)) == ["prompts", "runs"]


# --- links and full disks


def test_nothing_is_written_through_a_link_of_a_guessed_name(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    warehouse = fill(tmp_path / "warehouse")
    folder, runs = checksums.aside(warehouse.folder("responses", RUN)), warehouse.root / "runs"
    old = [f".part-0.parquet.{os.getpid()}.tmp", ".part-1.parquet.tmp", ".SHA256SUMS.tmp"]
    for path in (
        *(folder / name for name in old),
        runs / f".{RUN}.json.{os.getpid()}.tmp",
        warehouse.root / f".warehouse.duckdb.{os.getpid()}.tmp",
        folder.parents[1] / "figures" / f".part-0.parquet.{os.getpid()}.tmp",
        tmp_path / ".out.csv.tmp",
    ):
        path.symlink_to(precious)
    warehouse.write_part("responses", RUN, RESPONSES)
    warehouse.write_prompts(RUN, 0, [prompt(0)])
    warehouse.write_run(run())
    warehouse.rebuild_views()
    words = ["sql", "SELECT 1", "--out", str(tmp_path / "out.csv"), "--warehouse", str(warehouse.root)]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert precious.read_bytes() == b"mine"


@pytest.mark.parametrize(
    "name", ["runs/{run}.lock", "checksums/annotations/{run}/.lock", "checksums/responses/{run}/SHA256SUMS"]
)
def test_nor_through_a_link_in_place_of_a_file_that_is_written_in_place(tmp_path: Path, name: str) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    warehouse = fill(tmp_path / "warehouse")
    path = warehouse.root / name.format(run=RUN)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(precious)
    what = {"runs": "lock", "annotations": "annotations", "responses": "part"}[
        name.removeprefix("checksums/").split("/")[0]
    ]
    with pytest.raises(WarehouseError, match="cannot be written"):
        WRITES[what](warehouse)
    assert precious.read_bytes() == b"mine"


@pytest.mark.parametrize("call", ["pwrite", "ftruncate"])
def test_the_lock_on_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    warehouse = fill(tmp_path / "warehouse")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(WarehouseError, match=r"\.lock: cannot be written: No space left"), warehouse.lock(RUN):
            pass
    with warehouse.lock(RUN), pytest.raises(RunLocked), Warehouse(warehouse.root).lock(RUN):
        pass


# --- addresses

COMMANDS = [
    ("sql", "SELECT 1"), ("runs",), ("verify",), ("audit",), ("relabel", "x"), ("run", "recipe.toml"),
    ("export", "--format", "dpo", "--out", "o"), ("annotations", "import", "recipe.toml"),
]  # fmt: skip
ADDRESSES = ["ftp://b/warehouse", "HTTPS://x/y", "s3://", "s3://bucket/a%20b", "hf://b/c"]


@pytest.mark.parametrize(("words", "address"), [*zip(COMMANDS, cycle(ADDRESSES), strict=False)])
def test_an_address_is_no_warehouse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, words: tuple[str, ...]
) -> None:
    small_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = sorted(os.listdir(tmp_path))
    monkeypatch.setenv("CONSTITUTION_WAREHOUSE", address)
    said = CliRunner().invoke(app, list(words))
    assert said.exit_code != 0
    text = str(said.exception) + said.output
    assert "is an address" in text
    assert sorted(os.listdir(tmp_path)) == before


def test_a_backslash_in_the_path_is_refused_and_makes_no_other_folder(tmp_path: Path) -> None:
    """DuckDB would look for `a/b` in place of the folder that is called so."""
    folder = tmp_path / "a\\b"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    for root in (folder / "warehouse", tmp_path / "c\\d", tmp_path / "link" / "warehouse"):
        for opened in (Warehouse, connect):
            with pytest.raises(InputError, match="has a backslash, which DuckDB takes for a /"):
                opened(root)
    for opened in (Warehouse, connect):
        with pytest.raises(InputError, match="which ends a name for DuckDB"):
            opened(tmp_path / "what?" / "warehouse")
    assert sorted(os.listdir(tmp_path)) == ["a\\b", "link"]


def test_nor_in_code_and_flows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    for opened in (Warehouse, connect, lambda root: prepare(load_recipe(recipe), recipe, root)):
        with pytest.raises(InputError, match="s3://bucket/x: is an address"):
            opened(Path("s3://bucket/x"))
    for address in ADDRESSES:
        with pytest.raises(InputError, match="is an address"):
            Warehouse(Path(address))
    assert not (tmp_path / "s3:").exists()
    assert Warehouse(tmp_path / "s3:").root.name == "s3:"  # a folder's name, where it is one


@pytest.mark.parametrize(
    ("where", "folder"),
    [
        ("file:///data/warehouse", "/data/warehouse"),
        ("file://localhost/data/a%20b", "/data/a b"),
        ("FILE:///data/warehouse/", "/data/warehouse"),
        (Path("file:///data/warehouse"), "/data/warehouse"),  # which has lost two slashes
        ("warehouse", "warehouse"),
        (Path("a") / "b%20c", "a/b%20c"),
    ],
)
def test_the_folder_of_an_address_of_this_machine(where: str | Path, folder: str) -> None:
    assert place(where) == Path(folder)


@pytest.mark.parametrize("where", ["file://data/warehouse", "file://warehouse", "file:///what%3F/x"])
def test_addresses_that_are_no_folder(where: str) -> None:
    with pytest.raises(InputError, match=r"names the machine|DuckDB"):
        place(where)


def test_commands_take_a_folder_s_address(tmp_path: Path) -> None:
    Warehouse(tmp_path / "one two").rebuild_views()
    said = CliRunner().invoke(app, ["sql", "SELECT 1 AS a", "--warehouse", f"file://{tmp_path}/one%20two"])
    assert (said.exit_code, "1" in said.output) == (0, True), said.output
