"""`constitution run` in shards: one, for a scheduler; all, on this machine; or only the run that they find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from constitution.records import Run, Shard
from constitution.records.shards import MOST

F = TypeVar("F", bound=Callable[..., Any])


def shard_options(command: F) -> F:
    """--shard, --shards and --prepare."""
    shard = click.option(
        "--shard", metavar="I/N", help="Work one of N shares of the run, beside other processes that work the others."
    )
    shards = click.option(
        "--shards", type=click.IntRange(1, MOST), metavar="N", help="Work the run in N processes of this machine."
    )
    prepare = click.option(
        "--prepare", is_flag=True, help="Only write the run's prompts and print its id, for --resume ID --shard I/N."
    )
    return shard(shards(prepare(command)))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a run is to be worked, other than the whole."""

    shard: Shard | None
    shards: int
    prepare: bool


def wanted(shard: str | None, shards: int | None, prepare: bool, fresh: bool, flow: bool) -> Wanted | None:
    """None: the whole run. Raises UsageError for options that do not go together, InputError for what is no shard."""
    if not (shard or shards or prepare):
        return None
    if bool(shard) + bool(shards) + prepare > 1:
        raise click.UsageError("give one of --shard, --shards and --prepare")
    if shard and fresh:
        raise click.UsageError(
            "--fresh makes a new run, which the other shards would not find: make it with --prepare --fresh, which "
            "prints its id, and give that to each shard with --resume"
        )
    if flow:
        raise click.UsageError("shards are run without --flow and --prefect: flows/scale.py is the flow of shards")
    return Wanted(Shard.parse(shard) if shard else None, shards or 0, prepare)


def worker(what: Wanted, arguments: tuple[Any, ...]) -> Callable[..., Any]:
    """What works it, with a progress bar where it is called in `work`: it returns a Run, of --shard what
    `work_shard` returns. arguments: of `generate`."""
    from constitution.pipeline.processes import run_shards
    from constitution.pipeline.shard import open_again, prepare_run, run_shard

    recipe, warehouse, limit, overrides, fresh, allow, retry_failed, resume = arguments
    settings = [*overrides, *([f"prompts.limit={limit}"] if limit else [])]

    async def flow() -> Any:
        plan = prepare_run(Path(recipe), Path(warehouse), settings, allow, resume, fresh)
        if what.shard:
            return await run_shard(plan, what.shard, retry_failed)
        if retry_failed:
            plan = open_again(plan)
        if what.prepare or plan.finished:
            return plan.run
        if (slices := len(plan.parts)) < what.shards:
            size, idle = plan.prompts // what.shards, what.shards - slices
            more = f": --fresh --set output.slice={size} makes a run with one for each" if size else ""
            click.echo(
                f"The {plan.prompts:,} prompts are in {slices:,} slice{'s' * (slices > 1)}, so {idle:,} "
                f"of the shards have nothing to do{more}",
                err=True,
            )
        return await run_shards(plan, what.shards, lambda said: click.echo(said, err=True))

    return flow


def tell_shard(result: dict[str, Any]) -> None:
    """What one shard came to."""
    counts = result["counts"]
    state = "finished" if result["done"] else "not finished: the same command resumes it"
    click.echo(f"{result['run_id']}, shard {result['shard']}: {state}")
    click.echo(f"{counts.get('done', 0):,} of {counts.get('prompts', 0):,} prompts, {result['seconds']:,.1f} s")
    if result["done"] and not counts.get("prompts"):
        click.echo("No slice of the prompts is dealt to it: there are fewer slices (output.slice) than shards.")
    if result["stopped"]:
        click.echo(f"Stopped by its {result['stopped']}.")
    if result["finished"]:
        click.echo(f"The run finished on {result['finished']}.")
    tell_left([each for each in result["left"] if not each.startswith(f"shard {result['shard']}:")])


def tell_left(sentences: list[str]) -> None:
    """The shards that are left."""
    for sentence in sentences:
        click.echo(sentence[0].upper() + sentence[1:])


def left_of(run: Run, warehouse: Path) -> list[str]:
    """A sentence for each shard of an unfinished run that is not at its end."""
    from constitution.pipeline.dealing import left
    from constitution.warehouse import Warehouse

    return left(Warehouse(warehouse).shards(run.run_id)) if run.shards and not run.finished_at else []
