"""A run's rows in the warehouse: the code that writes them and its prompts, and the reads that resuming needs.

    warehouse = Warehouse(Path("warehouse"))
    with warehouse.lock(run_id):
        warehouse.recover(run_id)
        part = warehouse.write_prompts(run_id, 0, prompts)
        warehouse.write_part("responses", run_id, responses)

A part is written beside its place under a name that no reader's glob matches, flushed to disk and renamed: it exists
whole or not at all. Everything raises WarehouseError, with the path, when the disk does not do what it should.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from constitution.errors import DamagedPart, WarehouseError
from constitution.records import Constitution, Prompt, Row, Shard
from constitution.sandbox import quiet
from constitution.warehouse import batches, checksums, convert, damage, files, shards, shared, tally, turns, views
from constitution.warehouse.compact import (
    TARGET_BYTES,
    compact_folder,
    recover_folder,
    replace_folder,
    replacing_folder,
)
from constitution.warehouse.records import Records, checked
from constitution.warehouse.remote.writing import PART_BYTES
from constitution.warehouse.schema import TABLES


class Store(Records):
    """The records with the runs' rows."""

    def made(self, table: str, run_id: str, shard: Shard | None = None) -> list[Path]:
        """Those that the run writes as it goes: of `prompts` without the slices of its input."""
        paths = self.parts(table, run_id, shard)
        return turns.made(paths) if table == "prompts" else paths

    def slices(self, run_id: str) -> list[Path]:
        """The parts of `prompts` that are the run's input."""
        return turns.slices(self.parts("prompts", run_id))

    # Rows

    def write_part(
        self, table: str, run_id: str, rows: Sequence[Row | convert.Note], shard: Shard | None = None
    ) -> Path:
        """`rows`, all of the table's class and not none, as the next part of the table, of the run or of this shard."""
        if not rows:
            raise WarehouseError(f"{table}: a part needs at least one row")
        folder = self.folder(table, run_id)
        data = convert.rows_to_arrow(table, rows)
        self._place.make()
        with files.new_part(folder, shard, self._commit) as (path, file):
            TABLES[table].write(data, file)
        return path

    def replace_rows(self, table: str, run_id: str, rows: Sequence[Row] | pa.Table) -> None:
        """`rows`, all of the table's class or with its columns, in place of all that the run has in the table, holding
        the run's lock and with no Writer open. Killed at any moment, it has happened whole or not at all."""
        data = TABLES[table].conform(rows) if isinstance(rows, pa.Table) else convert.rows_to_arrow(table, rows)
        self._place.make()
        folder = self.folder(table, run_id)
        replace_folder(TABLES[table], folder, [(f"part-{files.next_number(folder)}.parquet", data)])
        self._publish(run_id, table)

    def table(self, table: str, run_id: str) -> pa.Table:
        """All that the run has in the table, with its columns; in memory."""
        parts = [TABLES[table].schema.empty_table()]
        for path in self.parts(table, run_id):
            with reading(path), pq.ParquetFile(path) as file:
                parts.append(TABLES[table].conform(file.read()))
        return pa.concat_tables(parts)

    def rows_of(self, run_id: str, prompt_ids: Iterable[str], shard: Shard | None = None) -> dict[str, list[Row]]:
        """The rows that the run has written for these prompts, which are the shard's, if one is given; a prompt with
        none is not in the answer.

        Later turns first, then responses (by round), then as convert.ROW_TABLES has them. Reads others' ids alone.
        """
        wanted = list(dict.fromkeys(prompt_ids))
        rows: dict[str, list[Row]] = defaultdict(list)
        for table in convert.MADE_TABLES if wanted else ():
            if not (paths := self.made(table, run_id, shard)):
                continue
            by_round, id = "round, " if table == "responses" else "", "id" if table == "prompts" else "prompt_id"
            own = f"WHERE {tally.OF_REWARDS}" if table == "scores" else ""
            with reading(self.folder(table, run_id)), quiet(duckdb.connect()) as connection:
                connection.register("wanted", pa.table({id: wanted}))
                data = connection.sql(
                    f"FROM ({TABLES[table].select(tally.from_files(paths), 'file_row_number')}) "
                    f"SEMI JOIN wanted USING ({id}) {own} ORDER BY {by_round}created_at, file_row_number"
                ).to_arrow_table()
            for row in convert.rows_from_arrow(table, data):
                rows[row.prompt_id].append(row)
        return dict(rows)

    def ids(self, table: str, run_id: str, column: str = "id") -> set[str]:
        """The distinct values of a text column: `ids("failures", run_id, "prompt_id")` are the prompts that failed."""
        values: set[str] = set()
        for path in self.parts(table, run_id):
            with reading(path), pq.ParquetFile(path) as file:
                values.update(file.read([column]).column(0).to_pylist())
        return values

    def has_rows(self, run_id: str) -> bool:
        """Whether the run has written anything: False for one that never got to its first flush."""
        return any(self.made(table, run_id) for table in ("prompts", *damage.ROWS))

    def tally(self, run_id: str, shard: Shard | None = None, slices: Sequence[Path] = ()) -> tally.Tally:
        """What the run's rows on disk add up to, or those of a shard, whose slices are given; everything is 0 where
        there are none."""
        parts = {table: self.made(table, run_id, shard) for table in convert.MADE_TABLES}
        if not any(parts.values()):
            return tally.Tally()
        mixed = any(files.shard_of(path) != shard for paths in parts.values() for path in paths)
        with reading(self.root):
            return tally.tally(self.root, parts, slices if shard and mixed else None)

    # Prompts and principles

    def write_prompts(self, run_id: str, n: int, prompts: Sequence[Prompt]) -> Path:
        """Slice `n` of the run's input, in place of what was there: writing it again changes nothing."""
        return self._write_whole("prompts", run_id, n, convert.prompts_to_arrow(run_id, n, prompts))

    def replace_input(self, table: str, run_id: str, parts: Iterable[pa.Table]) -> None:
        """These parts of `prompts` or `skipped` in place of the run's, holding its lock: all of them or none."""
        named = ((f"part-{n}.parquet", rows) for n, rows in enumerate(parts))
        self._place.make()
        replace_folder(TABLES[table], self.folder(table, run_id), named)
        self._publish(run_id, table)

    def read_prompts(self, path: Path) -> list[Prompt]:
        """The prompts of one slice, in their order."""
        with reading(path), pq.ParquetFile(path) as file:
            return convert.prompts_from_arrow(file.read())

    def write_principles(self, run_id: str, constitution: Constitution) -> Path:
        """The run's constitution, every word of it; writing it again changes nothing."""
        return self._write_whole("principles", run_id, 0, convert.principles_to_arrow(run_id, constitution))

    def read_principles(self, run_id: str) -> Constitution | None:
        """The constitution that the run used, as it was; None if the run has none."""
        for path in self.parts("principles", run_id):
            with reading(path), pq.ParquetFile(path) as file:
                data = file.read()
            return convert.constitution_from_arrow(data) if data.num_rows else None
        return None

    def _write_whole(self, table: str, run_id: str, n: int, data: pa.Table) -> Path:
        path = self.folder(table, run_id) / f"part-{n}.parquet"
        self._place.make()
        with files.replacing(path, part=True, commit=self._commit) as file:
            TABLES[table].write(data, file)
        return path

    def taking(self, table: str, run_id: str, name: str) -> AbstractContextManager[IO[bytes]]:
        """A file for a part that another warehouse has under this name, which is this run's when the block ends well.
        Not for names of shards."""
        return files.replacing(self.folder(table, run_id) / name, part=True, commit=self._commit)

    @contextmanager
    def replacing(self, table: str, run_id: str) -> Iterator[tuple[Path, dict[str, checksums.Sum]]]:
        """A folder that takes the place of all that the run has in the table, and the sums of its parts, both to be
        filled, the run's lock being held."""
        with replacing_folder(self.folder(table, run_id)) as new:
            yield new
        self._publish(run_id, table)

    @property
    def _commit(self) -> files.Commit | None:
        return self._remote.commit if self._remote else None

    def _publish(self, run_id: str, *tables: str) -> None:
        """What is here of these tables counts, where the warehouse is at an address."""
        if self._remote:
            self._remote.publish(run_id, tables)

    def _holding_all(self, run_id: str, tables: Iterable[str]) -> AbstractContextManager[object]:
        """For as long as the block lasts, no other machine writes these tables of the run, whose lock is held."""
        return self._remote.holding_all(run_id, tables) if self._remote else nullcontext()

    # What a run's engines keep

    def batches(self, run_id: str, shard: Shard | None = None) -> Path:
        """Where a run's engines, or a shard's, keep notes of the batches that they sent; it need not exist."""
        self._place.check()
        return batches.folder_of(self.root, checked(run_id), shard)

    def forget_batches(self, run_id: str) -> None:
        """All that was in them is in rows."""
        self._place.check()
        batches.forget(self.root, checked(run_id))

    @contextmanager
    def dealing_batches(self, run_id: str, of: int) -> Iterator[None]:
        """Within it the run is dealt again, into `of` shards or, with 0, none: the notes are then theirs."""
        batches.hand_over(self.root, checked(run_id), of)
        yield
        batches.forget_others(self.root, run_id, of)

    # What a run's shards share

    def read_shared(self, run_id: str, name: str) -> dict[str, Any]:
        """Empty: there is none."""
        if self._remote:
            return self._remote.json(shared.path_of(self.root, checked(run_id), name))
        return shared.read(self.root, checked(run_id), name)

    def change_shared(
        self, run_id: str, name: str, how: Callable[[dict[str, Any]], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """What `how` makes of it, by one process at a time; what it is then."""
        self._place.check()
        if self._remote:
            return self._remote.change(shared.path_of(self.root, checked(run_id), name), how)
        return shared.change(self.root, checked(run_id), name, how)

    def write_shared(self, run_id: str, name: str, content: Mapping[str, Any]) -> None:
        self._place.check()
        if self._remote:
            self._remote.change(shared.path_of(self.root, checked(run_id), name), lambda before: content)
            return
        shared.write(self.root, checked(run_id), name, content)

    # What is damaged

    def verify(
        self, run_id: str, tables: Iterable[str] = tuple(TABLES), *, read_parts: bool = True
    ) -> list[damage.Damage]:
        """What of the run is not as it was written, be it finished or at work; empty: all is sound. A finished run's
        tables must have as many rows as its record says.

        read_parts: False looks at names, sizes and counts alone, without reading the parts.
        """
        counts: dict[str, int | None] = {}
        damages: list[damage.Damage] = []
        try:
            if run := self.read_run(run_id):
                known = damage.known(run.counts) if run.finished_at else {}
                known |= {"principles": None, "prompts": turns.prompts_of(run)}
                counts = {**known, "skipped": run.counts.get("skipped", 0)}
        except DamagedPart:
            damages.append(damage.Damage("runs", self._run_path(run_id), "cannot be read as a run"))
        damages += shards.damaged(self.root, run_id)
        tables = tuple(tables)
        self._bring(run_id, tables, strict=False)
        with reading(self.root):
            found = damage.find(self.root, checked(run_id), counts, tables, read_parts=read_parts)
            # What is damaged in the mirror alone is no damage: its object is as it was.
            parts = [(each.table, each.path.name) for each in found if each.path.suffix == ".parquet"]
            if self._remote and parts and (sound := self._remote.fetch_again(run_id, parts)):
                self.fetched_again += [f"{table}/{run_id}/{name}" for table, name in sorted(sound)]
                found = damage.find(self.root, checked(run_id), counts, tables, read_parts=read_parts)
        return damages + found

    @property
    def at_address(self) -> bool:
        """Whether the warehouse is at an address, and `root` its mirror."""
        return self._remote is not None

    def lost(self, run_id: str) -> list[damage.Damage]:
        """The run's parts that are sound here, and whose objects at the warehouse's address are not: each is read."""
        found = self._remote.verify(run_id, tuple(TABLES)) if self._remote else []
        named = [damage.Damage(each.table, self.folder(each.table, run_id) / each.name, each.fault) for each in found]
        return [each for each in named if each.path.exists()]

    def put_again(self, run_id: str) -> None:
        """Puts those again, holding the run's lock."""
        if self._remote and (lost := self.lost(run_id)):
            with self._holding_all(run_id, {each.table for each in lost}):
                for each in lost:
                    self._remote.put_again(each.path)

    def unchecked(self, run_id: str) -> list[Path]:
        """The run's parts whose checksums were lost."""
        folders = [self.folder(table, run_id) for table in TABLES]
        return [folder / name for folder in folders for name in checksums.unchecked(folder)]

    def check(self, run_id: str) -> None:
        """Raises DamagedPart where rows that an audit or export takes are not what was written."""
        if damages := self.verify(run_id, [table for table in TABLES if table not in ("figures", "exported")]):
            raise DamagedPart(f"{damages[0]}" + (f" (and {len(damages) - 1} more)" if len(damages) > 1 else ""))

    def repair(self, run_id: str) -> list[damage.Damage]:
        """Quarantines what `verify` finds and what rests on it, holding the run's lock and with no Writer open; returns
        what it found. A run that has to make rows again is open again, and its record says so."""
        damages = self.verify(run_id)
        for each in damages:
            if each.table in damage.RECORDS:
                damage.quarantine_part(self.root, run_id, each)
        run = self.read_run(run_id)
        if run is None or not damages:  # what the run was to make is in its record: its next start repairs
            return damages
        repairs = [f"{each.path.relative_to(self.root)} {each.fault}" for each in damages]
        if not {*damage.INPUT, *damage.made_by(run.counts)}.isdisjoint(each.table for each in damages):
            self.reopen_shards(run_id)
            run = replace(run, finished_at=None)
        self.write_run(replace(run, repairs=tuple(dict.fromkeys((*run.repairs, *repairs)))))
        from constitution.warehouse.repair import repair  # with Arrow's functions: a tenth of a second

        with self._holding_all(run_id, TABLES):
            repair(self.root, run, damages)
            self._publish(run_id, *TABLES)
        return damages

    # Upkeep

    def recover(self, run_id: str, shard: Shard | None = None) -> None:
        """Clears what a killed process left of this run. Call it on opening a run for writing, holding its lock alone;
        or, of this shard alone, holding the shard's."""
        with files.storing(self.root):
            for table in TABLES.keys() - convert.NOTE_TABLES.keys() - {"exported"}:  # others may be at these just now
                if shard is None:
                    recover_folder(self.folder(table, run_id))
                else:
                    files.sweep(self.folder(table, run_id), shard)
            if shard is None:
                files.sweep_records(self.root / "runs", checked(run_id))
            files.sweep_records(shards.folder_of(self.root, run_id), shard.name if shard else "*")

    def compact(self, run_id: str, target_bytes: int = TARGET_BYTES, *, counts: Mapping[str, int] | None = None) -> int:
        """Merges the run's parts, holding its lock and with no Writer open; returns how many parts fewer there are.
        A slice of prompts stays: its file is the unit of resuming.

        counts: rows that the run has made. WarehouseError, and nothing is merged, where its tables have others.
        """
        if counts is not None:
            with reading(self.root):
                damage.check_counts(self.root, checked(run_id), counts)
        tables, keep = ("prompts", *damage.made_by(counts or {})), self.slices(run_id)
        size = min(target_bytes, PART_BYTES) if self._remote else target_bytes
        with self._holding_all(run_id, tables):
            gone = sum(compact_folder(TABLES[name], self.folder(name, run_id), size, keep) for name in tables)
            self._publish(run_id, *tables)
        return gone

    def rebuild_views(self) -> Path:
        """warehouse.duckdb again, beside its place and renamed: a process that has the old one open keeps it."""
        self._place.make()
        return views.rebuild(self.root)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what can go wrong with reading into a WarehouseError that names the file."""
    try:
        yield
    except OSError as error:
        raise WarehouseError(
            f"{error.filename or path}: cannot be read: {error.strerror or error}",
            hint="check its permissions, and that the disk answers",
        ) from error
    except (pa.ArrowException, duckdb.Error) as error:
        reason = str(error).splitlines()[0]
        raise WarehouseError(
            f"{path}: cannot be read: {reason}", hint="`constitution verify` looks for damaged files"
        ) from error
