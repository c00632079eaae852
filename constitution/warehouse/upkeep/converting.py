"""Runs of a warehouse that an older version wrote, into one of this version. The old one is only read.

    for run_id in old_run_ids(root):
        converted = convert_run(root, target, run_id)

Every row is there again, under the name that its part had. A part that is not what its checksum says is refused. What a
column that came later says of older rows is `KNOWN`, where it can be told; else it is null, and named in
`Converted.unknown`; a column that may not be null, and of which nothing is known, is refused, as is anything that this
version does not know. A run's record comes last: killed at any moment, the same conversion does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from constitution.errors import DamagedPart, RunLocked, WarehouseError
from constitution.records import Run
from constitution.warehouse import checksums, files, locks, record, shards
from constitution.warehouse.columns import FORMAT, Table
from constitution.warehouse.layout import check_version, is_run_id
from constitution.warehouse.notes import Warehouse
from constitution.warehouse.schema import TABLES
from constitution.warehouse.store import reading
from constitution.warehouse.upkeep import older
from constitution.warehouse.upkeep.copying import ORDER
from constitution.warehouse.upkeep.older import FOLDERS, RENAMED, STAGES, WORDS

Value = Callable[[pa.Table], pa.Array | pa.ChunkedArray]


def _same(value: object) -> Value:
    return lambda rows: pa.array([value] * rows.num_rows)


def _calls(rows: pa.Table) -> pa.Array:
    """One a text, but for one that no model was asked for."""
    asked = pc.and_(pc.is_valid(rows["seed"]), pc.not_equal(rows["outcome"], "skipped"))
    return pc.cast(pc.fill_null(asked, False), pa.int32())


KNOWN: dict[str, dict[str, Value]] = {
    "prompts": {"turn": _same(1), "conversation_id": lambda rows: rows["id"]},
    "responses": {"reasoning_tokens": _same(0), "critique_reasoning_tokens": _same(0), "calls": _calls},
    "judgements": {"reasoning_tokens": _same(0), "censored": _same(False), "wave": _same(0)},
    "preferences": {"votes_spared": _same(0)},
    "scores": {"censored": _same(False)},
    "counterfactuals": {"reasoning_tokens": _same(0)},
    "rubrics": {
        name: _same(0)
        for name in ("check_calls", "check_prompt_tokens", "check_cached_tokens", "check_completion_tokens")
    },
}
"""What columns that may not be null say of rows from before there were such: a version that had none of a thing."""


class Converted(NamedTuple):
    rows: dict[str, int]
    """By table; those without rows are not in it."""
    unknown: dict[str, list[str]]
    """By table, the columns that are null because nothing was kept of them."""
    unchecked: int
    """Parts without a checksum, which are taken as they are."""


def is_older(root: Path) -> bool:
    """Whether another version wrote it: this one refuses it, or has to be asked."""
    try:
        check_version(root)
    except WarehouseError:
        return True
    return any(_misfits(TABLES[table], path) for table in TABLES for path in _own_files(root, table))


def old_run_ids(root: Path) -> list[str]:
    """Those that have a record. Raises WarehouseError where there is no warehouse, and for what this version does not
    know: another table, or a newer format."""
    records = root / "runs"
    if not records.is_dir():
        raise WarehouseError(f"{root}: there is no warehouse here", hint="name an older one's folder with --warehouse")
    if newer := _newer(root):
        raise WarehouseError(
            f"{root}: {newer}; a newer version wrote it", hint="convert it with that version, or install it"
        )
    return sorted(path.stem for path in records.glob("*.json") if is_run_id(path.stem))


def strays(root: Path, runs: Collection[str]) -> list[str]:
    """The runs of which there are rows and no record."""
    names = [name for table in TABLES for name in FOLDERS.get(table, (table,))]
    found = {
        part.parent.name.removeprefix("run_id=") for name in names for part in root.glob(f"{name}/*/part-*.parquet")
    }
    return sorted(found - set(runs))


def convert_run(root: Path, target: Warehouse, run_id: str) -> Converted | None:
    """None: the target has this run already, and it is not touched. Raises RunLocked where it is at work, DamagedPart
    where a part is not what was written, and WarehouseError where a column cannot be filled."""
    if holders := locks.holders(root, run_id):
        raise RunLocked(f"{root}: run {run_id} is at work ({holders[0]})", hint="convert it when it has ended")
    run = record.read(root / "runs" / f"{run_id}.json", Run)
    if run is None:
        raise WarehouseError(f"{root}: there is no record of run {run_id}")
    target.rebuild_views()  # makes the warehouse, where there is none
    done = Converted({}, {}, 0)
    with target.alone(run_id):
        target.clear(run_id)
        if target.read_run(run_id) is not None:
            return None
        for table in ORDER:
            done = _convert_table(root, target, TABLES[table], run_id, done)
        for shard in shards.read(root, run_id):
            target.write_shard(shard)
        usage = tuple(replace(each, stage=STAGES.get(each.stage, each.stage)) for each in run.usage)
        target.write_run(replace(run, usage=usage, recipe=older.recipe(run.recipe)))
    target.rebuild_views()
    return done


def _convert_table(root: Path, target: Warehouse, table: Table, run_id: str, done: Converted) -> Converted:
    found = [part for folder in _folders(root, table.name, run_id) for part in files.parts(folder)]
    if not found:
        return done
    rows, unknown, unchecked = 0, set(done.unknown.get(table.name, ())), done.unchecked
    with target.replacing(table.name, run_id) as (staging, sums):
        for path in found:
            with reading(path):
                unchecked += not _checked(path)
                old = pq.read_table(path, partitioning=None)
            new = converted(table, old, path)
            rows += new.num_rows
            unknown |= {name for name in table.schema.names if name not in renamed(table.name, old).column_names}
            with checksums.HashedFile(staging / path.name) as file:
                table.write(new, file)
                file.sync()
            sums[path.name] = file.sum
    null = [column.name for column in table.columns if column.null and column.name in unknown]
    return Converted(
        done.rows | {table.name: rows}, done.unknown | ({table.name: null} if null and rows else {}), unchecked
    )


def renamed(table: str, rows: pa.Table) -> pa.Table:
    """With the names that columns have now."""
    names = RENAMED.get(table, {})
    return rows.rename_columns([names.get(name, name) for name in rows.column_names])


def converted(table: Table, old: pa.Table, path: Path) -> pa.Table:
    """The same rows with this version's columns and words. path: where they are from, for the message."""
    old = renamed(table.name, old)
    if strange := [name for name in old.column_names if name not in table.schema.names]:
        raise WarehouseError(
            f"{path}: this version has no column {strange[0]} in {table.name}; a newer version wrote it",
            hint="convert it with that version, or install it",
        )
    columns = []
    for column in table.columns:
        if column.name in old.column_names:
            values = _reworded(table.name, column.name, old)
        elif (known := KNOWN.get(table.name, {}).get(column.name)) is not None:
            values = known(old)
        elif column.null or not old.num_rows:
            values = pa.nulls(old.num_rows, column.type)
        else:
            raise WarehouseError(
                f"{path}: has no column {column.name}, and nothing tells what it would say",
                hint="this warehouse is older than any that can be converted",
            )
        columns.append(_cast(values, column.type))
    return pa.Table.from_arrays(columns, schema=table.schema)


