"""The rubrics of single prompts: what was dropped of them, and how many of their items tell answers apart.

An item is asked of one prompt's answers alone, so what is said is of all items of a source. Redundant are items by
which the same answers pass: of a prompt's few answers phi says no more.
"""

from __future__ import annotations

from collections.abc import Iterator

from constitution.audit import criteria
from constitution.audit.evidence import Evidence
from constitution.records import Figure

_TOLD = """
SELECT
    judge, split_part(criterion, '/', 1) AS subject, grp, any_value(cluster) AS cluster,
    list(member ORDER BY member) AS "all", list(member ORDER BY member) FILTER (passed) AS who,
    bool_or(passed) AND NOT bool_and(passed) AS tells
FROM audit.criteria WHERE metric = 'prompt-rubric' GROUP BY judge, criterion, item, grp HAVING count(*) > 1
"""

_DEAD = f"SELECT judge, subject, (NOT tells)::INTEGER AS value, cluster FROM ({_TOLD})"

_REDUNDANT = f"""
SELECT judge, subject, (count(*) OVER (PARTITION BY judge, grp, "all", who) > 1)::INTEGER AS value, cluster
FROM ({_TOLD}) WHERE tells
"""


def figures(evidence: Evidence) -> Iterator[Figure]:
    yield from evidence.measured("rubrics")
    if not criteria.create(evidence):
        yield from map(evidence.missing, ("rubric_dead", "rubric_redundant"))
        return
    yield from evidence.means("rubric_dead", _DEAD)
    yield from evidence.means("rubric_redundant", _REDUNDANT)
