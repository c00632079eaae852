"""A run dealt into shards: whose each slice is, what all of them come to, and which of them are left.

The record of a run that is dealt is the sum of its shards' records at any moment, and of one numbered 0, which keeps
what the run had been worked before. So it can be summed again after a kill, and by the last one to end.
"""

from __future__ import annotations

import math
import os
import socket
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from constitution.identity import digest
from constitution.pipeline.cost import Cost, Ledger, together
from constitution.pipeline.input import COUNTS
from constitution.records import Run, Shard, ShardRecord, Usage
from constitution.warehouse import Warehouse
from constitution.warehouse.files import number_of
from constitution.writing import user

if TYPE_CHECKING:
    from constitution.recipe import Recipe


def dealt(run_id: str, slices: Iterable[Path], shard: Shard) -> list[Path]:
    """The shard's slices, in their order: every `of`-th in the order of a digest, so that no shard has all of what a
    source has at its beginning, and none has more than one slice more than another."""
    ranked = sorted(slices, key=lambda path: digest([run_id, number_of(path)]))
    return sorted(ranked[shard.number - 1 :: shard.of], key=number_of)


def deal(warehouse: Warehouse, run_id: str, of: int, recipe: Recipe) -> None:
    """Makes the run one of `of` shards, holding its lock alone; 0: one that is worked as a whole. What was done before,
    in another number of shards too, is then in the record of number 0, or in the run's. Killed at any moment, it can be
    done again. recipe: whose prices count."""
    run, records = warehouse.read_run(run_id), warehouse.shards(run_id)
    present = records[0].of if records else 0
    if run is None or present == of == run.shards:
        return
    run = replace(summed(run, records), shards=of)
    if present != of and of:
        warehouse.forget_shards(run_id, but_of=present)  # a kill may have left some of these, which are summed already
        before = replace(begun(run_id, Shard(1, of)), number=0, cost=Cost(recipe.model, Ledger(), run.engines).total)
        kept = {name: getattr(run, name) for name in ("starts", "seconds", "engines", "models")}
        with warehouse.dealing_batches(run_id, of):
            warehouse.write_shard(replace(before, **kept))  # from now on it is dealt so
    warehouse.write_run(run)
    if present and not of:
        with warehouse.dealing_batches(run_id, of):
            warehouse.forget_shards(run_id)
    warehouse.forget_shards(run_id, but_of=of)


def begun(run_id: str, shard: Shard) -> ShardRecord:
    """The record of a shard that this process takes up, with nothing in it."""
    host, process, now = socket.gethostname(), os.getpid(), clock()
    return ShardRecord(run_id, shard.number, shard.of, host, process, user(), now, now, starts=0)


def taken_up(record: ShardRecord) -> ShardRecord:
    """The record of a shard that this process takes up again."""
    return replace(record, host=socket.gethostname(), process=os.getpid(), user=user())


def clock() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def summed(run: Run, records: Sequence[ShardRecord]) -> Run:
    """The run's record with what its shards' add up to (`Store.shards`); as it is where there are none. Its seconds are
    then those of all processes, and its starts those before it was dealt and the most that a shard took."""
    if not records:
        return run
    before, *own = records
    counts = {name: n for name, n in run.counts.items() if name in ("prompts", *COUNTS)}
    for name in dict.fromkeys(name for record in own for name in record.counts if name not in counts):
        counts[name] = sum(record.counts.get(name, 0) for record in own)
    roles = dict.fromkeys(role for record in records for role in record.engines)
    costs = [record.cost for record in records if record.cost is not None]
    return replace(
        run,
        counts=counts if len(own) == before.of else {**run.counts, **counts},
        usage=_usage(own),
        engines={role: reduce(together, [record.engines.get(role, {}) for record in records]) for role in roles},
        models=_models(records),
        seconds=round(sum(record.seconds for record in records), 3),
        starts=before.starts + max((record.starts for record in own), default=0),
        cost=round(sum(costs), 6) if costs else None,
        stopped=next((said_by(record) for record in own if record.stopped and not record.ended_at), ""),
        shards=before.of,
        authors=tuple(dict.fromkeys((*run.authors, *(record.author for record in own)))),
    )


def of_shard(run: Run, records: Sequence[ShardRecord], own: ShardRecord) -> Run:
    """The run's record with what is counted in the shard's, for a start of that shard. Its models are those of all."""
    whole, before = summed(run, records), records[0]
    return replace(
        whole,
        counts=own.counts,
        usage=own.usage,
        engines=own.engines,
        seconds=own.seconds,
        starts=before.starts + own.starts,
        cost=own.cost,
        stopped="",
        finished_at=None,
    )


def left(records: Sequence[ShardRecord]) -> list[str]:
    """A sentence for each shard that has not come to its end."""
    if not records:
        return []
    of, known = records[0].of, {record.number: record for record in records}
    return [
        _state(Shard(number, of), known.get(number))
        for number in range(1, of + 1)
        if not ((record := known.get(number)) and record.ended_at)
    ]


def _state(shard: Shard, record: ShardRecord | None) -> str:
    if record is None:
        return f"shard {shard}: not begun"
    done, prompts = (record.counts.get(name, 0) for name in ("done", "prompts"))
    stopped = f"; stopped by its {record.stopped}" if record.stopped else ""
    return f"shard {shard}: {done:,} of {prompts:,} prompts, last seen {record.beat_at} on {record.host}{stopped}"


def said_by(record: ShardRecord) -> str:
    """Why it stopped, and which shard it was."""
    return record.stopped if "(shard " in record.stopped else f"{record.stopped} (shard {record.shard})"


def _usage(records: Sequence[ShardRecord]) -> tuple[Usage, ...]:
    ledger, costs = Ledger(), defaultdict[tuple[str, str], list[float]](list)
    ledger.join((record.usage, 0, 0) for record in records)
    for one in (one for record in records for one in record.usage):
        if one.cost is not None:
            costs[one.stage, one.model].append(one.cost)
    found = ((one, costs.get((one.stage, one.model))) for one in ledger.usage())
    return tuple(replace(one, cost=math.fsum(cost) if cost else None) for one, cost in found)


def _models(records: Iterable[ShardRecord]) -> dict[str, dict[str, str]]:
    """What the engines say of their models; where one shard's says something else, under `<role> of shard <shard>`."""
    found: dict[str, Mapping[str, Any]] = {}
    for record in records:
        for role, facts in record.models.items():
            if found.setdefault(role, facts) != facts:
                found[f"{role} of shard {record.number}/{record.of}"] = facts
    return {role: dict(facts) for role, facts in found.items()}
