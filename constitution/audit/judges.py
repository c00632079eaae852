"""What there is: pairs, votes, what is missing, what failed."""

from __future__ import annotations

from collections.abc import Iterator

from constitution.audit.evidence import Evidence
from constitution.measures import Estimate
from constitution.records import Figure


def figures(evidence: Evidence) -> Iterator[Figure]:
    yield from evidence.measured("judges")
    for row in evidence.rows("SELECT kind, count(*) AS n FROM audit.pairs GROUP BY kind ORDER BY kind"):
        yield evidence.count("pairs", row["n"], row["n"], subject=row["kind"])
    reasons = {
        row["reason"]: row["n"]
        for row in evidence.rows(
            "SELECT coalesce(drop_reason, '') AS reason, count(*) AS n FROM audit.training_pairs GROUP BY 1 ORDER BY 1"
        )
    }
    total = sum(reasons.values())
    yield evidence.count("pairs", total, total)
    yield evidence.count("kept", reasons.pop("", 0), total)
    for reason, count in reasons.items():
        yield evidence.count("dropped", count, total, subject=reason)
    votes = evidence.rows(
        'SELECT judge, "cast", asked, missing, spared, method FROM missing_votes JOIN run_judges USING (run_id, judge) '
        "WHERE run_id = {run} ORDER BY judge"
    )
    for row in votes:
        found = Estimate(float(row["cast"]), None, None, row["asked"])
        yield evidence.figure("votes_cast", found, f"method {row['method']}", judge=row["judge"])
        yield evidence.count("votes_missing", row["missing"], row["asked"], judge=row["judge"])
        if evidence.adaptive:
            yield evidence.count("votes_spared", row["spared"], row["asked"] + row["spared"], judge=row["judge"])
    if not votes:
        yield evidence.missing("votes_cast")
    failed = "SELECT step || ': ' || error AS subject, count(*) AS n FROM failures WHERE run_id = {run} GROUP BY 1"
    for row in evidence.rows(f"{failed} ORDER BY 1"):
        yield evidence.count("failures", row["n"], row["n"], subject=row["subject"])
