"""A finished run's parts merged into few files, without a moment in which a reader sees a row twice or not at all.

The merged files are prepared in another folder, which then changes places with the run's in one step. Killed before
that step, the prepared folder is rubbish; killed after it, the old one is: either way `recover` deletes what lies under
the temporary name, and nothing has to be remembered. The merged parts take new numbers, so a reader that listed the old
ones a moment ago misses a file (and asks again) rather than reading something else under the same name. A file system
that cannot exchange folders (NFS, some container layers) keeps its parts as they were written.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from constitution.errors import DamagedPart, WarehouseError
from constitution.warehouse import checksums, files
from constitution.warehouse.checksums import HashedFile, Sum
from constitution.warehouse.columns import ROW_GROUP_ROWS, Table

TARGET_BYTES = 512 * 2**20
READ_ROWS = 1024


def compact_folder(table: Table, folder: Path, target_bytes: int = TARGET_BYTES, keep: Collection[Path] = ()) -> int:
    """Merges the parts in `folder`; returns how many parts are gone, 0 if there was nothing to merge or no way to.

    Memory: one row group at a time. Parts of half the target's size or more are kept as they are, and those of `keep`.
    Raises DamagedPart rather than give what is damaged a new checksum.
    """
    old = files.parts(folder)
    large = [path for path in old if path in keep or path.stat().st_size * 2 >= target_bytes]
    small = [path for path in old if path not in large]
    if len(small) < 2:
        return 0
    for name, fault in checksums.check(folder).items():
        raise DamagedPart(f"{folder / name}: {fault}")
    staging, _ = _beside(folder)
    with files.storing(folder):
        files.remove_tree(staging)
        checksums.make_aside(folder)
        staging.mkdir()
        new = _merge(table, small, staging, files.next_number(folder), target_bytes)
        known = checksums.read(folder)
        for path in large:
            files.link(path, staging / path.name)
            new[path.name] = known[path.name][-1] if path.name in known else checksums.sum_of(path)
        _check_rows(folder, old, files.parts(staging))
        files.sync_folder(staging)
        checksums.announce(folder, new)
        exchanged = files.exchange(staging, folder)
        files.sync_folder(folder.parent)
        checksums.settle(folder)
        files.remove_tree(staging)
    return len(old) - len(new) if exchanged else 0


def replace_folder(table: Table, folder: Path, data: Iterable[tuple[str, pa.Table]]) -> None:
    """`data`, each with its part's name, in place of all parts in `folder`, the run's lock being held."""
    with replacing_folder(folder) as (staging, sums):
        for name, rows in data:
            with HashedFile(staging / name) as file:
                table.write(rows, file)
                file.sync()
            sums[name] = file.sum


@contextmanager
def replacing_folder(folder: Path) -> Iterator[tuple[Path, dict[str, Sum]]]:
    """A folder that takes the place of `folder` when the block ends well, and the sums of its parts, both to be filled.

    In one step where the file system can exchange folders; elsewhere a reader may for a moment see no rows.
    """
    staging, old = _beside(folder)
    with files.storing(folder):
        files.make_folder(folder)
        files.remove_tree(staging)
        checksums.make_aside(folder)
        staging.mkdir()
        sums: dict[str, Sum] = {}
        yield staging, sums
        files.sync_folder(staging)
        checksums.announce(folder, sums)
        if not files.exchange(staging, folder):
            # Killed between the two renames, the folder is missing, and recover_folder puts the new one there.
            files.remove_tree(old)
            folder.rename(old)
            staging.rename(folder)
        files.sync_folder(folder.parent)
        checksums.settle(folder)
        files.remove_tree(staging)
        files.remove_tree(old)


def recover_folder(folder: Path) -> None:
    """Deletes what an interrupted compaction or write left; the run's lock must be held."""
    staging, old = _beside(folder)
    with files.storing(folder):
        if staging.is_dir() and not folder.exists():  # see replace_folder
            staging.rename(folder)
            files.sync_folder(folder.parent)
        files.sweep(folder)
        files.remove_tree(staging)
        files.remove_tree(old)


def _beside(folder: Path) -> tuple[Path, Path]:
    """Where what is to take the folder's place is prepared, and where what it takes the place of waits to be deleted:
    where no reader of the table looks."""
    place = checksums.aside(folder)
    return place.with_name(f".compact-{place.name}"), place.with_name(f".old-{place.name}")


def _merge(table: Table, paths: Sequence[Path], staging: Path, number: int, target_bytes: int) -> dict[str, Sum]:
    """Writes parts `number`, `number` + 1, … into `staging`; returns their sums by name."""
    groups = _row_groups(table, paths)
    group = next(groups, None)
    made: dict[str, Sum] = {}
    while group is not None:
        path = staging / files.Part(number + len(made), None).name
        with HashedFile(path) as file:
            with table.writer(file) as writer:
                while group is not None and file.tell() < target_bytes:
                    writer.write_table(group, row_group_size=group.num_rows)
                    group = None
                    pa.default_memory_pool().release_unused()  # the allocator would keep a third more than it needs
                    group = next(groups, None)
            file.sync()
        made[path.name] = file.sum
    return made


def _row_groups(table: Table, paths: Sequence[Path]) -> Iterator[pa.Table]:
    """All rows of the files in turn, in tables of about ROW_GROUP_ROWS (the last one may be shorter)."""
    waiting: list[pa.Table] = []
    count = 0
    for path in paths:
        with pq.ParquetFile(path) as source:
            # In small batches and without threads, which would each hold a column's pages: memory is what counts here.
            for batch in source.iter_batches(batch_size=READ_ROWS, use_threads=False):
                waiting.append(pa.Table.from_batches([batch], table.schema))
                count += batch.num_rows
                if count >= ROW_GROUP_ROWS:
                    yield pa.concat_tables(waiting)
                    waiting, count = [], 0
    if count:
        yield pa.concat_tables(waiting)


def _check_rows(folder: Path, old: Sequence[Path], new: Sequence[Path]) -> None:
    before, after = (sum(pq.read_metadata(path).num_rows for path in paths) for paths in (old, new))
    if before != after:
        raise WarehouseError(f"{folder}: merging gave {after} rows from {before}; the parts are left as they were")
