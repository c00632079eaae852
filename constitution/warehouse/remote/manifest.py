"""What one writer of a run has written: writers/<run_id>/<writer>.json, the object that its parts count by.

A writer is `main` (the run as a whole), a shard (`3of16`), or one of what is said of a run: `annotations`, `figures`,
`exported`, `scores` (and counterfactuals). A part counts once a manifest names it, with its SHA-256 and size; objects
that no manifest names are what a kill or a writer that was given up left.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from secrets import token_hex
from typing import Any, NamedTuple

from constitution.errors import DamagedPart, WarehouseError
from constitution.warehouse.checksums import Sum
from constitution.warehouse.convert import NOTE_TABLES
from constitution.writing import user

FOLDER = "writers"
SCHEMA = 1
MAIN = "main"
SCORES = "scores"
SHARD = re.compile(r"([0-9]+)of([0-9]+)")
_PART = re.compile(r"part-([0-9]+of[0-9]+)-[0-9]+\.parquet")

OWNERS = {**{name: name for name in NOTE_TABLES}, "exported": "exported", "scores": SCORES, "counterfactuals": SCORES}
"""Whose the parts of a table are that has no shards; main's, where it is not here."""


class Named(NamedTuple):
    """A part that a manifest names."""

    sum: Sum
    epoch: int
    """What the manifest's was when it was named."""


Parts = Mapping[str, Mapping[str, Named]]
"""By table and by the part's name."""


def owner(table: str, part: str = "") -> str:
    """The writer whose manifest names the part."""
    found = _PART.fullmatch(part)
    return found[1] if found else OWNERS.get(table, MAIN)


def key(run_id: str, writer: str) -> str:
    return f"{FOLDER}/{run_id}/{writer}.json"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who writes now."""

    token: str
    """Another each time."""
    mirror: str
    """The mirror that it writes through; two processes that use it exclude each other by a lock there."""
    host: str
    process: int
    user: str
    begins: bool = False
    """It is a shard that has the run as a whole for a while, to mend what was left."""

    @classmethod
    def me(cls, mirror: str, begins: bool = False) -> Holder:
        return cls(token_hex(8), mirror, socket.gethostname(), os.getpid(), user(), begins)

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}" + (f" ({self.user})" if self.user else "")


@dataclass(frozen=True, slots=True)
class Manifest:
    run_id: str
    writer: str
    sequence: int = 0
    """One more at each change, so that no two contents are the same."""
    epoch: int = 0
    """One more each time that a process begins to write."""
    holder: Holder | None = None
    """None: no process writes."""
    lease: float = 60.0
    """Seconds after its last change for which the holder is taken to be alive, by the store's clock."""
    writers: tuple[str, ...] = ()
    """In main: the shards that ever wrote the run, which lists may not show yet."""
    absorbed: Mapping[str, int] = field(default_factory=dict)
    """Shards whose parts of this writer's tables have been taken over, with the epoch up to which: they count no more
    in the shard's own manifest."""
    parts: Parts = field(default_factory=dict)

    def encode(self) -> bytes:
        return json.dumps({"schema": SCHEMA, **asdict(self)}, separators=(",", ":")).encode()

    def having(self, table: str, name: str, sum: Sum) -> Manifest:
        """With this part, too."""
        return replace(self, parts={**self.parts, table: {**self.parts.get(table, {}), name: Named(sum, self.epoch)}})

    def without(self, table: str, name: str) -> Manifest:
        return self._with({table: {each: part for each, part in self.parts.get(table, {}).items() if each != name}})

    def holding(self, tables: Mapping[str, Mapping[str, Sum]]) -> Manifest:
        """With these tables as they are given, in place of what they had."""
        return self._with(
            {table: {name: Named(sum, self.epoch) for name, sum in parts.items()} for table, parts in tables.items()}
        )

    def _with(self, tables: Parts) -> Manifest:
        return replace(self, parts={name: parts for name, parts in {**self.parts, **tables}.items() if parts})


def decode(data: bytes, label: str) -> Manifest:
    """Raises DamagedPart for what is none, WarehouseError for another version's."""
    try:
        found: dict[str, Any] = json.loads(data)
        if (schema := found.pop("schema")) != SCHEMA:
            raise WarehouseError(
                f"{label}: has layout {schema}, this version reads {SCHEMA}",
                hint="use the version of constitution that wrote it",
            )
        found["holder"] = Holder(**found["holder"]) if found["holder"] else None
        found["writers"] = tuple(found["writers"])
        found["parts"] = {
            table: {name: Named(Sum(str(sum[0]), int(sum[1])), int(epoch)) for name, (sum, epoch) in parts.items()}
            for table, parts in found["parts"].items()
        }
        return Manifest(**found)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedPart(f"{label}: cannot be read as a manifest: {error}") from None


def named(manifests: Mapping[str, Manifest]) -> dict[str, dict[str, Sum]]:
    """All parts that count, by table and name. manifests: of one run, by writer."""
    found: dict[str, dict[str, Sum]] = {}
    for writer, manifest in manifests.items():
        for table, parts in manifest.parts.items():
            owning = manifests.get(owner(table))
            until = owning.absorbed.get(writer, -1) if owning else -1
            if counts := {name: part.sum for name, part in parts.items() if part.epoch > until}:
                found.setdefault(table, {}).update(counts)
    return found


def another_s(own: str, writer: str) -> bool:
    """Whether the parts of this writer have no row of the prompts of `own`: both are shards, of the same number."""
    one, other = SHARD.fullmatch(own), SHARD.fullmatch(writer)
    return bool(one and other and one[2] == other[2] and own != writer)


def said(writer: str) -> str:
    """Before who it is, in words."""
    return f"shard {writer.replace('of', '/')}, " if SHARD.fullmatch(writer) else ""
