"""`constitution verify`: whether the stored files are what was written, and quarantining what is not."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from constitution.cli._options import warehouse_option, where
from constitution.shown import printable
from constitution.warehouse import Damage, Warehouse, connect
from constitution.warehouse.damage import INPUT, QUARANTINE, REMEDIES, folder_of, made_by, strays
from constitution.warehouse.layout import is_run_id
from constitution.warehouse.remote import addressed
from constitution.warehouse.removing import interrupted


@click.command()
@click.argument("run", required=False)
@click.option("--repair", is_flag=True, help="Quarantine damaged files, and open their runs again.")
@warehouse_option
def verify(run: str | None, repair: bool, warehouse: Path) -> None:
    """Compare every file of RUN (or how its id begins; without RUN, of all runs) with its checksum.

    A run that is started again does so by itself before anything else: this is for runs that are finished. With
    --repair damaged files go to quarantine/ in the warehouse, with the rows that rest on theirs; nothing is deleted.
    The run is open then, and the same `constitution run` makes again what is gone and nothing else.

    Exit code 1: something is damaged.

    \b
    Examples:
      constitution verify
      constitution verify hh-harmless-0a7d1f --repair
    """
    store = Warehouse(warehouse)
    if store.at_address:
        store.require()
    else:
        with connect(warehouse):  # tells where there is no warehouse
            pass
    if repair:
        store.rebuild_views()
    run_ids = [store.full_id(run)] if run else store.run_ids()
    damaged = [run_id for run_id in run_ids if not _verify(store, run_id, repair)]
    astray = run is None and _tell_strays(store)
    if damaged and not repair:
        click.echo("Next:")
        for run_id in damaged:
            click.echo(f"  constitution verify {run_id} --repair{where(warehouse)}")
    sys.exit(bool(damaged or astray))


def _tell_strays(store: Warehouse) -> bool:
    """Reports rows that are of no run; whether there are any. They stay: they may be all that is left of a run."""
    going = interrupted(store.root)
    for run_id in going:
        click.echo(f"{run_id}: its removal was interrupted; `constitution warehouse rm {run_id} --yes` does the rest")
    found = bool(going)
    for name, tables in strays(store.root, [*store.run_ids(), *going]).items():
        if is_run_id(name) and store.locked(name):
            continue  # its record is written last
        found = True
        click.echo(f"{printable(name)}: there is no record of such a run in {store.root / 'runs'}/")
        for table in tables:
            click.echo(f"  {printable(str(folder_of(store.root, table, name)))}: rows of it")
        click.echo("  If its record was lost, `constitution run` of its recipe resumes; if it is a copy, move it away.")
    return found


def _verify(store: Warehouse, run_id: str, repair: bool) -> bool:
    """Reports on one run; whether it is sound."""
    if repair:
        with store.lock(run_id):
            store.recover(run_id)
            store.put_again(run_id)
            found = store.repair(run_id)
    else:
        found = store.verify(run_id) + store.lost(run_id)
    unchecked = store.unchecked(run_id)
    if again := [each for each in store.fetched_again if each.split("/")[1] == run_id]:
        click.echo(f"{run_id}: fetched again, since the copies in {store.root} were damaged: {', '.join(again)}")
    if not found:
        parts = f"{len(unchecked)} part{'s' * (len(unchecked) > 1)}"
        click.echo(
            f"{run_id}: sound" + (f", as far as can be told: no checksum is left of {parts}" if unchecked else "")
        )
        return True
    click.echo(f"{run_id}: {len(found)} damaged")
    for damage in found:
        click.echo(f"  {printable(addressed(damage))}")
    if repair:
        _tell_remedies(store, run_id, found)
    return False


def _tell_remedies(store: Warehouse, run_id: str, found: Sequence[Damage]) -> None:
    tables = {damage.table for damage in found}
    click.echo(f"  Quarantined in {store.root / QUARANTINE}/.")
    record = store.read_run(run_id)
    made = made_by(record.counts if record else {})
    if not tables.isdisjoint(("runs", *INPUT, *made)):
        name = f" {record.recipe['name']}" if record and "name" in record.recipe else ""
        click.echo(
            f"  `constitution run` of its recipe{name} makes again what is gone; audit and export it after that."
        )
    for table, remedy in REMEDIES.items():
        if table in tables:
            click.echo(f"  {table}: {remedy}{', or run its recipe, where they were for rewards' * (table in made)}.")
