"""What is said of a run afterwards: people's labels and audit figures. One file each, replaced as a whole.

The run's lock is not needed: a run writes neither. Processes that add labels to one run wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from constitution.records import Figure, Label
from constitution.warehouse import convert, files
from constitution.warehouse.columns import Table
from constitution.warehouse.compact import write_table
from constitution.warehouse.schema import TABLES


class Added(NamedTuple):
    """What became of a run's labels when others came to them."""

    new: int
    changed: int
    gone: int
    """Said before by the same rater in the same source, and not any more."""


def add_labels(folder: Path, labels: Sequence[Label]) -> Added:
    """Adds `labels` to the run's, in its folder of them.

    A label takes the place of the one with its id, and the labels of one rater and source that of all that this rater
    had from this source. Rows that stay keep their `created_at`.
    """
    with files.alone(folder):
        files.sweep(folder)
        stored = read(TABLES["labels"], folder)
        before = {label.id: label for label in labels_of(stored)}
        new = {label.id: label for label in labels}
        said = {(label.rater, label.source) for label in labels}
        after = {id: label for id, label in before.items() if (label.rater, label.source) not in said} | new
        added = Added(
            new=len(after.keys() - before.keys()),
            changed=sum(before[id] != after[id] for id in before.keys() & after.keys()),
            gone=len(before.keys() - after.keys()),
        )
        if any(added):
            stay = pa.array([after.get(label.id) == label for label in before.values()], pa.bool_())
            fresh = [label for label in after.values() if before.get(label.id) != label]
            _replace("labels", folder, pa.concat_tables([stored.filter(stay), convert.rows_to_arrow("labels", fresh)]))
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


def labels_of(data: pa.Table) -> list[Label]:
    return [note for note in convert.notes_from_arrow("labels", data) if isinstance(note, Label)]


def figures_of(data: pa.Table) -> list[Figure]:
    return [note for note in convert.notes_from_arrow("figures", data) if isinstance(note, Figure)]


def _replace(name: str, folder: Path, data: pa.Table) -> None:
    with files.replacing(folder / "part-0.parquet", part=True) as file:
        write_table(TABLES[name], data, file)
