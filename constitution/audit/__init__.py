"""How far a run's labels can be trusted: every figure of an audit, and the page that shows them.

    figures = audit(Path("warehouse"), run_id)

The TOML files say what each figure is; evidence puts the run's votes into tables; the module that a
section names measures its figures; the warehouse keeps them in the table `figures`; report and summary show them.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from constitution.audit.evidence import load
from constitution.audit.figures import measured
from constitution.audit.tags import Tags
from constitution.records import Figure
from constitution.warehouse import Warehouse

AUDITED = ("preferences", "rewards")
"""Tables in one of which a run has rows that is audited where none is named: the newest."""


def audit(
    root: Path,
    run_id: str,
    *,
    replicates: int = 1000,
    scorecard: str = "",
    tags: Tags | None = None,
    sections: Collection[str] = (),
) -> list[Figure]:
    """All figures of the run, written to the warehouse in place of those of its last audit. sections: by their names in
    figures.toml, those whose figures alone are made, which are not written; empty: all.

    A figure that cannot be measured has value None and a note that says what it would take. replicates: of each
    bootstrap. scorecard: name@version of the one whose scores are used; empty: the last that was asked. tags: which
    prompts are harmless, look harmful, are harmful; None: those of the last audit. An open run is audited as far as it
    is. Raises WarehouseError where there is no such run, DamagedPart where its rows are not what was written.
    """
    Warehouse(root).check(run_id)
    evidence = load(root, run_id, replicates=replicates, scorecard=scorecard, tags=tags)
    try:
        figures = list(measured(evidence, sections))
    finally:
        evidence.connection.close()
    if not sections:
        Warehouse(root).write_figures(run_id, figures)
    return figures


__all__ = ["AUDITED", "Tags", "audit"]