def _cast(values: pa.Array | pa.ChunkedArray, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    """A list of structs may have gained a field, which is then null: Arrow's cast does not fill it in all versions."""
    if values.type == kind:
        return values
    if pa.types.is_nested(kind):
        return pa.array(values.to_pylist(), kind)
    return values.cast(kind)


def _reworded(table: str, name: str, old: pa.Table) -> pa.Array | pa.ChunkedArray:
    values = old[name]
    words = WORDS.get(table, {}).get(name)
    if words is None:
        return values
    if (
        table == "responses" and "sampler" not in old.column_names
    ):  # an answer that came with the prompt was called a sample
        given = pc.and_(pc.equal(values, "sample"), pc.fill_null(pc.equal(old["model"], "given"), False))
        values = pc.if_else(given, "given", values)
    return pa.array([words.get(value, value) for value in values.to_pylist()], pa.string())


def _checked(path: Path) -> bool:
    """Whether it is what was written; False: its checksum was lost. Raises DamagedPart where it is not."""
    own = [checksums.read_sums(path.parent / name) for name in (checksums.SUMS, checksums.NEXT)]  # of before
    known = [sum for sums in (checksums.read(path.parent), *own) for sum in sums.get(path.name, [])]
    if known and checksums.sum_of(path) not in known:
        raise DamagedPart(f"{path}: {checksums.ALTERED}")
    return bool(known)


def _folders(root: Path, table: str, run_id: str) -> Iterator[Path]:
    for name in FOLDERS.get(table, (table,)):
        for folder in (root / name / run_id, root / name / f"run_id={run_id}"):
            if folder.is_dir():
                yield folder


def _own_files(root: Path, table: str) -> Iterator[Path]:
    """The files of the table that say of which version it is, and one part of each run."""
    for name in FOLDERS.get(table, (table,)):
        yield from sorted(root.glob(f"{name}/*/part-*.parquet"))[:1]
        yield from (path for end in ("none/none.parquet", "run_id=_/_schema.parquet")
                    if (path := root / name / end).is_file())  # fmt: skip


def _misfits(table: Table, path: Path) -> bool:
    try:
        return not pq.read_schema(path).equals(table.schema)
    except (OSError, pa.ArrowException):
        return False


def _newer(root: Path) -> str:
    """What of it this version does not know; empty: nothing."""
    known = {name for table in TABLES for name in FOLDERS.get(table, (table,))} | {"quarantine", checksums.FOLDER}
    for path in sorted(root.glob("[!.]*/*/part-[0-9]*.parquet")):
        if path.parent.parent.name not in known:
            return f"this version has no table {path.parent.parent.name}"
    for table in TABLES:
        for path in _own_files(root, table):
            try:
                schema = pq.read_schema(path)
            except (OSError, pa.ArrowException):
                continue  # a damaged part is named when it is read
            written = (schema.metadata or {}).get(b"format", b"1").decode("ascii", "replace")
            if written.isdecimal() and int(written) > int(FORMAT):
                return f"its tables have format {written}, this version reads {FORMAT}"
            names = [RENAMED.get(table, {}).get(name, name) for name in schema.names]
            if strange := [name for name in names if name not in TABLES[table].schema.names]:
                return f"this version has no column {strange[0]} in {table}"
    return ""
