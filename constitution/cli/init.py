"""`constitution init`: a project of one's own, from the files that ship with the package."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import click

from constitution.errors import InputError

PARTS = ("principles", "flows", "recipes", "prefect.yaml")

IGNORED = """\
# What runs write, and keys: large, made again by a command, or secret.
/warehouse/
/exports/
/data/
/report.html
*.duckdb
*.duckdb.wal
.env
.env.*
*.key
*.pem
__pycache__/
.prefect/
"""
"""The project's .gitignore."""

PACKAGE = Path(__file__).parent.parent


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
def init(directory: Path) -> None:
    """Start a project in DIR: principles/, flows/, recipes/, prefect.yaml, .gitignore.

    Files that exist already are not changed.

    \b
    Example:
      constitution init my-project
    """
    source = shipped()
    made = kept = 0
    for path in _files(source):
        target = directory / path.relative_to(source)
        if target.exists():
            kept += 1
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)  # with its permissions: a script stays one
        made += 1
    ignored = directory / ".gitignore"
    if ignored.exists():
        kept += 1
    else:
        ignored.write_text(IGNORED, encoding="utf-8")
        made += 1
    click.echo(f"{directory}: {made} files written" + (f", {kept} left as they were" if kept else ""))
    there = "" if directory.resolve() == Path.cwd() else f"cd {shlex.quote(str(directory))} && "
    click.echo(f"Next: {there}constitution run recipes/fake.toml")


def shipped() -> Path:
    """The folder that holds the project's files: in the package of a wheel, beside it in a source tree."""
    for folder in (PACKAGE / "project", PACKAGE.parent):
        if all((folder / part).exists() for part in PARTS):
            return folder
    raise InputError(
        "this installation has no project files", hint="install the package again, from a wheel or a clone"
    )


def _files(source: Path) -> Iterator[Path]:
    for part in PARTS:
        path = source / part
        found = [path] if path.is_file() else sorted(path.rglob("*"))
        yield from (file for file in found if file.is_file() and "__pycache__" not in file.parts)
