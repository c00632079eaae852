"""Which held-out pairs have been spent: a wording that is chosen and tried on them a second time would be chosen by
them (Dwork et al. 2015, "The Reusable Holdout", Science 349).

The file proposals/<name>/spent.jsonl has a line a test, written before its votes are cast, so that a test that is
killed is spent too. All proposals of a project are read: another name for the proposals buys no second test.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from constitution.errors import InputError

FILE = "spent.jsonl"


@dataclass(frozen=True, slots=True)
class Spent:
    """One test of a wording on held-out pairs."""

    constitution: str
    principle_id: str
    call: str
    """Digest of what decides the test but for the writer: the old wording, gold, judges, settings."""
    old: str
    """Digest of what the old wording asks; `new`: of the one that was tried."""
    new: str
    pairs: tuple[str, ...]
    """`GoldPair.key` of each."""
    at: str = ""
    """When, UTC."""


def read_spent(proposals: Path) -> list[Spent]:
    """Those of all folders in `proposals`, in which a last line that is not whole is left out: its test was never
    made. Raises InputError for a line that is none."""
    return [each for path in sorted(proposals.glob(f"*/{FILE}")) for each in _read(path)]


def _read(path: Path) -> list[Spent]:
    data = path.read_bytes()
    found = []
    for number, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), 1):
        try:
            row = json.loads(line)
            found.append(Spent(**{**row, "pairs": tuple(row["pairs"])}))
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{path}, line {number}: is no record of a test ({type(error).__name__})",
                hint="put the line back as it was (git has it): without it pairs would count as unseen that are not",
            ) from None
    return found


def write_spent(folder: Path, tests: Sequence[Spent]) -> None:
    """Adds the tests to the folder's file; on the disk when this returns."""
    path, now = folder / FILE, datetime.now(UTC).isoformat(timespec="seconds")
    with path.open("a+b") as file:
        file.seek(0)
        data = file.read()
        file.truncate(data.rfind(b"\n") + 1)
        for test in tests:
            file.write(json.dumps({**asdict(test), "at": now}).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
