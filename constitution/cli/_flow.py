"""Which flow `constitution run` runs: code, so only of a project that the user is in or names, never the recipe's."""

from __future__ import annotations

import importlib.util
import os
import stat
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import click

from constitution.cli.init import shipped
from constitution.errors import InputError

PREFECT = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # A flow without a server starts one of its own; on a fresh home that takes longer than Prefect's own limit of 20 s.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    # Errors are told by us, in one sentence; with a server, its UI has the logs all the same.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
}
"""Set before Prefect is imported, unless the user has set them."""

PROJECT = "CONSTITUTION_PROJECT"
"""The folder of the user's project, also for prefect.yaml."""
MARKS = ("prefect.yaml", "principles")
"""One of these lies beside flows/ in a project."""
FLOW = Path("flows") / "generate.py"

Flow = Callable[..., Coroutine[Any, Any, Any]]


def load_flow(named: Path | None, recipe: Path) -> Flow:
    """`generate` from the file that `flow_file` finds. Where the recipe's own project has another flow, it says so."""
    path = flow_file(named)
    beside = next((folder / FLOW for folder in recipe.absolute().parents if (folder / FLOW).is_file()), path)
    if named is None and beside.resolve() != path.resolve():
        click.echo(f"{beside} is not run: a recipe brings no code. If you trust it: --flow {beside}", err=True)
    for name, value in PREFECT.items():
        os.environ.setdefault(name, value)
    spec = importlib.util.spec_from_file_location("generate", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["generate"] = module
    try:
        spec.loader.exec_module(module)
        return cast(Flow, module.generate)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise InputError(
            f"{path}: has no flow `generate` that can be loaded: {error}",
            hint="mend it, or take the file away: the package brings one",
        ) from error


def flow_file(named: Path | None) -> Path:
    """The named file; or that of CONSTITUTION_PROJECT, of the nearest project at or above the working directory, of the
    package. Raises InputError for a project without flow that the variable names, and for a project that is found
    and that others can write: it may not be the user's at all."""
    if named is not None:
        return named
    if project := os.environ.get(PROJECT):
        path = Path(project).expanduser() / FLOW
        if not path.is_file():
            raise InputError(f"{PROJECT}: there is no {path}", hint="name your project's folder, or unset it")
        return path
    here = Path.cwd()
    for folder in (here, *here.parents):
        path = folder / FLOW
        if path.is_file() and any((folder / mark).exists() for mark in MARKS):
            _check_ours(path)
            return path
    return shipped() / FLOW


def _check_ours(path: Path) -> None:
    """As git does before it runs what a repository says (safe.directory)."""
    for each in (path, path.parent):
        found = each.stat()
        if found.st_uid not in (os.getuid(), 0):
            raise InputError(f"{each}: belongs to another user", hint=f"if you trust its code, add --flow {path}")
        if found.st_mode & stat.S_IWOTH:
            raise InputError(f"{each}: every user can write to it", hint=f"`chmod o-w {each}`, or add --flow {path}")
