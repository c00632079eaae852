"""Where things are written, and by whom: names for files that are not yet what they are to be; what is no folder."""

from __future__ import annotations

import getpass
import os
import re
import socket
from os import PathLike, fspath
from pathlib import Path
from secrets import token_hex

from constitution.errors import InputError
from constitution.shown import printable

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)


def beside(path: Path) -> Path:
    """A name beside `path` for what takes its place once it is whole. It begins with a dot and ends in .tmp, so that no
    glob finds it, and cannot be guessed: a link that waits under it would have another file written."""
    return path.with_name(f".{path.name}.{token_hex(8)}.tmp")


def user() -> str:
    """Who runs this process: the name of the account, or its number where it has none, as in a container."""
    try:
        return printable(getpass.getuser())
    except (OSError, KeyError):
        return str(os.getuid())


def author() -> str:
    """The same, and on which machine: `ann@gpu-7`."""
    return f"{user()}@{printable(socket.gethostname())}"


def cache() -> Path:
    """The user's folder for what can be made again: CONSTITUTION_CACHE, or by the XDG Base Directory Specification."""
    if own := os.environ.get("CONSTITUTION_CACHE"):
        return Path(own).absolute()
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(folder if os.path.isabs(folder) else os.devnull) / "constitution"


def address(where: str | PathLike[str]) -> tuple[str, str]:
    """The scheme of an address, in small letters, and what comes after `://`; two empty strings for a folder's name. A
    Path has lost one of the two slashes."""
    found = _ADDRESS.fullmatch(fspath(where))
    return (found[1].lower(), found[2]) if found else ("", "")


def local(folder: Path) -> Path:
    """`folder`. Raises InputError for an address (s3://…, file://…), which a Path takes for a folder `s3:`, and for a
    backslash or a question mark in its path: DuckDB takes one for a /, and the other for the end of a file's name."""
    if folder.parts and _SCHEME.fullmatch(folder.parts[0]):
        address = f"{folder.parts[0]}//{'/'.join(folder.parts[1:])}"
        raise InputError(
            f"{address}: is an address, and a warehouse is a folder of this machine",
            hint="give a folder, for example --warehouse warehouse; copy it to the address when the run is finished",
        )
    path = f"{folder.absolute()}{folder.resolve()}"
    for sign, what in (("\\", "a backslash, which DuckDB takes for a /"), ("?", "a ?, which ends a name for DuckDB")):
        if sign in path:
            raise InputError(
                f"{folder}: its path has {what}",
                hint="rename the folder of that name, or give a warehouse elsewhere",
            )
    return folder
