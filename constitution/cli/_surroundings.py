"""What libraries of ours stumble over around a process: a proxy before this machine itself, a home that takes no files.

The servers that a recipe names are reached without any of this: the openai engine asks no environment for a proxy.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

import click

from constitution.errors import InputError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
"""In any case: `HTTP_PROXY` and `http_proxy` are the same to httpx, by which Prefect and the hub are asked."""
NOWHERE = "http://127.0.0.1:9"
"""A proxy that takes nothing."""
CACHES = {
    "PREFECT_HOME": "prefect",
    "PREFECT_MEMO_STORE_PATH": "prefect/memo_store.toml",
    "MPLCONFIGDIR": "matplotlib",
    "XDG_CACHE_HOME": "cache",
}
"""Where libraries write, below a temporary home; torch, vLLM and the hub's library go by the last."""


def prepare(command: str | None) -> None:
    """To be called before a library reads the environment, which is changed for this process and those it starts.
    Raises InputError where the user names a folder for Prefect that cannot be written, and the command needs it."""
    reach_loopback(os.environ)
    named = os.environ.get("PREFECT_HOME")
    if named and command == "run" and (why := _unwritable(Path(named).expanduser())):
        raise InputError(
            f"PREFECT_HOME: {named} cannot be written ({why})", hint="name a folder that you can write to, or unset it"
        )
    lend_home(os.environ)


def reach_loopback(environ: MutableMapping[str, str]) -> None:
    """Where there is a proxy, keeps it out of the way to this machine: Prefect's own server is here. What the user
    excepts from it stays excepted, and any other address is reached as before."""
    proxies = [name for name in environ if name.lower() in PROXIES and environ[name]]
    if not proxies:
        return
    spelled = [name for name in environ if name.lower() == "no_proxy"]
    # In small letters it wins over any other spelling.
    said = environ.get("no_proxy") or next((environ[name] for name in spelled if environ[name]), "")
    for name in {"no_proxy", "NO_PROXY", *spelled}:
        hosts = [host.strip() for host in (environ.get(name) or said).split(",") if host.strip()]
        environ[name] = ",".join([*hosts, *(host for host in LOOPBACK if host not in hosts)])
    for name in proxies:
        scheme = environ[name].partition("://")[0].lower() if "://" in environ[name] else "http"
        if scheme in ("http", "https") or (scheme in ("socks5", "socks5h") and importlib.util.find_spec("socksio")):
            continue
        # httpx raises for it, whatever it is asked. To go round the proxy instead would be a leak.
        environ[name] = NOWHERE
        click.echo(
            f"{name}: httpx cannot use a proxy of {scheme}:// (for SOCKS: `pip install socksio`), so Prefect and the "
            "hub reach this machine alone; the servers that the recipe names are reached as ever",
            err=True,
        )


def lend_home(environ: MutableMapping[str, str]) -> None:
    """Where the home folder cannot be written, or is not known, a temporary one for what libraries keep there: caches,
    settings, Prefect's database. It is gone when the process ends. What the user has named elsewhere stays there."""
    home = Path(os.path.expanduser("~"))
    known = home.is_absolute()
    if known and not _unwritable(home):
        return
    if all(environ.get(name) for name in CACHES):
        return
    lent = Path(tempfile.mkdtemp(prefix="constitution-home-"))
    atexit.register(shutil.rmtree, lent, ignore_errors=True)
    hub = home / ".cache" / "huggingface"
    if known and hub.is_dir():
        environ.setdefault("HF_HOME", str(hub))  # what is there can be read
    for name, folder in CACHES.items():
        environ.setdefault(name, str(lent / folder))
    if not known:
        environ["HOME"] = str(lent)
        environ.setdefault("USER", f"user-{os.getuid()}")
    whose = str(home) if known else "your home folder, which is not known,"
    click.echo(f"{whose} cannot be written: what libraries keep there is lost at the end of this command", err=True)


def _unwritable(folder: Path) -> str:
    """Why no file can be made in `folder`, which needs not be there yet; empty: one can."""
    try:
        there = next(each for each in (folder, *folder.parents) if each.exists())
        with tempfile.TemporaryFile(dir=there):
            return ""
    except OSError as error:
        return error.strerror or type(error).__name__
