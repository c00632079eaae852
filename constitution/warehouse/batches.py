"""Where a run's engines keep notes of the batches that they sent, and what came back, until the run is finished:
batches/<run_id>, and batches/<run_id>.3of16 of a shard."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from constitution.records import Shard
from constitution.warehouse import files


def folder_of(root: Path, run_id: str, shard: Shard | None = None) -> Path:
    """It need not exist."""
    return root / "batches" / (f"{run_id}.{shard.name}" if shard else run_id)


def folders(root: Path, run_id: str) -> list[Path]:
    """Those that there are, of the run and of its shards."""
    found = [folder_of(root, run_id), *sorted((root / "batches").glob(f"{run_id}.*of*"))]
    return [folder for folder in found if folder.is_dir()]


def hand_over(root: Path, run_id: str, of: int) -> None:
    """Makes the notes of other shards those of each of `of` shards, or, with 0, of the run as a whole, holding its lock
    alone: whose prompts a batch has is not known of it. One that may not have been sent goes to the first alone, or
    each would send it. Killed meanwhile, it can be done again; `forget_others` deletes what was handed over."""
    to = [folder_of(root, run_id, Shard(number, of)) for number in range(1, of + 1)] or [folder_of(root, run_id)]
    for folder in folders(root, run_id):
        if folder in to:
            continue
        # Results first: a note with none is asked for once more.
        for path in sorted(folder.iterdir(), key=lambda path: path.suffix != ".jsonl"):
            if not path.name.startswith("."):
                _link(path, to if _sent(path) else to[:1])


def forget_others(root: Path, run_id: str, of: int) -> None:
    """Deletes the notes that `hand_over` gave to these; of a run that is finished, `forget` deletes all."""
    to = {folder_of(root, run_id, Shard(number, of)) for number in range(1, of + 1)} or {folder_of(root, run_id)}
    _remove(root, (folder for folder in folders(root, run_id) if folder not in to))


def forget(root: Path, run_id: str) -> None:
    """All that was in them is in rows."""
    _remove(root, folders(root, run_id))


def _sent(path: Path) -> bool:
    """Whether it is what came back, or a note that names its batch."""
    return path.suffix != ".json" or b'"batch":""' not in path.read_bytes()


def _link(path: Path, to: Iterable[Path]) -> None:
    for folder in to:
        with files.storing(folder):
            files.make_folder(folder)
            with suppress(FileExistsError):
                os.link(path, folder / path.name)
            files.sync_folder(folder)


def _remove(root: Path, found: Iterable[Path]) -> None:
    for folder in found:
        with files.storing(folder):
            files.remove_tree(folder)
    with suppress(OSError):  # others' are in it, or there was none
        (root / "batches").rmdir()
