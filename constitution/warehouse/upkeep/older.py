"""What was called otherwise in warehouses of older versions."""

from __future__ import annotations

from typing import Any

FOLDERS = {"annotations": ("annotations", "labels")}
"""A table's folder now, and the names that it had."""

RENAMED = {"responses": {"infraction": "perturbation"}}
"""Columns: what they were called, and are."""

WORDS = {
    "responses": {"kind": {"variant": "perturbation"}},
    "preferences": {"kind": {"infraction": "perturbation"}, "drop_reason": {"probe": "perturbation"}},
    "exported": {"drop_reason": {"probe": "perturbation"}},
    "failures": {"step": {f"variant-{kind}": f"perturbation-{kind}" for kind in ("polished", "terse", "sarcastic")}},
}
"""Values of columns that had other words while `infraction` was one: none of the old ones is used for
anything else."""
STAGES = {"variant": "perturbation"}
"""The same of a record's usage."""


def recipe(was: dict[str, Any]) -> dict[str, Any]:
    """A record's recipe with the present names of its sections."""
    judge = was.get("judge")
    if not judge or "infractions" not in judge:
        return was
    spoiling = judge["infractions"]
    now = was | {"judge": {name: value for name, value in judge.items() if name != "infractions"}}
    return now | {"perturb": spoiling} if spoiling else now
