"""What a scorecard leaves: rows of `scores` and `counterfactuals`, added part by part while judges are asked.

    with scoring(warehouse, run_id):
        add(warehouse, run_id, scores)

The run's lock is not needed: a run writes neither. Processes that score one run wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from constitution.records import Counterfactual, Score
from constitution.warehouse import convert, files
from constitution.warehouse.compact import compact_folder, recover_folder, write_table
from constitution.warehouse.schema import TABLES
from constitution.warehouse.store import Warehouse

_TABLES = ("scores", "counterfactuals")


@contextmanager
def scoring(warehouse: Warehouse, run_id: str) -> Iterator[None]:
    """For as long as the block lasts, nobody else scores the run; waits for who does. What a killed process left is
    cleared before it, and at its end, however it ends, the parts are merged."""
    warehouse.require()
    folders = {name: warehouse.folder(name, run_id) for name in _TABLES}
    # Not in a table's own folder: merging puts another folder in its place.
    with files.alone(folders["scores"].with_name(f".scoring-{run_id}")):
        for folder in folders.values():
            recover_folder(folder)
        try:
            yield
        finally:
            for name, folder in folders.items():
                compact_folder(TABLES[name], folder)
            warehouse.rebuild_views()


def add(warehouse: Warehouse, run_id: str, rows: Sequence[Score] | Sequence[Counterfactual]) -> None:
    """`rows`, all of one class, as the run's next part of their table; none of them: nothing."""
    if rows:
        name = "scores" if isinstance(rows[0], Score) else "counterfactuals"
        data = convert.rows_to_arrow(name, rows)
        with files.new_part(warehouse.folder(name, run_id)) as (_, file):
            write_table(TABLES[name], data, file)
