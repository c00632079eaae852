"""What there is: pairs, votes, what is missing, what failed."""

from __future__ import annotations

from collections.abc import Iterator

from constitution.audit.evidence import Evidence
from constitution.records import Figure


def figures(evidence: Evidence) -> Iterator[Figure]:
    yield from pairs(evidence)
    yield from votes(evidence)
    yield from failures(evidence)
    yield from shares(evidence)


def pairs(evidence: Evidence) -> Iterator[Figure]:
    """How many pairs of each kind; of all but those with an infraction, which were never to be kept, how many were
    kept, and how many were dropped for each reason."""
    for kind, count in _counted(evidence, "SELECT kind, count(*) FROM audit.pairs GROUP BY kind ORDER BY kind"):
        yield evidence.count("pairs", count, count, subject=kind)
    reasons = _counted(
        evidence,
        "SELECT coalesce(drop_reason, ''), count(*) FROM audit.pairs WHERE kind <> 'infraction' GROUP BY 1 ORDER BY 1",
    )
    total = sum(count for _, count in reasons)
    yield evidence.count("pairs", total, total)
    yield evidence.count("kept", dict(reasons).get("", 0), total)
    for reason, count in reasons:
        if reason:
            yield evidence.count("dropped", count, total, subject=reason)


def votes(evidence: Evidence) -> Iterator[Figure]:
    """Votes that each judge cast, and those that it was to cast on labelled pairs and did not; n of both: those it was
    to cast. All judges are asked the same of a pair, so each has an equal part in what its label counts on."""
    run = evidence.run.run_id
    jury = list((evidence.run.recipe.get("model") or {}).get("jury") or ())
    sql = f"""
        WITH cast_vote AS (
            SELECT judge, pair_id, count(*) AS votes FROM judgements WHERE run_id = '{run}' GROUP BY ALL
        ),
        judge AS (SELECT DISTINCT judge FROM cast_vote UNION SELECT unnest($jury::VARCHAR[])),
        asked AS (
            SELECT pair_id, (votes + votes_missing) / (SELECT count(*) FROM judge) AS votes FROM audit.pairs
        )
        SELECT judge, coalesce(sum(c.votes), 0), coalesce(sum(greatest(a.votes - coalesce(c.votes, 0), 0)), 0)
        FROM judge CROSS JOIN asked AS a LEFT JOIN cast_vote AS c USING (judge, pair_id) GROUP BY judge ORDER BY judge
    """
    rows = evidence.connection.execute(sql, {"jury": jury}).fetchall()
    for judge, cast, missing in rows:
        expected = int(cast + missing)
        yield evidence.count("votes_cast", cast, expected, judge=judge)
        yield evidence.count("votes_missing", missing, expected, judge=judge)
    if not rows:
        yield evidence.missing("votes_cast", "nobody voted: the recipe has no [judge] section, or nothing came of it")


def failures(evidence: Evidence) -> Iterator[Figure]:
    sql = f"""
        SELECT step || ': ' || error, count(*) FROM failures WHERE run_id = '{evidence.run.run_id}'
        GROUP BY 1 ORDER BY 1
    """
    for subject, count in _counted(evidence, sql):
        yield evidence.count("failures", count, count, subject=subject)


def shares(evidence: Evidence) -> Iterator[Figure]:
    """Mean probability on the labels, per vote; couples that prefer neither answer; and, per pair, the share of its
    couples that prefer what its label does."""
    sql = f"""
        SELECT judge, label_mass AS value, cluster FROM judgements JOIN audit.prompts USING (prompt_id)
        WHERE run_id = '{evidence.run.run_id}'
    """
    yield from evidence.means("label_mass", sql, "judge", share=True)
    tied = "SELECT judge, (side(p_b) = 0)::INTEGER AS value, cluster FROM audit.couples"
    yield from evidence.means("ties", tied, "judge", share=True)
    agreed = """
        SELECT '' AS subject, agreement AS value, cluster FROM audit.pairs
        WHERE agreement IS NOT NULL AND kind <> 'infraction'
    """
    yield from evidence.means("agreement", agreed, "subject", share=True, otherwise="no pair has votes")


def _counted(evidence: Evidence, sql: str) -> list[tuple[str, int]]:
    return [(str(name), int(count)) for name, count in evidence.connection.execute(sql).fetchall()]
