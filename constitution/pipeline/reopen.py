"""`--retry-failed`: what failed for good in earlier starts is tried again, in a run that is finished too.

A final failure says that the same request fails again. It is made one that a start tries again, under another id, and
is kept: a failure of the new start is another row. The rewards and labels of these prompts, and the checks of their
references, are made again, from the readings and votes that there are and those that come.
"""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from constitution.generate.failures import tried_again
from constitution.pipeline.plan import Plan
from constitution.records import UNASKED, UNSAID
from constitution.warehouse import Warehouse


def lost(plan: Plan) -> int:
    """Prompts of the run that an engine failed for good; what a model said (nothing, that it declines) is none."""
    return len(_prompts(Warehouse(plan.warehouse).table("failures", plan.run_id)))


def reopen(warehouse: Warehouse, run_id: str) -> int:
    """Opens the run for those prompts, holding its lock and with no Writer open; returns how many they are.

    The failures are changed last: killed before that, the run is open, and the same command does this again.
    """
    failures, run = warehouse.table("failures", run_id), warehouse.read_run(run_id)
    prompts = _prompts(failures)
    if not prompts or run is None:
        return 0
    warehouse.reopen_shards(run_id)
    warehouse.write_run(replace(run, finished_at=None))
    for table in ("reference_checks", "rewards", "preferences"):
        made = warehouse.table(table, run_id)
        kept = made.filter(pc.invert(pc.is_in(made["prompt_id"], pa.array(sorted(prompts)))))
        if len(kept) < len(made):
            warehouse.replace_rows(table, run_id, kept)
    # With them goes what was not asked for want of it.
    unasked = pc.and_(
        pc.is_in(failures["error"], pa.array(UNASKED)), pc.is_in(failures["prompt_id"], pa.array(sorted(prompts)))
    )
    final = pc.or_(_final(failures), pc.and_(unasked, pc.invert(failures["retryable"])))
    ids = [
        tried_again(id, run.starts) if again else id
        for id, again in zip(failures["id"].to_pylist(), final.to_pylist(), strict=True)
    ]
    columns = dict(zip(failures.column_names, failures.columns, strict=True))
    changed = {"id": pa.array(ids), "retryable": pc.or_(failures["retryable"], final)}
    warehouse.replace_rows("failures", run_id, pa.table(columns | changed))
    return len(prompts)


def _final(failures: pa.Table) -> pa.ChunkedArray:
    """Which rows are of an engine and final."""
    unsaid = pc.is_in(failures["error"], pa.array(UNSAID))
    return pc.and_(pc.invert(failures["retryable"]), pc.invert(unsaid))


def _prompts(failures: pa.Table) -> set[str]:
    return set(failures.filter(_final(failures))["prompt_id"].to_pylist())
