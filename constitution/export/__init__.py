"""Data sets that trainers load, made of a run: chosen, cleaned, split, written, described.

    done = export(Path("warehouse"), run_id, Settings(format="dpo"), Path("data/dpo"))
    done.rows, done.dropped

settings (what is asked for) → candidates (what there is, and the filters) → clean (duplicates, contamination, …) →
formats (the columns) → write (split and files) → card (README.md) → push (to a hub). docs/export.md explains each.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from constitution.audit.report import headlines
from constitution.errors import InputError, WarehouseError
from constitution.export import formats
from constitution.export.candidates import choose, lay
from constitution.export.card import CardFacts, CardOptions, DataFile, write_card
from constitution.export.clean import clean
from constitution.export.settings import Cleaning, Settings
from constitution.export.work import Work
from constitution.export.write import split, write
from constitution.warehouse import Warehouse, connect, exported, files, views
from constitution.writing import beside

__all__ = ["CardOptions", "Cleaning", "Exported", "Settings", "export"]

MANIFEST, CARD = "manifest.json", "README.md"
MANIFEST_SCHEMA = 1

MEMORY_MIB = 512
"""What DuckDB may hold, and beyond it so many blocks of rows as it works on at a time."""

BLOCK_ROWS, BLOCKS = 2048, 12


@dataclass(frozen=True)
class Exported:
    """What became of an export's candidates."""

    out: Path
    export_id: str
    run_id: str
    finished: bool
    """False: the run was open, and what it had by then was exported."""
    files: tuple[DataFile, ...]
    dropped: dict[str, int]
    """Drop reason → candidates, in the order in which the steps ran."""

    @property
    def rows(self) -> dict[str, int]:
        """Split → rows."""
        counted: Counter[str] = Counter()
        for file in self.files:
            counted[file.split] += file.rows
        return dict(counted)

    @property
    def candidates(self) -> int:
        return sum(self.rows.values()) + sum(self.dropped.values())


def export(
    root: Path,
    run_id: str,
    settings: Settings,
    out: Path,
    *,
    card: CardOptions | None = None,
    overwrite: bool = False,
) -> Exported:
    """Makes the data set that `settings` asks for of the run, in the new folder `out`.

    `out` is made beside its place and renamed: it is there whole or not at all. Every candidate ends in the table
    `exported`, with its split or the reason that it was left out. The same run and settings give the same bytes. An
    open run is exported as far as it is. overwrite: an export that is there gives way; anything else never does.

    Raises InputError where there is no such run, where nothing is left to write or `out` is taken,
    DamagedPart where the run's rows are not what was written.
    """
    warehouse = Warehouse(root)
    run, constitution = warehouse.read_run(run_id), warehouse.read_principles(run_id)
    if run is None or constitution is None:
        raise InputError(f"{root}: there is no run {run_id}", hint="`constitution runs` lists them")
    warehouse.check(run_id)
    _check_out(out, overwrite)
    with (
        _speaking(root, run_id),
        connect(root, _memory_mib(warehouse, run_id, settings.with_reasoning), run_id) as connection,
    ):
        told = tuple(headlines(connection, run_id))
        work = lay(connection, root, run, constitution, settings)
        choose(work)
        clean(work)
        groups = split(work)
        dropped = _dropped(work)
        if not groups:
            counts = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items())
            raise InputError(f"{run_id}: no row is left: {counts}", hint="loosen a filter; docs/export.md has them all")
        with _beside(out) as folder:
            written = write(work, folder, groups, formats.constants(run, constitution, settings))
            facts = CardFacts(
                settings=settings,
                run=run,
                constitution=constitution,
                columns=formats.columns(settings),
                files=tuple(written),
                candidates=sum(group.rows for group in groups) + sum(dropped.values()),
                dropped=dropped,
                figures=tuple(warehouse.read_figures(run_id)),
                headlines=told,
            )
            _write_manifest(folder, facts)
            write_card(folder, facts, card or CardOptions())
            exported.put(warehouse, run_id, settings.export_id, work.batches(_FATES.format(format=settings.format)))
    return Exported(out, settings.export_id, run_id, run.finished_at is not None, tuple(written), dropped)


_FATES = """
SELECT '{format}' AS format, c.id, c.prompt_id, k.split, f.drop_reason, f.drop_detail
FROM export.candidates AS c
LEFT JOIN export.kept AS k USING (id)
LEFT JOIN export.fates AS f USING (id)
ORDER BY c.place
"""


