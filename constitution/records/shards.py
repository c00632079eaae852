"""The share of a run that one process works, where several work it at once."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Self

from constitution.errors import InputError
from constitution.records.runs import Usage

MOST = 10_000
"""Shards of a run."""
_TEXT = re.compile(r"([1-9][0-9]{0,4})/([1-9][0-9]{0,4})")


@dataclass(frozen=True, slots=True, order=True)
class Shard:
    """One of the shares that a run is dealt into; its text is `3/16`."""

    number: int
    """From 1 to `of`."""
    of: int
    """How many shards there are, at most MOST."""

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of <= MOST:
            raise InputError(
                f"shard {self}: there is no such shard",
                hint=f"they are counted from 1: 1/16 … 16/16, of {MOST:,} at most",
            )

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def name(self) -> str:
        """In names of files: `3of16`."""
        return f"{self.number}of{self.of}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises InputError for what is no shard."""
        if not (match := _TEXT.fullmatch(text.strip())):
            raise InputError(f"{text!r} is no shard", hint="say which one, and of how many: 3/16")
        return cls(int(match[1]), int(match[2]))


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """What one shard of a run has done, over all its starts. Stored as shards/<run_id>/<number>of<of>.json; while it
    works, rewritten every ten seconds."""

    run_id: str
    number: int
    """From 1; 0: what the run had been worked in otherwise, as a whole or in another number of shards, when it was
    dealt into these. That one has no counts and no usage: they are of rows, which the shards count."""
    of: int
    """Into how many shards the run is dealt."""
    host: str
    """Where it was worked last."""
    process: int
    """Its id there."""
    user: str
    """Whose process that was."""
    started_at: str
    """UTC, ISO 8601; of the first start."""
    beat_at: str
    """UTC: when this was written."""
    ended_at: str | None = None
    """UTC: when it came to the end of its prompts. None: not yet."""
    stopped: str = ""
    """As `Run.stopped`."""
    starts: int = 1
    """How often it was started."""
    seconds: float = 0.0
    """Wall time over all starts, without loading models."""
    counts: dict[str, int] = field(default_factory=dict)
    """As `Run.counts`, of this shard's prompts: all rows that there are of them, by any writer."""
    usage: tuple[Usage, ...] = ()
    """The same of calls and tokens."""
    engines: dict[str, dict[str, Any]] = field(default_factory=dict)
    """As `Run.engines`, over the shard's starts."""
    models: dict[str, dict[str, str]] = field(default_factory=dict)
    """As `Run.models`."""
    cost: float | None = None
    """Tokens of `usage` and accelerator hours, at the prices of the last start's recipe; None: it has no prices."""

    @property
    def shard(self) -> Shard:
        return Shard(self.number, self.of)

    @property
    def author(self) -> str:
        """As `Run.authors` has one."""
        return f"{self.user}@{self.host}"
