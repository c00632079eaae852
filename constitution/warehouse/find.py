"""Which run is meant."""

from __future__ import annotations

from constitution.errors import InputError
from constitution.records import Run
from constitution.warehouse.store import Warehouse

MOST = 10
"""Ids that a message lists; the newest."""


def find_run(warehouse: Warehouse, run_id: str | None, having: str = "preferences") -> Run:
    """The run of this id, or the one whose id begins so; None: the newest that has rows in the table `having`.

    Raises InputError where there is none, or where several ids begin so.
    """
    known = warehouse.runs()
    if run_id is None:
        able = [run for run in known if warehouse.parts(having, run.run_id)]
        if not able:
            judged = ", from a recipe with a [judge] section" if having in ("preferences", "judgements") else ""
            raise InputError(f"{warehouse.root}: no run has {having}", hint=f"`constitution run` makes some{judged}")
        return able[-1]
    found = [run for run in known if run.run_id == run_id] or [run for run in known if run.run_id.startswith(run_id)]
    if len(found) > 1:
        ids = [run.run_id for run in found]
        more = f", and {len(ids) - MOST} more" if len(ids) > MOST else ""
        raise InputError(f"{run_id}: {len(found)} runs begin so", hint=f"one of {', '.join(ids[-MOST:])}{more}")
    if not found:
        raise InputError(f"{run_id}: there is no such run", hint="`constitution runs` lists them")
    return found[0]