def _memory_mib(warehouse: Warehouse, run_id: str, with_reasoning: bool) -> int:
    """For DuckDB: a run may be as long as it likes, since what is too much goes to the temporary folder, but the blocks
    that a query works on must be in memory, and those of long answers are large."""
    row = 0.0
    thoughts = 2 * with_reasoning
    for table, column, times in (
        ("prompts", "messages", 1),
        ("responses", "text", 2),
        ("responses", "reasoning", thoughts),
    ):
        bytes_, rows = 0, 0
        for part in warehouse.parts(table, run_id):
            try:
                about = pq.read_metadata(part)
            except FileNotFoundError:  # compacted just now: this is an estimate, and the queries tell what is gone
                continue
            rows += about.num_rows
            for group in map(about.row_group, range(about.num_row_groups)):
                for one in map(group.column, range(group.num_columns)):
                    if one.path_in_schema.partition(".")[0] == column:
                        bytes_ += one.total_uncompressed_size
        row += times * bytes_ / max(rows, 1)
    return MEMORY_MIB + int(BLOCKS * BLOCK_ROWS * row / 2**20)


def _dropped(work: Work) -> dict[str, int]:
    # Rows are added step by step, so that the first of each reason tells the order.
    counted = work.connection.execute(
        "SELECT drop_reason, count(*) FROM export.fates GROUP BY drop_reason ORDER BY min(rowid)"
    )
    return {str(reason): int(count) for reason, count in counted.fetchall()}


def _write_manifest(folder: Path, facts: CardFacts) -> None:
    """What made the files, and their digests: no time and no place, so that the same export has the same manifest."""
    kept: Counter[str] = Counter()
    for file in facts.files:
        kept[file.split] += file.rows
    manifest = {
        "schema": MANIFEST_SCHEMA,
        "export_id": facts.settings.export_id,
        "format": facts.settings.format,
        "settings": facts.settings.told,
        "runs": [
            {
                "run_id": facts.run.run_id,
                "finished_at": facts.run.finished_at,
                "constitution": facts.run.constitution,
                "constitution_digest": facts.run.constitution_digest,
                "models": facts.run.models,
                "labels": facts.run.labels,
                "code_version": facts.run.code_version,
            }
        ],
        "counts": {"candidates": facts.candidates, "kept": dict(kept), "dropped": dict(facts.dropped)},
        "files": [_entry(folder, file) for file in facts.files],
    }
    text = json.dumps(manifest, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def _entry(folder: Path, file: DataFile) -> dict[str, Any]:
    path = folder / file.path
    about = {"path": file.path, "config": file.config, "split": file.split, "rows": file.rows}
    return {**about, "bytes": path.stat().st_size, "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _check_out(out: Path, overwrite: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir():
        raise InputError(f"{out}: is a file", hint="--out names a folder")
    ours = _files_of_export(out)
    if not ours:
        raise InputError(f"{out}: is not empty, and no export", hint="give another --out")
    if not overwrite:
        raise InputError(f"{out}: there is an export already", hint="give another --out, or --overwrite")
    for path in sorted(out.rglob("*")):
        if (path.is_symlink() or not path.is_dir()) and path.relative_to(out).as_posix() not in ours:
            raise InputError(f"{path}: is not of the export that is in {out}", hint="move it, or give another --out")


def _files_of_export(out: Path) -> set[str]:
    """Those of the export that is in `out`; none: there is no export. Other tools write a manifest.json too."""
    try:
        manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        _ = manifest["export_id"]
        return {MANIFEST, CARD, *(str(entry["path"]) for entry in manifest["files"])}
    except (FileNotFoundError, IsADirectoryError, ValueError, LookupError, TypeError):
        return set()


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A folder that becomes `out` if all goes well; where `out` is a link, what it leads to."""
    out = out.resolve()
    folder = beside(out)
    with files.storing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
        try:
            yield folder
            if out.exists() and not files.exchange(folder, out):
                files.remove_tree(out)
            if not out.exists():
                folder.rename(out)
        finally:
            files.remove_tree(folder)


@contextmanager
def _speaking(root: Path, run_id: str) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise WarehouseError(
            f"{root}: run {run_id} cannot be exported: {str(error).splitlines()[0]}",
            hint="the run was compacted just now: export again" if views.vanished(error) else None,
        ) from error
