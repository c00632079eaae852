"""The warehouse whole: a run's rows (store), and what is said of a run afterwards: annotations, an audit's figures,
scorecards, what an export took and what it dropped.

The run's lock is not needed for these: a run writes none of them, but the scores that its rewards are made of.
Processes that write one of them wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

import duckdb
import pyarrow as pa

from constitution.errors import RunLocked, WarehouseError
from constitution.records import Annotation, Figure, Shard, StoredClause
from constitution.sandbox import quiet
from constitution.warehouse import convert, files
from constitution.warehouse.compact import compact_folder, recover_folder, replace_folder
from constitution.warehouse.rater_groups import check_groups
from constitution.warehouse.remote.manifest import owner
from constitution.warehouse.schema import TABLES
from constitution.warehouse.store import Store, reading
from constitution.warehouse.tally import from_files
from constitution.writing import author

_WAITING = ("annotations", "figures", "clauses", "exported")
"""Tables of which the processes that write one of them wait for each other."""


Stored = Literal["new", "same", "replaced"]
"""What became of an edition's clauses when they were stored."""


class Added(NamedTuple):
    """What became of a run's annotations when others came to them."""

    new: int
    changed: int
    gone: int
    """Said before by the same rater in the same source, and not any more."""
    again: int
    """Said before by the same rater in another source, and the same."""
    regrouped: int = 0
    """The same as before, by a rater whose groups are other ones now."""


