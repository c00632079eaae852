"""`constitution run`: the flow flows/generate.py:generate, with a progress bar."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from constitution.cli._flow import load_flow, with_prefect
from constitution.cli._options import json_option, run_ids, show_json, suggest, warehouse_option
from constitution.cli._shards import Wanted, left_of, shard_options, tell_left, tell_shard, wanted, worker
from constitution.cli._summary import show
from constitution.cli._telemetry import telemetry_options
from constitution.cli._watched import Flow, stdout_to_stderr, work
from constitution.pipeline.report import beside
from constitution.recipe import load_recipe
from constitution.records import Run
from constitution.shown import printable
from constitution.telemetry import log
from constitution.warehouse.remote import addressed

REMEDIES = {
    "budget": "Raise budget.limit, in the recipe or by --set budget.limit=…, and run the same command again.",
    "servers": "Correct the server, or the recipe's [model] section (docs/engines.md: omit, extra_body, dialect); then "
    "the same command tries those prompts again. With --set output.stop_at_failures=1 they fail for good.",
    "engines": "When they work again (servers, key, account), the same command resumes the run.",
    "failures": "Correct what failed them, and the same command resumes the run; output.stop_at_failures in the recipe "
    "says at what share of failures a run stops.",
}
"""By what `Run.stopped` begins with."""


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N prompts.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="A.B=C",
    help="Set a value of the recipe for this run (again for more).",
)
@click.option("--fresh", is_flag=True, help="Make a new run, although this recipe ran before.")
@click.option("--retry-failed", is_flag=True, help="Try prompts again that failed for good, also of a finished run.")
@click.option(
    "--resume", default="", metavar="RUN", shell_complete=run_ids, help="Resume this run, with the prompts that it has."
)
@click.option(
    "--allow",
    type=click.Path(exists=True, file_okay=False, resolve_path=True),
    multiple=True,
    metavar="DIR",
    help="Let the recipe read files in DIR too, besides its project (again for more); also CONSTITUTION_ALLOW.",
)
@click.option("--anyway", is_flag=True, help="Rewards by last-token may be of a model that was not trained for them.")
@click.option(
    "--flow",
    "flow_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The flow that runs it.  [default: flows/generate.py of the project that CONSTITUTION_PROJECT names or you "
    "are in, or the package's own]",
)
@click.option(
    "--prefect",
    is_flag=True,
    help="Run it as a flow run of Prefect, which starts a server for it where no API is configured.",
)
@telemetry_options
@shard_options
@json_option
@warehouse_option
def run(
    recipe: Path,
    limit: int | None,
    overrides: tuple[str, ...],
    fresh: bool,
    allow: tuple[str, ...],
    warehouse: Path,
    **how: Any,
) -> None:
    """Run RECIPE: answer, critique, revise, judge, store.

    The same command resumes a run that was stopped. A recipe brings no code: its own project's flow runs only where you
    are in that project, or name it. Where a Prefect API is configured (PREFECT_API_URL, or the active profile), the run
    is a flow run there; otherwise nothing of Prefect is started.

    Exit codes, with the state in Prefect: 0 all prompts are finished (Completed); 1 some failed, the servers were gone
    or the budget is spent (Failed, BudgetSpent, CompletedWithFailures); 2 something is wrong that was found before any
    model was asked (Failed); 130 and 143 stopped by Ctrl-C and by SIGTERM (Cancelled).

    \b
    Examples:
      constitution run recipes/fake.toml
      constitution run recipes/hh-harmless.toml --limit 100 --set prompts.path=harmless.jsonl.gz
    """
    if fresh and how["resume"]:
        raise click.UsageError("--fresh makes a new run, --resume resumes one: give one of the two")
    overrides += ("reward.last_token.anyway=true",) if how["anyway"] else ()
    load_recipe(recipe, overrides)  # a fault in it is reported before anything starts
    arguments: tuple[object, ...] = (str(recipe), str(warehouse), limit, list(overrides), fresh)
    arguments += (list(allow), how["retry_failed"], how["resume"])
    part = wanted(how["shard"], how["shards"], how["prepare"], fresh, bool(how["flow_file"] or how["prefect"]))
    if part is None:
        flow = load_flow(how["flow_file"], recipe, with_prefect(how["prefect"]))
    else:
        flow, arguments = worker(part, arguments), ()
    if part and (part.shard or part.prepare):
        _work_part(part, flow, warehouse, how["as_json"])
        return
    if not how["as_json"]:
        done, worked = work(flow, arguments)
        if done.finished_at and not worked:
            click.echo(f"Nothing to do: this run finished on {done.finished_at}; --fresh makes a new one.")
        _tell(done, warehouse)
    else:
        with stdout_to_stderr():
            done, worked = work(flow, arguments)
        show_json(_facts(done, warehouse, worked))
    if part:
        log(warehouse, done.run_id)  # a flow does it itself
    if done.finished_at is None or done.counts.get("lost", 0):
        sys.exit(1)


def _work_part(part: Wanted, flow: Flow, warehouse: Path, as_json: bool) -> None:
    """One shard, or no more than what the shards find."""
    with stdout_to_stderr() if as_json or part.prepare else nullcontext():
        done, _ = work(flow, ())
    if part.prepare:
        facts = {"run_id": done.run_id, "prompts": done.counts["prompts"], "finished_at": done.finished_at}
        show_json(facts) if as_json else click.echo(done.run_id)
        return
    show_json(done) if as_json else tell_shard(done)
    if done["finished"]:
        log(warehouse, done["run_id"])
    if not done["done"]:
        sys.exit(1)


def _facts(run: Run, warehouse: Path, worked: bool) -> dict[str, Any]:
    """What --json prints: its keys are a contract, which docs/warehouse.md lists."""
    status = "finished" if run.finished_at else "stopped" if run.stopped else "open"
    return {
        "run_id": run.run_id,
        "status": status,
        "worked": worked,
        "stopped": run.stopped,
        "constitution": run.constitution,
        "warehouse": addressed(warehouse),
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "starts": run.starts,
        "seconds": run.seconds,
        "counts": run.counts,
        "cost": run.cost,
        "currency": (run.recipe.get("budget") or {}).get("currency", "USD"),
    }


def _tell(run: Run, warehouse: Path) -> None:
    """The summary: what there is, where it is, what to do next."""
    show(run, "finished" if run.finished_at else "not finished")
    click.echo(f"Data: {addressed(warehouse)}/")
    for sentence in beside(run):
        click.echo(sentence)
    open_, lost = run.counts.get("open", 0), run.counts.get("lost", 0)
    if run.stopped:
        remedy = REMEDIES.get(run.stopped.partition(":")[0], "The same command resumes the run.")
        click.echo(f"Stopped by its {printable(run.stopped)}. {remedy}")
    tell_left(left_of(run, warehouse))
    if lost:
        which, them = ("One prompt", "it") if lost == 1 else (f"{lost:,} prompts", "them")
        click.echo(f"{which} failed for good: with --retry-failed the same command tries {them} again.")
    pairs, kept = run.counts.get("preferences", 0), run.counts.get("kept", 0)
    if run.finished_at and 2 * kept < pairs:
        click.echo(f"{pairs - kept:,} of {pairs:,} pairs were dropped. Why they were:")
        query = f"SELECT drop_reason, count(*) FROM preferences WHERE run_id = '{run.run_id}' AND NOT kept GROUP BY ALL"
    elif run.finished_at:
        if none := sum(run.counts.get(name, 0) for name in ("rewards_missing", "rewards_other")):
            click.echo(
                f"{none:,} of {run.counts['rewards']:,} rewards have no value: `rewards.reason` says why"
                + (", and the table `rubrics` why items are not asked." if run.counts.get("rubrics_dropped") else ".")
            )
        click.echo("Next:")
        query = f"SELECT prompt, chosen, rejected, p_chosen FROM pairs WHERE run_id = '{run.run_id}' "
        query += "ORDER BY p_chosen DESC LIMIT 5"  # pairs without a label come last
        if not pairs:
            query = _of_answers(run)
    elif open_ or not run.stopped.startswith("budget"):
        again = ": the same command tries those again" if open_ else ""
        click.echo(f"Engines failed on some prompts{again}. Why they failed:")
        query = f"SELECT step, judge, error, message, count(*) FROM failures WHERE run_id = '{run.run_id}' GROUP BY ALL"
    else:
        query = f"SELECT * FROM usage WHERE run_id = '{run.run_id}'"
    suggest(warehouse, query)


def _of_answers(run: Run) -> str:
    """What there is to see where no pairs were made: why rewards have no value, or else the highest, or the answers."""
    if any(run.counts.get(name, 0) for name in ("rewards_missing", "rewards_other")):
        return (
            f"SELECT source, reason, count(*) AS rewards FROM rewards WHERE run_id = '{run.run_id}' AND value IS NULL "
            "GROUP BY ALL"
        )
    if run.counts.get("rewards", 0):
        return (
            "SELECT source, value, text FROM rewards AS w JOIN answers AS a ON a.id = response_id "
            f"WHERE w.run_id = '{run.run_id}' AND a.run_id = w.run_id ORDER BY value DESC LIMIT 5"
        )
    return f"SELECT kind, sampler, round, text FROM answers WHERE run_id = '{run.run_id}' LIMIT 5"
