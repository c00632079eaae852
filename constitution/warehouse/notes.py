"""What is said of a run afterwards: people's annotations and audit figures. One file each, replaced as a whole.

The run's lock is not needed: a run writes neither. Processes that add annotations to one run wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from constitution.records import Annotation, Figure
from constitution.warehouse import convert, files
from constitution.warehouse.columns import Table
from constitution.warehouse.compact import write_table
from constitution.warehouse.schema import TABLES


class Added(NamedTuple):
    """What became of a run's annotations when others came to them."""

    new: int
    changed: int
    gone: int
    """Said before by the same rater in the same source, and not any more."""


def add_annotations(folder: Path, annotations: Sequence[Annotation]) -> Added:
    """Adds `annotations` to the run's, in its folder of them.

    An annotation takes the place of the one with its id, and those of one rater and source that of all that this
    rater had from this source. Rows that stay keep their `created_at`.
    """
    with files.alone(folder):
        files.sweep(folder)
        stored = read(TABLES["annotations"], folder)
        before = {each.id: each for each in annotations_of(stored)}
        new = {each.id: each for each in annotations}
        said = {(each.rater, each.source) for each in annotations}
        after = {id: each for id, each in before.items() if (each.rater, each.source) not in said} | new
        added = Added(
            new=len(after.keys() - before.keys()),
            changed=sum(before[id] != after[id] for id in before.keys() & after.keys()),
            gone=len(before.keys() - after.keys()),
        )
        if any(added):
            stay = pa.array([after.get(each.id) == each for each in before.values()], pa.bool_())
            fresh = convert.rows_to_arrow("annotations", [e for e in after.values() if before.get(e.id) != e])
            _replace("annotations", folder, pa.concat_tables([stored.filter(stay), fresh]))
    return added


def put_figures(folder: Path, figures: Sequence[Figure]) -> None:
    """`figures` in place of the run's, in its folder of them."""
    with files.alone(folder):
        files.sweep(folder)
        _replace("figures", folder, convert.rows_to_arrow("figures", figures))


def read(table: Table, folder: Path) -> pa.Table:
    """The rows in the run's folder; none if there is no such folder."""
    found = []
    for path in files.parts(folder):
        with pq.ParquetFile(path) as file:
            found.append(table.conform(file.read()))
    return pa.concat_tables(found) if found else table.schema.empty_table()


def annotations_of(data: pa.Table) -> list[Annotation]:
    return [note for note in convert.notes_from_arrow("annotations", data) if isinstance(note, Annotation)]


def figures_of(data: pa.Table) -> list[Figure]:
    return [note for note in convert.notes_from_arrow("figures", data) if isinstance(note, Figure)]


def _replace(name: str, folder: Path, data: pa.Table) -> None:
    with files.replacing(folder / "part-0.parquet", part=True) as file:
        write_table(TABLES[name], data, file)
