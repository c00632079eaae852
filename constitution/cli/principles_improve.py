"""`constitution principles improve`: other wordings of principles, kept where people's annotations say that they are
better on pairs that took no part in choosing them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from constitution.ask.panel import Panel, recipe_of
from constitution.cli._options import judge_options, warehouse_option
from constitution.cli.principles import aligned, either, root_of, root_option
from constitution.cli.principles_judge import panel_of
from constitution.errors import InputError
from constitution.measures import Estimate
from constitution.principles import render_diff
from constitution.propose.file import folder_of
from constitution.propose.gold import Gold, read_gold
from constitution.propose.improve import Settings, Trial
from constitution.propose.improving import Done, Extras, Roles, as_json, improving, notes_of
from constitution.propose.wordings import FIELDS
from constitution.recipe import FakeModel, ModelSection, TransformersModel, load_recipe
from constitution.records import Constitution
from constitution.shown import brief, printable, printable_lines
from constitution.warehouse import Warehouse

_HEADING = ("principle", "gold", "pairs", "agreement", "wordings", "held out", "rise", "p", "")


@click.command("improve")
@click.argument("constitution", metavar="NAME[@VERSION]")
@click.option("--gold", required=True, metavar="RUN|FILE", help="A run with annotations, or a file of preferences.")
@click.option("--only", multiple=True, metavar="ID", help="This principle alone; can be given again.")
@judge_options("as the run was judged")
@click.option("--writer", help="Who writes: fake, or a folder or hub name.  [default: --model, or the recipe's policy]")
@click.option("--wordings", type=click.IntRange(1, 20), default=4, show_default=True, help="To ask for, a principle.")
@click.option("--also", type=click.Choice(FIELDS), multiple=True, help="Have these reworded too; can be given again.")
@click.option("--name", help="Of the proposals.  [default: NAME-improve]")
@click.option("--proposals", type=click.Path(file_okay=False, path_type=Path), help="Default: beside principles/.")
@click.option("--impact", type=click.IntRange(min=0), default=50, show_default=True, help="Pairs to show flips on.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Of what the writer writes.")
@click.option("--json", "as_json_", is_flag=True, help="Print everything as one JSON object.")
@warehouse_option
@root_option
def improve_command(constitution: str, gold: str, **options: Any) -> None:
    """Propose other wordings of principles, and keep those that people's preferences bear out.

    Gold is parted by conversation: on one half the writer is shown errors and its best wording is chosen, on the other
    half that one is tried, once. Nothing in principles/ changes; what is kept is a proposal for `principles accept`.

    Example:  constitution principles improve kind --gold 2026 --recipe recipes/kind.toml
    """
    root = root_of(options["root"])
    old = either(constitution, root)
    found = read_gold(gold, options["warehouse"])
    roles = _roles(options, found)
    folder = folder_of(root, options["name"] or f"{old.name}-improve", options["proposals"])
    folder.mkdir(parents=True, exist_ok=True)
    settings = Settings(options["wordings"], options["seed"], options["only"])
    done = asyncio.run(improving(old, found, roles, folder, settings, Extras(options["also"], options["impact"])))
    if options["as_json_"]:
        click.echo(json.dumps(as_json(done), ensure_ascii=False, indent=2))
        return
    click.echo("\n".join(map(printable_lines, _told(done, old))))


def _roles(options: dict[str, Any], gold: Gold) -> Roles:
    """Who judges and who writes. InputError where nothing says it."""
    model, recipe = options["model"], options["recipe"]
    panel = panel_of(model, recipe)
    writer: ModelSection | None = None
    if recipe:
        writer = load_recipe(recipe).model.policy
    elif model and panel:
        [writer] = panel.judges.values()
    elif gold.run_id:
        run = Warehouse(options["warehouse"]).find_run(gold.run_id)
        panel, writer = Panel.of_run(run).on(run), recipe_of(run).model.policy
    if options["writer"]:
        named = options["writer"]
        writer = FakeModel(engine="fake") if named == "fake" else TransformersModel(engine="transformers", model=named)
    if panel is None or writer is None:
        raise InputError(f"--gold {gold.source}: nothing says who judges", hint="give --model, or --recipe FILE")
    return Roles(panel, writer)


def _told(done: Done, old: Constitution) -> Iterator[str]:
    gold = done.gold
    left = {"ties": gold.ties, "without two texts": gold.unvotable, "said both ways": gold.contrary}
    out = ", ".join(f"{count:,} {why}" for why, count in left.items() if count)
    yield f"{old.label}: {len(gold.pairs):,} pairs with gold from {gold.source}" + (f"; not used: {out}" if out else "")
    yield from aligned([_HEADING, *map(_row, done.improved.trials)], right=())
    for trial in done.improved.trials:
        yield from _why(trial, done)
    if kept := [trial for trial in done.improved.trials if trial.kept]:
        yield ""
        yield render_diff(old, done.improved.revised)
        right = [sum(each.right for each in side) for side in zip(*done.examples, strict=True)]
        if right:
            yield f"their own examples judged rightly: {right[0]} before, {right[1]} after, of {len(done.examples)}"
        if done.impact:
            yield f"labels that flip with {len(kept)} new wordings: {_share(done.impact.flips)}"
    if done.torn:
        yield f"a reply that was not whole was taken off replies.jsonl: {brief(done.torn, 100)}"
    if done.said:
        yield done.said
    yield f"{done.asked:,} requests, {done.kept:,} answered from what was kept"


def _row(trial: Trial) -> tuple[str, ...]:
    usable = sum(not each.wording.fault for each in trial.tried)
    return (
        trial.principle.id,
        trial.about or "-",
        str(len(trial.selection) + len(trial.held_out)),
        _share(trial.agreement) if trial.agreement else "-",
        f"{usable} of {len(trial.tried)}" if trial.tried else "-",
        str(len(trial.held_out)),
        _rise(trial.rise) if trial.rise else "-",
        "-" if trial.p_holm is None else f"{trial.p_holm:.3f}",
        trial.decision or "",
    )


def _why(trial: Trial, done: Done) -> Iterator[str]:
    said = [trial.note] if trial.decision != "none better" else []
    said += [f"{trial.missing} pairs without a vote"] if trial.missing else []
    said += [f"the same test as on {trial.repeated}, its result repeated"] if trial.repeated else []
    said += [f"the writer failed: {each}" for each in trial.failed]
    said += notes_of(trial, done) if trial.kept else []
    faults = [each.wording.fault for each in trial.tried if each.wording.fault]
    said += [f"a wording falls: {fault}" for fault in dict.fromkeys(faults)]
    if said:
        yield printable(f"{trial.principle.id}: {'; '.join(said)}")


def _share(found: Estimate) -> str:
    if found.value is None:
        return "-"
    interval = "" if found.low is None or found.high is None else f" ({100 * found.low:.0f} to {100 * found.high:.0f})"
    return f"{100 * found.value:.0f} %{interval}"


def _rise(found: Estimate) -> str:
    if found.value is None or found.low is None or found.high is None:
        return "-"
    return f"{100 * found.value:+.0f} ({100 * found.low:+.0f} to {100 * found.high:+.0f})"
