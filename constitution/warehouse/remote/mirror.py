"""The local folder through which a warehouse at an address is read and written: a warehouse itself.

The object of a file has the file's path in the warehouse for its key. What counts is in the manifests (manifest.py);
the folder holds what was written or asked for here, and is brought in line with them before a run is written or read.

    CACHE/constitution/warehouses/<name>/address.json       the address, and an id of this mirror
                                        /locks/<run_id>/    one file a writer, locked while a process of this machine
                                                            is it, and one for bringing the run in line
                                        /warehouse/         the folder
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from secrets import token_hex

from constitution.errors import WarehouseError
from constitution.warehouse.remote.objects import Objects
from constitution.warehouse.remote.writing import Remote
from constitution.writing import beside, cache

ADDRESS = "address.json"
WAREHOUSE = "warehouse"

_open: dict[tuple[int, Path], Remote] = {}


def mirror_of(url: str) -> Path:
    """The folder of the mirror of the warehouse at `url`, of its normal form; noted, and not made."""
    objects = Objects(url)
    digest = sha256(json.dumps([url, sorted(objects.place.items())]).encode()).hexdigest()
    home = cache() / "warehouses" / f"{re.sub('[^A-Za-z0-9]+', '-', url)[-60:].strip('-')}-{digest[:16]}"
    path = home / ADDRESS
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            temporary = beside(path)
            temporary.write_text(json.dumps({"schema": 1, "url": url, "mirror": token_hex(16)}), encoding="utf-8")
            with suppress(FileExistsError):  # another process was first
                os.link(temporary, path)
            temporary.unlink()
    except OSError as error:
        raise WarehouseError(
            f"{home}: the mirror of {url} cannot be made: {error.strerror or error}",
            hint="CONSTITUTION_CACHE names a folder for it; it holds copies of the parts that are read and written",
        ) from None
    return home / WAREHOUSE


def of(root: Path) -> Remote | None:
    """The warehouse at an address whose mirror `root` is; None: it is a folder and no mirror."""
    home = root.absolute().parent
    path = home / ADDRESS
    if root.name != WAREHOUSE or not path.is_file():
        return None
    found = _open.get((os.getpid(), path))
    if found is None:
        about = json.loads(path.read_text(encoding="utf-8"))
        found = _open[os.getpid(), path] = Remote(root.absolute(), about["url"], about["mirror"])
    return found
