"""`constitution warehouse`: looking after the warehouse as a whole."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import click

from constitution.cli._options import json_option, run_ids, show_json, warehouse_option, where
from constitution.cli._tables import readable_size, show_table
from constitution.errors import ConstitutionError, InputError
from constitution.shown import printable, sentence
from constitution.warehouse import Warehouse, place
from constitution.warehouse.damage import strays
from constitution.warehouse.removing import interrupted
from constitution.warehouse.upkeep import converting, copying, garbage, removal
from constitution.warehouse.upkeep.inventory import File, stored

_SHOWN = {
    "rows": "tables", "batches": "batches", "quarantine": "quarantine", "temporary": "temporary",
    "removing": "removing", "trials": "trials",
}  # fmt: skip
"""What a file is → its column; what is in none is small, and in `other`."""

yes_option = click.option("--yes", is_flag=True, help="Do it; without it, say what would be done.")


@click.group("warehouse", context_settings={"help_option_names": ["-h", "--help"]})
def group() -> None:
    """The warehouse as a whole: its size, what nothing needs any more, copies, runs to remove.

    Example:  constitution warehouse du
    """


@group.command("du")
@click.argument("run", required=False, shell_complete=run_ids)
@json_option
@warehouse_option
def du_command(run: str | None, as_json: bool, warehouse: Path) -> None:
    """Sizes of all files, by run; with RUN (or how its id begins), by table.

    `other` are records, checksums, locks, the database of views, and files that are none of the warehouse's.
    With --json a list of run_id, table, what, files, bytes, each as large as the files are, not as the disk has them.

    \b
    Examples:
      constitution warehouse du
      constitution warehouse du fake-0a7d1f1e5b5c
    """
    store = Warehouse(warehouse)
    store.require()
    every = list(stored(store.root))
    if run is not None:
        run = removal.removable(store, run)
        every = [file for file in every if file.run_id == run and file.what != "trials"]
    if as_json:
        show_json(_sizes(every))
    elif run is None:
        _show_runs(every, set(store.run_ids()))
    else:
        _show_tables(every)


def _sizes(every: list[File]) -> list[dict[str, str | int]]:
    sums: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for file in every:
        sums[file.run_id, file.table, file.what].append(file.size)
    names = ("run_id", "table", "what")
    return [dict(zip(names, key, strict=True), files=len(of), bytes=sum(of)) for key, of in sorted(sums.items())]


def _show_runs(every: list[File], known: set[str]) -> None:
    by_run: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for file in every:
        run_id = "" if file.what == "trials" else file.run_id
        for key in (run_id, "all"):
            by_run[key][_SHOWN.get(file.what, "other")].append(file.size)
    columns = [name for name in (*_SHOWN.values(), "other") if by_run["all"][name]]
    rows = []
    for run_id in (*sorted(by_run.keys() - {"", "all"}), "", "all"):
        of = by_run[run_id]
        if sizes := [size for each in of.values() for size in each]:
            name = run_id if run_id in known | {"all"} else f"{run_id} (no record)" if run_id else "of no run"
            cells = [readable_size(sum(of[column])) if of[column] else "·" for column in columns]
            rows.append([printable(name), f"{len(sizes):,}", *cells, readable_size(sum(sizes))])
    show_table(("run", "files", *columns, "size"), rows, right=("files", *columns, "size"), cut=False)


def _show_tables(every: list[File]) -> None:
    sums: dict[str, list[int]] = defaultdict(list)
    for file in every:
        sums[file.table if file.what == "rows" else file.what].append(file.size)
    rows = [[name, f"{len(of):,}", readable_size(sum(of))] for name, of in sums.items()]
    rows.append(["all", f"{len(every):,}", readable_size(sum(file.size for file in every))])
    show_table(("table", "files", "size"), rows, right=("files", "size"))


@group.command("gc")
@click.option(
    "--older-than",
    type=click.FloatRange(min=1),
    default=garbage.OLDER_THAN / garbage.DAY,
    show_default=True,
    metavar="DAYS",
    help="Only what was last written so long ago.",
)
@yes_option
@json_option
@warehouse_option
def gc_command(older_than: float, yes: bool, as_json: bool, warehouse: Path) -> None:
    """Delete what nothing refers to any more; without --yes, list it.

    That is: files that a killed process was writing, notes of batches and quarantined files of finished runs, what
    is left of runs that were removed, and the trials of `constitution try`. A run that is at work is left alone.
    Rows that are of no run are never taken: see `constitution verify`.

    \b
    Examples:
      constitution warehouse gc
      constitution warehouse gc --older-than 14 --yes
    """
    store = Warehouse(warehouse)
    store.require()
    found = garbage.find(store, older_than * garbage.DAY)
    done = []
    for each in found:
        kept = each.kept or (garbage.collect(store, each) if yes else "")
        done.append((each, kept))
    if as_json:
        names = ("what", "run_id", "files")
        show_json([
            {name: getattr(each, name) for name in names}
            | {"bytes": each.size, "kept": kept, "deleted": yes and not kept}
            for each, kept in done
        ])  # fmt: skip
        return
    for each, kept in done:
        of = f" of {printable(each.run_id)}" if each.run_id else ""
        verb = f"Kept ({kept})" if kept else "Deleted" if yes else "Would delete"
        click.echo(
            f"{verb}: {each.what}{of}, {each.files:,} file{'s' * (each.files != 1)}, {readable_size(each.size)}: "
            f"{garbage.ABOUT[each.what]}"
        )
    _tell_sum([each for each, kept in done if not kept], yes, warehouse)
    for name in strays(store.root, [*store.run_ids(), *interrupted(store.root)]):
        click.echo(f"{printable(name)}: rows of no run, kept; `constitution verify` says where")


def _tell_sum(taken: list[garbage.Garbage], yes: bool, warehouse: Path) -> None:
    size = readable_size(sum(each.size for each in taken))
    if not taken:
        click.echo("There is nothing to delete.")
    elif yes:
        click.echo(f"Deleted {size}.")
    else:
        click.echo(f"{size} in all. To delete it: constitution warehouse gc --yes{where(warehouse)}")


@group.command("copy")
@click.argument("to", metavar="TO")
@click.argument("runs", nargs=-1, metavar="[RUN…]", shell_complete=run_ids)
@warehouse_option
def copy_command(to: str, runs: tuple[str, ...], warehouse: Path) -> None:
    """Copy the warehouse, or these RUNs (or how their ids begin), to the warehouse TO, a folder or an address.

    Rows, records and all that was said of the runs; every part is held against its checksum. The same command resumes
    a copy that was interrupted, and brings one up to date. A run that was changed in TO since it was copied there, or
    is at work, is not touched, and named. Quarantined files and `.try` are not copied.

    Exit code 1: not all of it was copied.

    \b
    Examples:
      constitution warehouse copy /mnt/share/warehouse
      constitution warehouse copy s3://bucket/warehouse fake-0a7d1f
      constitution warehouse copy here --warehouse s3://bucket/warehouse
    """
    source = Warehouse(warehouse)
    source.require()
    target = Warehouse(place(to))
    if target.root.resolve() == source.root.resolve():
        raise InputError(f"{to}: is the warehouse that is to be copied", hint="name another folder or address")
    wanted = [source.full_id(run) for run in runs] or source.run_ids()
    failed = False
    for run_id in dict.fromkeys(wanted):
        try:
            done = copying.copy_run(source, target, run_id)
        except (ConstitutionError, OSError) as error:
            failed = True
            click.echo(f"{run_id}: not copied: {sentence(error)}")
            continue
        parts = f"{done.parts:,} part{'s' * (done.parts != 1)}, {readable_size(done.size)}"
        click.echo(f"{run_id}: {f'copied {parts}' if done.parts else 'nothing new'}")
    for name in strays(source.root, source.run_ids()) if not runs else ():
        failed = True
        click.echo(f"{printable(name)}: not copied: rows of no run (`constitution verify` says where)")
    sys.exit(failed)


@group.command("convert")
@click.argument("to", metavar="TO")
@warehouse_option
def convert_command(to: str, warehouse: Path) -> None:
    """Convert a warehouse that an older version wrote into TO, a new folder or an address; the old one stays as it is.

    Every run with all that was said of it; parts are held against their checksums, and rows keep their ids. What was
    not kept at that time is null, and named. The same command does the rest of one that was interrupted. A warehouse
    of a newer version is refused.

    Exit code 1: not all of it was converted.

    \b
    Example:
      constitution warehouse convert warehouse-new --warehouse warehouse
    """
    if Warehouse(warehouse).at_address:
        raise InputError(
            "only a folder can be converted", hint="copy it to a folder with the version that wrote it, then convert it"
        )
    runs = converting.old_run_ids(warehouse)
    if not converting.is_older(warehouse):
        raise InputError(
            f"{warehouse}: is of this version", hint="for a copy of it: constitution warehouse copy TO --warehouse FROM"
        )
    target = Warehouse(place(to))
    if target.root.resolve() == warehouse.resolve():
        raise InputError(f"{to}: is the warehouse that is to be converted", hint="name a new folder or an address")
    failed = False
    for run_id in runs:
        try:
            done = converting.convert_run(warehouse, target, run_id)
        except (ConstitutionError, OSError) as error:
            failed = True
            click.echo(f"{run_id}: not converted: {sentence(error)}")
            continue
        _tell_converted(run_id, done)
    for name in converting.strays(warehouse, runs):
        failed = True
        click.echo(f"{printable(name)}: not converted: rows of no run")
    sys.exit(failed)


def _tell_converted(run_id: str, done: converting.Converted | None) -> None:
    if done is None:
        click.echo(f"{run_id}: is there already, and was not touched")
        return
    click.echo(f"{run_id}: converted {sum(done.rows.values()):,} rows of {len(done.rows)} tables")
    for table, columns in done.unknown.items():
        click.echo(f"  {table}: not kept at that time, null now: {', '.join(columns)}")
    if done.unchecked:
        click.echo(
            f"  {done.unchecked:,} part{'s' * (done.unchecked != 1)} had no checksum, and were taken as they are"
        )


@group.command("rm")
@click.argument("run", shell_complete=run_ids)
@click.option("--yes", is_flag=True, help="Do not ask.")
@warehouse_option
def rm_command(run: str, yes: bool, warehouse: Path) -> None:
    """Remove RUN (or how its id begins), with all that was said of it: annotations, scorecards, figures, exports' rows.

    What goes is shown and asked for first. Files that `export` wrote stay, as do runs that began from this one. A run
    that is at work is refused. Where the command is killed, the same command does the rest.

    Exit code 1: nothing was removed.

    \b
    Examples:
      constitution warehouse rm fake-0a7d1f
      constitution warehouse rm fake-0a7d1f --yes
    """
    store = Warehouse(warehouse)
    store.require()
    run_id = removal.removable(store, run)
    _show_removal(store, run_id)
    if not yes:
        if not sys.stdin.isatty():
            click.echo(f"Nothing was removed. To remove it: constitution warehouse rm {run_id} --yes{where(warehouse)}")
            sys.exit(1)
        if not click.confirm("Remove all of it?"):
            click.echo("Nothing was removed.")
            sys.exit(1)
    removal.remove(store, run_id)
    click.echo(f"Removed {run_id}.")


def _show_removal(store: Warehouse, run_id: str) -> None:
    click.echo(f"{printable(run_id)}{_of_whom(store, run_id)}")
    told = removal.dependents(store, run_id)
    rows = []
    for name, (count, size) in told.sizes.items():
        of = told.rows.get(name, 0)
        cell = "·" if name not in told.rows else "damaged" if of is None else f"{of:,}"
        rows.append([name, cell, f"{count:,}", readable_size(size)])
    show_table(("goes", "rows", "files", "size"), rows, right=("rows", "files", "size"))
    if "annotations" in told.sizes:
        click.echo("Its annotations are what people said; no command makes them again.")
    for child in told.children:
        click.echo(f"{child} began from it, and stays.")


def _of_whom(store: Warehouse, run_id: str) -> str:
    if run_id in interrupted(store.root):
        return ": its removal was interrupted"
    try:
        run = store.read_run(run_id)
    except ConstitutionError:
        return ": its record is damaged"
    if run is None:
        return ": there is no record of it"
    return f": {printable(run.constitution)}, started {run.started_at}, finished {run.finished_at or 'never'}"
