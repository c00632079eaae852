"""What an export is made of, and what became of its candidates."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class DataFile:
    path: str
    """Beneath the export's folder, with `/`."""
    split: str
    """train or test."""
    rows: int
    config: str = "default"
    """Format robust: the folder's name, e.g. eps-0.07."""
    epsilon: float | None = None
    """Format robust: the mean of 1 − p_chosen over the config's rows; None: another format."""


@dataclass(frozen=True)
class Exported:
    out: Path
    export_id: str
    run_id: str
    finished: bool
    """False: the run was open, and what it had by then was exported."""
    files: tuple[DataFile, ...]
    dropped: dict[str, int]
    """Drop reason → candidates, in the order in which the steps ran."""

    @property
    def rows(self) -> dict[str, int]:
        """Split → rows."""
        counted: Counter[str] = Counter()
        for file in self.files:
            counted[file.split] += file.rows
        return dict(counted)

    @property
    def candidates(self) -> int:
        return sum(self.rows.values()) + sum(self.dropped.values())
