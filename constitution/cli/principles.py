"""`constitution principles`: thin commands over `constitution.principles`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import fill
from typing import Any, TypeVar

import click

from constitution import principles as library
from constitution.cli._lazy import LazyGroup
from constitution.errors import PrincipleError
from constitution.records import Constitution, Messages, Principle
from constitution.shown import brief, printable, printable_lines
from constitution.templates.wording import check_wordings

F = TypeVar("F", bound=Callable[..., Any])


def root_option(command: F) -> F:
    option = click.option(
        "--root",
        type=click.Path(file_okay=False, path_type=Path),
        help="The principles folder.  [default: the nearest principles/, here or above]",
    )
    return option(command)


def root_of(root: Path | None) -> Path:
    """The folder that --root names, or else the nearest."""
    return root.resolve() if root else library.find_root(Path.cwd())


@click.group(
    cls=LazyGroup,
    lazy={
        "new": ("constitution.cli.principles_write:new", "Begin a constitution."),
        "import": ("constitution.cli.principles_write:import_command", "Turn files of principles into a constitution."),
        "templates": ("constitution.cli.principles_write:templates", "Write the templates out, to be translated."),
        "extract": ("constitution.cli.principles_extract:extract_command", "Draft principles from a document."),
        "accept": ("constitution.cli.principles_extract:accept_command", "Write a draft version from proposals."),
        "test": ("constitution.cli.principles_judge:test", "Put each principle's own examples to a judge."),
        "improve": ("constitution.cli.principles_improve:improve_command", "Propose wordings, tried on people's gold."),
        "values": ("constitution.cli.principles_values:values_command", "The values that bear on texts."),
        "induce": ("constitution.cli.principles_induce:induce_command", "Find principles that explain preferences."),
        "impact": ("constitution.cli.principles_impact:impact_command", "Which labels flip under another version."),
    },
    context_settings={"help_option_names": ["-h", "--help"]},
)
def principles() -> None:
    """Principles as code: versioned files that are checked, tested, locked, compared.

    Example:  constitution principles check
    """


@principles.command("list")
@root_option
def list_command(root: Path | None) -> None:
    """List constitutions: version, number of principles, state, digest.

    States: draft (not locked yet), locked, changed (locked, then edited).

    Example:  constitution principles list
    """
    root = root_of(root)
    lock = library.Lock.read(root)
    rows: list[tuple[str, ...]] = [("constitution", "principles", "revise", "compare", "exemplars", "state", "digest")]
    for name in library.names(root):
        for version in library.versions(root, name):
            state = library.status(root, name, version, lock)
            try:
                each = library.read_constitution(root / name / f"{version}.toml")
            except PrincipleError:
                rows.append((f"{name}@{version}", "-", "-", "-", "-", state, "cannot be read: see check"))
                continue
            revise, compare = sum(p.revises for p in each.principles), sum(p.compares for p in each.principles)
            counts = map(str, (len(each.principles), revise, compare, len(each.exemplars)))
            rows.append((f"{name}@{version}", *counts, state, each.digest[:12]))
    for line in aligned(rows, right=range(1, 5)):
        click.echo(line)


def aligned(rows: Sequence[Sequence[str]], right: Collection[int]) -> Iterator[str]:
    """Rows, the heading among them, as lines of columns; those in `right`, counted from 0, are set to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        columns = enumerate(zip(row, widths, strict=True))
        padded = (cell.rjust(width) if place in right else cell.ljust(width) for place, (cell, width) in columns)
        yield printable("  ".join(padded).rstrip())


@principles.command()
@click.argument("constitution", metavar="NAME[@VERSION]")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
@root_option
def show(constitution: str, as_json: bool, root: Path | None) -> None:
    """Show a constitution, the highest version unless one is named.

    Example:  constitution principles show general@1.0.0
    """
    root = root_of(root)
    name, version = library.resolve(root, constitution)
    found = library.read_constitution(root / name / f"{version}.toml")
    state = library.status(root, name, version, library.Lock.read(root))
    if as_json:
        data = {**asdict(found), "digest": found.digest, "state": state}
        click.echo(json.dumps(data, ensure_ascii=False, indent=2))
        return
    click.echo(click.style(found.label, bold=True) + f"  {state}  {found.digest[:12]}")
    click.echo(_wrapped(found.description))
    for label in ("source", "license", "language", "translation_of"):
        if getattr(found, label):
            click.echo(f"{label}: {printable(getattr(found, label))}")
    _show_exemplars(found)
    for principle in found.principles:
        _show_principle(principle)


def _wrapped(text: str, indent: str = "", first: str | None = None) -> str:
    return printable_lines(
        fill(text, 100, initial_indent=first if first is not None else indent, subsequent_indent=indent)
    )


def _show_texts(heading: str, notes: str, texts: Iterable[tuple[str, str]]) -> None:
    """A heading, and below it each text that there is, wrapped beside its label."""
    click.echo("\n" + click.style(heading, bold=True) + notes)
    for label, text in texts:
        if text:
            click.echo(_wrapped(text, " " * 12, f"  {label:<10}"))


