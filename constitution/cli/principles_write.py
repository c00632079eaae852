"""`constitution principles new`, `import` and `templates`: files to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from constitution import principles as library
from constitution.cli.principles import report, root_of, root_option
from constitution.cli.principles_extract import proposals_option
from constitution.errors import PrincipleError
from constitution.propose.collective import propose_statements, support_of
from constitution.propose.file import FILE, folder_of
from constitution.shown import brief, printable
from constitution.templates.wording import FOLDER, start_wording

MOST_SHOWN = 10
"""Statements that the import of a poll prints."""


def _root_to_write(root: Path | None) -> Path:
    """The folder that --root names, or else the nearest; `principles` here where there is none yet."""
    try:
        return root_of(root)
    except PrincipleError:
        return Path.cwd() / "principles"


@click.command()
@click.argument("name", metavar="NAME")
@click.option("--version", default="1.0.0", show_default=True, help="Its version.")
@root_option
def new(name: str, version: str, root: Path | None) -> None:
    """Begin a constitution: one principle that runs as it is, and comments on the rest.

    Nothing is overwritten.

    Example:  constitution principles new kind
    """
    root = _root_to_write(root)
    library.new_constitution(root, name, version)
    click.echo(f"{root.name}/{name}/{version}.toml: written; edit it")
    click.echo(f"Next: constitution principles check {name}")


@click.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Name of the new constitution.")
@click.option("--version", default="1.0.0", show_default=True, help="Its version.")
@click.option("--source", default="", help="Where the files come from: a paper, an address.")
@click.option("--license", default="", help="Their license.")
@click.option("--language", default="", metavar="TAG", help="Of their words: en, de, fr, es, ru or zh.  [default: en]")
@click.option("--column", default="", metavar="NAME", help="Column of a table that holds the principles.")
@click.option("--ignore", default="", metavar="NAME,NAME", help="Columns of a table that are not read.")
@click.option("--votes", type=click.Path(path_type=Path), help="Votes on a table's statements: makes proposals.")
@proposals_option
@root_option
def import_command(
    files: tuple[Path, ...],
    name: str,
    version: str,
    root: Path | None,
    source: str,
    license: str,
    **how: Any,
) -> None:
    """Turn files of principles into a constitution.

    Published files of Constitutional AI; or one principle a line (.txt), an item (.md), a row (.csv, .tsv) or an entry
    (.json, .jsonl). Files given together become one constitution. Nothing is overwritten. Exit code 1 if the check
    finds anything in the result.

    With --votes, FILE is a table of statements and a person accepts what becomes a principle: Polis's comments.csv and
    participants-votes.csv, or tables like them (docs/principles.md). Those that all groups agree on come first.

    Example:  constitution principles import rules.txt --name rules
    """
    root = _root_to_write(root)
    if how["votes"]:
        if len(files) > 1:
            raise click.UsageError("--votes are on the statements of one file")
        _propose(files[0], how["votes"], folder_of(root, name, how["proposals"]), library.How(how["language"]))
        return
    ignored = tuple(each.strip() for each in how["ignore"].split(",") if each.strip())
    done = library.import_files(
        files,
        root,
        name,
        version,
        source=source,
        license=license,
        how=library.How(how["language"], how["column"], ignored),
    )
    found = library.read_constitution(done.path)
    label = f"{root.name}/{name}/{version}.toml"
    click.echo(f"{label}: {len(found.principles)} principles, {len(found.exemplars)} shared exemplars")
    for note in done.notes:
        click.echo(printable(brief(note)))
    report([finding for finding in library.check(root) if finding.file == label])


def _propose(statements: Path, votes: Path, folder: Path, how: library.How) -> None:
    poll, notes = propose_statements(statements, votes, folder, how)
    click.echo(f"{folder.name}/{FILE}: {len(poll.statements)} statements, votes of {poll.people} people")
    for each in poll.statements[:MOST_SHOWN]:
        click.echo(f"  {printable(brief(each.text, 90))}")
        click.echo(f"    statement {printable(each.id)}: {printable(support_of(each, poll.groups))}")
    if len(poll.statements) > MOST_SHOWN:
        click.echo(f"  and {len(poll.statements) - MOST_SHOWN} more in the file")
    for note in notes:
        click.echo(printable(brief(note)))
    click.echo(f"Next: edit it, then constitution principles accept {folder.name} --only ID")


@click.command()
@click.argument("name", metavar="NAME")
@root_option
def templates(name: str, root: Path | None) -> None:
    """Write the texts around the principles' words into templates/NAME, to be translated.

    A recipe with templates = NAME uses them. Files that exist are not changed.

    Example:  constitution principles templates german
    """
    written, left = start_wording(root_of(root).parent, name)
    kept = f", {len(left)} left as they were" if left else ""
    click.echo(f"{FOLDER}/{name}: {len(written)} files written{kept}")
    click.echo(f'Next: translate them, constitution principles check, and templates = "{name}" in the recipe')
