"""`constitution principles values`: the values, rights and duties in situations and texts, as tags and as drafts."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from constitution.ask.questions import opened
from constitution.cli.principles import aligned, root_of, root_option
from constitution.engines.identity import model_identity
from constitution.errors import InputError
from constitution.pipeline.path_policy import allowed_folders, check_models
from constitution.principles.files import replace_file
from constitution.prompts import read_prompts
from constitution.propose.file import FILE, Proposal, Proposals, folder_of
from constitution.propose.gold import section_of
from constitution.propose.improving import keep
from constitution.propose.merging import Merged, merge
from constitution.propose.replies import Replies
from constitution.propose.valued import fault_of, note_of, principle_of, tagged, tags_of, value_lines
from constitution.propose.values import MOST, Listed, list_values
from constitution.recipe import FakeModel, ModelSection, TransformersModel, load_recipe
from constitution.records import Prompt
from constitution.shown import printable

SHOWN = 20


@click.command("values")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--model", help="Who lists them: fake, or a folder or hub name for transformers.")
@click.option("--recipe", type=click.Path(path_type=Path, dir_okay=False), help="Its [model.policy] lists them.")
@click.option("--name", help="Of the proposals.  [default: the file's name]")
@click.option("--proposals", type=click.Path(file_okay=False, path_type=Path), help="Default: beside principles/.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The texts with tags, as prompts (JSONL).")
@click.option("--relevance", type=click.IntRange(0, 100), default=50, show_default=True, help="Of a tag, at least.")
@click.option("--at-least", type=click.IntRange(min=1), default=2, show_default=True, help="Texts, for a draft.")
@click.option("--drafts", type=click.IntRange(min=0), default=10, show_default=True, help="Draft principles, at most.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@root_option
def values_command(file: Path, **options: Any) -> None:
    """List the values, rights and duties that bear on the texts of FILE, with the words that each rests on.

    FILE is read as prompts are (`prompts inspect`), or is a recipe whose [prompts] reads them. The commonest become
    proposals for `principles accept`; --out has the texts with tags. Exit code 1: a text has no list.

    Example:  constitution principles values situations.jsonl --recipe recipes/kind.toml --out tagged.jsonl
    """
    section = _model(options["model"], options["recipe"])
    if (out := options["out"]) and out.exists():
        raise InputError(f"--out {out}: is there already, and nothing is overwritten", hint="name another file")
    folder = _folder(file, options)
    read, base = section_of(file)
    prompts = list(read_prompts(read, base))
    folder.mkdir(parents=True, exist_ok=True)
    listed = asyncio.run(_list(section, prompts, folder, options["seed"]))
    merged = merge(listed.found)
    replace_file(folder / "values.jsonl", "".join(f"{line}\n" for line in value_lines(merged)).encode())
    drafts = _drafts(merged, file, options["at_least"], options["drafts"])
    said = keep(folder, Proposals("values", document=folder.name, proposals=tuple(drafts)))
    tags = tags_of(merged, options["relevance"])
    if out:
        replace_file(out, "".join(f"{line}\n" for line in tagged(prompts, tags)).encode())
    _tell(listed, merged, drafts, folder)
    if said:
        click.echo(printable(said))
    if out:
        click.echo(
            f"{printable(str(out))}: {len(prompts):,} prompts, {len(tags):,} with tags of a relevance of "
            f'{options["relevance"]} or more; in a recipe: path = "{printable(out.name)}", tags_field = "tags"'
        )
    sys.exit(1 if listed.failed else 0)


def _model(model: str | None, recipe: Path | None) -> ModelSection:
    if bool(model) == bool(recipe):
        raise click.UsageError("say who lists the values: --model or --recipe, one of them")
    if recipe:
        found = load_recipe(recipe)
        check_models(found, allowed_folders(recipe))
        return found.model.policy
    return FakeModel(engine="fake") if model == "fake" else TransformersModel(engine="transformers", model=str(model))


def _folder(file: Path, options: dict[str, Any]) -> Path:
    name = options["name"] or "".join(c if c.isalnum() and c.isascii() else "-" for c in file.stem.lower()).strip("-")
    if not name:
        raise InputError(f"{file}: no name can be made of the file's", hint="give --name")
    return folder_of(root_of(options["root"]), name, options["proposals"])


async def _list(section: ModelSection, prompts: Sequence[Prompt], folder: Path, seed: int) -> Listed:
    with Replies.open(folder / "replies.jsonl") as replies:
        async with opened(section) as engine:
            return await list_values(replies.of(engine, model_identity(section)), prompts, seed=seed)


def _drafts(merged: Sequence[Merged], file: Path, least: int, most: int) -> list[Proposal]:
    """The commonest, none of them under an id that another has."""
    found: dict[str, Proposal] = {}
    for each in merged:
        if each.texts < least or len(found) == most:
            continue
        principle = principle_of(each, file.name)
        found.setdefault(principle.id, Proposal(principle, note=note_of(each), fault=fault_of(principle)))
    return list(found.values())


def _tell(listed: Listed, merged: Sequence[Merged], drafts: Sequence[Proposal], folder: Path) -> None:
    heading = ("value", "kind", "texts", "supports", "opposes", "either", "merged names")
    rows = [
        (each.name, each.kind, str(each.texts), *(str(each.valences()[side]) for side in heading[3:6]),
         each.called())
        for each in merged[:SHOWN]
    ]  # fmt: skip
    for line in aligned([heading, *rows], right=range(2, 6)):
        click.echo(line)
    if len(merged) > SHOWN:
        click.echo(f"{len(merged) - SHOWN:,} more are in values.jsonl")
    click.echo(f"{listed.texts:,} texts, {len(listed.found):,} values in them, {len(merged):,} after merging")
    for why, count in Counter(reason.partition(": ")[0] for _, reason in listed.fallen).most_common():
        click.echo(f"{count:,} items fell: {printable(why)}")
    for source, why in listed.failed[:5]:
        click.echo(f"no list of {printable(source)}: {why}")
    if len(listed.failed) > 5:
        click.echo(f"and {len(listed.failed) - 5:,} more texts without a list")
    click.echo(f"{len(drafts)} drafts in {printable(str(folder / FILE))}; `values.jsonl` has every value")
    if len(listed.found) < MOST and listed.texts > MOST:
        click.echo("fewer values than texts can give: look at what fell, or name another model")