def _show_principle(principle: Principle) -> None:
    notes = [f"weight {principle.weight:g}"] + ([printable(", ".join(principle.tags))] if principle.tags else [])
    if principle.exemplars:
        notes.append(f"{len(principle.exemplars)} exemplars for it alone")
    texts = [
        ("critique", principle.critique_request),
        ("revise", principle.revision_request),
        ("compare", principle.comparison_question),
        ("source", principle.source),
        ("quote", principle.quote),
        ("clauses", ", ".join(principle.clauses)),
    ]
    for criterion in principle.criteria:
        kind = f", {criterion.kind}" if criterion.kind else ""
        texts.append(
            ("criterion", f"{criterion.question} ({criterion.good} is good, weight {criterion.weight:g}{kind})")
        )
    for example in principle.examples:
        texts += [("prompt", _last(example.messages)), ("better", example.better), ("worse", example.worse)]
    _show_texts(principle.id, f"  ({'; '.join(notes)})", texts)


def _show_exemplars(constitution: Constitution) -> None:
    for number, exemplar in enumerate(constitution.exemplars, start=1):
        texts = [
            ("prompt", _last(exemplar.messages)),
            ("response", exemplar.response),
            ("critique", exemplar.critique),
            ("revision", exemplar.revision),
        ]
        unchanged = " (left unchanged)" if exemplar.revision == exemplar.response else ""
        _show_texts(f"exemplar {number}", unchanged, texts)


def _last(messages: Messages) -> str:
    more = f" (after {len(messages) - 1} earlier turns)" if len(messages) > 1 else ""
    return messages[-1].content + more


def report(findings: Sequence[library.Finding | str]) -> None:
    """Prints findings, one a line, and ends with exit code 1 if there are any."""
    if findings:
        for finding in findings:
            click.echo(printable(brief(str(finding))))
        click.echo(f"{len(findings)} finding{'s' if len(findings) > 1 else ''}", err=True)
        sys.exit(1)


@principles.command()
@click.argument("constitutions", nargs=-1, metavar="[NAME[@VERSION]|FILE]...")
@root_option
def check(constitutions: tuple[str, ...], root: Path | None) -> None:
    """Find every fault of every constitution, of the lock and of templates/; or of the constitutions named.

    Words are looked through in English, German, French, Spanish, Russian and Chinese, by the file's `language`; of a
    file in another a line says so. Exit code 1 if there are any findings.

    Example:  constitution principles check general
    """
    only = list(constitutions)
    for place, named in enumerate(only):
        if named.endswith(".toml"):  # principles/<name>/<version>.toml
            path = Path(named).resolve()
            root, only[place] = root or path.parent.parent, f"{path.parent.name}@{path.name.removesuffix('.toml')}"
    root = root_of(root)
    wrong, known = check_wordings(root.parent) if not only else ([], [])
    for note in (*library.notes(root, only), *known):
        click.echo(printable(f"note: {brief(str(note))}"))
    report([*library.check(root, only), *wrong])
    count = len(library.files_of(root, only))
    click.echo(f"{count} constitution{'s' if count != 1 else ''} checked, nothing to report")


@principles.command()
@click.argument("constitutions", nargs=-1, metavar="[NAME[@VERSION]]...")
@root_option
def lock(constitutions: tuple[str, ...], root: Path | None) -> None:
    """Lock drafts: a locked file must not change any more.

    All drafts, or those that are named. Exit code 1, and nothing locked, if the check finds anything.

    Example:  constitution principles lock
    """
    added, findings = library.lock(root_of(root), constitutions)
    report(findings)
    for label in added:
        click.echo(f"locked {label}")
    if not added:
        click.echo("nothing to lock: there is no draft")


@principles.command()
@click.argument("constitution", metavar="NAME[@VERSION]")
@click.option("--major", "level", flag_value="major", help="1.2.3 to 2.0.0")
@click.option("--minor", "level", flag_value="minor", default="minor", help="1.2.3 to 1.3.0  [default]")
@click.option("--patch", "level", flag_value="patch", help="1.2.3 to 1.2.4")
@root_option
def bump(constitution: str, level: library.Level, root: Path | None) -> None:
    """Write the next version of a constitution, as a draft.

    A locked file that you edited becomes the next version, and gets its locked text back; without an edit, the highest
    version is copied.

    Example:  constitution principles bump general --patch
    """
    root = root_of(root)
    done = library.bump(root, constitution, level)
    name = done.path.parent.name
    label = f"{root.name}/{name}/{done.version}.toml"
    if done.restored:
        click.echo(f"{label}: written from your edit of {done.base}; {done.base} has its locked text again")
    else:
        click.echo(f"{label}: written as a copy of {done.base}; edit it")
    click.echo(f"Next: constitution principles diff {name}@{done.base} {name}@{done.version}, check, lock")


@principles.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--json", "as_json", is_flag=True, help="Print the changes as a JSON list.")
@root_option
def diff(a: str, b: str, as_json: bool, root: Path | None) -> None:
    """Compare two constitutions, principle by principle; of a translation, what is not translated.

    A and B are NAME, NAME@VERSION or a .toml file. Exit code 1 if they differ, or something is not translated.

    Example:  constitution principles diff general@1.0.0 general@1.1.0
    """
    one, other = either(a, root), either(b, root)
    changes = library.changes_between(one, other)
    if as_json:
        click.echo(json.dumps([asdict(change) for change in changes], ensure_ascii=False, indent=2))
    else:
        click.echo(library.render_diff(one, other, color=True))  # click drops the colour where there is no terminal
    sys.exit(1 if changes else 0)


def either(text: str, root: Path | None) -> Constitution:
    """The constitution NAME, NAME@VERSION or in a .toml file, whatever the lock says of it."""
    if text.endswith(".toml"):
        return library.read_constitution(Path(text))
    folder = root_of(root)
    name, version = library.resolve(folder, text)
    return library.read_constitution(folder / name / f"{version}.toml", f"{folder.name}/{name}/{version}.toml")
