"""`constitution principles impact`: which labels another version of a constitution would turn round."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from textwrap import shorten
from typing import Any

import click

from constitution.ask.impact import Effect, Impact, Shift, impact, sample_pairs
from constitution.ask.panel import Panel
from constitution.cli._options import judge_options, warehouse_option
from constitution.cli.principles import aligned, either, root_option
from constitution.cli.principles_judge import panel_of
from constitution.measures import Estimate
from constitution.records import Constitution, Run
from constitution.shown import printable, printable_lines, spreadsheet
from constitution.templates.wording import mixed
from constitution.warehouse import Warehouse

SHOWN = 10
"""Flipped pairs that are shown with their texts."""
COLUMNS = ("pair_id", "prompt_id", "kind", "p_old", "p_new", "change", "flips", "prompt", "earlier", "later")
"""A pair's columns, in JSON and CSV. p_old, p_new: probability that the later answer is better."""


@click.command("impact")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--run", "run_id", help="Whose pairs: a run's id, or how it begins.  [default: the newest judged]")
@click.option("--sample", type=click.IntRange(min=1), default=200, show_default=True, help="Pairs to judge.")
@judge_options("as the run was judged")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Seed of the sample.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print everything as one JSON object, with the texts of every pair."
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Also write every pair to a CSV file.")
@click.option(
    "--spreadsheet-safe",
    is_flag=True,
    help="In the CSV file, put an apostrophe before what a spreadsheet would run as a formula.",
)
@warehouse_option
@root_option
def impact_command(a: str, b: str, **options: Any) -> None:
    """Judge a sample of stored pairs under two versions, and show which labels flip.

    A and B are NAME, NAME@VERSION or a .toml file. Questions that both share are asked once. Nothing is written to the
    warehouse.

    Example:  constitution principles impact general@1.0.0 general@1.1.0 --sample 100
    """
    old, new = either(a, options["root"]), either(b, options["root"])
    warehouse = Warehouse(options["warehouse"])
    panel = panel_of(options["model"], options["recipe"])
    run = warehouse.find_run(options["run_id"])
    panel = (panel or Panel.of_run(run)).on(run)
    if said := mixed(new, panel.wording):
        click.echo(f"{printable(said)}; --recipe FILE may name other templates", err=True)
    stored = sample_pairs(warehouse, run.run_id, options["sample"], options["seed"])
    found = asyncio.run(impact(old, new, stored, panel))
    if options["out"]:
        _write(options["out"], found, options["spreadsheet_safe"])
    if options["as_json"]:
        click.echo(json.dumps(_as_json(old, new, run, found), ensure_ascii=False, indent=2))
        return
    click.echo("\n".join(map(printable_lines, _told(old, new, run, found))))


def _told(old: Constitution, new: Constitution, run: Run, found: Impact) -> Iterator[str]:
    if not found.effects:
        yield f"{old.label} → {new.label}: both ask the same, with the same weights, so no label can flip"
        return
    judges, pairs = ", ".join(found.judges), len(found.shifts)
    kept = [sum(label.kept for label in labels) for labels in zip(*((s.old, s.new) for s in found.shifts), strict=True)]
    missing = f", {found.votes_missing:,} missing" if found.votes_missing else ""
    yield f"{old.label} → {new.label}: {pairs} pair{'' if pairs == 1 else 's'} of run {run.run_id}, judged by {judges}"
    yield f"  labels that flip      {_share(found.flips)}"
    yield f"  P(later is better)    {_number(found.change)} on average; {_number(found.size, '')} without the sign"
    yield f"  pairs kept            {kept[0]} → {kept[1]}"
    yield f"  votes for this        {found.votes:,}{missing}"
    heading = ("principle", "change", "flips by it alone", "mean change by it alone", "its own votes that flip")
    yield ""
    yield from aligned([heading, *map(_row, found.effects)], right=())
    flipped = sorted((shift for shift in found.shifts if shift.flips), key=lambda shift: -abs(shift.change or 0))
    for number, shift in enumerate(flipped[:SHOWN], 1):
        yield from _pair(number, shift)
    if len(flipped) > SHOWN:
        yield f"\n{len(flipped) - SHOWN} more have flipped: --out FILE.csv or --json has all pairs"


def _row(effect: Effect) -> tuple[str, ...]:
    own = "-" if effect.own_flips is None else _share(effect.own_flips)
    return (effect.principle_id, ", ".join(effect.kinds), _share(effect.flips), _number(effect.change), own)


def _pair(number: int, shift: Shift) -> Iterator[str]:
    yield f"\n{number}. {shift.old.p_b:.3f} → {shift.new.p_b:.3f}  {shift.pair.kind}  pair {shift.pair.id}"
    texts = (
        ("prompt", shift.prompt.messages[-1].content),
        ("earlier", shift.pair.a.text),
        ("later", shift.pair.b.text),
    )
    for label, text in texts:
        yield f"   {label:<8}{shorten(text, 200, placeholder=' …')}"


def _share(found: Estimate) -> str:
    """`6.0 % (3.1 to 9.8) of 200`"""
    if found.value is None:
        return "- of 0"
    interval = "" if found.low is None or found.high is None else f" ({100 * found.low:.1f} to {100 * found.high:.1f})"
    return f"{100 * found.value:.1f} %{interval} of {found.n:,}"


def _number(found: Estimate, sign: str = "+") -> str:
    if found.value is None:
        return "-"
    interval = "" if found.low is None or found.high is None else f" ({found.low:{sign}.3f} to {found.high:{sign}.3f})"
    return f"{found.value:{sign}.3f}{interval}"


def _rows(found: Impact) -> list[dict[str, Any]]:
    return [dict(zip(COLUMNS, _cells(shift), strict=True)) for shift in found.shifts]


def _cells(shift: Shift) -> tuple[Any, ...]:
    pair, labels = shift.pair, (shift.old.p_b, shift.new.p_b)
    texts = (shift.prompt.messages[-1].content, pair.a.text, pair.b.text)
    return (pair.id, pair.a.prompt_id, pair.kind, *labels, shift.change, shift.flips, *texts)


def _as_json(old: Constitution, new: Constitution, run: Run, found: Impact) -> dict[str, Any]:
    versions = {name: {"name": each.label, "digest": each.digest} for name, each in (("old", old), ("new", new))}
    figures = {name: asdict(getattr(found, name)) for name in ("flips", "change", "size")}
    effects = [asdict(effect) for effect in found.effects]
    told = {**versions, "run_id": run.run_id, "judges": found.judges, **figures, "effects": effects}
    return {**told, "votes": found.votes, "votes_missing": found.votes_missing, "pairs": _rows(found)}


def _write(out: Path, found: Impact, safe: bool = False) -> None:
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=COLUMNS)
        writer.writeheader()
        for row in _rows(found):
            said = {name: spreadsheet(said) if safe and isinstance(said, str) else said for name, said in row.items()}
            writer.writerow(said)
