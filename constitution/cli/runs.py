"""`constitution runs`: what ran, how far it got, what it cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from constitution.cli._options import warehouse_option
from constitution.cli.sql import readable, show_table
from constitution.warehouse import Warehouse, ask, connect

_FIGURES = """
WITH chain AS (
    SELECT run_id, count(*) AS prompts, count(*) FILTER (complete) AS done FROM chains GROUP BY ALL
),
response AS (
    SELECT
        run_id, count(*) AS responses,
        sum(prompt_tokens + critique_prompt_tokens) AS tokens_in,
        sum(completion_tokens + critique_completion_tokens) AS tokens_out
    FROM responses GROUP BY ALL
),
judgement AS (
    SELECT run_id, count(*) AS judgements, sum(prompt_tokens) AS tokens_in, sum(completion_tokens) AS tokens_out
    FROM judgements GROUP BY ALL
),
preference AS (SELECT run_id, count(*) FILTER (kept) AS kept FROM preferences GROUP BY ALL),
failure AS (SELECT run_id, count(*) AS failures FROM failures GROUP BY ALL)
SELECT
    run_id, coalesce(done, 0), coalesce(prompts, 0), coalesce(responses, 0), coalesce(judgements, 0),
    coalesce(kept, 0), coalesce(failures, 0),
    coalesce(response.tokens_in, 0) + coalesce(judgement.tokens_in, 0),
    coalesce(response.tokens_out, 0) + coalesce(judgement.tokens_out, 0)
FROM runs
LEFT JOIN chain USING (run_id) LEFT JOIN response USING (run_id) LEFT JOIN judgement USING (run_id)
LEFT JOIN preference USING (run_id) LEFT JOIN failure USING (run_id)
"""

_NAMES = ("run", "recipe", "constitution", "status")
_NUMBERS = ("prompts", "responses", "judgements", "kept", "failures", "time", "tokens in", "tokens out")


@click.command()
@warehouse_option
def runs(warehouse: Path) -> None:
    """What ran, how far it got, what it cost.

    `prompts` are those whose chain is complete, of all. A run that is `open` was stopped; starting its recipe again
    goes on with it.

    Example:  constitution runs
    """
    with connect(warehouse) as connection:
        figures = {row[0]: row[1:] for row in ask(connection, _FIGURES).rows}
    store = Warehouse(warehouse)
    rows = []
    for run in store.runs():
        done, prompts, *counts = figures.get(run.run_id, (0,) * 8)
        status = "finished" if run.finished_at else "running" if store.locked(run.run_id) else "open"
        name = str(run.recipe.get("name", ""))
        cells: list[Any] = [run.run_id, name, run.constitution, status, f"{done:,} / {prompts:,}"]
        cells += [readable(count) for count in counts[:4]]
        cells += [_duration(run.seconds), *(readable(count) for count in counts[4:])]
        rows.append(cells)
    show_table((*_NAMES, *_NUMBERS), rows, right=_NUMBERS, whole=("run",))


def _duration(seconds: float) -> str:
    """1:02:03, or 2:03 under an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
