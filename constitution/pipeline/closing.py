"""What is done once when no restart can add a row to a run: its parts are merged, and labels made of all its votes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from constitution.labels import Rules
from constitution.pipeline.relabel import relabel_run
from constitution.recipe import Recipe
from constitution.records import Run
from constitution.warehouse import Warehouse


def close_run(warehouse: Warehouse, run: Run, recipe: Recipe, counts: Mapping[str, int], again: bool) -> Run:
    """Holding the run's lock alone and with no Writer open; killed at any moment, it can be done again. Returns the
    record with its labels, and counts with them; nothing of it is written.

    counts: of all rows of the run. again: labels that were made again since are made so once more, where there are
    any. Raises WarehouseError where the tables have other rows than `counts`.
    """
    warehouse.compact(run.run_id, counts=counts)
    run = replace(run, counts={**run.counts, **counts})
    again = again and bool(run.labels)
    if (section := recipe.judge) is not None:
        # `constitution relabel` may have made those that are there by other settings: all are made alike.
        rules = Rules.of_run(run) if again else Rules.of(section)
        if again or rules.whole_run:
            relabelled = relabel_run(warehouse, run.run_id, rules)
            run = replace(run, labels=relabelled.record(rules), counts={**run.counts, "kept": relabelled.kept})
    warehouse.forget_batches(run.run_id)
    return run