class Warehouse(Store):
    """The folder `root`, which comes into being at the first write of a run."""

    def write_annotations(self, run_id: str, annotations: Sequence[Annotation]) -> Added:
        """Adds what people say of a run.

        An annotation takes the place of the one with its id, and those of one rater and source that of all that this
        rater had from this source: a corrected file replaces what it said before, and the same file changes nothing.
        Rows that stay keep their `created_at`. Raises InputError where a rater would have two groups of one column.
        """
        with self._alone("annotations", run_id) as folder:
            stored = self.table("annotations", run_id)
            before = {each.id: each for each in convert.notes_from_arrow(Annotation, stored)}
            new = {each.id: each for each in annotations}
            said = {(each.rater, each.source) for each in annotations}
            after = {id: each for id, each in before.items() if (each.rater, each.source) not in said} | new
            check_groups(after.values())
            both = [(before[id], after[id]) for id in before.keys() & after.keys()]
            added = Added(
                new=len(after.keys() - before.keys()),
                changed=sum(was.value != now.value for was, now in both),
                gone=len(before.keys() - after.keys()),
                again=sum(was.source != now.source and was.value == now.value for was, now in both),
                regrouped=sum(was.rater_groups != now.rater_groups and was.value == now.value for was, now in both),
            )
            if any(added):
                stay = pa.array([after.get(each.id) == each for each in before.values()], pa.bool_())
                fresh = convert.rows_to_arrow("annotations", [e for e in after.values() if before.get(e.id) != e])
                self._replace("annotations", folder, pa.concat_tables([stored.filter(stay), fresh]))
        return added

    def read_annotations(self, run_id: str) -> list[Annotation]:
        """What people have said of the run, the earliest first."""
        return convert.notes_from_arrow(Annotation, self.table("annotations", run_id))

    def write_figures(self, run_id: str, figures: Sequence[Figure]) -> None:
        """The figures of an audit, in place of those of the audit before."""
        with self._alone("figures", run_id) as folder:
            self._replace("figures", folder, convert.rows_to_arrow("figures", figures))

    def read_figures(self, run_id: str) -> list[Figure]:
        """The figures of the run's last audit; none if there was none."""
        return convert.notes_from_arrow(Figure, self.table("figures", run_id))

    def write_clauses(self, run_id: str, clauses: Sequence[StoredClause]) -> Stored:
        """Keeps the clauses of one edition of a document; other documents and editions stay. Where the same file was
        divided otherwise before, or the run's principles quote it otherwise, its rows take the place of those."""
        edition = {(each.document, each.edition) for each in clauses}
        with self._alone("clauses", run_id) as folder:
            table = self.table("clauses", run_id)
            before = convert.notes_from_arrow(StoredClause, table)
            ours = [each for each in before if (each.document, each.edition) in edition]
            if ours == list(clauses):
                return "same"
            stay = pa.array([(each.document, each.edition) not in edition for each in before], pa.bool_())
            fresh = convert.rows_to_arrow("clauses", clauses)
            self._replace("clauses", folder, pa.concat_tables([table.filter(stay), fresh]))
        return "replaced" if ours else "new"

    def read_clauses(self, run_id: str) -> list[StoredClause]:
        """Those of all documents and editions, as they were stored one after the other."""
        return convert.notes_from_arrow(StoredClause, self.table("clauses", run_id))

    def record(self, table: str, run_id: str, id: str) -> convert.Identified:
        """The run's row of this id, of a table of lookup.KINDS. Raises WarehouseError where it is not there."""
        if paths := self.parts(table, run_id):
            with reading(self.folder(table, run_id)), quiet(duckdb.connect()) as connection:
                source = TABLES[table].select(from_files(paths))
                data = connection.sql(f"FROM ({source}) WHERE id = ?", params=[id]).to_arrow_table()
            if data.num_rows:
                return convert.one_from_arrow(table, data)
        raise WarehouseError(
            f"{self.root}: run {run_id} has no row {id} in {table} any more",
            hint="`constitution verify` looks for damaged files",
        )

    @contextmanager
    def scoring(self, run_id: str) -> Iterator[None]:
        """For as long as the block lasts, no other process scores the run. What a killed process left is cleared
        before it, and at its end, however it ends, the parts are merged."""
        self.require()
        run = self.read_run(run_id)
        if run and run.recipe.get("reward") and self.locked(run_id):
            raise RunLocked(
                f"run {run_id} is at work, and its rewards are in the table that scores go to",
                hint="wait until it ends",
            )
        folders = {name: self.folder(name, run_id) for name in ("scores", "counterfactuals")}
        with files.alone(_scoring(folders["scores"])), self._holding("scores", run_id):
            for folder in folders.values():
                recover_folder(folder)
            try:
                yield
            finally:
                for name, folder in folders.items():
                    compact_folder(TABLES[name], folder)
                self._publish(run_id, *folders)
                self.rebuild_views()

    @contextmanager
    def rewarding(self, run_id: str, shard: Shard | None = None) -> Iterator[None]:
        """For as long as the block lasts, the run, whose lock is held, writes scores, or this shard and others of it,
        and no other process does. Raises RunLocked where one does. What a killed process left is cleared before it."""
        folder = self.folder("scores", run_id)
        with ExitStack() as stack:
            try:
                stack.enter_context(files.alone(_scoring(folder), wait=False, shared=shard is not None))
            except BlockingIOError:
                raise RunLocked(f"run {run_id} is being scored by another process") from None
            if shard is None:
                stack.enter_context(self._holding("scores", run_id, wait=False))
                recover_folder(folder)
            else:
                if self._remote and (holder := self._remote.holder(run_id, owner("scores"))):
                    raise RunLocked(f"run {run_id} is being scored by {holder}")
                files.sweep(folder, shard)
            yield

    def write_exported(self, run_id: str, export_id: str, batches: Iterable[pa.RecordBatch]) -> None:
        """A row per candidate of this export, in place of those of the same run and settings. batches: with columns
        format, id, prompt_id, split, drop_reason, drop_detail; they are written as they come."""
        table = TABLES["exported"]
        now = pa.scalar(datetime.now(UTC), table.schema.field("created_at").type)
        always = {"run_id": pa.scalar(run_id), "export_id": pa.scalar(export_id), "created_at": now}
        always["author"] = pa.scalar(author())
        with (
            self._alone(table.name, run_id) as folder,
            files.replacing(folder / f"{export_id}.parquet", part=True, commit=self._commit) as file,
            table.writer(file) as writer,
        ):
            for batch in batches:
                arrays = [
                    pa.repeat(always[name], batch.num_rows) if name in always else batch.column(name)
                    for name in table.schema.names
                ]
                writer.write_table(pa.Table.from_arrays(arrays, schema=table.schema))

    @contextmanager
    def alone(self, run_id: str) -> Iterator[None]:
        """For as long as the block lasts, no other process writes the run, nor anything that is said of it. Raises
        RunLocked where one does."""
        self.require()
        with ExitStack() as stack:
            stack.enter_context(self.lock(run_id))
            for folder in (_scoring(self.folder("scores", run_id)), *(self.folder(name, run_id) for name in _WAITING)):
                try:
                    stack.enter_context(files.alone(folder, wait=False))
                except BlockingIOError:
                    table = folder.parent.name
                    raise RunLocked(f"{table} of run {run_id} are being written by another process") from None
            stack.enter_context(self._holding_all(run_id, TABLES))
            yield

    def clear(self, run_id: str) -> None:
        """Clears what killed processes left of the run, and of what is said of it, in a block of `alone`."""
        self.recover(run_id)
        for table in (*convert.NOTE_TABLES, "exported"):
            recover_folder(self.folder(table, run_id))

    @contextmanager
    def _alone(self, table: str, run_id: str) -> Iterator[Path]:
        """The run's folder of the table, without what a killed process left, to no other process."""
        self.require()
        folder = self.folder(table, run_id)
        with reading(folder), files.alone(folder), self._holding(table, run_id):
            files.sweep(folder)
            yield folder

    def _holding(self, table: str, run_id: str, *, wait: bool = True) -> AbstractContextManager[object]:
        """The same over all machines, where the warehouse is at an address."""
        return self._remote.holding(run_id, owner(table), wait=wait) if self._remote else nullcontext()

    def _replace(self, table: str, folder: Path, data: pa.Table) -> None:
        if not self._remote:
            with files.replacing(folder / "part-0.parquet", part=True) as file:
                TABLES[table].write(data, file)
            return
        # Under another name: who reads the store meanwhile has the old one.
        replace_folder(TABLES[table], folder, [(files.Part(files.next_number(folder), None).name, data)])
        self._publish(folder.name, table)


def _scoring(folder: Path) -> Path:
    """Where the lock of the scores in `folder` is: not in it, for merging puts another folder in its place."""
    return folder.with_name(f".scoring-{folder.name}")
