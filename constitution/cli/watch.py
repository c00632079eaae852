"""`constitution watch`: a run at work, seen from another terminal or another machine."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from constitution.cli._options import run_ids, warehouse_option
from constitution.pipeline.dealing import left
from constitution.pipeline.report import cost, duration
from constitution.pipeline.standing import Looking, ShardStanding, Standing
from constitution.pipeline.state import HEARTBEAT
from constitution.shown import printable
from constitution.warehouse import Warehouse

SILENT = 6 * HEARTBEAT
"""Seconds without a change after which no more is expected."""
ROWS = 32
"""Shards that have a bar of their own each, at most."""


@click.command()
@click.argument("run_id", required=False, metavar="[RUN]", shell_complete=run_ids)
@click.option(
    "--every",
    type=click.FloatRange(min=0.05),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to look; a run writes its record every ten seconds.",
)
@click.option("--once", is_flag=True, help="Look once, and say how it is.")
@click.option("--wait", is_flag=True, help="Wait also for a run on which no process is at work, until it is finished.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object a line, at every change, and nothing else."
)
@warehouse_option
def watch(run_id: str | None, every: float, once: bool, wait: bool, as_json: bool, warehouse: Path) -> None:
    """Watch RUN (or how its id begins) until it is finished; without RUN, the run that was started last.

    It reads the run's records in the warehouse, and those of its shards, so it may be called on any machine that sees
    them, and is never in the run's way: a bar in a terminal, a line at every change elsewhere. It ends when the run is
    finished; and, without --wait, when no process is seen at work on it and no record has changed for a minute. A shard
    that falls silent is named.

    Exit codes: 0 the run is finished and no prompt failed for good; 1 it is finished with such prompts, or it is not
    finished and watching is over; 2 there is no such run.

    \b
    Examples:
      constitution watch
      constitution watch hh-harmless-0a7d1f --warehouse /shared/warehouse
      constitution watch --json --wait | jq .left_seconds
    """
    store = Warehouse(warehouse)
    found = store.find_run(run_id) if run_id else _newest(store)
    looks = _looks(Looking(store, found.run_id, 3 * HEARTBEAT), every, once, wait)
    if as_json:
        last = _as_lines(looks, lambda seen: json.dumps(facts(seen), allow_nan=False))
    elif sys.stdout.isatty() and not once:
        last = _as_bar(looks)
    else:
        last = _as_lines(looks, line)
    if not as_json and not last.over and not once:
        for sentence in left(store.shards(last.run.run_id)):
            click.echo(printable(sentence[0].upper() + sentence[1:]))
        click.echo(f"{_why(last)} The command that started it resumes it; `constitution watch --wait` waits for that.")
    sys.exit(0 if last.over and not last.run.counts.get("lost", 0) else 1)


def _newest(store: Warehouse) -> Any:
    runs = store.runs()
    return runs[-1] if runs else store.find_run(None)  # which says what to do


def _looks(looking: Looking, every: float, once: bool, wait: bool) -> Iterator[Standing]:
    """What is seen, until nothing more is to be seen."""
    while True:
        seen = looking.look(time.monotonic())
        yield seen
        if seen.over or once or (not wait and seen.status != "running" and _hopeless(seen)):
            return
        time.sleep(every)


def _hopeless(seen: Standing) -> bool:
    """A run that says why it stopped is not waited for; of another it is seen only in time that none is at work."""
    return seen.status == "stopped" or seen.silent >= SILENT


def _why(seen: Standing) -> str:
    if seen.run.stopped:
        return f"Stopped by its {printable(seen.run.stopped)}."
    return f"No process is seen at work on it, and nothing has changed for {duration(seen.silent)}."


def _as_lines(looks: Iterator[Standing], text: Any) -> Standing:
    """A line at every change. Returns what was seen last."""
    last: tuple[Standing, str] | None = None
    for seen in looks:
        if last is None or seen.changed or seen.status != last[1]:
            click.echo(text(seen))
            sys.stdout.flush()
        last = seen, seen.status
    assert last is not None
    return last[0]


def _as_bar(looks: Iterator[Standing]) -> Standing:
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.table import Column

    what = TextColumn("{task.description}", table_column=Column(no_wrap=True, min_width=8))
    columns = what, BarColumn(20), MofNCompleteColumn(), TextColumn("{task.fields[figures]}")
    with Progress(*columns) as bar:
        task = bar.add_task("", total=None, figures="")
        shards: dict[int, Any] = {}
        for seen in looks:
            bar.update(task, description=seen.status, figures=figures(seen, ()), **_of(seen.run.counts))
            for each in seen.shards if len(seen.shards) <= ROWS else ():
                record = each.record
                if record.number not in shards:
                    shards[record.number] = bar.add_task(str(record.shard), total=None, figures="")
                state = "at its end" if record.ended_at else f"silent for {each.silent:,.0f} s" if each.lost else ""
                text = printable(" · ".join(filter(None, (record.host, state, record.stopped))))
                bar.update(shards[record.number], figures=escape(text), **_of(record.counts))
    return seen


def _of(counts: Mapping[str, int]) -> dict[str, Any]:
    """What a bar shows of these counts."""
    return {"completed": counts.get("done", 0), "total": counts.get("prompts", 0)}


def line(seen: Standing) -> str:
    count = seen.run.counts.get
    return f"{seen.run.run_id}: {seen.status} · {count('done', 0):,}/{count('prompts', 0):,} prompts · {figures(seen)}"


def figures(seen: Standing, rows: Sequence[str] = ("responses", "preferences", "rewards")) -> str:
    """Pace, rows of these tables, what goes wrong, cost, time left."""
    count = seen.run.counts.get
    parts = [f"{seen.rate:,.1f}/s"] if seen.rate and not seen.over else []
    parts += [f"{n:,} {name}" for name in rows if (n := count(name, 0))]
    parts.append(f"{count('failures', 0) - count('unsaid', 0):,} failures")
    parts += [f"{n:,} failed for good"] if (n := count("lost", 0)) else []
    parts += [spent] if (spent := cost(seen.run)) else []
    parts.append(duration(seen.run.seconds) if seen.over else f"{duration(seen.left)} left")
    return " · ".join([*parts, *map(printable, seen.lost)])


def facts(seen: Standing) -> dict[str, Any]:
    """What --json says."""
    run = seen.run
    count = run.counts.get
    return {
        "run_id": run.run_id,
        "status": seen.status,
        "stopped": run.stopped,
        "prompts": count("prompts", 0),
        "done": count("done", 0),
        "open": count("open", 0),
        "lost": count("lost", 0),
        "kept": count("kept", 0),
        "failures": count("failures", 0),
        "tokens_in": count("prompt_tokens", 0),
        "tokens_out": count("completion_tokens", 0),
        "cost": run.cost,
        "currency": (run.recipe.get("budget") or {}).get("currency", "USD"),
        "seconds": run.seconds,
        "prompts_per_second": seen.rate and round(seen.rate, 3),
        "left_seconds": seen.left and round(seen.left, 1),
        "silent_seconds": round(seen.silent, 1),
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "shards": [_shard(each) for each in seen.shards],
    }


def _shard(seen: ShardStanding) -> dict[str, Any]:
    record = seen.record
    names = ("host", "process", "user", "starts", "stopped", "beat_at", "ended_at")
    counts = {name: record.counts.get(name, 0) for name in ("prompts", "done")}
    about = {name: getattr(record, name) for name in names}
    return {"shard": str(record.shard), **counts, **about, "silent_seconds": round(seen.silent, 1), "lost": seen.lost}
