"""Where a warehouse is, as people say it: a folder, or an address.

    place("file:///data/warehouse")  # that folder
    place("s3://bucket/warehouse")   # the folder through which that one is read and written

manifest (what counts) → objects (the store) → lease (who writes) → reading, writing → mirror (the folder).
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from urllib.parse import unquote

from constitution.errors import InputError
from constitution.writing import address, local

__all__ = ["addressed", "place"]

_PLACED: dict[str, str] = {}
"""The address of each mirror that this process uses, by its folder."""


def place(where: str | PathLike[str]) -> Path:
    """The folder of the warehouse at `where`: a folder's name, or an address that begins with file://. One at s3://,
    gs:// or az:// has a mirror here, in the user's cache or where CONSTITUTION_CACHE says (mirror.py).

    Raises InputError for another address, and for a path that DuckDB cannot read (`constitution.writing.local`).
    """
    scheme, rest = address(where)
    if not scheme:
        return local(Path(where))
    if scheme != "file":
        from constitution.warehouse.remote.mirror import mirror_of  # with all that reads and writes: 0.3 s
        from constitution.warehouse.remote.objects import normal

        url = normal(scheme, rest)
        root = local(mirror_of(url))
        _PLACED[str(root)] = url
        return root
    host, slash, path = ("", "/", rest) if str(where)[7:8] == "/" or not isinstance(where, str) else rest.partition("/")
    if host not in ("", "localhost") or not slash:
        raise InputError(
            f"{where}: names the machine {host or rest}", hint="an address of this machine begins with file:///"
        )
    return local(Path("/" + unquote(path)))


def addressed(text: object) -> str:
    """`text` with the addresses of warehouses in place of the folders of their mirrors, for people to read and type."""
    said = str(text)
    for root, url in _PLACED.items():
        said = said.replace(root, url)
    return said
