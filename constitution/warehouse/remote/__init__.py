"""Where a warehouse is, as people say it: a folder, or an address.

root = place("file:///data/warehouse")        # the folder
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from urllib.parse import unquote

from constitution.errors import InputError
from constitution.writing import address, local

__all__ = ["place"]


def place(where: str | PathLike[str]) -> Path:
    """The folder of the warehouse at `where`: a folder's name, or an address that begins with file://.

    Raises InputError for another address, and for a path that DuckDB cannot read (`constitution.writing.local`).
    """
    scheme, rest = address(where)
    if scheme != "file":
        return local(Path(where))
    host, slash, path = ("", "/", rest) if str(where)[7:8] == "/" or not isinstance(where, str) else rest.partition("/")
    if host not in ("", "localhost") or not slash:
        raise InputError(
            f"{where}: names the machine {host or rest}", hint="an address of this machine begins with file:///"
        )
    return local(Path("/" + unquote(path)))
