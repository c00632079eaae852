"""`constitution relabel`: the labels of a finished run made again from its votes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from constitution.ask.panel import recipe_of
from constitution.cli._options import run_ids, warehouse_option
from constitution.cli._tables import show_table
from constitution.errors import InputError
from constitution.labels import Rules
from constitution.labels.profiles import profile_labels, profile_of
from constitution.labels.relabel import Relabelled
from constitution.measures.estimate import wilson
from constitution.pipeline.relabel import relabel_run
from constitution.pipeline.replay import replay
from constitution.recipe import JudgeSection
from constitution.records import Run
from constitution.shown import printable
from constitution.warehouse import Warehouse, connect

SURES = (0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
"""Those that a replay shows."""


@click.command()
@click.argument("run", shell_complete=run_ids)
@click.option("--aggregate", type=click.Choice(["mean", "majority", "dawid-skene"]), help="How votes become a label.")
@click.option(
    "--control", type=click.Choice(["off", "length", "style"]), help="Whose effect on the votes is removed first."
)
@click.option(
    "--calibrate", type=click.Choice(["off", "temperature", "isotonic"]), help="How labels are fitted to gold labels."
)
@click.option("--margin", type=click.FloatRange(0, 0.5), help="Drop pairs whose p_chosen is under 0.5 + this.")
@click.option("--profile", metavar="ID", help="Show what this profile's weights would change, and store nothing.")
@click.option(
    "--replay",
    "only_replay",
    is_flag=True,
    help="Show what judge.votes adaptive would save and change, and store nothing.",
)
@click.option(
    "--sure", type=click.FloatRange(0.5, 1, min_open=True, max_open=True), help="With --replay: this judge.sure alone."
)
@warehouse_option
def relabel(
    run: str, warehouse: Path, profile: str | None, only_replay: bool, sure: float | None, **settings: Any
) -> None:
    """Compute the labels of RUN (or how its id begins) again from its stored votes. No model is asked.

    Options that are not given are as in the run's recipe: without any, the labels are the recipe's again, fitted to the
    gold labels that are in the warehouse by now. Votes and their plain mean `p_mean` stay as they are; the column
    `label_by` says how each label was made. The run must be finished.

    \b
    Examples:
      constitution relabel hh-harmless-0a7d1f --control style --calibrate temperature
      constitution relabel hh-harmless-0a7d1f --aggregate dawid-skene --margin 0.05
      constitution relabel hh-harmless-0a7d1f
      constitution relabel hh-harmless-0a7d1f --replay
      constitution relabel hh-harmless-0a7d1f --profile parents
    """
    if sure is not None and not only_replay:
        raise click.UsageError("--sure is for --replay")
    if profile is not None and (only_replay or any(value is not None for value in settings.values())):
        raise click.UsageError("--profile goes by the settings that the labels were last made by, and alone")
    with connect(warehouse):  # tells where there is no warehouse
        pass
    store = Warehouse(warehouse)
    run_id = store.find_run(run).run_id
    if profile is not None:
        _by_profile(store, run_id, profile)
        return
    if only_replay:
        _replay(store, run_id, settings, SURES if sure is None else (sure,))
        return
    with store.lock(run_id):
        store.recover(run_id)
        found = store.read_run(run_id)
        assert found is not None
        rules = _rules(found, settings)
        relabelled = relabel_run(store, run_id, rules)
        counts = found.counts | {"kept": relabelled.kept}
        store.write_run(replace(found, counts=counts, labels=relabelled.record(rules)))
    _tell(run_id, relabelled)


def _tell(what: str, relabelled: Relabelled) -> None:
    click.echo(f"{what}: {relabelled.labels:,} labels by {relabelled.label_by}, {relabelled.kept:,} kept")
    changes = (
        (relabelled.turned, "prefer the other answer now"),
        (relabelled.gained, "kept now"),
        (relabelled.lost, "dropped now"),
    )
    click.echo("  " + " · ".join(f"{count:,} {what}" for count, what in changes))
    for note in relabelled.notes:
        click.echo(f"  {printable(note)}")


def _by_profile(store: Warehouse, run_id: str, id: str) -> None:
    run, constitution = store.read_run(run_id), store.read_principles(run_id)
    if run is None or constitution is None:
        raise InputError(f"{run_id}: the run has no principles", hint="`constitution verify` says more")
    with connect(store.root) as connection:
        found = profile_labels(connection, run, constitution, profile_of(constitution, id))
    _tell(f"{run_id} by {id}, not stored", found.relabelled)
    if found.stopped:
        click.echo(
            f"  votes stopped early on {found.stopped:,} pairs: {found.undecided:,} of them are undecided by {id}"
        )
    click.echo(f"  constitution export {run_id} --format dpo --profile {id} --out data/{id}")


def _replay(store: Warehouse, run_id: str, settings: dict[str, Any], sures: tuple[float, ...]) -> None:
    run = store.read_run(run_id)
    assert run is not None
    rules = _rules(run, settings)
    found = replay(store, run, recipe_of(run), rules, sures)
    pairs, calls = found[0].pairs, found[0].calls
    click.echo(f"{run_id}: {pairs:,} pairs, whose votes took {calls:,} calls; judge.votes adaptive, by judge.sure:")
    rows = []
    for each in found:
        low, high = wilson(each.changed, pairs) if pairs else (0.0, 1.0)
        shares = each.saved / max(calls, 1), each.changed / max(pairs, 1)
        saved, changed = (
            f"{count:,} ({share:.1%})" for count, share in zip((each.saved, each.changed), shares, strict=True)
        )
        rows.append((f"{each.sure:g}", saved, changed, f"{low:.1%} to {high:.1%}"))
    show_table(
        ("sure", "calls saved", "labels changed", "95 % interval"),
        rows,
        right=("sure", "calls saved", "labels changed"),
    )
    if rules.whole_run:
        click.echo("  labels before aggregate dawid-skene, control and calibrate, which need the votes of all pairs")


def _rules(run: Run, settings: dict[str, Any]) -> Rules:
    """The run's own, with what was given in place of its settings."""
    if run.finished_at is None:
        raise InputError(f"{run.run_id}: the run is not finished", hint="start its recipe again to resume it")
    own = run.recipe.get("judge")
    if own is None:
        raise InputError(f"{run.run_id}: the run has no votes", hint="its recipe needs a [judge] section")
    if (by := own.get("confirm", "votes")) != "votes":
        raise InputError(
            f"{run.run_id}: its labels are by {by}, and there are no votes to make others of",
            hint="an export takes --min-margin; another judge.margin in the recipe makes another run, with its labels",
        )
    given = {name: value for name, value in settings.items() if value is not None}
    if unknown := own.keys() - JudgeSection.model_fields.keys():
        raise InputError(
            f"{run.run_id}: its recipe has judge.{min(unknown)}, which this version of constitution does not know",
            hint="use the version that wrote it",
        )
    return Rules.of(JudgeSection.model_validate({**own, **given}))
