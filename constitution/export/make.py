"""An export, from the run to the folder."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from constitution.audit.summary import headlines
from constitution.errors import InputError, WarehouseError
from constitution.export.beside import folder_beside
from constitution.export.candidates import choose, lay
from constitution.export.card import CardFacts, write_card
from constitution.export.clean import clean
from constitution.export.files import info_of
from constitution.export.layouts import LAYOUTS
from constitution.export.outcome import Exported, contents_of, sha256
from constitution.export.recited import drop_recited
from constitution.export.settings import CardOptions, Settings
from constitution.export.sides import measure
from constitution.export.work import Work
from constitution.export.write import fields, split, write
from constitution.warehouse import Warehouse, connect, views

MANIFEST, CARD = "manifest.json", "README.md"
MANIFEST_SCHEMA = 1
_NAMES = frozenset({MANIFEST, CARD, "data", *(layout.info for layout in LAYOUTS.values() if layout.info)})
"""What can be in an export's folder."""

MEMORY_MIB = 512
"""What DuckDB may hold, and beyond it BLOCKS blocks of rows, which it works on at a time."""

BLOCK_ROWS, BLOCKS = 2048, 12


def make(root: Path, run_id: str, settings: Settings, out: Path, options: CardOptions, overwrite: bool) -> Exported:
    """What `constitution.export.export` does."""
    warehouse = Warehouse(root)
    run, constitution = warehouse.read_run(run_id), warehouse.read_principles(run_id)
    if run is None or constitution is None:
        raise InputError(f"{root}: there is no run {run_id}", hint="`constitution runs` lists them")
    if benchmark := (run.recipe.get("prompts") or {}).get("benchmark"):
        raise InputError(
            f"{run_id}: its pairs are the benchmark {benchmark}, which measures no model that was trained on them",
            hint="export another run; `constitution sql --out FILE` writes these rows for anything but training",
        )
    warehouse.check(run_id)
    _check_out(out, overwrite)
    with (
        _speaking(root, run_id),
        connect(root, _memory_mib(warehouse, run_id, settings.with_reasoning), run_id) as connection,
    ):
        measured = tuple(headlines(connection, run_id))
        work = lay(connection, root, run, constitution, settings)
        choose(work)
        if settings.with_reasoning:
            drop_recited(work, constitution)
        clean(work)
        groups = split(work)
        dropped = _dropped(work)
        if not groups:
            counts = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items())
            hint = "loosen a filter; docs/export.md has them all"
            if [*dropped][-1:] == ["round"] and settings.format == "sft" and run.recipe.get("sample"):
                hint = "samples are of no round: --rounds all takes them, --select best each prompt's best by reward"
            raise InputError(f"{run_id}: no row is left: {counts}", hint=hint)
        sides = measure(work)
        with folder_beside(out, _NAMES) as folder:
            done = Exported(
                out=out,
                export_id=settings.export_id,
                run_id=run_id,
                finished=run.finished_at is not None,
                files=tuple(write(work, folder, groups, constitution)),
                dropped=dropped,
                lacks=sides.lacks,
            )
            facts = CardFacts(
                settings=settings,
                run=run,
                constitution=constitution,
                columns=fields(settings, run),
                done=done,
                documents=_documents(warehouse, run_id),
                figures=tuple(warehouse.read_figures(run_id)),
                headlines=measured,
                sides=sides,
                by_profile=work.by_profile,
            )
            if settings.layout_spec.info:
                _write_json(folder / settings.layout_spec.info, info_of(settings, done.files))
            _write_manifest(folder, facts)
            write_card(folder, facts, options)
            warehouse.write_exported(run_id, settings.export_id, work.batches(_ROWS.format(format=settings.format)))
    return done


def _documents(warehouse: Warehouse, run_id: str) -> tuple[tuple[str, str, int], ...]:
    clauses = Counter((each.document, each.edition) for each in warehouse.read_clauses(run_id))
    return tuple((*edition, count) for edition, count in clauses.items())


_ROWS = """
SELECT '{format}' AS format, c.id, c.prompt_id, k.split, f.drop_reason, f.drop_detail
FROM export.candidates AS c
LEFT JOIN export.kept AS k USING (id)
LEFT JOIN export.dropped AS f USING (id)
ORDER BY c.place
"""


def _memory_mib(warehouse: Warehouse, run_id: str, with_reasoning: bool) -> int:
    """For DuckDB: a run may be as long as it likes, since what is too much goes to the temporary folder, but the blocks
    that a query works on must be in memory, and those of long answers are large."""
    row = 0.0
    for table, column, times in (
        ("prompts", "messages", 1),
        ("responses", "text", 2),
        ("responses", "reasoning", 2 * with_reasoning),
    ):
        size, rows = 0, 0
        for part in warehouse.parts(table, run_id):
            try:
                about = pq.read_metadata(part)
            except FileNotFoundError:  # compacted just now: this is an estimate, and the queries tell what is gone
                continue
            rows += about.num_rows
            names = [about.schema.column(index).path.partition(".")[0] for index in range(about.num_columns)]
            size += sum(
                about.row_group(group).column(index).total_uncompressed_size
                for group in range(about.num_row_groups)
                for index, name in enumerate(names)
                if name == column
            )
        row += times * size / max(rows, 1)
    return MEMORY_MIB + int(BLOCKS * BLOCK_ROWS * row / 2**20)


def _dropped(work: Work) -> dict[str, int]:
    # Rows are added step by step, so that the first of each reason tells the order.
    counted = work.connection.execute(
        "SELECT drop_reason, count(*) FROM export.dropped GROUP BY drop_reason ORDER BY min(rowid)"
    )
    return {str(reason): int(count) for reason, count in counted.fetchall()}


def _write_manifest(folder: Path, facts: CardFacts) -> None:
    """What made the files, and their digests: no time and no place, so that the same export has the same manifest."""
    run, done = facts.run, facts.done
    about_run = ("run_id", "finished_at", "constitution", "constitution_digest", "models", "labels", "code_version")
    manifest = {
        "schema": MANIFEST_SCHEMA,
        "export_id": done.export_id,
        "format": facts.settings.format,
        "settings": facts.settings.as_json(),
        **({"rewards": {"source": facts.sides.source, "scores": facts.sides.by_reward}} if facts.sides.source else {}),
        "runs": [{name: getattr(run, name) for name in about_run}],
        "counts": {"candidates": done.candidates, "kept": done.rows, "dropped": done.dropped},
        "files": [
            {
                **{name: getattr(file, name) for name in ("path", "config", "split", "rows")},
                "bytes": (folder / file.path).stat().st_size,
                "sha256": file.sha256,
            }
            for file in done.files
        ],
    }
    if info := facts.settings.layout_spec.info:
        manifest["info"] = {"path": info, "sha256": sha256(folder / info)}
    _write_json(folder / MANIFEST, manifest)


def _write_json(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False) + "\n", encoding="utf-8")


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
        return {MANIFEST, CARD, *(str(entry["path"]) for entry in contents_of(manifest))}
    except (FileNotFoundError, IsADirectoryError, ValueError, LookupError, TypeError):
        return set()


@contextmanager
def _speaking(root: Path, run_id: str) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise WarehouseError(
            f"{root}: run {run_id} cannot be exported: {str(error).splitlines()[0]}",
            hint="the run was compacted just now: export again" if views.vanished(error) else None,
        ) from error
