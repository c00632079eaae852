"""The warehouse's folder, its runs' records and locks: what a run's rows are stored beside (store)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from constitution.errors import InputError, WarehouseError
from constitution.records import Run, Shard, ShardRecord
from constitution.warehouse import damage, files, locks, record, removing, shards
from constitution.warehouse.layout import Place, is_run_id
from constitution.warehouse.remote import mirror
from constitution.warehouse.schema import TABLES

_LISTED = 10
"""Ids that a message lists; the newest."""


class Records:
    """The folder `root`; it comes into being at the first write of a run, and is the same one from then on: where it is
    renamed, deleted or another is in its place, everything raises WarehouseError, and nothing makes it again."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._place = Place(self.root)
        self._remote = mirror.of(self.root)
        """Where the warehouse is at an address, and `root` the mirror of it; None: it is a folder."""
        self._brought: set[tuple[str, str]] = set()
        """Runs and tables whose parts were brought here. A warehouse is opened again to see what came since."""
        self.fetched_again: list[str] = []
        """Parts that were damaged in the mirror alone, and that `verify` replaced by their objects."""

    def folder(self, table: str, run_id: str) -> Path:
        """Where a run's parts of a table are; it need not exist."""
        if table not in TABLES:
            raise WarehouseError(f"{table}: there is no such table; tables are {', '.join(TABLES)}")
        self._place.check()
        return damage.folder_of(self.root, table, checked(run_id))

    def parts(self, table: str, run_id: str, shard: Shard | None = None) -> list[Path]:
        """shard: without those of other shards of the same number, which have no row of its prompts."""
        self._bring(run_id, (table,))
        return files.parts(self.folder(table, run_id), shard)

    def require(self) -> None:
        """Raises WarehouseError where there is no warehouse: what is said of a run makes none."""
        if self._remote:
            self._remote.pull_records()
        self._place.require()

    @contextmanager
    def lock(
        self, run_id: str, *, prepared: bool = False, shard: Shard | None = None, last_step: bool = False
    ) -> Iterator[locks.Lock]:
        """For as long as the block lasts, this is the only process that writes the run, or works this shard of it;
        RunLocked where another does, or shards of another number work it. The first shard that comes is alone until
        `Lock.share`; others wait for that.

        prepared: WarehouseError, and nothing is made, where the run's prompts are not there. last_step: of shards, for
        which those that begin meanwhile wait.
        """
        checked(run_id)
        if prepared and not self.parts("prompts", run_id):
            raise WarehouseError(
                f"{self.root}: run {run_id} and its prompts are not there any more",
                hint="put them back where they were, or begin the run again with the same command",
            )
        self._place.make_root()
        with (
            locks.of_shard(self.root, run_id, shard)
            if shard
            else locks.whole(self.root, run_id, last_step=last_step) as lock,
            self._remote.locked(run_id, shard, lock, last_step) if self._remote else nullcontext(),
        ):
            if lock.alone:  # a run of the same id may have been removed, and that not be done
                removing.complete(self.root, run_id)
            yield lock

    def locked(self, run_id: str) -> bool:
        """Whether some process is writing the run now, or a shard of it."""
        return bool(self.holders(run_id))

    def holders(self, run_id: str) -> list[str]:
        """Who is writing the run now, in words."""
        checked(run_id)
        return self._remote.holders(run_id) if self._remote else locks.holders(self.root, run_id)

    def write_run(self, run: Run) -> Path:
        path, data = self._run_path(run.run_id), record.render(run)
        self._place.make()
        if self._remote:
            self._remote.put(path, data)
        with files.replacing(path) as file:
            file.write(data)
        return path

    def read_run(self, run_id: str) -> Run | None:
        """None: there is no such run."""
        if self._remote:
            self._remote.pull_records([checked(run_id)])
        return record.read(self._run_path(run_id), Run)

    def write_shard(self, shard: ShardRecord) -> Path:
        checked(shard.run_id)
        self._place.make()
        if self._remote:
            self._remote.put(shards.path_of(self.root, shard.run_id, shard.shard if shard.number else None),
                             record.render(shard))  # fmt: skip
        return shards.write(self.root, shard)

    def read_shard(self, run_id: str, shard: Shard) -> ShardRecord | None:
        """None: it has not begun."""
        self._bring_shards(run_id)
        return record.read(shards.path_of(self.root, checked(run_id), shard), ShardRecord)

    def shards(self, run_id: str) -> list[ShardRecord]:
        """What was done before the run was dealt into the present shards (`ShardRecord.number` 0), and these, as far as
        they have begun; empty: it is worked as a whole."""
        self._bring_shards(run_id)
        return shards.read(self.root, checked(run_id))

    def reopen_shards(self, run_id: str) -> None:
        """The shards have to look at their prompts again, for rows may be missing: none has come to its end."""
        for shard in self.shards(run_id):
            if shard.ended_at:
                self.write_shard(replace(shard, ended_at=None))

    def forget_shards(self, run_id: str, but_of: int = 0) -> None:
        """Deletes the records of shards of another number, what they did being in before.json, or, of all, in the run's
        record. Holding the run's lock alone."""
        gone = shards.others(self.root, checked(run_id), but_of)
        if self._remote:
            self._remote.delete(gone)
        shards.forget(gone)

    def run_ids(self) -> list[str]:
        if self._remote:
            self._remote.pull_records()
        return sorted(path.stem for path in (self.root / "runs").glob("*.json") if is_run_id(path.stem))

    def runs(self) -> list[Run]:
        """All runs, the earliest first."""
        runs = [run for run_id in self.run_ids() if (run := record.read(self._run_path(run_id), Run))]
        return sorted(runs, key=lambda run: (run.started_at, run.run_id))

    def full_id(self, begins: str) -> str:
        """The id of the run that is called, or begins, so; by the records' names alone, for one may be damaged.

        Raises InputError where there is none, or where several ids begin so.
        """
        known = self.run_ids()
        ids = [begins] if begins in known else [run_id for run_id in known if run_id.startswith(begins)]
        if not ids:
            raise InputError(f"{begins}: there is no such run", hint="`constitution runs` lists them")
        if len(ids) > 1:
            more = f", and {len(ids) - _LISTED} more" if len(ids) > _LISTED else ""
            raise InputError(
                f"{begins}: {len(ids)} runs' ids begin with it", hint=f"one of {', '.join(ids[-_LISTED:])}{more}"
            )
        return ids[0]

    def find_run(self, begins: str | None, having: tuple[str, ...] = ("preferences",)) -> Run:
        """The run of this id, or the one whose id begins so; None: the newest with rows in one of the tables `having`.
        Raises InputError where there is none, or where several ids begin so."""
        if begins is not None:
            run = self.read_run(self.full_id(begins))
            assert run is not None
            return run
        able = [run for run in self.runs() if any(self.parts(table, run.run_id) for table in having)]
        if not able:
            hint = "`constitution run` makes some"
            hint += ", from a recipe with a [judge] section" if having[0] in ("preferences", "judgements") else ""
            raise InputError(f"{self.root}: no run has {' or '.join(having)}", hint=hint)
        return able[-1]

    def _bring(self, run_id: str, tables: Collection[str], *, strict: bool = True) -> None:
        """Brings the run's parts in these tables here, where the warehouse is at an address. strict:
        raises DamagedPart where one is lost."""
        wanted = {table for table in tables if (run_id, table) not in self._brought}
        if self._remote and wanted:
            self._remote.bring(checked(run_id), wanted, strict=strict)
            self._brought.update((run_id, table) for table in wanted)

    def _bring_shards(self, run_id: str) -> None:
        if self._remote:
            self._remote.pull_shards(checked(run_id))

    def _run_path(self, run_id: str) -> Path:
        self._place.check()
        return self.root / "runs" / f"{checked(run_id)}.json"


def checked(run_id: str) -> str:
    """Run ids become names of files and folders."""
    if not is_run_id(run_id):
        raise WarehouseError(
            f"{run_id!r} cannot be a run id: letters, digits and . _ -, at most 128, a letter or digit first"
        )
    return run_id
