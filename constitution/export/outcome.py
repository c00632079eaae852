"""What an export is made of, and what became of its candidates."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

from constitution.identity import digest


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def contents_of(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """What a manifest lists: the files of the data, and the one that tells a trainer of them, where there is one."""
    return [*manifest["files"], *([manifest["info"]] if "info" in manifest else [])]


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
    sha256: str = ""

    @property
    def pattern(self) -> str:
        """The paths of all files of its config and split."""
        return re.sub(r"[0-9]{5}-of-[0-9]{5}", "*", self.path)


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
    lacks: str = ""
    """kto: good or bad, where no row is; else empty."""

    @property
    def rows(self) -> dict[str, int]:
        """Split → rows."""
        counted: Counter[str] = Counter()
        for file in self.files:
            counted[file.split] += file.rows
        return dict(counted)

    @property
    def digest(self) -> str:
        """What is in all files, as one digest."""
        return digest([file.sha256 for file in self.files])

    @property
    def candidates(self) -> int:
        return sum(self.rows.values()) + sum(self.dropped.values())
