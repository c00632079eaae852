"""`constitution principles extract` and `accept`: principles drafted from a document, and what people take of them."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from constitution.cli.principles import root_of, root_option
from constitution.documents import read_document
from constitution.errors import PrincipleError
from constitution.pipeline.path_policy import allowed_folders, check_models
from constitution.propose.accept import Accepted, accept
from constitution.propose.drafts import MAX_TOKENS
from constitution.propose.extracting import Extracted, Settings, extracting, settings_of
from constitution.propose.file import folder_of
from constitution.recipe import FakeModel, ModelSection, Recipe, TransformersModel, load_recipe
from constitution.shown import brief, printable

SHOWN = 5
"""Ids on a line, at most."""
proposals_option = click.option(
    "--proposals",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of proposals.  [default: proposals/ beside principles/]",
)


def _root(root: Path | None) -> Path:
    try:
        return root_of(root)
    except PrincipleError:
        return Path.cwd() / "principles"


@click.command("extract")
@click.argument("document", metavar="DOC", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Of the proposals, and of the constitution that they begin.")
@click.option("--constitution", metavar="NAME[@VERSION]", help="That they change instead.")
@click.option("--model", help="Who writes: fake, or a folder or hub name for transformers.")
@click.option(
    "--recipe", type=click.Path(path_type=Path, dir_okay=False), help="Ask its [model.policy], within its budget."
)
@click.option("--edition", default="", help="Label of the document's edition.")
@click.option("--language", default="", metavar="TAG", help="Of the document: en, de, fr, es, ru or zh.  [default: en]")
@click.option("--limit", type=click.IntRange(1), help="Clauses to ask about at most, in this start.")
@click.option("--pairs", type=click.IntRange(0), default=100, show_default=True, help="Pairs of drafts to compare.")
@click.option("--max-tokens", type=click.IntRange(1), default=MAX_TOKENS, show_default=True, help="Of a reply.")
@click.option("--accept", "accepted", metavar="all|ID,ID", help="Write a draft version from these.")
@click.option("--seed", default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
@proposals_option
@root_option
def extract_command(document: Path, name: str, **options: Any) -> None:
    """Draft principles from a document, clause by clause, as proposals for people to accept.

    The same command resumes: nothing is asked twice, and what failed is asked again. A changed document under the same
    name is another edition: only changed clauses are asked. Exit code 1 if a clause failed.

    Example:  constitution principles extract charter.md --name charter --model fake
    """
    root = _root(options["root"])
    folder = folder_of(root, name, options["proposals"])
    recipe = load_recipe(options["recipe"]) if options["recipe"] else None
    section = _writer(options, recipe)
    found = read_document(document)
    settings = _settings(root, name, options, recipe)
    done = asyncio.run(extracting(found, folder, section, settings))
    if options["as_json"]:
        click.echo(json.dumps(_as_json(done), ensure_ascii=False, indent=2))
    else:
        for line in _told(done, folder):
            click.echo(printable(line))
    if options["accepted"]:
        every = options["accepted"] == "all"
        ids = () if every else tuple(filter(None, map(str.strip, options["accepted"].split(","))))
        _show_accepted(accept(root, folder, ids, every=every), quiet=options["as_json"])
    elif done.proposals.proposals and not options["as_json"]:
        click.echo(f"Next: edit {folder.parent.name}/{name}/proposals.toml, constitution principles accept {name}")
    sys.exit(1 if done.failed else 0)


def _writer(options: dict[str, Any], recipe: Recipe | None) -> ModelSection:
    if options["model"] and recipe:
        raise click.UsageError("--model and --recipe both say who writes; give one of them")
    if recipe:
        check_models(recipe, allowed_folders(options["recipe"]))
        return recipe.model.policy
    if not options["model"]:
        raise click.UsageError("say who writes: --model fake, a folder or hub name, or --recipe FILE")
    model = options["model"]
    return FakeModel(engine="fake") if model == "fake" else TransformersModel(engine="transformers", model=model)


def _settings(root: Path, name: str, options: dict[str, Any], recipe: Recipe | None) -> Settings:
    asked = {key: options[key] for key in ("language", "edition", "seed", "limit", "pairs", "max_tokens")}
    return settings_of(root, name, options["constitution"] or "", recipe, **asked)


def _told(done: Extracted, folder: Path) -> Iterator[str]:
    found = done.proposals
    for message in done.messages:
        yield f"note: {message}"
    document = done.document
    yield f"{document.name}: {document.format}, {len(document.clauses)} clauses, {done.taken} of them answered before"
    if document.dropped:
        counts = Counter(each.reason for each in document.dropped)
        yield f"not read as clauses: {', '.join(f'{count} {reason}' for reason, count in counts.items())}"
    if done.changes:
        counts = Counter(change.kind for change in done.changes)
        yield f"another edition: {', '.join(f'{count} {kind}' for kind, count in counts.items())}"
    for note in found.notes:
        if note.kind == "change" and done.changes:
            yield f"  {note.text}" + (f"; follow: {', '.join(note.ids)}" if note.ids else "")
    faulty = [each for each in found.proposals if each.fault]
    counts = Counter(each.status for each in found.proposals)
    statuses = ", ".join(f"{count} {status}" for status, count in counts.items())
    yield f"{len(found.proposals)} proposals" + (f": {statuses}; {len(faulty)} with a fault" if statuses else "")
    for each in faulty:
        yield f"  {each.id}: {brief(each.fault, 200)}"
    yield f"{len(found.undrafted)} clauses without a draft, or drafts that were rejected"
    for gap in found.undrafted:
        yield f"  {gap.clause}: {brief(gap.reason, 200)}"
    for kind in ("duplicate", "contradiction"):
        notes = [note for note in found.notes if note.kind == kind]
        yield f"{len(notes)} {kind}s" + (":" if notes else "")
        yield from (f"  {' and '.join(note.ids)} {note.text}" for note in notes)
    related, compared = done.pairs
    unread = f"; {done.unread} without a verdict" if done.unread else ""
    yield f"{compared} of {related} pairs with common words compared{unread}"
    cost = f", {done.cost:.4f} by tokens" if done.cost else ""
    used = f"tokens {done.tokens[0]:,} in, {done.tokens[1]:,} out{cost}"
    yield f"{done.asked} requests, {done.kept} answered from what was kept; {used}"
    if done.failed:
        yield f"{len(done.failed)} clauses failed; the same command asks them again"


def _as_json(done: Extracted) -> dict[str, Any]:
    document = {name: getattr(done.document, name) for name in ("name", "format", "digest")}
    return {
        "document": {**document, "clauses": len(done.document.clauses)},
        "proposals": asdict(done.proposals),
        "failed": [asdict(each) for each in done.failed],
        "changes": [{"kind": each.kind, "old": each.old and each.old.id, "new": each.new and each.new.id}
                    for each in done.changes],
        "pairs": {"related": done.pairs[0], "compared": done.pairs[1], "unread": done.unread},
        "requests": {"asked": done.asked, "kept": done.kept, "tokens": done.tokens, "cost": done.cost},
        "messages": done.messages,
    }  # fmt: skip


@click.command("accept")
@click.argument("name", metavar="NAME")
@click.option("--only", multiple=True, metavar="ID", help="This proposal alone; can be given again.")
@click.option("--all", "every", is_flag=True, help="All without a fault that are not refused.")
@proposals_option
@root_option
def accept_command(name: str, only: tuple[str, ...], every: bool, proposals: Path | None, root: Path | None) -> None:
    """Write a draft version from proposals: those that proposals.toml says are accepted, or those named here.

    No locked file is touched, and nothing is accepted twice. Exit code 1 if the check finds anything in the draft.

    Example:  constitution principles accept charter --only charter-3-2
    """
    if only and every:
        raise click.UsageError("--only and --all exclude each other")
    root = _root(root)
    _show_accepted(accept(root, folder_of(root, name, proposals), only, every=every))


def _show_accepted(done: Accepted, *, quiet: bool = False) -> None:
    for id, why in done.left:
        click.echo(printable(f"not accepted, {id}: {brief(why, 200)}"), err=quiet)
    for draft in dict.fromkeys(draft for _, draft in done.before):
        ids = [id for id, own in done.before if own == draft]
        named = ", ".join(ids) if len(ids) <= SHOWN else f"{len(ids)} proposals"
        click.echo(printable(f"in {draft} already: {named}"), err=quiet)
    for note in done.notes:
        click.echo(printable(f"note: {note}"), err=quiet)
    if done.path is None:
        click.echo(
            "nothing to accept" + ("" if done.before or done.notes else ": no proposal says accepted"), err=quiet
        )
        return
    counts = {"added": done.added, "replaced": done.replaced, "taken out": done.removed}
    told = ", ".join(f"{len(ids)} {what}" for what, ids in counts.items() if ids)
    click.echo(f"{done.label}: a draft, {told}" + (f"; from {done.base}" if done.base else ""), err=quiet)
    name = shlex.quote(done.label)
    for finding in done.findings:
        click.echo(printable(brief(str(finding))), err=quiet)
    if done.findings:
        sys.exit(1)
    diff = f"diff {done.base} {name}, " if done.base else ""
    click.echo(f"Next: constitution principles {diff}check {name}, lock {name}", err=quiet)
