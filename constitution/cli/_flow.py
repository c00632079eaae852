"""Which flow `constitution run` runs: code, so only of a project that the user is in or names, never the recipe's; and
whether Prefect runs it."""

from __future__ import annotations

import importlib.util
import os
import re
import stat
import sys
from collections.abc import Callable, Coroutine
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, cast

import click

from constitution.cli.init import shipped
from constitution.errors import InputError
from constitution.scheduling import plainly

PREFECT = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Without a configured API Prefect starts a server; on a fresh home that takes longer than its own limit of 20 s.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    # Errors are reported by us, in one sentence; with a server, its UI has the logs all the same.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
}
"""Set before Prefect is imported, unless the user has set them."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")

PROJECT = "CONSTITUTION_PROJECT"
"""The folder of the user's project, also for prefect.yaml."""
MARKS = ("prefect.yaml", "principles")
"""One of these lies beside flows/ in a project."""
FLOW = Path("flows") / "generate.py"
_API = re.compile(r"PREFECT_API_URL|tool\.prefect|\[api|\bapi\b.*url", re.IGNORECASE)
"""In a file that Prefect takes settings from: it may name an API."""

Flow = Callable[..., Coroutine[Any, Any, Any]]


def with_prefect(wanted: bool) -> bool:
    """Whether Prefect runs the flow: where it is `wanted`, or has an API configured. Then the environment is as it
    needs it. Raises InputError where its folder cannot be written."""
    for name, value in PREFECT.items():
        os.environ.setdefault(name, value)
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    if not (wanted or os.environ.get("PREFECT_API_URL") or _has_profile(home)):
        return False
    if any(name.lower() in ("http_proxy", "https_proxy", "all_proxy") for name in os.environ):
        # Its server may be on this machine, to which no proxy leads.
        hosts = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(filter(None, (hosts, *LOOPBACK)))
    there = next(folder for folder in (home, *home.absolute().parents) if folder.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise InputError(f"Prefect's folder {home} cannot be written", hint="name another in PREFECT_HOME")
    return True


def _has_profile(home: Path) -> bool:
    """Whether a file that Prefect takes settings from names an API: by its own reading, for which it is imported only
    where one of them may."""
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    for path in (profiles, Path("prefect.toml"), Path("pyproject.toml"), Path(".env")):
        with suppress(OSError):
            if _API.search(path.read_text(encoding="utf-8", errors="ignore")):
                from prefect.settings import get_current_settings

                return get_current_settings().api.url is not None
    return False


def load_flow(named: Path | None, recipe: Path, prefect: bool) -> Flow:
    """`generate` from the file that `flow_file` finds: Prefect's flow, or without `prefect` the plain function. Where
    the recipe's own project has another flow, it says so."""
    path = flow_file(named)
    beside = next((folder / FLOW for folder in recipe.absolute().parents if (folder / FLOW).is_file()), path)
    if named is None and beside.resolve() != path.resolve():
        click.echo(f"{beside} is not run: a recipe brings no code. If you trust it: --flow {beside}", err=True)
    spec = importlib.util.spec_from_file_location("generate", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["generate"] = module
    try:
        with nullcontext() if prefect else plainly():
            spec.loader.exec_module(module)
        return cast(Flow, module.generate)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise InputError(
            f"{path}: has no flow `generate` that can be loaded: {error}",
            hint="correct it, or remove the file: the package brings one"
            if named is None
            else "--flow takes one like flows/generate.py; others, as flows/scale.py, run by `prefect deployment run`",
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
