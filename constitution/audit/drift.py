"""What a new version of a constitution has changed: the votes of a run beside those of a run of the version before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from constitution.audit.evidence import Evidence
from constitution.principles.files import is_semver, version_key
from constitution.records import Figure, Run
from constitution.warehouse import Warehouse
from constitution.warehouse.views import quoted

_MEANS = """
    SELECT principle_id, judge, prompt_id, avg(p_b) AS p_b FROM ({votes})
"""

_OURS = """
    SELECT c.principle_id::VARCHAR AS principle_id, c.judge::VARCHAR AS judge, p.prompt_id, c.p_b
    FROM audit.training_votes AS c JOIN audit.pairs AS p USING (place)
"""


def figures(evidence: Evidence) -> Iterator[Figure]:
    before = previous(evidence)
    if before is None:
        name = evidence.constitution.name
        yield evidence.missing("drift", f"no finished run of a lower version of {name} is in this warehouse")
        return
    ours, theirs = _MEANS.format(votes=_OURS), _MEANS.format(votes="FROM training_votes")
    sql = f"""
        SELECT principle_id, {quoted(_version(before))} AS subject, ours.p_b - earlier.p_b AS value, cluster
        FROM ({ours} GROUP BY ALL) AS ours
        JOIN ({theirs} WHERE run_id = {quoted(before.run_id)} GROUP BY ALL) AS earlier
        USING (principle_id, judge, prompt_id)
        JOIN audit.prompts USING (prompt_id)
    """
    nothing = (
        f"{before.run_id}, of version {_version(before)}, has no votes by the same judges and principles on the same "
        "prompts"
    )
    asked = f"FROM compare_prompts({quoted(evidence.run.run_id)}, {quoted(before.run_id)})"
    [prompts] = evidence.rows(asked)
    note = (
        f"over the prompts of both runs; {prompts['only_a']:,} are only in this one, {prompts['only_b']:,} only in "
        f"{before.run_id}"
    )
    for figure in evidence.means("drift", sql, nothing):
        differs = figure.value is not None and prompts["note"] is not None
        yield replace(figure, note="; ".join(filter(None, (figure.note, note)))) if differs else figure


def previous(evidence: Evidence) -> Run | None:
    """The latest finished run of the next lower version of the same constitution."""
    ours = evidence.constitution
    if not is_semver(ours.version):
        return None
    lower = [
        run
        for run in Warehouse(evidence.root).runs()
        if run.constitution.partition("@")[0] == ours.name
        and run.finished_at is not None
        and is_semver(_version(run))
        and version_key(_version(run)) < version_key(ours.version)
    ]
    return max(lower, key=lambda run: (version_key(_version(run)), run.started_at), default=None)


def _version(run: Run) -> str:
    return run.constitution.partition("@")[2]
