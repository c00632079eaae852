"""What of documents the run covers: the clauses that `constitution coverage` stored, and what their principles did."""

from __future__ import annotations

from collections.abc import Iterator

from constitution.audit.evidence import Evidence
from constitution.audit.kinds import Exhibit
from constitution.records import Figure

_TOTALS = """
WITH named AS (
    SELECT DISTINCT c.document, c.edition, p.principle_id
    FROM clauses AS c JOIN principle_clauses AS p ON p.run_id = c.run_id AND p.clause = c.clause WHERE c.run_id = {run}
),
traced AS (SELECT document, edition, count(*) AS traced FROM named GROUP BY ALL)
SELECT
    v.document || CASE WHEN count(DISTINCT v.edition) OVER (PARTITION BY v.document) > 1
        THEN ' (' || v.edition[:8] || ')' ELSE '' END AS subject,
    v.* EXCLUDE (document, edition), coalesce(t.traced, 0) AS traced,
    (SELECT count(*) FROM principles WHERE run_id = {run}) AS principles
FROM (
    SELECT
        document, edition, count(*) AS clauses, count(*) FILTER (state = 'covered') AS covered,
        count(*) FILTER (state = 'no-principle') AS bare, count(*) FILTER (state = 'not-asked') AS idle,
        count(*) FILTER (len(principle_ids) > 0) AS named, count(*) FILTER (len(quoted_by) > 0) AS quoted
    FROM coverage WHERE run_id = {run} AND state <> 'introduces' GROUP BY ALL
) AS v LEFT JOIN traced AS t USING (document, edition)
ORDER BY ALL
"""

_SHARES = {
    "clauses_covered": ("covered", "clauses"),
    "clauses_without_principle": ("bare", "clauses"),
    "clauses_not_asked": ("idle", "clauses"),
    "clauses_quoted": ("quoted", "named"),
    "principles_traced": ("traced", "principles"),
}
"""Figure → the columns of _TOTALS that it is the share of."""


def figures(evidence: Evidence) -> Iterator[Figure]:
    """None where the run was held against no document. They have no interval: all clauses are counted."""
    for row in evidence.rows(_TOTALS):
        for name, (part, whole) in _SHARES.items():
            if row[whole]:
                yield evidence.count(name, row[part] / row[whole], row[whole], subject=row["subject"])
            else:
                yield evidence.missing(name, f"no {'principle names a clause' if whole == 'named' else whole}",
                                       subject=row["subject"])  # fmt: skip


EXHIBITS = (
    Exhibit(
        "coverage",
        "Clause by clause",
        "SELECT clause, state, array_to_string(principle_ids, ', ') AS principles, prompts, answers, changed, pairs, "
        "votes, readings, agrees, win_rate, failures, text[:200] AS begins, edition[:8] AS edition\n"
        "FROM coverage WHERE run_id = {run} AND state <> 'introduces' ORDER BY document, edition, position",
        "State: covered, not-asked (its principles were never drawn, voted or read), misquoted (they quote other "
        "words), no-principle. Agrees: share of its principles' votes that prefer what the label prefers. Win rate: "
        "of the revisions drawn for them. Failures: on their prompts, whatever failed.",
    ),
)
