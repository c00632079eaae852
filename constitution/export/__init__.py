"""Data sets that trainers load, made of a run: chosen, cleaned, split, written, described.

    done = export(Path("warehouse"), run_id, Settings(format="dpo"), Path("data/dpo"))
    done.rows, done.dropped

formats (the columns) → settings (what is asked for) → candidates (what there is, and the filters) → clean (duplicates,
contamination, …) → write (split and files) → sides (lengths, rewards) → card (README.md) → push (to a hub).
docs/export.md explains each.
"""

from __future__ import annotations

from pathlib import Path

from constitution.export.outcome import Exported
from constitution.export.settings import CardOptions, Cleaning, Settings

__all__ = ["CardOptions", "Cleaning", "Exported", "Settings", "export"]


def export(
    root: Path,
    run_id: str,
    settings: Settings,
    out: Path,
    *,
    card: CardOptions | None = None,
    overwrite: bool = False,
) -> Exported:
    """Makes the data set that `settings` asks for of the run, in the new folder `out`.

    `out` is made beside its place and renamed: it is there whole or not at all. Every candidate ends in the table
    `exported`, with its split or the reason that it was dropped. The same run and settings give the same bytes. An
    open run is exported as far as it is. overwrite: an export that is there gives way; anything else never does.

    Raises InputError where there is no such run, where nothing is left to write or `out` is taken,
    DamagedPart where the run's rows are not what was written.
    """
    from constitution.export.make import make  # with DuckDB and Arrow, which take their time to load

    return make(root, run_id, settings, out, card or CardOptions(), overwrite)
