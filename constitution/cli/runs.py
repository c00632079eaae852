"""`constitution runs`: what ran, how far it got, what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from constitution.cli._options import json_option, run_ids, show_json, warehouse_option
from constitution.cli._summary import show
from constitution.cli._tables import readable, show_table
from constitution.pipeline import Progress
from constitution.pipeline.report import cost, duration
from constitution.pipeline.standing import status_of
from constitution.records import Run
from constitution.shown import printable
from constitution.warehouse import Warehouse, ask, connect

_FIGURES = """
WITH chain AS (
    SELECT run_id, count(*) AS prompts, count(*) FILTER (complete) AS done FROM chains GROUP BY ALL
),
used AS (
    SELECT run_id, sum(prompt_tokens) AS tokens_in, sum(completion_tokens) AS tokens_out FROM usage GROUP BY ALL
),
preference AS (SELECT run_id, count(*) FILTER (kept) AS kept FROM preferences GROUP BY ALL),
failure AS (SELECT run_id, count(*) AS failures FROM failures GROUP BY ALL)
SELECT
    run_id, coalesce(chain.done, 0), coalesce(chain.prompts, 0), coalesce(preference.kept, 0),
    coalesce(failure.failures, 0), coalesce(used.tokens_in, 0), coalesce(used.tokens_out, 0)
FROM runs
LEFT JOIN chain USING (run_id) LEFT JOIN used USING (run_id)
LEFT JOIN preference USING (run_id) LEFT JOIN failure USING (run_id)
"""

_NAMES = ("run", "by", "constitution", "status")
_NUMBERS = ("prompts", "kept", "failures", "time", "cost", "tokens in", "tokens out")


@click.command()
@click.argument("run_id", required=False, shell_complete=run_ids)
@json_option
@warehouse_option
def runs(run_id: str | None, as_json: bool, warehouse: Path) -> None:
    """List the runs: how far each got and what it cost. With RUN_ID (or how it begins), show one run in full.

    `prompts` counts those that are finished, of all. An `open` run was interrupted, or has prompts that failed; a
    `stopped` run took up no more prompts, because its budget was spent, its servers were gone or too many prompts
    failed. The command that started it resumes either. Figures of a running run are at most ten seconds old.

    \b
    Examples:
      constitution runs
      constitution runs fake-0a7d1f1e5b5c
    """
    store = Warehouse(warehouse)
    with connect(warehouse) as connection:
        # Records first: of a damaged one they say more than the query below.
        listed = store.runs() if run_id is None else [store.find_run(run_id)]
        if run_id is not None and not as_json:
            _show(store, listed[0])
            return
        found = {row[0]: row[1:] for row in ask(connection, _FIGURES, ours=True).rows}
    if as_json:
        facts = [_facts(store, run, found.get(run.run_id, (0,) * 6)) for run in listed]
        show_json(facts if run_id is None else facts[0])
        return
    rows = []
    for run in listed:
        done, prompts, kept, failures, tokens_in, tokens_out = found.get(run.run_id, (0,) * 6)
        cells = [run.run_id, _by(store, run), printable(run.constitution), status_of(store, run)]
        cells.append(f"{done:,} / {prompts:,}")
        cells += [readable(kept), readable(failures), duration(run.seconds), cost(run) or "·"]
        rows.append([*cells, readable(tokens_in), readable(tokens_out)])
    show_table((*_NAMES, *_NUMBERS), rows, right=_NUMBERS, cut=False)


def _facts(store: Warehouse, run: Run, figures: Sequence[int]) -> dict[str, Any]:
    """What `--json` says of a run: docs/warehouse.md lists it."""
    names = ("complete", "prompts", "kept", "failures", "tokens_in", "tokens_out")
    return {
        "run_id": run.run_id, "recipe": run.recipe.get("name", ""), "constitution": run.constitution,
        "status": status_of(store, run), "stopped": run.stopped, "started_at": run.started_at,
        "finished_at": run.finished_at, "starts": run.starts, "seconds": run.seconds, "cost": run.cost,
        "currency": (run.recipe.get("budget") or {}).get("currency", "USD"), **dict(zip(names, figures, strict=True)),
        "skipped": run.counts.get("skipped", 0), "models": run.models, "authors": _authors(store, run),
    }  # fmt: skip


def _show(store: Warehouse, run: Run) -> None:
    if not run.usage:  # killed before the record told of any, or a record of an earlier version
        stored = Progress(run.counts.get("prompts", 0))
        stored.take_stock(store.tally(run.run_id))
        run = replace(run, usage=stored.ledger.usage(), counts=stored.counts() | run.counts)
    show(run, status_of(store, run))
    click.echo()
    if run.stopped:
        click.echo(f"  {printable(run.stopped)}")
    ended = f", finished {run.finished_at}" if run.finished_at else ""
    click.echo(f"  started {run.started_at}{ended}; {run.starts} start{'' if run.starts == 1 else 's'}")
    if authors := _authors(store, run):
        click.echo(f"  by {', '.join(map(printable, authors))}")
    for role, facts in run.models.items():
        click.echo(f"  {role}: " + ", ".join(f"{name} {readable(value)}" for name, value in facts.items()))


def _authors(store: Warehouse, run: Run) -> list[str]:
    """Who started it, the first first, then who worked its shards."""
    shards = [shard.author for shard in store.shards(run.run_id) if shard.number]
    return list(dict.fromkeys((*run.authors, *shards)))


def _by(store: Warehouse, run: Run) -> str:
    authors = _authors(store, run)
    others = f" +{len(authors) - 1}" if len(authors) > 1 else ""
    return printable(authors[0]) + others if authors else "·"
