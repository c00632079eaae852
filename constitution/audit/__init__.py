"""How far a run's labels can be trusted: every number of an audit, and the page that shows them.

    figures = audit(Path("warehouse"), run_id)

evidence lays the run's votes out, each module below makes figures of them, and the warehouse keeps them in the table
`figures`, which docs/judging.md explains.

    counts · position · style · gold · selves · rubric · drift · rounds · scorecard · scorecard_checks

The last two have figures only where a scorecard was asked: asking puts its questions, swaps answers counterfactual
prompts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from constitution.audit import counts, drift, gold, position, rounds, rubric, scorecard_checks, selves, style
from constitution.audit import scorecard as scores
from constitution.audit.evidence import Evidence, load
from constitution.audit.scorecard import Tags
from constitution.records import Figure
from constitution.warehouse import Warehouse


def audit(
    root: Path, run_id: str, *, replicates: int = 1000, scorecard: str = "", tags: Tags | None = None
) -> list[Figure]:
    """All figures of the run, written to the warehouse in place of those of its last audit.

    A figure that cannot be measured has value None and a note that says what it would take. replicates: of each
    bootstrap. scorecard: name@version of the one whose scores are told of; empty: the last that was asked. tags: which
    prompts are harmless, look harmful, are harmful; None: those of the last audit. An open run is audited as far as it
    is. Raises WarehouseError where there is no such run, DamagedPart where its rows are not what was written.
    """
    Warehouse(root).check(run_id)
    evidence = load(root, run_id, replicates=replicates)
    try:
        figures = list(_figures(evidence, scorecard, tags or scores.last_tags(evidence)))
    finally:
        evidence.connection.close()
    Warehouse(root).write_figures(run_id, figures)
    return figures


def _figures(evidence: Evidence, scorecard: str, tags: Tags) -> Iterator[Figure]:
    fits = style.lay_shifts(evidence)
    gold.lay_votes(evidence)
    yield from counts.figures(evidence)
    yield from position.figures(evidence)
    yield from style.figures(evidence, fits)
    yield from gold.figures(evidence)
    yield from gold.alphas(evidence)
    yield from selves.self_preference(evidence)
    yield from selves.perturbation_penalty(evidence)
    yield from rubric.figures(evidence)
    yield from drift.drift(evidence)
    yield from rounds.figures(evidence)
    if scores.lay(evidence, scorecard, tags):
        yield from scores.figures(evidence, tags)
        yield from scorecard_checks.figures(evidence)


__all__ = ["Tags", "audit"]
