"""Runs and objects deleted from a warehouse at an address.

A process that is alive holds the lease of what it writes, and who deletes holds all of a run's. So no object is taken
that is just being put, however old a list is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from secrets import token_hex

from constitution.warehouse.remote.manifest import FOLDER, MAIN, Manifest, key, named
from constitution.warehouse.remote.writing import Remote
from constitution.warehouse.schema import TABLES


def now(remote: Remote) -> float:
    """The store's clock, in seconds since 1970."""
    return remote.objects.clock(f"{FOLDER}/.clock-{token_hex(8)}").timestamp()


def unnamed(remote: Remote, run_id: str, keys: Iterable[str]) -> list[str]:
    """Those of the run's parts that no manifest names; all of a run that has neither a record nor a part."""
    counted = named(remote.manifests(run_id))
    if not counted and remote.objects.get(f"runs/{run_id}.json") is None:
        return list(keys)
    parts = {f"{table}/{run_id}/{name}" for table, of in counted.items() for name in of}
    return [each for each in keys if each not in parts and each.split("/")[0] in TABLES]


def remove(remote: Remote, run_id: str) -> None:
    """The run, whose leases are held. First its record goes, then what is said of it, then, in one step, all its rows;
    what they were is deleted after that, and last the manifest that the lease is in. Killed after the first step, the
    next that removes the run does the rest."""
    main = key(run_id, MAIN)
    written = _named_ever(remote.manifests(run_id))
    remote.delete([remote.root / "runs" / f"{run_id}.json"])
    remote.objects.delete([key(run_id, writer) for writer in written if writer != MAIN])
    remote.change_held(run_id, lambda manifest: replace(manifest, parts={}, absorbed={}, writers=()))
    folders = (*TABLES, "shards", FOLDER)
    listed = [each.key for folder in folders for each in remote.objects.listed(f"{folder}/{run_id}")]
    keys = dict.fromkeys([*(f"{table}/{run_id}/{name}" for of in written.values() for table, name in of), *listed])
    remote.objects.delete([each for each in keys if each != main])
    remote.objects.delete([main])


def _named_ever(manifests: dict[str, Manifest]) -> dict[str, list[tuple[str, str]]]:
    """By writer the tables and names of all parts, those too that count no more."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for writer, manifest in manifests.items():
        found[writer] += [(table, name) for table, parts in manifest.parts.items() for name in parts]
    return found
