"""`constitution relabel`: the labels of a finished run made again from its votes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from constitution.cli._options import run_ids, warehouse_option
from constitution.errors import InputError
from constitution.labels import Rules
from constitution.pipeline.relabel import relabel_run
from constitution.recipe import JudgeSection
from constitution.records import Run
from constitution.shown import printable
from constitution.warehouse import Warehouse, connect


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
@warehouse_option
def relabel(run: str, warehouse: Path, **settings: Any) -> None:
    """Compute the labels of RUN (or how its id begins) again from its stored votes. No model is asked.

    Options that are not given are as in the run's recipe: without any, the labels are the recipe's again, fitted to the
    gold labels that are in the warehouse by now. Votes and their plain mean `p_mean` stay as they are; the column
    `label_by` says how each label was made. The run must be finished.

    \b
    Examples:
      constitution relabel hh-harmless-0a7d1f --control style --calibrate temperature
      constitution relabel hh-harmless-0a7d1f --aggregate dawid-skene --margin 0.05
      constitution relabel hh-harmless-0a7d1f
    """
    with connect(warehouse):  # tells where there is no warehouse
        pass
    store = Warehouse(warehouse)
    run_id = store.find_run(run).run_id
    with store.lock(run_id):
        store.recover(run_id)
        found = store.read_run(run_id)
        assert found is not None
        rules = _rules(found, settings)
        relabelled = relabel_run(store, run_id, rules)
        counts = found.counts | {"kept": relabelled.kept}
        store.write_run(replace(found, counts=counts, labels=relabelled.record(rules)))
    click.echo(f"{run_id}: {relabelled.labels:,} labels by {relabelled.label_by}, {relabelled.kept:,} kept")
    changes = (
        (relabelled.turned, "prefer the other answer now"),
        (relabelled.gained, "kept now"),
        (relabelled.lost, "dropped now"),
    )
    click.echo("  " + " · ".join(f"{count:,} {what}" for count, what in changes))
    for note in relabelled.notes:
        click.echo(f"  {printable(note)}")


def _rules(run: Run, settings: dict[str, Any]) -> Rules:
    """The run's own, with what was given in place of its settings."""
    if run.finished_at is None:
        raise InputError(f"{run.run_id}: the run is not finished", hint="start its recipe again to resume it")
    own = run.recipe.get("judge")
    if own is None:
        raise InputError(f"{run.run_id}: the run has no votes", hint="its recipe needs a [judge] section")
    given = {name: value for name, value in settings.items() if value is not None}
    return Rules.of(JudgeSection.model_validate({**own, **given}))
