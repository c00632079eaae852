"""What the shards of a run share as they work: small files of JSON, shards/<run_id>/<name>.json, changed by one process
at a time."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from constitution.errors import DamagedPart
from constitution.warehouse import files

AGAIN = "the first shard of the next start writes it again"


def path_of(root: Path, run_id: str, name: str) -> Path:
    return root / "shards" / run_id / f"{name}.json"


def read(root: Path, run_id: str, name: str) -> dict[str, Any]:
    """Empty: there is none. Raises DamagedPart for what cannot be read."""
    path = path_of(root, run_id, name)
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise DamagedPart(f"{path}: cannot be read: {error}", hint=AGAIN) from None
    if not isinstance(found, dict):
        raise DamagedPart(f"{path}: is no object of JSON", hint=AGAIN)
    return found


def change(root: Path, run_id: str, name: str, how: Callable[[dict[str, Any]], Mapping[str, Any]]) -> dict[str, Any]:
    """What `how` makes of what `read` gives, stored; and returned."""
    path = path_of(root, run_id, name)
    with files.storing(path):
        for folder in (path.parent.parent, path.parent):
            files.make_folder(folder)
        lock = os.open(path.with_suffix(".lock"), files.OPEN, 0o644)
    try:
        with files.storing(path):
            fcntl.flock(lock, fcntl.LOCK_EX)
        found = dict(how(read(root, run_id, name)))
        write(root, run_id, name, found)
    finally:
        os.close(lock)
    return found


def write(root: Path, run_id: str, name: str, content: Mapping[str, Any]) -> None:
    """In place of what is there."""
    path = path_of(root, run_id, name)
    with files.storing(path):
        for folder in (path.parent.parent, path.parent):
            files.make_folder(folder)
    with files.replacing(path) as file:
        file.write(json.dumps(content, indent=1, allow_nan=False).encode())
